//! Arrays on the host: what datasets hold before a device sees it.
//!
//! Knows shape, dtype and bytes; computes nothing.

use crate::dtype::{DType, Element};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::io::element::host_bytes;
use crate::shape::{AxisSet, Dims, Shape, shape_of};

/// Elements in the host's memory, in row-major order.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::Array;
/// let x = Array::new(&[1u8, 2, 3, 4], [2, 2])?;
/// assert_eq!(x.to_tensor(&Device::cpu()).to_vec::<u8>()?, [1, 2, 3, 4]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    dtype: DType,
    shape: Shape,
    bytes: Vec<u8>,
}

impl Array {
    /// An array of `dims` whose elements are `data`.
    pub fn new<T: Element>(data: &[T], dims: impl Dims) -> Result<Array> {
        let shape = shape_of(&dims).map_err(refuse)?;
        Array::of_bytes(T::to_bytes(data), shape, T::DTYPE).map_err(refuse)
    }

    /// An array of no elements: what an unlabelled sample has for `y`.
    pub fn nothing() -> Array {
        // A shape of one 0 is always possible.
        let shape = Shape::new(&[0]).unwrap_or(Shape::SCALAR);
        Array { dtype: DType::U8, shape, bytes: Vec::new() }
    }

    /// The elements of `x`, computed now.
    pub fn of_tensor(x: &Tensor) -> Result<Array> {
        x.check()?;
        let bytes = host_bytes(x)?.to_vec();
        Ok(Array { dtype: x.dtype(), shape: *x.shape(), bytes })
    }

    /// An array of elements that lie in `bytes` as tensors have them.
    pub(crate) fn of_bytes(bytes: Vec<u8>, shape: Shape, dtype: DType) -> Result<Array, String> {
        // Fewer than 2^32 elements of at most 4 bytes.
        if bytes.len() as u64 != shape.numel() as u64 * dtype.bytes() as u64 {
            return Err(format!("{} elements for the shape {shape}", bytes.len() / dtype.bytes()));
        }
        Ok(Array { dtype, shape, bytes })
    }

    /// The array as a tensor on `device`.
    #[track_caller]
    pub fn to_tensor(&self, device: &Device) -> Tensor {
        self.clone().into_tensor(device)
    }

    /// The array as a tensor on `device`, without a copy on the host.
    #[track_caller]
    pub fn into_tensor(self, device: &Device) -> Tensor {
        Tensor::host(self.bytes, self.shape, self.dtype, device)
    }

    /// The elements.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        match T::DTYPE == self.dtype {
            true => Ok(T::from_bytes(&self.bytes)),
            false => Err(refuse(format!("the array is {}, not {}", self.dtype, T::DTYPE))),
        }
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The length of the first axis; 1 for a scalar.
    pub fn len(&self) -> usize {
        self.dims().first().copied().unwrap_or(1)
    }

    /// Whether the first axis is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same elements in other dimensions.
    pub fn reshape(self, dims: impl Dims) -> Result<Array> {
        let shape = shape_of(&dims).map_err(refuse)?;
        Array::of_bytes(self.bytes, shape, self.dtype).map_err(refuse)
    }

    /// The array at `index` of the first axis; none when there is none.
    pub fn row(&self, index: usize) -> Option<Array> {
        let (shape, bytes) = (self.shape_of_row(), self.row_bytes(index)?.to_vec());
        Some(Array { dtype: self.dtype, shape, bytes })
    }

    /// The arrays at `indices` of the first axis; else the index that is none.
    pub fn rows(&self, indices: &[usize]) -> Result<Array> {
        let mut bytes = Vec::with_capacity(indices.len().saturating_mul(self.bytes.len() / self.len().max(1)));
        for &index in indices {
            let row = self.row_bytes(index);
            let none = || refuse(format!("index {index} is out of range for {}", self.shape));
            bytes.extend_from_slice(row.ok_or_else(none)?);
        }
        Array::of_bytes(bytes, stacked(indices.len(), &self.shape_of_row())?, self.dtype).map_err(refuse)
    }

    /// Arrays of one shape and dtype along a new first axis.
    pub fn stack(arrays: &[Array]) -> Result<Array> {
        let Some(first) = arrays.first() else { return Err(refuse("nothing to stack".into())) };
        let mut bytes = Vec::with_capacity(first.bytes.len().saturating_mul(arrays.len()));
        for array in arrays {
            if (array.shape, array.dtype) != (first.shape, first.dtype) {
                let fact = format!(
                    "samples of different kinds: {} {} and {} {}",
                    first.dtype, first.shape, array.dtype, array.shape
                );
                return Err(refuse(fact));
            }
            bytes.extend_from_slice(&array.bytes);
        }
        Array::of_bytes(bytes, stacked(arrays.len(), &first.shape)?, first.dtype).map_err(refuse)
    }

    fn shape_of_row(&self) -> Shape {
        self.shape.without(AxisSet::one(0))
    }

    fn row_bytes(&self, index: usize) -> Option<&[u8]> {
        let n = self.bytes.len() / self.len().max(1);
        match index < self.len() {
            true => self.bytes.get(index * n..(index + 1) * n),
            false => None,
        }
    }
}

/// `n` of `shape` along a new first axis.
fn stacked(n: usize, shape: &Shape) -> Result<Shape> {
    Shape::new(&[&[n], shape.dims()].concat()).map_err(refuse)
}

fn refuse(fact: String) -> Error {
    Error::new(ErrorKind::Operand, "array", fact)
}
