//! Attention by kernels that never store the scores: forward, and two passes backward.
//!
//! Their meaning is the formula of `attention` and its derivative, which run wherever no template is
//! worth it: the kernels are built around them, and a plan leaves out the one or the other. Keys and
//! values, and queries and what flows back to the result, are bound side by side as one tensor each,
//! so that 7 bindings suffice. Kernels compute in `f32`: halves are widened where they are put side by
//! side, and what comes out is rounded where it is used.

use std::sync::Arc;

use crate::dtype::{DType, Number};
use crate::graph::device::Device;
use crate::graph::op::{Block, CustomCall, CustomShader, CustomSpec, Gradient, Reduction, Template, Templated};
use crate::graph::source::source;
use crate::graph::tensor::Tensor;
use crate::ops::attention::{AttentionOptions, Heads, WORD};
use crate::shape::{AxisSet, Shape};

static FORWARD: Template = Template { name: "attention", text: source!("attention"), trial };
static BACKWARD: Template = Template { name: "attention_gradient", text: source!("attention_gradient"), trial };

/// The templates that attention hangs on, for a browser's GPU to try before it is handed out.
#[cfg(all(target_arch = "wasm32", feature = "gpu"))]
pub(crate) const TEMPLATES: [&Template; 2] = [&FORWARD, &BACKWARD];

/// Columns of a head; with more of them the scores would be computed too often.
const COLUMNS_MAX: usize = 256;
/// Columns of a result that a workgroup has registers for.
const PIECE: usize = 128;
/// Fewer queries leave most of a workgroup idle.
const QUERIES_MIN: usize = 16;
/// Queries of a workgroup, and keys where it has keys.
const ROWS: usize = 64;

/// Attention that the kernels can compute, as their constants.
#[derive(Clone, Debug)]
pub(super) struct Flash {
    /// Heads in all of queries, and how many of them share a key.
    outer: usize,
    group: usize,
    queries: usize,
    keys: usize,
    /// Columns of keys and of values.
    e: usize,
    f: usize,
    scale: f64,
    causal: bool,
    mask: Option<Mask>,
}

/// Where in a mask the numbers of a score are: heads in a batch, and what a batch, a head, a query
/// and a key further on is away.
#[derive(Clone, Debug, Default)]
struct Mask {
    heads: usize,
    strides: [usize; 4],
}

impl Flash {
    /// What the kernels need to know, or nothing where they cannot serve.
    pub(super) fn new(heads: &Heads, [q, k, v]: [&Tensor; 3], options: &AttentionOptions, scale: f64) -> Option<Flash> {
        let ([.., queries, e], [batch @ .., keys, _], [v_batch @ .., _, f]) = (q.dims(), k.dims(), v.dims()) else {
            return None;
        };
        let fits = |n: usize| n > 0 && n <= COLUMNS_MAX;
        let shared: usize = batch.iter().product();
        let outer: usize = q.dims().iter().rev().skip(2).product();
        let mask = match &options.mask {
            Some(mask) => Some(Mask::new(mask, &heads.scores)?),
            None => None,
        };
        let serves = options.dropout.is_none()
            && (scale as f32).is_finite()
            && batch == v_batch
            && heads.queries.dims().get(..batch.len()) == Some(batch)
            && heads.queries.rank() == k.rank()
            && fits(*e)
            && fits(*f)
            && *queries >= QUERIES_MIN
            && *keys > 0
            && outer > 0
            && shared > 0;
        let (causal, group) = (options.causal, outer.checked_div(shared)?);
        serves.then_some(Flash { outer, group, queries: *queries, keys: *keys, e: *e, f: *f, scale, causal, mask })
    }

