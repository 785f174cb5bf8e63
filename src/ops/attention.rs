//! Scaled dot product attention.
//!
//! Two products around a softmax over rows of scores: that is the meaning, which `flash` gives kernels
//! that never store the scores.

use crate::dtype::{DType, Number};
use crate::graph::op::{Op, Reduction};
use crate::graph::tensor::Tensor;
use crate::ops::flash;
use crate::shape::{AxisSet, Shape};

/// What attention leaves out and how it is scaled: `AttentionOptions::default().causal()`.
#[derive(Clone, Default)]
pub struct AttentionOptions {
    pub(super) causal: bool,
    pub(super) mask: Option<Tensor>,
    scale: Option<f64>,
    pub(super) dropout: Option<(f64, Tensor)>,
}

impl AttentionOptions {
    /// Query `i` sees keys `0..=i` only.
    pub fn causal(mut self) -> AttentionOptions {
        self.causal = true;
        self
    }

    /// What broadcasts to `[.., queries, keys]`: bools that are true where a query sees a key, or
    /// numbers that are added to the scores.
    pub fn mask(mut self, mask: &Tensor) -> AttentionOptions {
        self.mask = Some(mask.clone());
        self
    }

    /// What scores are multiplied by, instead of `1 / sqrt(e)`.
    pub fn scale(mut self, scale: f64) -> AttentionOptions {
        self.scale = Some(scale);
        self
    }

    /// Drops weights with probability `p` by `key: u32 [2]`; see [`Tensor::dropout`].
    pub fn dropout(mut self, p: f64, key: &Tensor) -> AttentionOptions {
        self.dropout = Some((p, key.clone()));
        self
    }
}

pub(super) const WORD: &str = "scaled_dot_product_attention";

/// The shapes attention goes through.
pub(super) struct Heads {
    pub(super) dtype: DType,
    /// Queries with the heads of one group one after another: `[.., kv heads, group · l, e]`.
    pub(super) queries: Shape,
    /// Scores: `[.., heads, l, s]`.
    pub(super) scores: Shape,
    /// Scores as the queries: `[.., kv heads, group · l, s]`.
    grouped: Shape,
    result: Shape,
}

impl Tensor {
    /// `softmax(q kᵀ / sqrt(e) + mask) v`: queries `[.., l, e]`, keys `[.., s, e]`, values `[.., s, f]`
    /// to `[.., l, f]`; the leading dimensions broadcast.
    ///
    /// Keys and values may have fewer heads (the third axis from the end) than the queries; each
    /// then serves a group of neighbouring query heads. A query that a mask lets see no key at all
    /// gives zeros.
    ///
    /// On a real GPU and without dropout, attention of some size never stores its scores, in neither
    /// direction, when `e` and `f` are 256 at most, there are at least 16 queries, keys and values have
    /// the same leading dimensions, those of the queries but for shared heads, and a mask has all of
    /// several batch dimensions or none.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let q = Tensor::zeros([2, 3], &device);
    /// let v = Tensor::new([[1.0], [3.0]], &device);
    /// let y = q.scaled_dot_product_attention(&q, &v, AttentionOptions::default().causal());
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, key: &Tensor, value: &Tensor, options: AttentionOptions) -> Tensor {
        let mut src = vec![self, key, value];
        src.extend(&options.mask);
        src.extend(options.dropout.as_ref().map(|(_, key)| key));
        let heads = given!(WORD, &src, heads(self, key, value, options.mask.as_ref()));
        let scale = options.scale.unwrap_or_else(|| 1.0 / (self.dim(-1).max(1) as f64).sqrt());
        let [q, k, v] = [self, key, value].map(|x| x.cast(heads.dtype));
        let flash = flash::Flash::new(&heads, [&q, &k, &v], &options, scale);
        // The gradient of a kernel tells its operands apart.
        let [q, k, v] = match &flash {
            Some(_) => [apart(&q), apart(&k), apart(&v)],
            None => [q, k, v],
        };
        let mut last: Vec<usize> = (0..k.rank()).collect();
        let rank = last.len();
        last.swap(rank.saturating_sub(2), rank.saturating_sub(1));
        // A product of halves could overflow before it is scaled.
        let [before, after] = if heads.dtype == DType::F16 { [scale, 1.0] } else { [1.0, scale] };
        let scaled = |x: Tensor, by: f64| if by == 1.0 { x } else { x * by };
        let queries = scaled(q.to_shape(WORD, heads.queries), before);
        let scores = scaled(queries.multiplied(WORD, &k.permute_to(WORD, &last)), after).to_shape(WORD, heads.scores);
        let scores = scores.seen(&options);
        let [weights, greatest, sum] = scores.attended(options.mask.is_some());
        let weights = weights.cast(heads.dtype);
        let weights = match &options.dropout {
            Some((p, key)) => weights.dropped(WORD, *p, key),
            None => weights,
        };
        let y = weights.to_shape(WORD, heads.grouped).multiplied(WORD, &v).to_shape(WORD, heads.result);
        match flash {
            Some(flash) => {
                // Apart, because their sum would lose the logarithm where scores are large.
                let norms = Tensor::joined(WORD, &[&greatest, &sum.ln()], -1);
                flash.attention(&y, &norms, [&q, &k, &v], options.mask.as_ref())
            }
            None => y,
        }
    }

    /// Scores `[.., l, s]` with -inf for the keys that a query does not see.
    #[track_caller]
    fn seen(&self, options: &AttentionOptions) -> Tensor {
        if self.numel() == 0 {
            return self.clone();
        }
        let mut x = self.wide();
        let hidden = Tensor::constant(Number::Float(f64::NEG_INFINITY), Shape::SCALAR, DType::F32, self.device());
        match &options.mask {
            Some(mask) if mask.dtype() == DType::Bool => x = mask.where_(x, &hidden),
            Some(mask) => x = x + mask.wide(),
            None => {}
        }
        if options.causal {
            let (l, s) = (self.dim(-2), self.dim(-1));
            let shape = given!(WORD, &[self], Shape::new(&[l, s]));
            let sees = Tensor::iota(0, shape, self.device()).ge(Tensor::iota(1, shape, self.device()));
            x = sees.where_(x, &hidden);
        }
        x
    }

    /// The softmax of scores `[.., l, s]` over the keys, the greatest of them, and the sum that is
    /// divided by; where `masked`, a query may see no key.
    #[track_caller]
    fn attended(&self, masked: bool) -> [Tensor; 3] {
        let keys = AxisSet::one(self.rank().saturating_sub(1));
        if self.numel() == 0 {
            return [self.clone(), self.clone(), self.clone()];
        }
        let mut greatest = self.detach().reduced(WORD, Reduction::Max, keys, true);
        if masked {
            // Where every score is -inf, so is the greatest, and the difference would be NaN.
            greatest = greatest.isinf().where_(0.0, &greatest);
        }
        let exp = (self - &greatest).exp();
        let mut sum = exp.reduced(WORD, Reduction::Sum, keys, true);
        if masked {
            sum = sum.eq(0.0).where_(1.0, &sum);
        }
        [exp / &sum, greatest, sum]
    }
}

