//! Every row of the scalar table: its meanings agree, two derivatives, dtypes, edge values.

use half::{bf16, f16};
use wgrad::graph::scalar::Family;
use wgrad::graph::{Op, Scalar};
use wgrad::prelude::*;

use crate::devices::devices;
use crate::support::{Rng, assert_close, directional_check, exact, floats, ints};

/// One test for each row.
macro_rules! rows {
    ($($row:ident)*) => {
        $(
            #[test]
            #[allow(non_snake_case, reason = "a test is named as its row is")]
            fn $row() {
                check(Scalar::$row);
            }
        )*
    };
}
wgrad::scalar_rows!(rows);

fn apply(row: Scalar, operands: &[&Tensor]) -> Tensor {
    Tensor::primitive(Op::Scalar(row), operands, Shape::SCALAR, DType::F32)
}

fn check(row: Scalar) {
    meanings_agree(row);
    dtypes(row);
    let spec = row.spec();
    let mut rng = Rng::new(row as u64);
    let operands =
        |rng: &mut Rng, n| -> Vec<Tensor> { (0..n).map(|_| rng.tensor(&[16], spec.domain.clone())).collect() };
    if spec.family == Family::Choose {
        let choice: Vec<bool> = (0..16).map(|_| rng.below(2) == 1).collect();
        let choice = Tensor::new(choice, &Device::cpu());
        directional_check(spec.name, |x| apply(row, &[&choice, &x[0], &x[1]]), &operands(&mut rng, 2));
    } else if row.f64().is_some() && !matches!(spec.family, Family::Compare | Family::Test) {
        let f = |x: &[Tensor]| apply(row, &x.iter().collect::<Vec<_>>());
        directional_check(spec.name, f, &operands(&mut rng, spec.arity));
    }
}

/// The meaning on blocks of `f32` is the one on `f64`, and broadcasting operands is nothing special.
fn meanings_agree(row: Scalar) {
    let spec = row.spec();
    let (Some(wide), Some(lanes)) = (row.f64(), spec.lanes_f32) else { return };
    let mut rng = Rng::new(1 + row as u64);
    let (x, z) = (rng.vec(64, spec.domain.clone()), rng.vec(64, spec.domain.clone()));
    let bits = |v: &[f64]| -> Vec<u32> { v.iter().map(|&x| (x as f32).to_bits()).collect() };
    let mut narrow = vec![0; x.len()];
    lanes(&bits(&x), &bits(&z), &mut narrow);
    let mask = matches!(spec.family, Family::Compare | Family::Test);
    let narrow: Vec<f64> =
        narrow.iter().map(|&w| if mask { f64::from(w) } else { f64::from(f32::from_bits(w)) }).collect();
    let want: Vec<f64> = x.iter().zip(&z).map(|(&x, &z)| wide(x, z)).collect();
    assert_close(spec.name, &narrow, &want, spec.tolerance.max(1e-6));

    let operands = [floats(&x, &[8, 8]), floats(&z[..8], &[8])];
    let got = exact(&apply(row, &operands[..spec.arity].iter().collect::<Vec<_>>()));
    let want: Vec<f64> = (0..64).map(|k| wide(x[k], z[k % 8])).collect();
    assert_close(spec.name, &got, &want, 0.0);
}

