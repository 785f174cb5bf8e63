//! Images changed at random, on the device: flips, crops, rotations, holes, mixtures.
//!
//! Functions of tensors in ordinary ops, so they fuse with what follows and take part in gradients;
//! the same key gives the same change on every device. Images are `[n, channels, height, width]`,
//! and each of a batch is changed on its own. Knows no dataset and no loader.

use crate::dtype::DType;
use crate::graph::tensor::{Operand, Tensor};

/// The four dimensions of a batch of images; another tensor is refused.
macro_rules! images {
    ($word:expr, $x:expr) => {
        match *$x.dims() {
            [n, c, h, w] => [n, c, h, w],
            _ => return $x.refuse($word, format!("images [n, c, h, w] are needed, but the shape is {}", $x.shape())),
        }
    };
}

/// `(x - mean) / std` for each channel; bytes become numbers from 0 to 1 first.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::normalize;
/// let x = Tensor::new([[[[0u8, 255]]]], &Device::cpu());
/// assert_eq!(normalize(&x, &[0.5], &[0.5]).to_vec::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn normalize(x: &Tensor, mean: &[f32], std: &[f32]) -> Tensor {
    let [_, c, _, _] = images!("normalize", x);
    if mean.len() != c || std.len() != c || std.contains(&0.0) {
        let fact = format!("{} means and {} deviations other than 0 for {c} channels", mean.len(), std.len());
        return x.refuse("normalize", fact);
    }
    let scaled = if x.dtype() == DType::U8 { x.cast(DType::F32) / 255.0 } else { x.clone() };
    let channels = |v: &[f32]| Tensor::from_slice(v, [c, 1, 1], x.device());
    (scaled - channels(mean)) / channels(std)
}

/// Each image mirrored left to right with probability `p`.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::random_flip;
/// let x = Tensor::new([[[[1, 2, 3]]]], &Device::cpu());
/// assert_eq!(random_flip(&x, 1.0, &Tensor::key(0, &Device::cpu())).to_vec::<i32>()?, [3, 2, 1]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn random_flip(x: &Tensor, p: f64, key: &Tensor) -> Tensor {
    let [n, ..] = images!("random_flip", x);
    Tensor::bernoulli([n, 1, 1, 1], p, key).where_(x.flip(-1), x)
}

/// Each image moved by up to `padding` pixels in both directions; what comes in is 0.
///
/// The same as padding with zeros and cutting out the old size at random.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::random_crop;
/// let x = Tensor::ones([2, 3, 8, 8], &Device::cpu());
/// let y = random_crop(&x, 2, &Tensor::key(0, &Device::cpu()));
/// assert_eq!(y.dims(), [2, 3, 8, 8]);
/// assert!(y.sum(..).item::<f32>()? >= 2.0 * 3.0 * 36.0);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn random_crop(x: &Tensor, padding: usize, key: &Tensor) -> Tensor {
    let [n, _, h, w] = images!("random_crop", x);
    // Far more than any image has is refused by `randint`.
    let padding = padding.min(u32::MAX as usize) as i64;
    let key = key.split_key(2);
    let [down, right] = &key[..] else { return x.refuse("random_crop", "no keys") };
    let moved = |key: &Tensor| Tensor::randint([n, 1, 1], -padding..padding + 1, key);
    pick(x, &(rows(h, x) + moved(down)), &(columns(w, x) + moved(right)))
}

/// Each image turned around its middle by up to `degrees` either way, between pixels linearly; what
/// comes in is 0.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::random_rotate;
/// let x = Tensor::ones([1, 1, 5, 5], &Device::cpu());
/// assert_eq!(random_rotate(&x, 10.0, &Tensor::key(0, &Device::cpu())).dims(), [1, 1, 5, 5]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn random_rotate(x: &Tensor, degrees: f64, key: &Tensor) -> Tensor {
    let [n, _, h, w] = images!("random_rotate", x);
    if !x.dtype().is_float() {
        return x.refuse("random_rotate", format!("floats are needed, got {}", x.dtype()));
    }
    let limit = degrees.abs().to_radians();
    let angle = (Tensor::uniform([n, 1, 1], key) * 2.0 - 1.0) * limit;
    let middle = |n: usize| (n.max(1) - 1) as f64 / 2.0;
    let (sin, cos) = (angle.sin(), angle.cos());
    let (dy, dx) = (rows(h, x).cast(DType::F32) - middle(h), columns(w, x).cast(DType::F32) - middle(w));
    let (ys, xs) = (&dy * &cos + &dx * &sin + middle(h), &dx * &cos - &dy * &sin + middle(w));
    let (top, left) = (ys.floor(), xs.floor());
    let (down, right) = ((&ys - &top).unsqueeze(1), (&xs - &left).unsqueeze(1));
    let (top, left) = (top.cast(DType::I32), left.cast(DType::I32));
    let upper = pick(x, &top, &left) * (1.0 - &right) + pick(x, &top, &(&left + 1)) * &right;
    let lower = pick(x, &(&top + 1), &left) * (1.0 - &right) + pick(x, &(&top + 1), &(&left + 1)) * &right;
    upper * (1.0 - &down) + lower * &down
}

