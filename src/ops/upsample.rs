//! Images of another size: nearest and (bi)linear, as PyTorch's `interpolate`.
//!
//! Nearest repeats or picks elements; linear is a small product along each spatial axis.

use crate::graph::tensor::Tensor;
use crate::ops::conv::{per_axis, spatial_dims};
use crate::shape::{Dims, Shape};

/// How large an image becomes: `Upsample::size([64, 48])` or `Upsample::scale(2.0)`.
#[derive(Clone, Debug)]
pub struct Upsample(To);

#[derive(Clone, Debug)]
enum To {
    Size(Vec<isize>),
    Scale(f64),
}

impl Upsample {
    /// To this many elements: one number for all spatial axes or one for each.
    pub fn size(size: impl Dims) -> Upsample {
        Upsample(To::Size(size.dims()))
    }

    /// To `floor(n * scale)` elements, on every spatial axis.
    pub fn scale(scale: f64) -> Upsample {
        Upsample(To::Scale(scale))
    }
}

/// One axis under way.
struct Resize {
    n: usize,
    out: usize,
    /// Elements of the operand to one of the result.
    step: f64,
    /// The same as a fraction; where a scale is none, the nearest one.
    fraction: (u64, u64),
}

impl Tensor {
    /// Each spatial axis of `[n, c, spatial…]` at another size, by the nearest element before:
    /// element `i` of the result is element `floor(i n / n')`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[1.0, 2.0]]], &Device::cpu());
    /// assert_eq!(x.upsample_nearest(Upsample::scale(2.0)).to_vec::<f32>()?, [1.0, 1.0, 2.0, 2.0]);
    /// assert_eq!(x.upsample_nearest(Upsample::size(3)).to_vec::<f32>()?, [1.0, 1.0, 2.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn upsample_nearest(&self, to: Upsample) -> Tensor {
        let word = "upsample_nearest";
        let axes = given!(word, &[self], {
            let axes = resizes(self, &to)?;
            let steps = axes.iter().map(|r| whole_steps(r.fraction, r.out)).collect::<Result<Vec<_>, _>>()?;
            Ok(axes.into_iter().zip(steps))
        });
        let mut x = self.clone();
        for (k, (r, (num, den))) in axes.enumerate() {
            let axis = k + 2;
            if num == 1 && r.n.checked_mul(den as usize) == Some(r.out) {
                // Repeating is a view.
                let (before, rest) = x.dims().split_at_checked(axis).unwrap_or((&[], &[]));
                let after = rest.get(1..).unwrap_or(&[]);
                let narrow = [before, &[r.n, 1], after].concat();
                let wide = [before, &[r.n, den as usize], after].concat();
                let whole = [before, &[r.out], after].concat();
                x = x.to_dims(word, &narrow).expand_dims_to(word, &wide).to_dims(word, &whole);
            } else {
                let shape = given!(word, &[&x], Shape::new(&[r.out]));
                let index = (Tensor::iota(0, shape, x.device()) * num).floor_divide(den);
                x = x.taken(word, &index.minimum(r.n as i64 - 1), axis as isize);
            }
        }
        x
    }

    /// Each spatial axis of `[n, c, spatial…]` at another size, linear between neighbours; with two
    /// spatial axes, bilinear.
    ///
    /// With `align_corners` the first and last elements keep their places: element `i` of the
    /// result stands at `i (n - 1) / (n' - 1)`. Otherwise elements are the middles of cells:
    /// it stands at `(i + 1/2) n / n' - 1/2`, clamped into the image.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[[[0.0, 4.0]]]], &Device::cpu());
    /// let y = x.upsample_bilinear(Upsample::size([1, 4]), false);
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 3.0, 4.0]);
    /// let y = x.upsample_bilinear(Upsample::size([1, 5]), true);
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn upsample_bilinear(&self, to: Upsample, align_corners: bool) -> Tensor {
        let word = "upsample_bilinear";
        let axes = given!(word, &[self], resizes(self, &to));
        let mut x = self.cast(self.float_dtype());
        for (k, r) in axes.iter().enumerate() {
            if r.n == r.out && r.step == 1.0 {
                continue;
            }
            let shape = given!(word, &[&x], Shape::new(&[r.n, r.out]));
            let i = Tensor::iota(1, shape, x.device()).wide();
            let place = if align_corners {
                i * ((r.n - 1) as f64 / r.out.saturating_sub(1).max(1) as f64)
            } else {
                (i + 0.5) * r.step - 0.5
            };
            let place = place.maximum(0.0).minimum((r.n - 1) as f64);
            // Elements count by how near they are, and not at all from a distance of 1.
            let weights = (1.0 - (place - Tensor::iota(0, shape, x.device())).abs()).maximum(0.0);
            x = x.mixed(word, k + 2, &weights);
        }
        x
    }

    /// `axis` of `n` elements mixed by `weights: [n, out]` to `out` elements.
    #[track_caller]
    fn mixed(&self, word: &str, axis: usize, weights: &Tensor) -> Tensor {
        let mut perm: Vec<usize> = (0..self.rank()).filter(|&k| k != axis).collect();
        perm.push(axis);
        let last = self.permute_to(word, &perm).multiplied(word, &weights.cast(self.dtype()));
        let mut back: Vec<usize> = (0..self.rank().saturating_sub(1)).collect();
        back.insert(axis.min(back.len()), self.rank().saturating_sub(1));
        last.permute_to(word, &back)
    }
}

/// What becomes of each spatial axis.
fn resizes(x: &Tensor, to: &Upsample) -> Result<Vec<Resize>, String> {
    let n = spatial_dims(x);
    if n.is_empty() || n.contains(&0) {
        return Err(format!("takes [n, c, spatial…] with at least one element an axis, got {}", x.shape()));
    }
    match &to.0 {
        To::Size(size) => {
            let size = per_axis("size", size, n.len(), 1)?;
            let resize = |(&n, out)| Resize { n, out, step: n as f64 / out as f64, fraction: (n as u64, out as u64) };
            Ok(n.iter().zip(size).map(resize).collect())
        }
        &To::Scale(scale) => {
            let resize = |&n: &usize| {
                let out = (n as f64 * scale).floor();
                match scale.is_finite() && out >= 1.0 && out <= f64::from(u32::MAX) {
                    true => Ok(Resize { n, out: out as usize, step: 1.0 / scale, fraction: fraction(scale, out) }),
                    false => Err(format!("{} scaled by {scale} has no elements or too many", x.shape())),
                }
            };
            n.iter().map(resize).collect()
        }
    }
}

/// `1 / scale` as a fraction that [`whole_steps`] takes for `out` elements.
fn fraction(scale: f64, out: f64) -> (u64, u64) {
    let (mut num, mut den) = (1, scale);
    while den.fract() != 0.0 && (num as f64) * out < f64::from(1 << 28) {
        (num, den) = (num * 2, den * 2.0);
    }
    // Rounded up, elements at whole steps would be those before them.
    (num, (den as u64).max(1))
}

/// The reduced fraction `num / den`, when whole numbers up to `(out + 1) (num + 1) + den` are exact in `i32`.
pub(crate) fn whole_steps((num, den): (u64, u64), out: usize) -> Result<(i64, i64), String> {
    let (mut a, mut b) = (num, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let (num, den) = (num / a.max(1), den / a.max(1));
    match (out as u64 + 1).checked_mul(num + 1).and_then(|n| n.checked_add(den)) {
        Some(n) if n <= i32::MAX as u64 => Ok((num as i64, den as i64)),
        _ => Err(format!("{out} steps of {num}/{den} elements are beyond 32-bit indices")),
    }
}