/// The dtype of the result for every dtype of the operands, or a mistake that names the row.
fn dtypes(row: Scalar) {
    let spec = row.spec();
    for dtype in DType::ALL {
        let x = ints(&[1, 0, 1], &[3]).cast(dtype);
        let choice = x.cast(DType::Bool);
        let operands = if spec.family == Family::Choose { vec![&choice, &x, &x] } else { vec![&x; spec.arity] };
        let y = apply(row, &operands);
        let want = match spec.family {
            Family::Float if !dtype.is_float() => Some(DType::F32),
            Family::Number if dtype == DType::Bool => Some(DType::I32),
            Family::Float | Family::Number | Family::Round | Family::Choose => Some(dtype),
            Family::Compare | Family::Test => Some(DType::Bool),
            Family::Logic => (!dtype.is_float()).then_some(dtype),
            Family::Shift => dtype.is_int().then_some(dtype),
        };
        match (want, y.error()) {
            (Some(want), None) => {
                assert_eq!(y.dtype(), want, "{} of {dtype}", spec.name);
                assert_eq!(exact(&y).len(), 3, "{} of {dtype}", spec.name);
            }
            (None, Some(error)) => {
                assert_eq!(error.op(), spec.name);
                let place = error.location().map(|at| at.file());
                assert_eq!(place, Some(file!()), "{error}");
            }
            (want, error) => panic!("{} of {dtype}: wanted {want:?}, got {error:?}", spec.name),
        }
    }
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[test]
fn unary_edges() {
    let table: &[(Scalar, &[(f64, f64)])] = &[
        (Scalar::Neg, &[(0.0, -0.0), (-INF, INF), (NAN, NAN)]),
        (Scalar::Abs, &[(-0.0, 0.0), (-INF, INF), (NAN, NAN)]),
        (Scalar::Sign, &[(-0.0, 0.0), (0.0, 0.0), (-INF, -1.0), (NAN, 0.0)]),
        (Scalar::Floor, &[(-0.5, -1.0), (-0.0, -0.0), (INF, INF), (NAN, NAN)]),
        (Scalar::Ceil, &[(-0.5, -0.0), (0.25, 1.0), (-INF, -INF)]),
        (Scalar::Round, &[(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-1.5, -2.0)]),
        (Scalar::Trunc, &[(-1.75, -1.0), (1.75, 1.0), (-0.5, -0.0)]),
        (Scalar::Exp, &[(-INF, 0.0), (INF, INF), (0.0, 1.0), (NAN, NAN)]),
        (Scalar::Expm1, &[(-INF, -1.0), (0.0, 0.0), (-0.0, -0.0)]),
        (Scalar::Ln, &[(0.0, -INF), (-1.0, NAN), (INF, INF), (1.0, 0.0)]),
        (Scalar::Log1p, &[(-1.0, -INF), (-2.0, NAN), (0.0, 0.0)]),
        (Scalar::Log2, &[(0.0, -INF), (8.0, 3.0), (-1.0, NAN)]),
        (Scalar::Sqrt, &[(-1.0, NAN), (-0.0, -0.0), (INF, INF)]),
        (Scalar::Rsqrt, &[(0.0, INF), (INF, 0.0), (-1.0, NAN)]),
        (Scalar::Recip, &[(0.0, INF), (-0.0, -INF), (-INF, -0.0)]),
        (Scalar::Sin, &[(INF, NAN), (-0.0, -0.0)]),
        (Scalar::Cos, &[(INF, NAN), (0.0, 1.0)]),
        (Scalar::Tan, &[(INF, NAN), (0.0, 0.0)]),
        (Scalar::Asin, &[(2.0, NAN), (0.0, 0.0)]),
        (Scalar::Acos, &[(2.0, NAN), (1.0, 0.0)]),
        (Scalar::Atan, &[(INF, std::f64::consts::FRAC_PI_2), (-0.0, -0.0)]),
        (Scalar::Sinh, &[(INF, INF), (-INF, -INF), (0.0, 0.0)]),
        (Scalar::Cosh, &[(-INF, INF), (0.0, 1.0)]),
        (Scalar::Tanh, &[(INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
        (Scalar::Erf, &[(INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
        (Scalar::IsNan, &[(NAN, 1.0), (INF, 0.0), (0.0, 0.0)]),
        (Scalar::IsInf, &[(NAN, 0.0), (INF, 1.0), (-INF, 1.0), (1.0, 0.0)]),
    ];
    for (row, cases) in table {
        for &(x, want) in *cases {
            let what = format!("{}({x})", row.spec().name);
            assert_close(&what, &exact(&apply(*row, &[&floats(&[x], &[])])), &[want], 0.0);
        }
    }
}

#[test]
fn binary_edges() {
    let table: &[(Scalar, &[(f64, f64, f64)])] = &[
        (Scalar::Atan2, &[(0.0, -1.0, std::f64::consts::PI), (-0.0, 1.0, -0.0), (0.0, 0.0, 0.0)]),
        (Scalar::Add, &[(INF, -INF, NAN), (-0.0, -0.0, -0.0)]),
        (Scalar::Sub, &[(INF, INF, NAN), (1.0, 1.0, 0.0)]),
        (Scalar::Mul, &[(INF, 0.0, NAN), (-1.0, 0.0, -0.0)]),
        (Scalar::Div, &[(1.0, 0.0, INF), (-1.0, 0.0, -INF), (0.0, 0.0, NAN)]),
        (Scalar::FloorDiv, &[(-7.0, 2.0, -4.0), (7.0, -2.0, -4.0), (1.0, 0.0, INF)]),
        (Scalar::Rem, &[(-7.0, 3.0, 2.0), (7.0, -3.0, -2.0), (1.0, 0.0, NAN)]),
        (Scalar::Pow, &[(0.0, 0.0, 1.0), (NAN, 0.0, 1.0), (-2.0, 3.0, -8.0), (-8.0, 0.5, NAN), (0.0, -1.0, INF)]),
        (Scalar::Maximum, &[(NAN, 1.0, NAN), (1.0, NAN, NAN), (INF, 1.0, INF)]),
        (Scalar::Minimum, &[(NAN, 1.0, NAN), (1.0, NAN, NAN), (-INF, 1.0, -INF)]),
        (Scalar::Eq, &[(NAN, NAN, 0.0), (0.0, -0.0, 1.0), (INF, INF, 1.0)]),
        (Scalar::Ne, &[(NAN, NAN, 1.0), (0.0, -0.0, 0.0)]),
        (Scalar::Lt, &[(NAN, 1.0, 0.0), (1.0, 1.0, 0.0), (-INF, INF, 1.0)]),
        (Scalar::Le, &[(NAN, 1.0, 0.0), (1.0, 1.0, 1.0)]),
        (Scalar::Gt, &[(NAN, 1.0, 0.0), (1.0, 1.0, 0.0), (INF, -INF, 1.0)]),
        (Scalar::Ge, &[(NAN, 1.0, 0.0), (1.0, 1.0, 1.0)]),
    ];
    for (row, cases) in table {
        for &(x, z, want) in *cases {
            let what = format!("{}({x}, {z})", row.spec().name);
            assert_close(&what, &exact(&apply(*row, &[&floats(&[x], &[]), &floats(&[z], &[])])), &[want], 0.0);
        }
    }
}

/// The same on devices, whose compilers are not told what they hold.
#[test]
fn edges_on_devices() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let table: &[(Scalar, &[[f32; 2]])] = &[
        (Scalar::Asin, &[[-0.0, 0.0], [0.0, 0.0], [-0.25, 0.0], [-1.0, 0.0]]),
        (Scalar::Atan, &[[-0.0, 0.0], [0.0, 0.0], [-0.25, 0.0], [-INF, 0.0]]),
        (Scalar::Acos, &[[1.0, 0.0], [0.999_999_94, 0.0], [0.9999, 0.0], [0.5, 0.0], [-1.0, 0.0], [2.0, 0.0]]),
        (Scalar::Cosh, &[[0.0, 0.0], [89.0, 0.0], [-89.0, 0.0], [90.0, 0.0], [-INF, 0.0], [NAN, 0.0]]),
        (Scalar::Sinh, &[[-0.5, 0.0], [89.0, 0.0], [-89.0, 0.0], [90.0, 0.0], [-INF, 0.0], [NAN, 0.0]]),
        (Scalar::Atan2, &[[INF, INF], [INF, -INF], [-INF, INF], [-INF, -INF], [2.0, -2.0], [-3.0, 3.0], [INF, 1.0]]),
        (Scalar::Atan2, &[[1.0, -INF], [-1.0, INF], [NAN, 1.0], [1.0, NAN], [0.0, -1.0], [-0.0, 1.0], [-0.0, -0.0]]),
        (Scalar::Pow, &[[0.0, NAN], [-0.0, NAN], [NAN, 0.0], [1.0, NAN], [-1.0, NAN], [2.0, NAN], [NAN, 2.0]]),
        (Scalar::Pow, &[[-INF, 0.5], [-INF, 3.0], [-INF, 2.0], [-INF, -3.0], [INF, 0.5], [INF, -1.0], [2.0, INF]]),
        (Scalar::Pow, &[[-1.0, INF], [-1.0, -INF], [1.0, -INF], [0.5, -INF], [0.5, INF], [-2.0, INF], [-INF, INF]]),
        (Scalar::Pow, &[[-0.0, 3.0], [-0.0, -3.0], [-0.0, 2.0], [-0.0, -2.0], [-0.0, 0.5], [0.0, -0.5], [-0.0, 0.0]]),
        (Scalar::Pow, &[[-2.0, 3.0], [-2.0, 4.0], [-2.0, 0.5], [-2.0, -3.0], [1.5, 2.5], [0.0, INF], [0.0, -INF]]),
    ];
    for device in devices() {
        for &(row, cases) in table {
            let column = |k: usize| Tensor::from_vec(cases.iter().map(|x| x[k]).collect(), [cases.len()], &device);
            let operands = [column(0), column(1)];
            let y = apply(row, &operands.iter().take(row.spec().arity).collect::<Vec<_>>());
            for (&[x, z], got) in cases.iter().zip(y.to_vec::<f32>().unwrap()) {
                let want = row.f64().unwrap()(x.into(), z.into()) as f32;
                // Some drivers stop at the least normal number where others go on to 0.
                let close = got == want || (got - want).abs() <= 2e-5 * want.abs() + 2.0 * f32::MIN_POSITIVE;
                let same = close && got.is_sign_negative() == want.is_sign_negative();
                let what = row.spec().name;
                assert!(same || got.is_nan() && want.is_nan(), "{what}({x}, {z}) on {device}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn integer_edges() {
    const MIN: i32 = i32::MIN;
    type Case = (Scalar, DType, i32, i32, f64);
    let table: &[Case] = &[
        (Scalar::Neg, DType::I32, MIN, 0, f64::from(MIN)),
        (Scalar::Neg, DType::U8, 1, 0, 255.0),
        (Scalar::Abs, DType::I32, MIN, 0, f64::from(MIN)),
        (Scalar::Abs, DType::U32, -1, 0, f64::from(u32::MAX)),
        (Scalar::Sign, DType::I32, -5, 0, -1.0),
        (Scalar::Add, DType::U8, 200, 100, 44.0),
        (Scalar::Add, DType::I32, i32::MAX, 1, f64::from(MIN)),
        (Scalar::Sub, DType::U32, 0, 1, f64::from(u32::MAX)),
        (Scalar::Mul, DType::U8, 20, 20, 144.0),
        (Scalar::FloorDiv, DType::I32, -7, 2, -4.0),
        (Scalar::FloorDiv, DType::I32, 7, 0, 0.0),
        (Scalar::FloorDiv, DType::I32, MIN, -1, f64::from(MIN)),
        (Scalar::Rem, DType::I32, -7, 3, 2.0),
        (Scalar::Rem, DType::U32, 7, 0, 0.0),
        (Scalar::Pow, DType::I32, -2, 3, -8.0),
        (Scalar::Pow, DType::I32, 2, -1, 0.0),
        (Scalar::Pow, DType::U8, 2, 8, 0.0),
        (Scalar::Maximum, DType::I32, -1, 1, 1.0),
        (Scalar::Maximum, DType::U32, -1, 1, f64::from(u32::MAX)),
        (Scalar::Lt, DType::I32, -1, 1, 1.0),
        (Scalar::Lt, DType::U32, -1, 1, 0.0),
        (Scalar::Not, DType::U8, 5, 0, 250.0),
        (Scalar::Not, DType::Bool, 1, 0, 0.0),
        (Scalar::Xor, DType::Bool, 1, 1, 0.0),
        (Scalar::Shl, DType::U8, 200, 1, 144.0),
        (Scalar::Shl, DType::I32, 1, 33, 2.0),
        (Scalar::Shr, DType::I32, -8, 1, -4.0),
        (Scalar::Shr, DType::U32, -8, 28, 15.0),
        (Scalar::Div, DType::I32, 1, 4, 0.25),
    ];
    for &(row, dtype, x, z, want) in table {
        let operands = [x, z].map(|x| ints(&[x], &[]).cast(dtype));
        let y = apply(row, &operands[..row.spec().arity].iter().collect::<Vec<_>>());
        let what = format!("{}({x}, {z}) in {dtype}", row.spec().name);
        assert_close(&what, &exact(&y), &[want], 0.0);
    }
}

#[test]
fn derivatives_where_difference_quotients_do_not_exist() {
    let derivative = |row: Scalar, operands: &[f64]| -> Vec<f64> {
        let operands: Vec<Tensor> = operands.iter().map(|&x| floats(&[x], &[])).collect();
        let operands: Vec<&Tensor> = operands.iter().collect();
        apply(row, &operands).grad(&operands).iter().map(|dx| exact(dx)[0]).collect()
    };
    let table: &[(Scalar, &[f64], &[f64])] = &[
        (Scalar::Abs, &[0.0], &[0.0]),
        (Scalar::Maximum, &[2.0, 2.0], &[0.5, 0.5]),
        (Scalar::Minimum, &[2.0, 2.0], &[0.5, 0.5]),
        (Scalar::Maximum, &[INF, INF], &[0.5, 0.5]),
        (Scalar::Pow, &[0.0, 0.0], &[0.0, 0.0]),
        (Scalar::Pow, &[0.0, 2.0], &[0.0, 0.0]),
        (Scalar::Pow, &[0.0, 1.0], &[1.0, 0.0]),
        (Scalar::Pow, &[-2.0, 3.0], &[12.0, NAN]),
        (Scalar::Sqrt, &[0.0], &[INF]),
        (Scalar::Exp, &[-INF], &[0.0]),
        (Scalar::Tanh, &[INF], &[0.0]),
        (Scalar::Rem, &[-7.0, 3.0], &[1.0, 3.0]),
    ];
    for &(row, operands, want) in table {
        let what = format!("derivative of {}{operands:?}", row.spec().name);
        assert_close(&what, &derivative(row, operands), want, 1e-12);
    }
    // What is not chosen does not leak, however bad it is.
    let (x, z) = (floats(&[2.0], &[]), floats(&[INF], &[]));
    let y = Tensor::new(true, &Device::cpu()).where_(&x * 3.0, &z * 0.0);
    assert_close("where", &exact(&y.grad(&[&x])[0]), &[3.0], 0.0);
}

/// Every 16-bit float widens to itself, and numbers between two go to the nearer, a tie to the even one.
#[test]
fn every_half_is_widened_and_rounded_to() {
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    for device in devices() {
        for dtype in [DType::F16, DType::BF16] {
            let (from, to): (fn(u16) -> f32, fn(f32) -> f32) = match dtype {
                DType::F16 => (|bits| f16::from_bits(bits).to_f32(), |x| f16::from_f32(x).to_f32()),
                _ => (|bits| bf16::from_bits(bits).to_f32(), |x| bf16::from_f32(x).to_f32()),
            };
            let wide: Vec<f32> = (0..=u16::MAX).map(from).collect();
            let x = match dtype {
                DType::F16 => {
                    Tensor::from_vec((0..=u16::MAX).map(f16::from_bits).collect::<Vec<_>>(), [1 << 16], &device)
                }
                _ => Tensor::from_vec((0..=u16::MAX).map(bf16::from_bits).collect::<Vec<_>>(), [1 << 16], &device),
            };
            // Devices may take numbers of 32 bits that are too small to be normal for 0.
            let tiny = |x: f32| x != 0.0 && x.abs() < f32::MIN_POSITIVE;
            let found = x.cast(DType::F32).to_vec::<f32>().unwrap();
            for (bits, (found, want)) in found.into_iter().zip(&wide).enumerate() {
                let zero = tiny(*want) && found == 0.0;
                assert!(same(found, *want) || zero, "{dtype} {bits:#06x} on {device}: {found}, not {want}");
            }
            let between = wide.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).filter(|x| !x.is_nan() && !tiny(*x));
            let close: Vec<f32> = between.flat_map(|x| [x.next_down(), x, x.next_up()]).filter(|x| !tiny(*x)).collect();
            let n = close.len();
            let found = Tensor::from_vec(close.clone(), [n], &device).cast(dtype).cast(DType::F32).to_vec::<f32>();
            for (x, found) in close.into_iter().zip(found.unwrap()) {
                let want = to(x);
                let zero = tiny(want) && found == 0.0;
                assert!(same(found, want) || zero, "{x:e} as {dtype} on {device}: {found:e}, not {want:e}");
            }
        }
    }
}
