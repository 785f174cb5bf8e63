//! Elements as files store them, and as tensors hold them.
//!
//! Knows what each stored type becomes and which values fit; knows no file format.

use std::sync::Arc;

use crate::dtype::{DType, Element};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;

/// An element type of a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Stored {
    /// How a tensor of `dtype` is stored.
    pub fn of(dtype: DType) -> Stored {
        match dtype {
            DType::Bool => Stored::Bool,
            DType::U8 => Stored::U8,
            DType::U32 => Stored::U32,
            DType::I32 => Stored::I32,
            DType::F16 => Stored::F16,
            DType::BF16 => Stored::BF16,
            DType::F32 => Stored::F32,
        }
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Stored::Bool | Stored::U8 | Stored::I8 => 1,
            Stored::U16 | Stored::I16 | Stored::F16 | Stored::BF16 => 2,
            Stored::U32 | Stored::I32 | Stored::F32 => 4,
            Stored::U64 | Stored::I64 | Stored::F64 => 8,
        }
    }

    /// What a tensor holds it as.
    pub fn dtype(self) -> DType {
        match self {
            Stored::Bool => DType::Bool,
            Stored::U8 => DType::U8,
            Stored::U32 | Stored::U64 => DType::U32,
            Stored::I8 | Stored::U16 | Stored::I16 | Stored::I32 | Stored::I64 => DType::I32,
            Stored::F16 => DType::F16,
            Stored::BF16 => DType::BF16,
            Stored::F32 | Stored::F64 => DType::F32,
        }
    }

    /// The elements as tensors hold them; else the byte of the first that does not fit, and why.
    pub fn convert(self, bytes: Vec<u8>) -> Result<Vec<u8>, (usize, String)> {
        match self {
            Stored::U8 | Stored::U32 | Stored::I32 | Stored::F16 | Stored::BF16 | Stored::F32 => Ok(bytes),
            Stored::Bool => match bytes.iter().position(|&b| b > 1) {
                Some(at) => Err((at, format!("a bool is 0 or 1, got {}", bytes.get(at).unwrap_or(&0)))),
                None => Ok(bytes),
            },
            Stored::I8 => each(&bytes, |x: [u8; 1]| Ok(i32::from(i8::from_le_bytes(x)))),
            Stored::I16 => each(&bytes, |x| Ok(i32::from(i16::from_le_bytes(x)))),
            Stored::U16 => each(&bytes, |x| Ok(i32::from(u16::from_le_bytes(x)))),
            Stored::U64 => each(&bytes, |x| {
                let x = u64::from_le_bytes(x);
                u32::try_from(x).map_err(|_| format!("{x} does not fit u32"))
            }),
            Stored::I64 => each(&bytes, |x| {
                let x = i64::from_le_bytes(x);
                i32::try_from(x).map_err(|_| format!("{x} does not fit i32"))
            }),
            Stored::F64 => each(&bytes, |x| {
                let x = f64::from_le_bytes(x);
                match (x as f32).is_infinite() && x.is_finite() {
                    true => Err(format!("{x} does not fit f32")),
                    false => Ok(x as f32),
                }
            }),
        }
    }
}

/// Every element through `f`.
fn each<const N: usize, T: Element>(
    bytes: &[u8],
    f: impl Fn([u8; N]) -> Result<T, String>,
) -> Result<Vec<u8>, (usize, String)> {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut found = Vec::with_capacity(elements.len());
    for (k, &element) in elements.iter().enumerate() {
        found.push(f(element).map_err(|fact| (k * N, fact))?);
    }
    Ok(T::to_bytes(&found))
}

/// The elements of `x`, computed and copied to the host now.
pub(crate) fn host_bytes(x: &Tensor) -> Result<Arc<Vec<u8>>> {
    cut(x, x.fetch_now("save", x.dtype())?)
}

/// The elements of `x` without blocking a browser.
pub(crate) async fn read_bytes(x: &Tensor) -> Result<Arc<Vec<u8>>> {
    cut(x, x.fetch(x.dtype()).await?)
}

/// `bytes` without what pads the elements of `x` to whole words.
fn cut(x: &Tensor, bytes: Arc<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
    let n = x.numel() * x.dtype().bytes();
    match bytes.len() == n {
        true => Ok(bytes),
        false => bytes.get(..n).map(|bytes| Arc::new(bytes.to_vec())).ok_or_else(gone),
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Device, "save", "the elements are gone")
}
