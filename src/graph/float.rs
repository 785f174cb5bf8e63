//! What the rows of the scalar table say of floats that `f32` and `f64` lack, or have only as
//! calls that no compiler can turn into vector instructions.
//!
//! The `f64` meanings are the standard ones, the truth. The `f32` ones are polynomials, all but the
//! trigonometric ones without branches, within two or three units in the last place; they use
//! neither fused multiplication nor a system library, so they give the same bits on every machine.

use crate::graph::source::ALL_KERNELS;

/// Functions of floats.
pub(super) trait Real {
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn pow(self, z: Self) -> Self;
    fn floor_rem(self, z: Self) -> Self;
    /// The quotient that goes with it; only that by 0 is the division's.
    fn floor_div(self, z: Self) -> Self;
    fn greater(self, z: Self) -> Self;
    fn lesser(self, z: Self) -> Self;
}

macro_rules! real {
    ($($t:ident: $($name:ident = $path:path),*;)*) => {$(
        impl Real for $t {
            $(
                #[inline(always)]
                fn $name(self) -> $t {
                    $path(self)
                }
            )*
            #[inline(always)]
            fn pow(self, z: $t) -> $t {
                // Pages carry one such function, the f64 one, which other modules need.
                if ALL_KERNELS { self.powf(z) } else { libm::pow(self.into(), z.into()) as $t }
            }
            #[inline(always)]
            fn floor_rem(self, z: $t) -> $t {
                let r = self % z;
                if r != 0.0 && (r < 0.0) != (z < 0.0) { r + z } else { r }
            }
            #[inline(always)]
            fn floor_div(self, z: $t) -> $t {
                let (r, q) = (self % z, ((self - self % z) / z).round());
                match z == 0.0 {
                    true => self / z,
                    false => if r != 0.0 && (r < 0.0) != (z < 0.0) { q - 1.0 } else { q },
                }
            }
            #[inline(always)]
            fn greater(self, z: $t) -> $t {
                if self.is_nan() || self > z { self } else { z }
            }
            #[inline(always)]
            fn lesser(self, z: $t) -> $t {
                if self.is_nan() || self < z { self } else { z }
            }
        }
    )*};
}
real! {
    f32: exp = exp, ln = ln, tanh = tanh, erf = erf, sin = libm::sinf, cos = libm::cosf, tan = libm::tanf;
    f64: exp = f64::exp, ln = f64::ln, tanh = f64::tanh, erf = libm::erf, sin = f64::sin, cos = f64::cos, tan = f64::tan;
}

/// The polynomial with these coefficients, lowest first, at most 8: neighbours are added up, then
/// neighbours of those, so that few operations wait for one another.
#[inline(always)]
fn poly<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    // It cannot fire later than in the compiler.
    const { assert!(N <= 8) };
    let square = x * x;
    let two = |k: usize| if k + 1 < N { c[k] + x * c[k + 1] } else { c[k] };
    let four = |k: usize| if k + 2 < N { two(k) + square * two(k + 2) } else { two(k) };
    if N > 4 { four(0) + square * square * four(4) } else { four(0) }
}

/// `ln 2` in two parts, the first of which times a small integer is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `e^x = 2^n e^r` with `|r| <= ln(2) / 2`. Pages, which have no vector instructions, carry it once.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn exp(x: f32) -> f32 {
    // Beyond these the result is infinite or 0; NaN stays what it is.
    let x = if x > 89.5 { 89.5 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let p = poly(r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_89, 0.001_395_048_9]);
    let y = 1.0 + (r + r * r * p);
    // In two steps, because 2^n itself may not be a normal number.
    let n = shifted.to_bits().wrapping_sub(0x4b40_0000) as i32;
    let half = n >> 1;
    y * power_of_2(half) * power_of_2(n - half)
}

#[inline(always)]
fn power_of_2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `ln x = e ln 2 + ln(1 + f)` with `1 + f` between `sqrt(1/2)` and `sqrt(2)`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let normal = if tiny { x * 8_388_608.0 } else { x };
    let bits = normal.to_bits().wrapping_sub(0x3f35_04f3);
    let e = ((bits as i32) >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let f = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let square = f * f;
    let p = poly(
        f,
        [
            0.333_333_16,
            -0.250_008_1,
            0.200_022_86,
            -0.166_245_53,
            0.141_811_97,
            -0.131_287_68,
            0.128_816_22,
            -0.078_595_46,
        ],
    );
    let y = e * LN_2[1] + (f * square * p - 0.5 * square) + f + e * LN_2[0];
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// A polynomial near 0, and `1 - 2 / (e^2a + 1)` beyond.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let (a, square) = (x.abs(), x * x);
    let p = poly(square, [-0.333_332_63, 0.133_308_99, -0.053_692_963, 0.020_483_306, -0.005_528_624_6]);
    let near = a + a * square * p;
    let far = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let y = if a < 0.625 { near } else { far };
    y.copysign(x)
}

