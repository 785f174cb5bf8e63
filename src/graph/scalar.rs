//! The scalar table: every elementwise op is one row, and every layer interprets the row.
//!
//! A row reads
//!
//! ```text
//! /// Doc sentence.
//! Variant method(x, z): family {
//!     wgsl: "...", wgsl_int: "...", needs: ["lib file"],   text over $0 and $1; $t is their type
//!     float: ..., int: ...,                                meaning over x and z, in f64 and f32, i32 and u32
//!     grad: |x, z, y, dy| [.., ..],                        cotangents of x and z; y is the result, dy its cotangent
//!     example: [0.5] => 0.479426,                          becomes the doctest
//!     test: -3.0..3.0, 1e-6,                               where tests sample, and the relative tolerance there
//! }
//! ```
//!
//! Families say what dtypes go in and come out:
//! `float` computes integers in f32 · `number` keeps the promoted dtype, bools become i32 ·
//! `round` leaves integers alone · `compare` and `test` give bool · `logic` takes bools and
//! integers · `shift` takes integers · `choose` picks by a bool.
//! Bools are computed as the u32 0 and 1. Nothing here knows shapes, devices or fusion.

use std::ops::Range;

use crate::graph::float::Real;
use crate::graph::op::Op;
use crate::graph::tensor::{Operand, Tensor};
use crate::graph::wide::wide;

/// What a row says about an op besides its name.
pub struct Spec {
    /// The user's word.
    pub name: &'static str,
    /// How many operands there are.
    pub arity: usize,
    /// Which dtypes go in and come out.
    pub family: Family,
    /// Shader text for float operands.
    pub wgsl: &'static str,
    /// Shader text for integer operands, where it differs.
    pub wgsl_int: &'static str,
    /// Files of `shaders/lib` the text calls into.
    pub needs: &'static [&'static str],
    /// The meaning on a block of `f32`, as bits.
    pub lanes_f32: Option<Lanes>,
    /// The meaning on a block of `i32`, as bits.
    pub lanes_i32: Option<Lanes>,
    /// The meaning on a block of `u32`.
    pub lanes_u32: Option<Lanes>,
    /// Cotangents of the values from the operands, the result and its cotangent, in this order, for
    /// those values that have one wanted; empty when the derivative is zero or there is none.
    pub grad: fn(&[&Tensor], &[bool]) -> Vec<Option<Tensor>>,
    /// Where tests sample operands.
    pub domain: Range<f64>,
    /// Relative tolerance there, against the f64 meaning.
    pub tolerance: f64,
}

/// A row's meaning on a block of elements given as bits; a unary row ignores the second operand.
pub type Lanes = fn(&[u32], &[u32], &mut [u32]);

/// Which dtypes a row takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Floats; integers and bools are computed in `f32`.
    Float,
    /// The promoted dtype; bools are computed in `i32`.
    Number,
    /// Floats; integers and bools stay as they are.
    Round,
    /// The promoted dtype in, bool out.
    Compare,
    /// Floats in, bool out.
    Test,
    /// Bools or integers.
    Logic,
    /// Integers.
    Shift,
    /// A bool and two values.
    Choose,
}

