//! Element types, their promotion, and numbers written in the user's code.
//!
//! Knows how an element lies in memory; knows no shapes and no ops.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
///
/// | | bool | u8 | u32 | i32 | f16 | bf16 | f32 |
/// |---|---|---|---|---|---|---|---|
/// | **bool** | bool | u8 | u32 | i32 | f16 | bf16 | f32 |
/// | **u8** | | u8 | u32 | i32 | f16 | bf16 | f32 |
/// | **u32** | | | u32 | i32 | f16 | bf16 | f32 |
/// | **i32** | | | | i32 | f16 | bf16 | f32 |
/// | **f16** | | | | | f16 | f32 | f32 |
/// | **bf16** | | | | | | bf16 | f32 |
///
/// Two tensors promote by this table. A Rust number takes the tensor's dtype, except that a float
/// beside an integer or bool tensor makes `f32`, and an integer beside a bool makes `i32`.
/// Arithmetic on two bools is done in `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// `true` or `false`; one byte.
    Bool,
    /// Unsigned 8-bit integer; arithmetic wraps.
    U8,
    /// Unsigned 32-bit integer; arithmetic wraps.
    U32,
    /// Signed 32-bit integer; arithmetic wraps. Indices are `i32`.
    I32,
    /// IEEE half precision; stored in 16 bits, computed in `f32`.
    F16,
    /// bfloat16; stored in 16 bits, computed in `f32`.
    BF16,
    /// IEEE single precision, the default.
    F32,
}

impl DType {
    /// Every dtype.
    pub const ALL: [DType; 7] = [DType::Bool, DType::U8, DType::U32, DType::I32, DType::F16, DType::BF16, DType::F32];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            DType::Bool | DType::U8 => 1,
            DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
        }
    }

    /// How many elements share a 32-bit word.
    pub const fn per_word(self) -> usize {
        4 / self.bytes()
    }

    /// `f32`, `f16` or `bf16`.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// `u8`, `u32` or `i32`.
    pub const fn is_int(self) -> bool {
        matches!(self, DType::U8 | DType::U32 | DType::I32)
    }

    /// The dtype of an op between `self` and `other`, by the table above.
    pub fn promote(self, other: DType) -> DType {
        use DType::*;
        match (self, other) {
            (F16, BF16) | (BF16, F16) => F32,
            (a, b) => a.max(b),
        }
    }

    /// The dtype values of `self` are computed in: `f32` for floats, otherwise a 32-bit integer.
    pub const fn compute(self) -> DType {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => DType::F32,
            DType::I32 => DType::I32,
            DType::Bool | DType::U8 | DType::U32 => DType::U32,
        }
    }

    /// The short name, as in `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A Rust type that tensors can hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// The dtype of a tensor made from this type.
    const DTYPE: DType;
    /// The elements as they lie in memory.
    fn to_bytes(data: &[Self]) -> Vec<u8>;
    /// The elements back from memory; a trailing partial element is dropped.
    fn from_bytes(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! pod_element {
    ($($t:ty => $dtype:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            fn to_bytes(data: &[Self]) -> Vec<u8> {
                bytemuck::cast_slice(data).to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Vec<Self> {
                bytes.chunks_exact(size_of::<$t>()).map(bytemuck::pod_read_unaligned).collect()
            }
        }
    )*};
}
pod_element!(f32 => F32, f16 => F16, bf16 => BF16, i32 => I32, u32 => U32, u8 => U8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn to_bytes(data: &[Self]) -> Vec<u8> {
        bytemuck::cast_slice(data).to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|&b| b != 0).collect()
    }
}

/// A number written in the user's code: exact until it takes a tensor's dtype.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// From `f32`, `f64`, `f16` and `bf16`.
    Float(f64),
    /// From integers.
    Int(i64),
    /// From `bool`.
    Bool(bool),
}

