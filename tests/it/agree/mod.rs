//! Every row and every primitive on every device against the oracle, over grids of shapes and dtypes.

pub mod primitives;

use half::{bf16, f16};
use wgrad::graph::scalar::Family;
use wgrad::graph::{Op, Scalar};
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::devices;
use crate::support::Rng;

/// Checks the roots that `build` makes of its leaves on every device.
#[track_caller]
fn everywhere(what: &str, build: &dyn Fn(&mut Leaves<'_>) -> Vec<Tensor>) {
    on(&devices(), what, build);
}

#[track_caller]
pub fn on(devices: &[Device], what: &str, build: &dyn Fn(&mut Leaves<'_>) -> Vec<Tensor>) {
    for device in devices {
        let how = How::Realize(device.clone());
        let shades = how.shades();
        let seed = what.bytes().fold(7, |n: u64, b| n.wrapping_mul(31) + u64::from(b));
        let case = |device: &Device| {
            let mut leaves = Leaves { rng: Rng::new(seed), device, floats: Vec::new() };
            let roots = build(&mut leaves);
            // Drawn: at equal distances a grid has the same kind of root again and again.
            let mut rng = Rng::new(seed + 1);
            let roots = roots.into_iter().enumerate().filter(|(k, _)| rng.below(apart(shades, *k)) == 0);
            Case::new(roots.map(|(_, root)| root).collect(), leaves.floats)
        };
        agree(what, &how, &case);
    }
}

/// One root of about how many is checked: where each has a shader to compile, few of a large grid,
/// other ones for each dtype, unless `GRAPHS` asks for thoroughness.
fn apart(shades: bool, k: usize) -> usize {
    match shades && std::env::var_os("GRAPHS").is_none() {
        true => 1 + k.min(60) / 8,
        false => 1,
    }
}

/// Makes leaves on a device.
pub struct Leaves<'a> {
    rng: Rng,
    pub device: &'a Device,
    floats: Vec<Tensor>,
}

impl Leaves<'_> {
    /// Numbers of `range`, truncated for integers; bools are drawn.
    pub fn of(&mut self, dtype: DType, dims: &[usize], range: std::ops::Range<f64>) -> Tensor {
        let v = self.rng.vec(dims.iter().product(), range);
        self.from(dtype, dims, &v)
    }

    /// These numbers, as `dtype` holds them.
    fn from(&mut self, dtype: DType, dims: &[usize], v: &[f64]) -> Tensor {
        let d = self.device;
        let x = match dtype {
            DType::F32 => Tensor::from_vec(v.iter().map(|&x| x as f32).collect::<Vec<_>>(), dims, d),
            DType::F16 => Tensor::from_vec(v.iter().map(|&x| f16::from_f64(x)).collect::<Vec<_>>(), dims, d),
            DType::BF16 => Tensor::from_vec(v.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<_>>(), dims, d),
            DType::I32 => Tensor::from_vec(v.iter().map(|&x| x as i32).collect::<Vec<_>>(), dims, d),
            DType::U32 => Tensor::from_vec(v.iter().map(|&x| x as i64 as u32).collect::<Vec<_>>(), dims, d),
            DType::U8 => Tensor::from_vec(v.iter().map(|&x| x as i64 as u8).collect::<Vec<_>>(), dims, d),
            DType::Bool => Tensor::from_vec(v.iter().map(|&x| x > 0.0).collect::<Vec<_>>(), dims, d),
        };
        if dtype.is_float() {
            self.floats.push(x.clone());
        }
        x
    }

    /// Indices under `n`.
    fn index(&mut self, dims: &[usize], n: usize) -> Tensor {
        let v: Vec<i32> = (0..dims.iter().product()).map(|_| self.rng.below(n) as i32).collect();
        Tensor::from_vec(v, dims, self.device)
    }
}

/// A node of a primitive; `dims` and `dtype` matter to few.
pub fn prim(op: Op, src: &[&Tensor], dims: &[usize], dtype: DType) -> Tensor {
    Tensor::primitive(op, src, crate::support::shape(dims), dtype)
}

// ---- elementwise

/// One test for each row.
macro_rules! rows {
    ($($row:ident)*) => {$(
        #[test]
        #[allow(non_snake_case, reason = "a test is named as its row is")]
        fn $row() {
            row(Scalar::$row);
        }
    )*};
}