    /// `y`, the definition of attention, as a kernel computes it; `norms` has of each query its
    /// greatest score and the logarithm of the sum that its weights are divided by.
    #[track_caller]
    pub(super) fn attention(
        &self,
        y: &Tensor,
        norms: &Tensor,
        [q, k, v]: [&Tensor; 3],
        mask: Option<&Tensor>,
    ) -> Tensor {
        let (queries, kv) = (fours(q), Tensor::joined(WORD, &[&fours(k), &fours(v)], -1));
        let numbers = match mask {
            Some(mask) if mask.dtype() == DType::Bool => mask.where_(0.0, f64::NEG_INFINITY).wide(),
            Some(mask) => mask.wide(),
            // Something has to be bound.
            None => queries.clone(),
        };
        let whole = fours(y);
        let call = self.call(&FORWARD, false, [&whole, norms].map(Tensor::shape), [self.e, self.f]);
        let inputs = [&queries, &kv, &numbers];
        let (whole, norms) = (whole.custom(call(0), &inputs), norms.custom(call(1), &inputs));
        let y = as_wide_as(y, &whole);
        // The numbers of a mask may have a gradient, too.
        let operands = [q, k, v, mask.unwrap_or(&numbers), &kv, &numbers, &norms];
        y.block(WORD, Block(Arc::new(self.clone())), &operands)
    }

    /// The outputs of a launch whose workgroups own queries or, `by_keys`, keys: scores come of products over
    /// `columns[0]` columns, and take part in products that give `columns[1]`.
    fn call(
        &self,
        template: &'static Template,
        by_keys: bool,
        results: [&Shape; 2],
        columns: [usize; 2],
    ) -> impl Fn(usize) -> CustomCall {
        let widest = results.map(|shape| shape.dims().last().copied().unwrap_or(0)).into_iter().max();
        let pieces = widest.unwrap_or(0).div_ceil(PIECE);
        let (outer, rows) = match by_keys {
            true => (self.outer / self.group.max(1), self.keys),
            false => (self.outer, self.queries),
        };
        let whole = |n: usize| Number::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let mask = self.mask.clone().unwrap_or_default();
        let [batch, head, query, key] = mask.strides;
        let constants = vec![
            ("BY_KEYS", Number::Bool(by_keys)),
            ("OUTER", whole(outer)),
            ("GROUP", whole(self.group)),
            ("QUERIES", whole(self.queries)),
            ("KEYS", whole(self.keys)),
            ("E", whole(self.e.div_ceil(4))),
            ("F", whole(self.f.div_ceil(4))),
            ("PIECES", whole(pieces)),
            ("SCALE", Number::Float(self.scale)),
            ("CAUSAL", Number::Bool(self.causal)),
            ("MASKED", Number::Bool(self.mask.is_some())),
            ("HEADS", whole(mask.heads.max(1))),
            ("MASK_BATCH", whole(batch)),
            ("MASK_HEAD", whole(head)),
            ("MASK_QUERY", whole(query)),
            ("MASK_KEY", whole(key)),
        ];
        let groups = [rows.div_ceil(ROWS), pieces].iter().fold(outer as u64, |n, &m| n.saturating_mul(m as u64));
        // A causal mask leaves out half of them.
        let each = (pieces * columns[0] + columns[1]) * if self.causal { 1 } else { 2 };
        let sizes = [self.outer, self.queries, self.keys, each];
        let flops = sizes.iter().fold(1, |n: u64, &m| n.saturating_mul(m as u64));
        let shader = CustomShader::Template(Templated { template, constants, groups, flops });
        let kernel = Arc::new(CustomSpec { name: template.name.to_string(), shader });
        let results: Arc<[_]> = results.map(|shape| (*shape, DType::F32)).into();
        move |output| CustomCall { kernel: Arc::clone(&kernel), output, results: Arc::clone(&results) }
    }
}

impl Gradient for Flash {
    fn name(&self) -> &str {
        WORD
    }

