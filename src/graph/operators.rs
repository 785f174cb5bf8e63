//! `+ - * / % & | ^ << >> - !` for every mix of owned, borrowed and number operands.
//!
//! On the left only `f64` and `i32` are numbers: with one float and one integer type the compiler
//! infers `(1.0 - &x).exp()`.

use std::ops;

use crate::graph::tensor::{Operand, Tensor};

macro_rules! binary {
    ($($Trait:ident $method:ident $word:ident),* $(,)?) => {$(
        impl<Z: Operand> ops::$Trait<Z> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, z: Z) -> Tensor {
                Tensor::$word(&self, z)
            }
        }
        impl<Z: Operand> ops::$Trait<Z> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, z: Z) -> Tensor {
                Tensor::$word(self, z)
            }
        }
        binary!(@numbers $Trait $method $word: f64 i32);
    )*};
    (@numbers $Trait:ident $method:ident $word:ident: $($t:ty)*) => {$(
        impl ops::$Trait<Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, z: Tensor) -> Tensor {
                Tensor::$word(&self.operand(&z), &z)
            }
        }
        impl ops::$Trait<&Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, z: &Tensor) -> Tensor {
                Tensor::$word(&self.operand(z), z)
            }
        }
    )*};
}
binary!(Add add add, Sub sub sub, Mul mul mul, Div div div, Rem rem rem, BitAnd bitand bitand, BitOr bitor bitor,
    BitXor bitxor bitxor, Shl shl shl, Shr shr shr);

macro_rules! unary {
    ($($Trait:ident $method:ident),*) => {$(
        impl ops::$Trait for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self) -> Tensor {
                Tensor::$method(&self)
            }
        }
        impl ops::$Trait for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self) -> Tensor {
                Tensor::$method(self)
            }
        }
    )*};
}
unary!(Neg neg, Not not);