wgrad::scalar_rows!(rows);

/// A row over every dtype that it takes, in its domain, with operands that broadcast.
pub fn row(row: Scalar) {
    let spec = row.spec();
    everywhere(spec.name, &|leaves| {
        let mut roots = Vec::new();
        for dtype in DType::ALL {
            let fits = match spec.family {
                Family::Logic => !dtype.is_float(),
                Family::Shift => dtype.is_int(),
                _ => true,
            };
            if !fits {
                continue;
            }
            // Integers of both signs and beyond the domain too; they are exact.
            let exact = !dtype.is_float() && spec.family != Family::Float;
            let range = match dtype {
                _ if exact => -40.0..300.0,
                // Negative numbers would wrap out of the domain.
                DType::U32 | DType::U8 => spec.domain.start.max(0.0)..spec.domain.end,
                _ => spec.domain.clone(),
            };
            let x = leaves.of(dtype, &[7, 37], range.clone());
            let z = leaves.of(dtype, &[37], range);
            let z = if row == Scalar::Pow && exact { z.rem(7) } else { z };
            roots.push(match spec.arity {
                1 => prim(Op::Scalar(row), &[&x], &[], dtype),
                2 => prim(Op::Scalar(row), &[&x, &z], &[], dtype),
                _ => {
                    let choice = leaves.of(DType::Bool, &[7, 1], -1.0..1.0);
                    prim(Op::Scalar(row), &[&choice, &x, &z], &[], dtype)
                }
            });
        }
        roots
    });
}

/// Numbers at the edges of `f32`.
const EDGES: [f32; 16] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.0,
    1e-40,
    -1e-40,
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1e10,
];

/// What every row makes of the edges. The CPU agrees with the oracle everywhere but that a
/// denormal may be taken as 0. On a GPU, whose compilers may assume that there are no NaNs and no
/// infinities, this holds for the rows that tell them, choose or move; other rows agree where
/// operands and results are ordinary numbers.
#[test]
fn edges() {
    let n = EDGES.len();
    let tells = |row: Scalar| {
        matches!(row.spec().family, Family::Compare | Family::Test | Family::Choose)
            || matches!(row, Scalar::Neg | Scalar::Abs | Scalar::Sign | Scalar::Maximum | Scalar::Minimum)
    };
    for device in devices() {
        let x: Vec<f32> = (0..n * n).map(|k| EDGES[k / n]).collect();
        let z: Vec<f32> = (0..n * n).map(|k| EDGES[k % n]).collect();
        let build = |device: &Device, flush: bool| -> Vec<Tensor> {
            let flushed = |v: &[f32]| -> Vec<f32> {
                v.iter().map(|&x| if flush && !x.is_normal() && x.is_finite() { 0.0 * x } else { x }).collect()
            };
            let (x, z) = (Tensor::from_vec(flushed(&x), n * n, device), Tensor::from_vec(flushed(&z), n * n, device));
            let choice = Tensor::from_vec((0..n * n).map(|k| k % 3 == 0).collect::<Vec<_>>(), n * n, device);
            let of = |row: &Scalar| match row.spec().arity {
                1 => prim(Op::Scalar(*row), &[&x], &[], DType::F32),
                2 => prim(Op::Scalar(*row), &[&x, &z], &[], DType::F32),
                _ => prim(Op::Scalar(*row), &[&choice, &x, &z], &[], DType::F32),
            };
            float_rows().iter().map(of).collect()
        };
        let got = build(&device, false);
        wgrad::realize(&got).unwrap();
        let wants = [false, true].map(|flush| build(&Device::cpu(), flush));
        for (k, row) in float_rows().into_iter().enumerate() {
            let want = [0, 1].map(|flush| crate::support::exact(&wants[flush][k]));
            let got = crate::support::exact(&got[k]);
            for at in 0..n * n {
                let (a, b) = (x[at], z[at]);
                let ordinary = |x: f32| x == 0.0 || (x.is_normal() && x.abs() < 1e30);
                // A GPU loses the angle of a large argument, and the remainder of a large quotient.
                let turns = match row {
                    Scalar::Sin | Scalar::Cos | Scalar::Tan => a.abs(),
                    Scalar::Rem => (a / b).abs(),
                    _ => 0.0,
                };
                if device != Device::cpu() && turns > 1e3 {
                    continue;
                }
                // What `f64` rounds down to -1 may be a quotient too small for `f32`.
                if row == Scalar::FloorDiv && a != 0.0 && (a / b).abs() < f32::MIN_POSITIVE {
                    continue;
                }
                let want = want.each_ref().map(|w| w[at]);
                let operands = ordinary(a) && (ordinary(b) || row.spec().arity == 1);
                if device != Device::cpu() && !tells(row) && !(operands && want.iter().all(|&w| ordinary(w as f32))) {
                    continue;
                }
                let same = |w: f64| {
                    let w = if row == Scalar::Where || row.f64().is_none() { w } else { f64::from(w as f32) };
                    let close = (got[at] - w).abs() <= 1e-5 * w.abs().max(f64::from(f32::MIN_POSITIVE));
                    (got[at].is_nan() && w.is_nan()) || got[at] == w || close
                };
                // On the way, too, a denormal may be taken as 0.
                let tiny = want[0] != 0.0 && want[0].abs() < 2e-38;
                assert!(
                    want.into_iter().any(same) || (tiny && got[at].abs() < 1e-30),
                    "{} of {a:?} and {b:?} on {device}: got {:?}, want {:?}",
                    row.spec().name,
                    got[at],
                    want
                );
            }
        }
    }
}