/// Each image with a square of `size` pixels a side set to 0, its middle anywhere.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::cutout;
/// let x = Tensor::ones([4, 1, 8, 8], &Device::cpu());
/// let y = cutout(&x, 3, &Tensor::key(0, &Device::cpu()));
/// assert!(y.sum(..).item::<f32>()? >= 4.0 * (64.0 - 9.0));
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn cutout(x: &Tensor, size: usize, key: &Tensor) -> Tensor {
    let [n, _, h, w] = images!("cutout", x);
    if x.numel() == 0 {
        return x.clone();
    }
    let size = size.min(i32::MAX as usize / 2) as i64;
    let keys = key.split_key(2);
    let [down, right] = &keys[..] else { return x.refuse("cutout", "no keys") };
    // Of an even square the middle is one of the four pixels there.
    let from = |along: Tensor, n_along: usize, key: &Tensor| {
        let away = along - Tensor::randint([n, 1, 1], 0..n_along as i64, key) + size / 2;
        away.ge(0) & away.lt(size)
    };
    let hole = from(rows(h, x), h, down) & from(columns(w, x), w, right);
    hole.unsqueeze(1).where_(x.zeros_like(), x)
}

/// Images and their targets, each mixed with another of the batch: `share` of its own, a number or
/// a tensor `[n]`, and the rest of the other.
///
/// Targets are floats, as [`Tensor::one_hot`] gives them. `Tensor::uniform([n], &key)` as `share`
/// is mixup with `alpha` 1.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::augment::mixup;
/// let (x, y) = (Tensor::ones([2, 1, 4, 4], &Device::cpu()), Tensor::eye(2, &Device::cpu()));
/// let (x, y) = mixup(&x, &y, 0.75, &Tensor::key(0, &Device::cpu()));
/// assert_eq!((x.sum(..).item::<f32>()?, y.sum(..).item::<f32>()?), (32.0, 2.0));
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn mixup(x: &Tensor, y: &Tensor, share: impl Operand, key: &Tensor) -> (Tensor, Tensor) {
    let share = share.operand(x);
    let order = Tensor::permutation(x.dim(0), key);
    let mixed = |x: &Tensor| {
        if x.is_valid() && (x.rank() == 0 || !x.dtype().is_float()) {
            return x.refuse("mixup", format!("floats [n, ..] are needed, got {} {}", x.dtype(), x.shape()));
        }
        let mut dims = vec![1; x.rank()];
        if share.rank() > 0
            && let Some(first) = dims.first_mut()
        {
            *first = share.dim(0);
        }
        let own = share.reshape(dims);
        x * &own + x.index_select(0, &order) * (1.0 - &own)
    };
    (mixed(x), mixed(y))
}

/// `i32 [1, h, 1]`: the rows of images.
#[track_caller]
fn rows(h: usize, like: &Tensor) -> Tensor {
    Tensor::arange(0, h as i64, 1, like.device()).reshape([1, h, 1])
}

/// `i32 [1, 1, w]`: the columns of images.
#[track_caller]
fn columns(w: usize, like: &Tensor) -> Tensor {
    Tensor::arange(0, w as i64, 1, like.device()).reshape([1, 1, w])
}

/// The pixels at `rows` and `columns`, which broadcast to `[n, h, w]`; 0 outside of the image.
#[track_caller]
fn pick(x: &Tensor, rows: &Tensor, columns: &Tensor) -> Tensor {
    let [n, c, h, w] = images!("pick", x);
    if x.numel() == 0 {
        return x.clone();
    }
    let (last_row, last_column) = (h as i64 - 1, w as i64 - 1);
    let inside = rows.ge(0) & rows.le(last_row) & columns.ge(0) & columns.le(last_column);
    let at = rows.clamp(0, last_row) * w as i64 + columns.clamp(0, last_column);
    let at = at.broadcast_to([n, h, w]).reshape([n, 1, h * w]).expand([n, c, h * w]);
    let picked = x.reshape([n, c, h * w]).gather(2, &at).reshape([n, c, h, w]);
    inside.unsqueeze(1).where_(&picked, picked.zeros_like())
}