    fn gradient(
        &self,
        src: &[Tensor],
        y: &Tensor,
        dy: &Tensor,
        definition: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>> {
        let [q, k, v, _, kv, numbers, norms] = src else { return Vec::new() };
        let queries = Tensor::joined(WORD, &[&fours(q), &fours(dy)], -1);
        let deltas =
            (y.wide() * dy.wide()).reduced(WORD, Reduction::Sum, AxisSet::one(y.rank().saturating_sub(1)), false);
        let numbers = if self.mask.is_some() { numbers } else { norms };
        // The queries' pass has no second result.
        let nothing = Shape::new(&[4]).unwrap_or(Shape::SCALAR);
        let [e, f] = [self.e, self.f];
        let [own_q, own_k, own_v] = [q, k, v].map(fours);
        let by_queries = self.call(&BACKWARD, false, [own_q.shape(), &nothing], [e + f, e]);
        let by_keys = self.call(&BACKWARD, true, [own_k.shape(), own_v.shape()], [e + f, e + f]);
        let mut dxs = definition();
        for (dx, n) in dxs.iter_mut().zip(0..3) {
            let (call, own, other) = match n {
                0 => (by_queries(0), &queries, kv),
                _ => (by_keys(n - 1), kv, &queries),
            };
            let inputs = [own, other, numbers, norms, &deltas];
            *dx = dx.take().map(|dx| as_wide_as(&dx, &fours(&dx).custom(call, &inputs)));
        }
        // What else is there only feeds the kernels, and may be one of the others once more.
        dxs.iter_mut().skip(if self.mask.is_some() { 4 } else { 3 }).for_each(|dx| *dx = None);
        dxs
    }
}

/// `x` in `f32`, with zeros after its columns up to whole fours.
fn fours(x: &Tensor) -> Tensor {
    let (mut more, columns) = (vec![0; x.rank()], x.dim(-1));
    match more.last_mut() {
        Some(last) if !columns.is_multiple_of(4) => *last = columns.next_multiple_of(4) - columns,
        _ => return x.wide(),
    }
    x.wide().pad_spec(WORD, vec![0; x.rank()], more, vec![0; x.rank()], Number::Float(0.0))
}

/// As many columns of `whole` as `x` has, in its dtype.
fn as_wide_as(x: &Tensor, whole: &Tensor) -> Tensor {
    let axis = x.rank().saturating_sub(1);
    let part = if x.dims() == whole.dims() { whole.clone() } else { whole.part(WORD, axis, 0, x.dim(-1)) };
    part.cast(x.dtype())
}

impl Mask {
    /// Where a mask has the numbers of `scores`, unless it goes with some of several batches' axes.
    fn new(mask: &Tensor, scores: &Shape) -> Option<Mask> {
        let mut dims = vec![1; scores.rank().checked_sub(mask.rank())?];
        dims.extend(mask.dims());
        // Heads are an axis even where there is none.
        let at =
            |dims: &[usize], back: usize| dims.len().checked_sub(back).and_then(|k| dims.get(k)).copied().unwrap_or(1);
        let batches = |dims: &[usize]| dims.get(..dims.len().saturating_sub(3)).unwrap_or(&[]).to_vec();
        let (own, all) = (batches(&dims), batches(scores.dims()));
        let [keys, queries, heads] = [1, 2, 3].map(|back| at(&dims, back));
        let stride = |n: usize, stride: usize| if n == 1 { 0 } else { stride };
        let below = queries.saturating_mul(keys);
        let alone = own.iter().all(|&n| n == 1);
        let batch = if alone { 0 } else { heads.saturating_mul(below) };
        let strides = [batch, stride(heads, below), stride(queries, keys), stride(keys, 1)];
        (alone || own == all).then(|| Mask { heads: at(scores.dims(), 3), strides })
    }
}

/// What a device computes to be trusted: attention of both kinds with edges everywhere.
fn trial(device: &Device) -> Vec<(Tensor, Vec<Tensor>)> {
    let random = |dims: &[usize], salt: usize| {
        let n = dims.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 7 + i / 11 + salt) % 23) as f32 / 8.0 - 1.4).collect();
        Tensor::from_slice(&numbers, dims, device)
    };
    let [causal, mask] = [true, false].map(|causal| {
        let [q, k, v] = [random(&[2, 70, 36], 1), random(&[1, 70, 36], 2), random(&[1, 70, 68], 3)];
        let options = match causal {
            true => AttentionOptions::default().causal(),
            false => AttentionOptions::default().mask(&random(&[70, 70], 4).gt(0.0)),
        };
        (q.scaled_dot_product_attention(&k, &v, options), vec![q, k, v])
    });
    vec![causal, mask]
}