impl Number {
    /// The value as `f64`.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Float(x) => x,
            Number::Int(x) => x as f64,
            Number::Bool(x) => f64::from(u8::from(x)),
        }
    }

    /// The value as an integer; floats truncate towards zero and saturate.
    pub fn as_i64(self) -> i64 {
        match self {
            Number::Float(x) => x as i64,
            Number::Int(x) => x,
            Number::Bool(x) => i64::from(x),
        }
    }

    /// The dtype a tensor made of this number alone has.
    pub fn dtype(self) -> DType {
        match self {
            Number::Float(_) => DType::F32,
            Number::Int(_) => DType::I32,
            Number::Bool(_) => DType::Bool,
        }
    }

    /// The dtype of an op between a tensor of `dtype` and this number.
    pub fn promote(self, dtype: DType) -> DType {
        match self {
            Number::Float(_) if !dtype.is_float() => DType::F32,
            Number::Int(_) if dtype == DType::Bool => DType::I32,
            _ => dtype,
        }
    }

    /// The 32 bits that stand for this number while it is computed with in `dtype`:
    /// `f16` and `bf16` are rounded and held as `f32`, integers wrap, floats saturate.
    pub fn bits(self, dtype: DType) -> u32 {
        match (dtype, self) {
            (DType::F32, _) => (self.as_f64() as f32).to_bits(),
            (DType::F16, _) => f16::from_f64(self.as_f64()).to_f32().to_bits(),
            (DType::BF16, _) => bf16::from_f32(self.as_f64() as f32).to_f32().to_bits(),
            (DType::I32, Number::Float(x)) => x as i32 as u32,
            (DType::U32, Number::Float(x)) => x as u32,
            (DType::U8, Number::Float(x)) => u32::from(x as u8),
            (DType::I32 | DType::U32, _) => self.as_i64() as u32,
            (DType::U8, _) => u32::from(self.as_i64() as u8),
            (DType::Bool, _) => u32::from(self.as_f64() != 0.0),
        }
    }

    /// Whether an integer is one of `dtype`, where that holds integers.
    pub(crate) fn fits(self, dtype: DType) -> Result<(), String> {
        let Number::Int(x) = self else { return Ok(()) };
        let (least, most) = match dtype {
            DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            DType::U32 => (0, i64::from(u32::MAX)),
            DType::U8 => (0, 255),
            DType::Bool | DType::F16 | DType::BF16 | DType::F32 => return Ok(()),
        };
        if (least..=most).contains(&x) { Ok(()) } else { Err(format!("{x} does not fit {dtype}")) }
    }
}

impl PartialEq for Number {
    /// Equal to the bit, so that a NaN equals itself and `0.0` differs from `-0.0`.
    fn eq(&self, other: &Number) -> bool {
        match (self, other) {
            (Number::Float(x), Number::Float(z)) => x.to_bits() == z.to_bits(),
            (Number::Int(x), Number::Int(z)) => x == z,
            (Number::Bool(x), Number::Bool(z)) => x == z,
            _ => false,
        }
    }
}
impl Eq for Number {}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Number::Float(x) => (0u8, x.to_bits()).hash(state),
            Number::Int(x) => (1u8, x).hash(state),
            Number::Bool(x) => (2u8, x).hash(state),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Float(x) => write!(f, "{x:?}"),
            Number::Int(x) => write!(f, "{x}"),
            Number::Bool(x) => write!(f, "{x}"),
        }
    }
}

macro_rules! number_from {
    ($($t:ty => $variant:ident as $wide:ty),*) => {$(
        impl From<$t> for Number {
            fn from(x: $t) -> Number { Number::$variant(<$wide>::from(x)) }
        }
    )*};
}
number_from!(f64 => Float as f64, f32 => Float as f64, f16 => Float as f64, bf16 => Float as f64,
    i64 => Int as i64, i32 => Int as i64, u32 => Int as i64, u8 => Int as i64, bool => Bool as bool);