/// A polynomial near 0, and `1 - e^q(a)` beyond.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let square = x * x;
    let near = x * poly(
        square,
        [
            std::f32::consts::FRAC_2_SQRT_PI,
            -0.376_126_26,
            0.112_836,
            -0.026_854_444,
            0.005_189_535,
            -8.020_841e-4,
            7.889_119e-5,
        ],
    );
    let a = if x.abs() > 4.0 { 4.0 } else { x.abs() };
    let q = poly(
        a,
        [
            1.880_402_3e-4,
            -1.129_578_5,
            -0.633_219_9,
            -0.108_418_58,
            0.025_208_257,
            -0.004_204_562,
            4.413_363_6e-4,
            -2.168_685e-5,
        ],
    );
    let far = (1.0 - exp(q)).copysign(x);
    if square < 1.0 { near } else { far }
}

/// Sine and cosine of a part of a turn, by their series: pages need no others in `f64`.
pub(crate) fn sin_cos(turns: f64) -> [f64; 2] {
    let quarters = (4.0 * turns).round();
    let x = (turns - quarters / 4.0) * std::f64::consts::TAU;
    let series = |first: f64| {
        let step =
            |sum: f64, k: u32| 1.0 - x * x / ((2.0 * f64::from(k) + first) * (2.0 * f64::from(k) - 1.0 + first)) * sum;
        (1..=8).rev().fold(1.0, step)
    };
    let (sin, cos) = (x * series(1.0), series(0.0));
    match quarters as u32 % 4 {
        0 => [sin, cos],
        1 => [cos, -sin],
        2 => [-sin, -cos],
        _ => [-cos, sin],
    }
}

#[cfg(test)]
mod tests {
    use super::{Real, sin_cos};

    /// The greatest error over `range`, in units of the last place (of 1, where the result is small
    /// and `floor` says so).
    fn worst(range: std::ops::Range<f32>, floor: f64, f: fn(f32) -> f32, truth: fn(f64) -> f64) -> f64 {
        let n = 200_000;
        let step = (range.end - range.start) / n as f32;
        let at = |k: i32| range.start + k as f32 * step;
        let error = |x: f32| {
            let want = truth(f64::from(x));
            (f64::from(f(x)) - want).abs() / (want.abs().max(floor) * f64::from(f32::EPSILON))
        };
        (0..=n).map(at).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn parts_of_turns_have_their_sines() {
        for k in 0..=1000 {
            let turns = f64::from(k) / 1000.0;
            let angle = turns * std::f64::consts::TAU;
            for (got, want) in sin_cos(turns).into_iter().zip([angle.sin(), angle.cos()]) {
                assert!((got - want).abs() < 1e-15, "{turns} turns: {got}, not {want}");
            }
        }
    }

    #[test]
    fn polynomials_are_close() {
        assert!(worst(-87.0..88.5, 0.0, Real::exp, f64::exp) < 2.0);
        assert!(worst(-103.0..-87.0, 1.2e-38, Real::exp, f64::exp) < 2.0);
        assert!(worst(1e-3..100.0, 1e-3, Real::ln, f64::ln) < 2.0);
        assert!(worst(1e-44..1e-37, 0.0, Real::ln, f64::ln) < 2.0);
        assert!(worst(1e30..3e38, 0.0, Real::ln, f64::ln) < 2.0);
        assert!(worst(0.9..1.1, 1e-30, Real::ln, f64::ln) < 2.0);
        assert!(worst(-10.0..10.0, 1e-30, Real::tanh, f64::tanh) < 3.0);
        assert!(worst(-5.0..5.0, 1e-30, Real::erf, libm::erf) < 3.0);
    }

    #[test]
    fn edges_are_exact() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!([-inf, -200.0, 0.0, -0.0, 200.0, inf].map(Real::exp), [0.0, 0.0, 1.0, 1.0, inf, inf]);
        assert_eq!([0.0, -0.0, 1.0, inf].map(Real::ln), [-inf, -inf, 0.0, inf]);
        assert_eq!([-inf, -0.0, 0.0, 1e-30, inf].map(Real::tanh), [-1.0, -0.0, 0.0, 1e-30, 1.0]);
        assert_eq!([-inf, -9.0, 0.0, 9.0, inf].map(Real::erf), [-1.0, -1.0, 0.0, 1.0, 1.0]);
        assert!(
            [Real::exp(nan), Real::ln(nan), Real::ln(-1.0), Real::tanh(nan), Real::erf(nan)].iter().all(|x| x.is_nan())
        );
        assert!(Real::tanh(-0.0f32).is_sign_negative() && Real::erf(-0.0f32).is_sign_negative());
    }
}