fn float_rows() -> Vec<Scalar> {
    let takes = |row: &&Scalar| !matches!(row.spec().family, Family::Logic | Family::Shift);
    Scalar::ALL.iter().filter(takes).copied().collect()
}

/// Numbers that casts treat differently, for each dtype to cast from.
fn casts_of(dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F32 => vec![
            0.0,
            -0.0,
            0.4,
            0.5,
            -0.5,
            1.5,
            2.5,
            -1.0,
            -1.9,
            127.5,
            255.0,
            255.9,
            256.0,
            300.0,
            65504.0,
            65519.0,
            65520.0,
            -70000.0,
            1e-5,
            3e-8,
            6e-8,
            1e-7,
            2147483648.0,
            4294967296.0,
            -2147483648.0,
            1e20,
            -1e20,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            3.0e9,
            16777217.0,
            1.00390625,
            1.01171875,
            3.4e38,
        ],
        DType::F16 | DType::BF16 => {
            vec![0.0, -0.0, 0.5, -0.5, 1.5, -1.9, 255.9, 256.0, 65504.0, 1e-5, 6e-8, f64::NAN, f64::INFINITY, 1e-3, 2.5]
        }
        DType::I32 => vec![
            0.0,
            1.0,
            -1.0,
            255.0,
            256.0,
            -255.0,
            2147483647.0,
            -2147483648.0,
            16777217.0,
            16777219.0,
            65519.0,
            65520.0,
            2147483583.0,
            2147483585.0,
            33554435.0,
        ],
        DType::U32 => vec![
            0.0,
            1.0,
            255.0,
            256.0,
            4294967295.0,
            2147483648.0,
            16777217.0,
            16777219.0,
            65520.0,
            4294967167.0,
            4294967169.0,
        ],
        DType::U8 => vec![0.0, 1.0, 2.0, 127.0, 128.0, 255.0, 7.0],
        DType::Bool => vec![0.0, 1.0, 1.0, 0.0, 1.0],
    }
}

#[test]
pub fn casts() {
    for from in DType::ALL {
        everywhere(&format!("casts from {from}"), &|leaves| {
            let v = casts_of(from);
            let x = leaves.from(from, &[v.len()], &v);
            // The edges of a cast are what is tested; they do not move.
            leaves.floats.clear();
            DType::ALL.iter().flat_map(|&to| [x.cast(to), x.flip(0).cast(to).cast(DType::F32)]).collect()
        });
    }
}

#[test]
pub fn bitcasts() {
    everywhere("bitcasts", &|leaves| {
        let x = Tensor::from_vec(vec![1.5f32, -0.0, 1e30, -7.25, f32::INFINITY], 5, leaves.device);
        let y = Tensor::from_vec(vec![i32::MIN, -1, 0, 7, i32::MAX], 5, leaves.device);
        vec![
            x.bitcast(DType::U32),
            x.bitcast(DType::I32),
            y.bitcast(DType::U32),
            y.bitcast(DType::U32).bitcast(DType::I32),
        ]
    });
}