macro_rules! scalar_table {
    ($dollar:tt $(
        $(#[doc = $doc:literal])+
        $Variant:ident $name:ident($($arg:ident),+): $family:ident {
            wgsl: $wgsl:literal, $(wgsl_int: $wgsl_int:literal,)? $(needs: [$($needs:literal),*],)?
            $(float: $float:expr,)? $(int: $int:expr,)?
            grad: $(|$($g:ident),+|)? [$($ge:expr),*],
            example: [$($eg:expr),+] => $want:expr,
            test: $domain:expr, $tolerance:expr,
        }
    )*) => {
        /// An elementwise op: a row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Scalar { $($(#[doc = $doc])+ $Variant),* }

        impl Scalar {
            /// Every row.
            pub const ALL: &'static [Scalar] = &[$(Scalar::$Variant),*];

            /// The row.
            pub fn spec(self) -> &'static Spec {
                static TABLE: &[Spec] = &[$(Spec {
                    name: stringify!($name),
                    arity: [$(stringify!($arg)),+].len(),
                    family: Family::$family,
                    wgsl: $wgsl,
                    wgsl_int: or!($($wgsl_int)?, $wgsl),
                    needs: or!($(&[$($needs),*])?, &[]),
                    lanes_f32: lanes!([$($arg),+] f32::from_bits, $($float)?),
                    lanes_i32: lanes!([$($arg),+] (|w: u32| w as i32), $($int)?),
                    lanes_u32: lanes!([$($arg),+] (|w: u32| w), $($int)?),
                    grad: gradient!($(|$($g),+|)? [$($ge),*]),
                    domain: $domain,
                    tolerance: $tolerance,
                }),*];
                // A fieldless enum numbers its variants as the table lists them.
                &TABLE[self as usize]
            }

            /// What the row means on floats. A table apart: only the oracle reads it, and a program
            /// without the oracle is spared it.
            pub fn f64(self) -> Option<fn(f64, f64) -> f64> {
                static TABLE: &[Option<fn(f64, f64) -> f64>] = &[$(meaning!([$($arg),+] $($float)?)),*];
                TABLE[self as usize]
            }
        }

        impl Tensor {
            $(method! { [$($doc)+] $Variant $name($($arg),+) [$($eg),+] $want })*
        }

        /// Hands every row's name to a macro: so that each is a test of its own.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! scalar_rows {
            ($dollar rows:ident) => { $dollar rows! { $($Variant)* } };
        }
    };
}

macro_rules! or {
    (, $default:expr) => {
        $default
    };
    ($given:expr, $default:expr) => {
        $given
    };
}

macro_rules! meaning {
    ([$($arg:ident),+]) => {
        None
    };
    ([$x:ident] $e:expr) => {
        Some(|$x: f64, _: f64| -> f64 { Wide::wide($e) })
    };
    ([$x:ident, $z:ident] $e:expr) => {
        Some(|$x: f64, $z: f64| -> f64 { Wide::wide($e) })
    };
}

macro_rules! lanes {
    ([$($arg:ident),+] $from:expr,) => {
        None
    };
    ([$x:ident] $from:expr, $e:expr) => {
        Some({
            wide! {
                fn lanes(a: &[u32], _b: &[u32], out: &mut [u32]) {
                    for (out, a) in out.iter_mut().zip(a) {
                        let $x = $from(*a);
                        *out = Lane::bits($e);
                    }
                }
            }
            lanes
        })
    };
    ([$x:ident, $z:ident] $from:expr, $e:expr) => {
        Some({
            wide! {
                fn lanes(a: &[u32], b: &[u32], out: &mut [u32]) {
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        let ($x, $z) = ($from(*a), $from(*b));
                        *out = Lane::bits($e);
                    }
                }
            }
            lanes
        })
    };
}

macro_rules! gradient {
    ([]) => { |_, _| Vec::new() };
    (|$($g:ident),+| [$($ge:expr),*]) => {
        |all, wanted| match *all {
            [$($g),+] => {
                $(let _ = $g;)+
                let mut wanted = wanted.iter();
                vec![$(if wanted.next() == Some(&true) { Some($ge) } else { None }),*]
            }
            _ => Vec::new(),
        }
    };
}