/// The same tensor as a node of its own.
#[track_caller]
fn apart(x: &Tensor) -> Tensor {
    Tensor::build(WORD, &[x], || Ok((Op::Reshape, *x.shape(), x.dtype())))
}

/// How queries, keys, values and mask fit together.
fn heads(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Heads, String> {
    let misfit = || format!("queries {}, keys {} and values {} do not fit", q.shape(), k.shape(), v.shape());
    let ([outer @ .., l, e], [k_outer @ .., s, e2], [v_outer @ .., s2, f]) = (q.dims(), k.dims(), v.dims()) else {
        return Err(misfit());
    };
    if e != e2 || s != s2 {
        return Err(misfit());
    }
    let dtype = q.dtype().promote(k.dtype()).promote(v.dtype());
    let dtype = if dtype.is_float() { dtype } else { DType::F32 };
    // Neighbouring heads that share a key become rows of one product.
    let (queries, group) = match (outer, k_outer.last(), v_outer.last()) {
        ([batch @ .., h], Some(&kv), Some(&kv2)) if kv == kv2 && kv > 0 && *h != kv && h % kv == 0 => {
            (Shape::new(&[batch, &[kv, (h / kv).saturating_mul(*l), *e]].concat())?, h / kv)
        }
        _ => (*q.shape(), 1),
    };
    let grouped_outer = Shape::new(queries.dims().get(..outer.len()).unwrap_or(&[]))?;
    let (k_outer, v_outer) = (Shape::new(k_outer)?, Shape::new(v_outer)?);
    let seen = grouped_outer.broadcast(&k_outer).map_err(|_| misfit())?;
    let batch = seen.broadcast(&v_outer).map_err(|_| misfit())?;
    let whole = |outer: &Shape| {
        let mut dims = outer.dims().to_vec();
        dims.iter_mut().last().into_iter().for_each(|h| *h = h.saturating_mul(group));
        dims
    };
    let with = |outer: &[usize], m: usize, n: usize| Shape::new(&[outer, &[m, n]].concat());
    let scores = with(&whole(&seen), *l, *s)?;
    if let Some(mask) = mask.filter(|mask| !mask.shape().expands_to(&scores)) {
        return Err(format!("the mask {} does not broadcast to the scores {scores}", mask.shape()));
    }
    Ok(Heads {
        dtype,
        queries,
        scores,
        grouped: with(seen.dims(), group.saturating_mul(*l), *s)?,
        result: with(&whole(&batch), *l, *f)?,
    })
}
