//! Matrix products of every rank, by NumPy's rules.
//!
//! Brings operands into the forms `[m, k] · [k, n]` and `[b, m, k] · [b, k, n]` that the graph knows; how that is
//! computed is the compiler's business.

use crate::dtype::DType;
use crate::graph::tensor::Tensor;
use crate::shape::Shape;

/// A product of two operands that are at least matrices.
struct Product {
    dtype: DType,
    /// The broadcast batch dimensions.
    batch: Shape,
    m: usize,
    k: usize,
    n: usize,
    /// The result's dimensions, without those that a 1-D operand does not have.
    result: Shape,
    /// The right operand is one matrix for the whole batch.
    shared: bool,
}

impl Tensor {
    /// The matrix product `[.., m, k] · [.., k, n] -> [.., m, n]`; the leading dimensions broadcast.
    ///
    /// A 1-D operand stands for one row on the left or one column on the right, and its dimension
    /// of 1 is dropped from the result, so that two of them give a scalar.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::new([[1.0, 2.0], [3.0, 4.0]], &device);
    /// let z = Tensor::new([10.0, 1.0], &device);
    /// assert_eq!(x.matmul(&z).to_vec::<f32>()?, [12.0, 34.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        self.multiplied("matmul", other)
    }

    /// `matmul` under the name of another word.
    #[track_caller]
    pub(crate) fn multiplied(&self, word: &str, other: &Tensor) -> Tensor {
        let p = given!(word, &[self, other], product(self, other));
        let (lhs, rhs) = (self.cast(p.dtype), other.cast(p.dtype));
        let b = p.batch.numel();
        let (lhs, rhs) = if p.shared {
            // One product for the whole batch, and one for the gradient of the right operand.
            (lhs.to_dims(word, &[b.saturating_mul(p.m), p.k]), rhs.to_dims(word, &[p.k, p.n]))
        } else {
            (lhs.batched(word, &p.batch, [p.m, p.k]), rhs.batched(word, &p.batch, [p.k, p.n]))
        };
        lhs.dot(word, &rhs).to_shape(word, p.result)
    }

    /// Every product of an element of one vector with one of another, `[m] · [n] -> [m, n]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.0, 2.0], &Device::cpu());
    /// assert_eq!(x.outer(&x).to_vec::<f32>()?, [1.0, 2.0, 2.0, 4.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        let column = given!(
            "outer",
            &[self, other],
            match (self.dims(), other.dims()) {
                (&[m], &[n]) => Shape::new(&[m, n]).and_then(|_| Shape::new(&[m, 1])),
                _ => Err(format!("takes two vectors, got {} and {}", self.shape(), other.shape())),
            }
        );
        self.to_shape("outer", column) * other
    }

    /// The matrices `[rows, columns]` of this tensor, broadcast over `batch` and in one batch dimension.
    #[track_caller]
    fn batched(&self, word: &str, batch: &Shape, [rows, columns]: [usize; 2]) -> Tensor {
        let full = [batch.dims(), &[rows, columns]].concat();
        // A vector is a row or a column here.
        let x = if self.rank() == 1 { self.to_dims(word, &[rows, columns]) } else { self.clone() };
        x.expand_dims_to(word, &full).to_dims(word, &[batch.numel(), rows, columns])
    }

    /// The same elements under `dims`.
    #[track_caller]
    pub(crate) fn to_dims(&self, word: &str, dims: &[usize]) -> Tensor {
        let shape = given!(word, &[self], Shape::new(dims));
        self.to_shape(word, shape)
    }

    /// Broadcast to `dims`.
    #[track_caller]
    pub(crate) fn expand_dims_to(&self, word: &str, dims: &[usize]) -> Tensor {
        let shape = given!(word, &[self], Shape::new(dims));
        self.expand_to(word, shape)
    }
}

/// The dtype products of `dtypes` are computed in: bools as integers.
pub(crate) fn product_dtype(dtypes: impl Iterator<Item = DType>) -> DType {
    match dtypes.reduce(DType::promote) {
        Some(DType::Bool) => DType::I32,
        Some(dtype) => dtype,
        None => DType::F32,
    }
}

fn product(lhs: &Tensor, rhs: &Tensor) -> Result<Product, String> {
    let say = |fact: &str| format!("{fact}: {} @ {}", lhs.shape(), rhs.shape());
    let (left, m, k) = match *lhs.dims() {
        [] => return Err(say("takes tensors of at least one dimension")),
        [k] => (&[][..], None, k),
        [ref batch @ .., m, k] => (batch, Some(m), k),
    };
    let (right, inner, n) = match *rhs.dims() {
        [] => return Err(say("takes tensors of at least one dimension")),
        [k] => (&[][..], k, None),
        [ref batch @ .., k, n] => (batch, k, Some(n)),
    };
    if k != inner {
        return Err(say("inner dimensions differ"));
    }
    let (left, right) = (Shape::new(left)?, Shape::new(right)?);
    let batch = left.broadcast(&right).map_err(|_| say("batch dimensions do not broadcast"))?;
    let result: Vec<usize> = batch.dims().iter().copied().chain(m).chain(n).collect();
    Ok(Product {
        dtype: product_dtype([lhs.dtype(), rhs.dtype()].into_iter()),
        batch,
        m: m.unwrap_or(1),
        k,
        n: n.unwrap_or(1),
        result: Shape::new(&result)?,
        shared: right.numel() == 1 && left.numel() == batch.numel(),
    })
}
