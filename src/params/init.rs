//! [`Init`]: first values of weights, drawn on the host so that they are equal everywhere.
//!
//! Random numbers are Threefry's under the seed and the path; logarithms and the like come from
//! the `libm` crate, not from the system. Knows no store.

use crate::graph::device::Device;
use crate::graph::float::sin_cos;
use crate::graph::tensor::Tensor;
use crate::graph::wide::wide;
use crate::ops::threefry::threefry2x32;
use crate::shape::Shape;

/// How a weight begins. A shape `[out, in, ..]` has `in` times the rest as its fan in, `out` times
/// the rest as its fan out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All this.
    Constant(f64),
    /// Evenly from `low` to `high`.
    Uniform {
        /// The least value.
        low: f64,
        /// The least value that is too great.
        high: f64,
    },
    /// From a normal distribution.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// From a normal distribution around 0, drawn again beyond two standard deviations.
    TruncatedNormal {
        /// Its standard deviation, before it is truncated.
        std: f64,
    },
    /// Evenly within `gain * sqrt(3 / fan in)`.
    KaimingUniform {
        /// `sqrt(2)` before a ReLU, `1 / sqrt(3)` in PyTorch's own layers.
        gain: f64,
    },
    /// Normal with standard deviation `gain / sqrt(fan in)`.
    KaimingNormal {
        /// `sqrt(2)` before a ReLU.
        gain: f64,
    },
    /// Evenly within `gain * sqrt(6 / (fan in + fan out))`.
    XavierUniform {
        /// 1, or 5/3 before a tanh.
        gain: f64,
    },
    /// Normal with standard deviation `gain * sqrt(2 / (fan in + fan out))`.
    XavierNormal {
        /// 1, or 5/3 before a tanh.
        gain: f64,
    },
    /// Rows (or columns, when there are fewer) at right angles to each other, of length `gain`.
    Orthogonal {
        /// Their length.
        gain: f64,
    },
}

impl Init {
    /// The values of a weight of `shape` at `path`.
    #[track_caller]
    pub(super) fn tensor(self, shape: &Shape, seed: u64, path: &str, device: &Device) -> Tensor {
        let mut draw = Draw::new(seed, path);
        let n = shape.numel();
        let (fan_in, fan_out) = fans(shape.dims());
        let uniform = |draw: &mut Draw, bound: f64| each(n, || (2.0 * draw.unit() - 1.0) * bound);
        let normal = |draw: &mut Draw, mean: f64, std: f64| each(n, || mean + std * draw.normal());
        let values = match self {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Constant(value) => vec![value as f32; n],
            Init::Uniform { low, high } => each(n, || low + (high - low) * draw.unit()),
            Init::Normal { mean, std } => normal(&mut draw, mean, std),
            Init::TruncatedNormal { std } => {
                let one = || loop {
                    let x = draw.normal();
                    if x.abs() <= 2.0 {
                        return std * x;
                    }
                };
                each(n, one)
            }
            Init::KaimingUniform { gain } => uniform(&mut draw, gain * (3.0 / fan_in).sqrt()),
            Init::KaimingNormal { gain } => normal(&mut draw, 0.0, gain / fan_in.sqrt()),
            Init::XavierUniform { gain } => uniform(&mut draw, gain * (6.0 / (fan_in + fan_out)).sqrt()),
            Init::XavierNormal { gain } => normal(&mut draw, 0.0, gain * (2.0 / (fan_in + fan_out)).sqrt()),
            Init::Orthogonal { gain } => orthogonal(&mut draw, shape.dims(), gain),
        };
        Tensor::from_vec(values, shape.dims(), device)
    }
}

/// `n` values, one after the other.
fn each(n: usize, mut value: impl FnMut() -> f64) -> Vec<f32> {
    (0..n).map(|_| value() as f32).collect()
}