macro_rules! method {
    ([$($doc:literal)+] $Variant:ident $name:ident($x:ident) [$eg:expr] $want:expr) => {
        $(#[doc = $doc])+
        ///
        /// ```
        /// # use wgrad::prelude::*;
        #[doc = concat!("let x = Tensor::new(", stringify!($eg), ", &Device::cpu());")]
        #[doc = concat!("let y = x.", stringify!($name), "().cast(DType::F32).item::<f32>()?;")]
        #[doc = concat!("assert!((y - (", stringify!($want), ")).abs() < 1e-5, \"{y}\");")]
        /// # Ok::<(), wgrad::Error>(())
        /// ```
        #[track_caller]
        pub fn $name(&self) -> Tensor {
            Tensor::scalar_op(Scalar::$Variant, &[self])
        }
    };
    ([$($doc:literal)+] $Variant:ident $name:ident($x:ident, $z:ident) [$eg:expr, $egz:expr] $want:expr) => {
        $(#[doc = $doc])+
        ///
        /// ```
        /// # use wgrad::prelude::*;
        #[doc = concat!("let x = Tensor::new(", stringify!($eg), ", &Device::cpu());")]
        #[doc = concat!("let y = x.", stringify!($name), "(", stringify!($egz), ").cast(DType::F32).item::<f32>()?;")]
        #[doc = concat!("assert!((y - (", stringify!($want), ")).abs() < 1e-5, \"{y}\");")]
        /// # Ok::<(), wgrad::Error>(())
        /// ```
        #[track_caller]
        pub fn $name(&self, $z: impl Operand) -> Tensor {
            self.with_operand(Scalar::$Variant, &$z)
        }
    };
    ([$($doc:literal)+] $Variant:ident $name:ident($c:ident, $x:ident, $z:ident) [$eg:expr, $egx:expr, $egz:expr] $want:expr) => {
        $(#[doc = $doc])+
        ///
        /// ```
        /// # use wgrad::prelude::*;
        #[doc = concat!("let c = Tensor::new(", stringify!($eg), ", &Device::cpu());")]
        #[doc = concat!("let y = c.", stringify!($name), "(", stringify!($egx), ", ", stringify!($egz), ").item::<f32>()?;")]
        #[doc = concat!("assert_eq!(y, ", stringify!($want), ");")]
        /// # Ok::<(), wgrad::Error>(())
        /// ```
        #[track_caller]
        pub fn $name(&self, $x: impl Operand, $z: impl Operand) -> Tensor {
            self.with_operands(Scalar::$Variant, &$x, &$z)
        }
    };
}

scalar_table! { $
    // ---- sign and rounding
    /// `-x`.
    Neg neg(x): Number {
        wgsl: "-$0", wgsl_int: "$t(-i32($0))",
        float: -x, int: x.wrapping_neg(),
        grad: |x, y, dy| [-dy],
        example: [0.5] => -0.5,
        test: -3.0..3.0, 0.0,
    }
    /// `|x|`; the derivative at 0 is 0.
    Abs abs(x): Number {
        wgsl: "abs($0)",
        float: x.abs(), int: x.absolute(),
        grad: |x, y, dy| [dy * x.sign()],
        example: [-0.5] => 0.5,
        test: -3.0..3.0, 0.0,
    }
    /// `-1`, `0` or `1`; 0 for NaN.
    Sign sign(x): Number {
        wgsl: "(select(0.0, 1.0, $0 > 0.0) - select(0.0, 1.0, $0 < 0.0))", wgsl_int: "sign_$t($0)", needs: ["integer"],
        float: f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)), int: x.signum_(),
        grad: [],
        example: [-0.5] => -1.0,
        test: -3.0..3.0, 0.0,
    }
    /// The greatest integer that is at most `x`.
    Floor floor(x): Round {
        wgsl: "floor($0)",
        float: x.floor(),
        grad: [],
        example: [-0.5] => -1.0,
        test: -3.0..3.0, 0.0,
    }
    /// The least integer that is at least `x`.
    Ceil ceil(x): Round {
        wgsl: "ceil($0)",
        float: x.ceil(),
        grad: [],
        example: [0.5] => 1.0,
        test: -3.0..3.0, 0.0,
    }
    /// The nearest integer; halves go to the even one.
    Round round(x): Round {
        wgsl: "round($0)",
        float: x.round_ties_even(),
        grad: [],
        example: [2.5] => 2.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x` without its fraction.
    Trunc trunc(x): Round {
        wgsl: "trunc($0)",
        float: x.trunc(),
        grad: [],
        example: [-1.5] => -1.0,
        test: -3.0..3.0, 0.0,
    }

    // ---- exponentials, logarithms, roots
    /// `e^x`.
    Exp exp(x): Float {
        wgsl: "exp($0)",
        float: Real::exp(x),
        grad: |x, y, dy| [dy * y],
        example: [0.5] => 1.648721,
        test: -3.0..3.0, 1e-6,
    }
    /// `e^x - 1`, exact near 0.
    Expm1 expm1(x): Float {
        wgsl: "expm1_($0)", needs: ["expm1"],
        float: x.exp_m1(),
        grad: |x, y, dy| [dy * (y + 1.0)],
        example: [0.5] => 0.648721,
        test: -3.0..3.0, 2e-6,
    }
    /// The natural logarithm.
    Ln ln(x): Float {
        wgsl: "ln_($0)", needs: ["ln"],
        float: Real::ln(x),
        grad: |x, y, dy| [dy / x],
        example: [0.5] => -0.693147,
        test: 0.1..5.0, 2e-6,
    }
    /// `ln(1 + x)`, exact near 0.
    Log1p log1p(x): Float {
        wgsl: "log1p_($0)", needs: ["ln", "log1p"],
        float: x.ln_1p(),
        grad: |x, y, dy| [dy / (x + 1.0)],
        example: [0.5] => 0.405465,
        test: -0.9..5.0, 2e-6,
    }
    /// The logarithm to base 2.
    Log2 log2(x): Float {
        wgsl: "log2_($0)", needs: ["ln"],
        float: x.log2(),
        grad: |x, y, dy| [dy / (x * std::f64::consts::LN_2)],
        example: [0.5] => -1.0,
        test: 0.1..5.0, 2e-6,
    }
    /// The square root.
    Sqrt sqrt(x): Float {
        wgsl: "sqrt($0)",
        float: x.sqrt(),
        grad: |x, y, dy| [dy * 0.5 / y],
        example: [0.25] => 0.5,
        test: 0.1..5.0, 1e-6,
    }
    /// `1 / sqrt(x)`.
    Rsqrt rsqrt(x): Float {
        wgsl: "inverseSqrt($0)",
        float: x.sqrt().recip(),
        grad: |x, y, dy| [dy * -0.5 * y / x],
        example: [0.25] => 2.0,
        test: 0.1..5.0, 1e-6,
    }
    /// `1 / x`.
    Recip recip(x): Float {
        wgsl: "(1.0 / $0)",
        float: x.recip(),
        grad: |x, y, dy| [-dy * y * y],
        example: [0.5] => 2.0,
        test: 0.2..5.0, 1e-6,
    }

    // ---- trigonometry
    /// The sine, of radians.
    Sin sin(x): Float {
        wgsl: "sin_($0)", needs: ["sin"],
        float: Real::sin(x),
        grad: |x, y, dy| [dy * x.cos()],
        example: [0.5] => 0.479426,
        test: -3.0..3.0, 4e-6,
    }
    /// The cosine, of radians.
    Cos cos(x): Float {
        wgsl: "cos_($0)", needs: ["sin"],
        float: Real::cos(x),
        grad: |x, y, dy| [-dy * x.sin()],
        example: [0.5] => 0.877583,
        test: -3.0..3.0, 4e-6,
    }
    /// The tangent, of radians.
    Tan tan(x): Float {
        wgsl: "tan_($0)", needs: ["sin"],
        float: Real::tan(x),
        grad: |x, y, dy| [dy * (y * y + 1.0)],
        example: [0.5] => 0.546302,
        test: -1.2..1.2, 1e-5,
    }
    /// The inverse sine, in radians.
    Asin asin(x): Float {
        wgsl: "asin_($0)", needs: ["asin"],
        float: x.asin(),
        grad: |x, y, dy| [dy * (1.0 - x * x).rsqrt()],
        example: [0.5] => 0.523599,
        test: -0.9..0.9, 4e-6,
    }
    /// The inverse cosine, in radians.
    Acos acos(x): Float {
        wgsl: "acos_($0)", needs: ["asin"],
        float: x.acos(),
        grad: |x, y, dy| [-dy * (1.0 - x * x).rsqrt()],
        example: [0.5] => 1.047198,
        test: -1.0..1.0, 4e-6,
    }
    /// The inverse tangent, in radians.
    Atan atan(x): Float {
        wgsl: "atan_($0)", needs: ["atan"],
        float: x.atan(),
        grad: |x, y, dy| [dy / (x * x + 1.0)],
        example: [0.5] => 0.463648,
        test: -3.0..3.0, 4e-6,
    }
    /// The angle of the point with ordinate `x` and abscissa `z`, in radians; the derivatives at the origin are 0.
    Atan2 atan2(x, z): Float {
        wgsl: "atan2_($0, $1)", needs: ["atan"],
        float: x.atan2(z),
        grad: |x, z, y, dy| [dy * z / square_length(x, z), -dy * x / square_length(x, z)],
        example: [0.5, 1.0] => 0.463648,
        test: 0.2..3.0, 4e-6,
    }
    /// The hyperbolic sine.
    Sinh sinh(x): Float {
        wgsl: "sinh_($0)", needs: ["sinh"],
        float: x.sinh(),
        grad: |x, y, dy| [dy * x.cosh()],
        example: [0.5] => 0.521095,
        test: -3.0..3.0, 4e-6,
    }
    /// The hyperbolic cosine.
    Cosh cosh(x): Float {
        wgsl: "(half_exp($0) + half_exp(-$0))", needs: ["sinh"],
        float: x.cosh(),
        grad: |x, y, dy| [dy * x.sinh()],
        example: [0.5] => 1.127626,
        test: -3.0..3.0, 2e-6,
    }
    /// The hyperbolic tangent.
    Tanh tanh(x): Float {
        wgsl: "tanh_($0)", needs: ["tanh"],
        float: Real::tanh(x),
        grad: |x, y, dy| [dy * (1.0 - y * y)],
        example: [0.5] => 0.462117,
        test: -3.0..3.0, 4e-6,
    }
    /// The error function, `2/sqrt(pi)` times the integral of `e^(-t^2)` from 0 to `x`.
    Erf erf(x): Float {
        wgsl: "erf_($0)", needs: ["erf"],
        float: Real::erf(x),
        grad: |x, y, dy| [dy * (-(x * x)).exp() * std::f64::consts::FRAC_2_SQRT_PI],
        example: [0.5] => 0.5205,
        test: -3.0..3.0, 2e-6,
    }

    // ---- arithmetic
    /// `x + z`.
    Add add(x, z): Number {
        wgsl: "($0 + $1)",
        float: x + z, int: x.wrapping_add(z),
        grad: |x, z, y, dy| [dy.clone(), dy.clone()],
        example: [0.5, 2.0] => 2.5,
        test: -3.0..3.0, 1e-6,
    }
    /// `x - z`.
    Sub sub(x, z): Number {
        wgsl: "($0 - $1)",
        float: x - z, int: x.wrapping_sub(z),
        grad: |x, z, y, dy| [dy.clone(), -dy],
        example: [0.5, 2.0] => -1.5,
        test: -3.0..3.0, 1e-6,
    }
    /// `x * z`.
    Mul mul(x, z): Number {
        wgsl: "($0 * $1)",
        float: x * z, int: x.wrapping_mul(z),
        grad: |x, z, y, dy| [dy * z, dy * x],
        example: [0.5, 3.0] => 1.5,
        test: -3.0..3.0, 1e-6,
    }
    /// `x / z` in floats, also for integers.
    Div div(x, z): Float {
        wgsl: "($0 / $1)",
        float: x / z,
        grad: |x, z, y, dy| [dy / z, -dy * y / z],
        example: [1.0, 4.0] => 0.25,
        test: 0.2..3.0, 1e-6,
    }
    /// The greatest integer that is at most `x / z`; an integer divided by 0 gives 0.
    FloorDiv floor_divide(x, z): Number {
        wgsl: "floor_div($0, $1)", wgsl_int: "floor_div_$t($0, $1)", needs: ["integer", "rem"],
        float: x.floor_div(z), int: x.floor_div(z),
        grad: [],
        example: [-3.5, 2.0] => -2.0,
        test: 0.2..3.0, 0.0,
    }
    /// The remainder with the sign of `z`, as Python's `%`; an integer modulo 0 gives 0.
    Rem rem(x, z): Number {
        wgsl: "floor_rem($0, $1)", wgsl_int: "floor_rem_$t($0, $1)", needs: ["integer", "rem"],
        float: x.floor_rem(z), int: x.floor_rem(z),
        grad: |x, z, y, dy| [dy.clone(), -dy * x.floor_divide(z)],
        example: [-3.5, 2.0] => 0.5,
        test: 0.2..3.0, 1e-5,
    }
    /// `x` to the power `z`; negative `x` takes integer `z` only, else the result is NaN.
    Pow pow(x, z): Number {
        wgsl: "pow_($0, $1)", wgsl_int: "pow_$t($0, $1)", needs: ["integer", "ln", "pow"],
        float: x.pow(z), int: x.power(z),
        grad: |x, z, y, dy| [
            dy * power_slope(x, z),
            // The limit of y * ln x where y vanishes is 0, not the NaN of 0 * -inf; so it is at 0^0.
            dy * y.eq(0.0).bitor(x.eq(0.0).bitand(z.eq(0.0))).where_(0.0, y * x.ln())
        ],
        example: [3.0, 2.0] => 9.0,
        test: 0.2..3.0, 1e-5,
    }
    /// The greater of `x` and `z`; NaN if either is, and then each has the whole gradient. A tie shares it evenly.
    Maximum maximum(x, z): Number {
        wgsl: "max_($0, $1)", wgsl_int: "max($0, $1)", needs: ["minmax"],
        float: x.greater(z), int: x.max(z),
        grad: |x, z, y, dy| [dy * share(x, z), dy * share(z, x)],
        example: [0.5, 2.0] => 2.0,
        test: -3.0..3.0, 0.0,
    }
    /// The lesser of `x` and `z`; NaN if either is, and then each has the whole gradient. A tie shares it evenly.
    Minimum minimum(x, z): Number {
        wgsl: "min_($0, $1)", wgsl_int: "min($0, $1)", needs: ["minmax"],
        float: x.lesser(z), int: x.min(z),
        grad: |x, z, y, dy| [dy * share(z, x), dy * share(x, z)],
        example: [0.5, 2.0] => 0.5,
        test: -3.0..3.0, 0.0,
    }

    // ---- comparisons and tests
    /// `x == z`.
    Eq eq(x, z): Compare {
        wgsl: "select(0u, 1u, $0 == $1)",
        float: x == z, int: x == z,
        grad: [],
        example: [0.5, 0.5] => 1.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x != z`; true when either is NaN.
    Ne ne(x, z): Compare {
        wgsl: "select(1u, 0u, $0 == $1)",
        float: x != z, int: x != z,
        grad: [],
        example: [0.5, 0.5] => 0.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x < z`.
    Lt lt(x, z): Compare {
        wgsl: "select(0u, 1u, $0 < $1)",
        float: x < z, int: x < z,
        grad: [],
        example: [0.5, 2.0] => 1.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x <= z`.
    Le le(x, z): Compare {
        wgsl: "select(0u, 1u, $0 <= $1)",
        float: x <= z, int: x <= z,
        grad: [],
        example: [0.5, 0.5] => 1.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x > z`.
    Gt gt(x, z): Compare {
        wgsl: "select(0u, 1u, $0 > $1)",
        float: x > z, int: x > z,
        grad: [],
        example: [0.5, 2.0] => 0.0,
        test: -3.0..3.0, 0.0,
    }
    /// `x >= z`.
    Ge ge(x, z): Compare {
        wgsl: "select(0u, 1u, $0 >= $1)",
        float: x >= z, int: x >= z,
        grad: [],
        example: [0.5, 2.0] => 0.0,
        test: -3.0..3.0, 0.0,
    }
    /// Whether `x` is NaN.
    IsNan isnan(x): Test {
        wgsl: "select(0u, 1u, is_nan($0))", needs: ["minmax"],
        float: x.is_nan(),
        grad: [],
        example: [0.5] => 0.0,
        test: -3.0..3.0, 0.0,
    }
    /// Whether `x` is an infinity of either sign.
    IsInf isinf(x): Test {
        wgsl: "select(0u, 1u, (bitcast<u32>($0) & 0x7fffffffu) == 0x7f800000u)",
        float: x.is_infinite(),
        grad: [],
        example: [0.5] => 0.0,
        test: -3.0..3.0, 0.0,
    }

    // ---- logic and bits
    /// And, of bools or of the bits of integers.
    And bitand(x, z): Logic {
        wgsl: "($0 & $1)",
        int: x & z,
        grad: [],
        example: [6, 3] => 2.0,
        test: 0.0..9.0, 0.0,
    }
    /// Or, of bools or of the bits of integers.
    Or bitor(x, z): Logic {
        wgsl: "($0 | $1)",
        int: x | z,
        grad: [],
        example: [6, 3] => 7.0,
        test: 0.0..9.0, 0.0,
    }
    /// Exclusive or, of bools or of the bits of integers.
    Xor bitxor(x, z): Logic {
        wgsl: "($0 ^ $1)",
        int: x ^ z,
        grad: [],
        example: [6, 3] => 5.0,
        test: 0.0..9.0, 0.0,
    }
    /// Not, of a bool or of the bits of an integer.
    Not not(x): Logic {
        wgsl: "(~$0)",
        int: !x,
        grad: [],
        example: [6] => -7.0,
        test: 0.0..9.0, 0.0,
    }
    /// `x * 2^z`; the shift is taken modulo 32.
    Shl shl(x, z): Shift {
        wgsl: "($0 << (u32($1) & 31u))",
        int: x.left(z),
        grad: [],
        example: [3, 2] => 12.0,
        test: 0.0..9.0, 0.0,
    }
    /// `x / 2^z` rounded down, keeping the sign; the shift is taken modulo 32.
    Shr shr(x, z): Shift {
        wgsl: "($0 >> (u32($1) & 31u))",
        int: x.right(z),
        grad: [],
        example: [12, 2] => 3.0,
        test: 0.0..9.0, 0.0,
    }

    /// Where the tensor is true (or not 0) `x`, elsewhere `z`; NumPy's `where`.
    Where where_(c, x, z): Choose {
        wgsl: "select($2, $1, $0 != 0u)",
        grad: |c, x, z, y, dy| [Tensor::scalar_op(Scalar::Where, &[c, dy, &0.0.operand(dy)]), Tensor::scalar_op(Scalar::Where, &[c, &0.0.operand(dy), dy])],
        example: [true, 1.5, 2.5] => 1.5,
        test: -3.0..3.0, 0.0,
    }
}

impl Tensor {
    #[track_caller]
    fn with_operand(&self, op: Scalar, z: &dyn Operand) -> Tensor {
        Tensor::scalar_op(op, &[self, &z.operand(self)])
    }

    #[track_caller]
    fn with_operands(&self, op: Scalar, x: &dyn Operand, z: &dyn Operand) -> Tensor {
        // A number takes the dtype of the tensor beside it; two numbers promote each other.
        let bare = self.cast(crate::DType::Bool);
        let (first, second) = (x.operand(&bare), z.operand(&bare));
        let (x, z) = (x.operand(&second), z.operand(&first));
        Tensor::scalar_op(op, &[self, &x, &z])
    }
}

/// The share of the gradient that goes to the greater of `x` and `z` when that is `x`: 1, 0, or a
/// half, and 1 beside a NaN. Not by comparison with the result, which another kernel may have computed
/// to another bit.
fn share(x: &Tensor, z: &Tensor) -> Tensor {
    x.eq(z).where_(0.5, 1.0 - x.lt(z).cast(x.dtype())).cast(x.dtype())
}

/// `x² + z²`, and infinity where that is 0: what is divided by it is 0 then, and so are its derivatives.
fn square_length(x: &Tensor, z: &Tensor) -> Tensor {
    let sum = x * x + z * z;
    sum.eq(0.0).where_(f64::INFINITY, sum)
}

/// The derivative of `x` to the power `z` by `x`: a constant where `z` is 0, not the NaN of 0 * inf.
fn power_slope(x: &Tensor, z: &Tensor) -> Tensor {
    match z.0.op {
        Op::Const(power) if power.as_f64() != 0.0 => z * x.pow(power.as_f64() - 1.0),
        _ => z.eq(0.0).where_(0.0, z * x.pow(z - 1.0)),
    }
}

/// Results as bits.
trait Lane {
    fn bits(self) -> u32;
}
/// Results as `f64`.
trait Wide {
    fn wide(self) -> f64;
}

impl Lane for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
}
impl Lane for f64 {
    fn bits(self) -> u32 {
        (self as f32).to_bits()
    }
}
impl Lane for i32 {
    fn bits(self) -> u32 {
        self as u32
    }
}
impl Lane for u32 {
    fn bits(self) -> u32 {
        self
    }
}
impl Lane for bool {
    fn bits(self) -> u32 {
        u32::from(self)
    }
}
impl Wide for f64 {
    fn wide(self) -> f64 {
        self
    }
}
impl Wide for bool {
    fn wide(self) -> f64 {
        f64::from(u8::from(self))
    }
}

/// What rows say of integers that `i32` and `u32` lack or name apart.
trait Whole: Sized {
    fn absolute(self) -> Self;
    fn signum_(self) -> Self;
    fn floor_div(self, z: Self) -> Self;
    fn floor_rem(self, z: Self) -> Self;
    fn power(self, z: Self) -> Self;
    fn left(self, z: Self) -> Self;
    fn right(self, z: Self) -> Self;
}

impl Whole for i32 {
    fn absolute(self) -> i32 {
        self.wrapping_abs()
    }
    fn signum_(self) -> i32 {
        self.signum()
    }
    fn floor_div(self, z: i32) -> i32 {
        if z == 0 {
            return 0;
        }
        let q = self.wrapping_div(z);
        if self.wrapping_rem(z) != 0 && (self < 0) != (z < 0) { q - 1 } else { q }
    }
    fn floor_rem(self, z: i32) -> i32 {
        if z == 0 {
            return 0;
        }
        let r = self.wrapping_rem(z);
        if r != 0 && (r < 0) != (z < 0) { r + z } else { r }
    }
    fn power(self, z: i32) -> i32 {
        match (self, z) {
            (1, _) => 1,
            (-1, z) => {
                if z % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            (_, z) if z < 0 => 0,
            (x, z) => x.wrapping_pow(z as u32),
        }
    }
    fn left(self, z: i32) -> i32 {
        self.wrapping_shl(z as u32)
    }
    fn right(self, z: i32) -> i32 {
        self.wrapping_shr(z as u32)
    }
}

impl Whole for u32 {
    fn absolute(self) -> u32 {
        self
    }
    fn signum_(self) -> u32 {
        self.min(1)
    }
    fn floor_div(self, z: u32) -> u32 {
        self.checked_div(z).unwrap_or(0)
    }
    fn floor_rem(self, z: u32) -> u32 {
        self.checked_rem(z).unwrap_or(0)
    }
    fn power(self, z: u32) -> u32 {
        self.wrapping_pow(z)
    }
    fn left(self, z: u32) -> u32 {
        self.wrapping_shl(z)
    }
    fn right(self, z: u32) -> u32 {
        self.wrapping_shr(z)
    }
}