/// How many elements of a weight one output reads, and how many outputs read one input; at least 1.
fn fans(dims: &[usize]) -> (f64, f64) {
    let rest: usize = dims.iter().skip(2).product();
    let (out, into) = (dims.first().copied().unwrap_or(1), dims.get(1).or(dims.first()).copied().unwrap_or(1));
    ((into * rest).max(1) as f64, (out * rest).max(1) as f64)
}

/// Gram-Schmidt, twice for accuracy, over the shorter side.
fn orthogonal(draw: &mut Draw, dims: &[usize], gain: f64) -> Vec<f32> {
    let rows = dims.first().copied().unwrap_or(1);
    let columns: usize = dims.iter().skip(1).product();
    let (few, long) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(few);
    while basis.len() < few {
        let mut x: Vec<f64> = (0..long).map(|_| draw.normal()).collect();
        for _ in 0..2 {
            for known in &basis {
                let dot: f64 = x.iter().zip(known).map(|(a, b)| a * b).sum();
                x.iter_mut().zip(known).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let length = x.iter().map(|a| a * a).sum::<f64>().sqrt();
        if length > 1e-6 {
            x.iter_mut().for_each(|a| *a /= length);
            basis.push(x);
        }
    }
    let at = |r: usize, c: usize| if rows <= columns { basis[r][c] } else { basis[c][r] };
    (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| (gain * at(r, c)) as f32).collect()
}

/// Numbers that are drawn at once, so that the processor's vectors draw them.
const BLOCK: usize = 64;

wide! {
    /// Numbers `first`, `first + 1`, …, evenly from 0 to 1, both left out.
    fn units(key: [u32; 2], first: u64, out: &mut [f64; BLOCK]) {
        for (n, out) in out.iter_mut().enumerate() {
            let n = first + n as u64;
            let [high, low] = threefry2x32(key, [(n >> 32) as u32, n as u32]);
            let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
            *out = (bits as f64 + 0.5) / (1u64 << 52) as f64;
        }
    }
}

/// Random numbers of one weight, in order.
struct Draw {
    key: [u32; 2],
    count: u64,
    /// The numbers from the last whole block before `count` on.
    block: [f64; BLOCK],
    spare: Option<f64>,
}

impl Draw {
    fn new(seed: u64, path: &str) -> Draw {
        let seed = [(seed >> 32) as u32, seed as u32];
        // Each byte of the path is folded in: no two paths share a key but by accident of 64 bits.
        let key = path.bytes().fold(seed, |key, byte| threefry2x32(key, [0, u32::from(byte)]));
        Draw { key, count: 0, block: [0.0; BLOCK], spare: None }
    }

    /// Evenly from 0 to 1, both left out.
    fn unit(&mut self) -> f64 {
        let at = (self.count % BLOCK as u64) as usize;
        if at == 0 {
            units(self.key, self.count, &mut self.block);
        }
        self.count += 1;
        self.block[at]
    }

    /// Normal with mean 0 and standard deviation 1, by Box and Muller, two at a time.
    fn normal(&mut self) -> f64 {
        if let Some(x) = self.spare.take() {
            return x;
        }
        let radius = (-2.0 * libm::log(self.unit())).sqrt();
        let [sin, cos] = sin_cos(self.unit());
        self.spare = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_at_right_angles() {
        for dims in [[3, 5], [5, 3], [4, 4]] {
            let x = orthogonal(&mut Draw::new(1, "w"), &dims, 2.0);
            let [rows, columns] = dims;
            let at = |r: usize, c: usize| if rows <= columns { x[r * columns + c] } else { x[c * columns + r] };
            let (few, long) = (rows.min(columns), rows.max(columns));
            for a in 0..few {
                for b in 0..few {
                    let dot: f64 = (0..long).map(|k| f64::from(at(a, k)) * f64::from(at(b, k))).sum();
                    assert!((dot - if a == b { 4.0 } else { 0.0 }).abs() < 1e-6, "{dims:?} {a} {b}: {dot}");
                }
            }
        }
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let mut draw = Draw::new(7, "w");
        let x: Vec<f64> = (0..20_000).map(|_| draw.normal()).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
