//! The tests' door to primitives that no single word reaches: an op as data, made by its
//! constructor.

use crate::dtype::DType;
use crate::graph::op::Op;
use crate::graph::tensor::Tensor;
use crate::shape::Shape;

impl Tensor {
    /// The node of `op` over `src`; `shape` and `dtype` are read where `src` does not fix them.
    #[doc(hidden)]
    #[track_caller]
    pub fn primitive(op: Op, src: &[&Tensor], shape: Shape, dtype: DType) -> Tensor {
        const WORD: &str = "primitive";
        let n = |axis: usize| shape.dims().get(axis).copied().unwrap_or(0);
        match (op, src) {
            (Op::Scalar(row), _) => Tensor::scalar_op(row, src),
            (Op::Random, [key]) => key.random_bits(WORD, shape),
            (Op::Cast, [x]) => x.cast(dtype),
            (Op::Bitcast, [x]) => x.bitcast(dtype),
            (Op::Reshape, [x]) => x.to_shape(WORD, shape),
            (Op::Permute(perm), [x]) => x.permute_to(WORD, &perm.0.map(usize::from)[..x.rank()]),
            (Op::Expand, [x]) => x.expand_to(WORD, shape),
            (Op::Slice(spec), [x]) => x.slice_spec(WORD, spec.start.clone(), spec.step.clone(), shape.dims()),
            (Op::SliceAt { axis }, [x, start]) => x.slice_at(WORD, axis, start, n(axis)),
            (Op::UpdateAt { axis }, [x, part, start]) => x.write_at(WORD, axis, part, start),
            (Op::Flip(set), [x]) => x.flip_axes(WORD, set),
            (Op::Pad(p), [x]) => x.pad_spec(WORD, p.lo.clone(), p.hi.clone(), p.interior.clone(), p.fill),
            (Op::Concat { axis }, _) => Tensor::concat(WORD, src, axis),
            (Op::Window(spec), [x]) => x.window(WORD, (*spec).clone()),
            (Op::Fold(spec), [x]) => x.fold(WORD, (*spec).clone(), shape),
            (Op::Reduce(kind, set), [x]) => x.reduce(WORD, kind, set),
            (Op::ArgReduce(extreme, axis), [x]) => x.arg_reduce(WORD, extreme, axis),
            (Op::Scan(kind, axis), [x]) => x.scan(WORD, kind, axis),
            (Op::Dot, [x, z]) => x.dot(WORD, z),
            (Op::Conv(spec), [x, w]) => x.conv(WORD, w, (*spec).clone()),
            (Op::Gather { axis, word }, [x, index]) => x.gather_axis(word.0, axis, index),
            (Op::Scatter { axis, mode, word }, [x, index, updates]) => {
                x.scatter_axis(word.0, mode, axis, index, updates)
            }
            (Op::ArgSort { axis, descending }, [x]) => x.arg_sort(WORD, axis, descending),
            (Op::Detach, [x]) => x.detach(),
            (Op::Tracked, [x]) => x.tracked(),
            (Op::Fence(region), [x]) => x.fence(region),
            (Op::Block(block), [x, operands @ ..]) => x.block(WORD, block, operands),
            (Op::Custom(call), [x, inputs @ ..]) => x.custom(call, inputs),
            // Leaves have words of their own.
            (op, _) => Tensor::from_error(
                crate::Error::new(crate::ErrorKind::Operand, WORD, format!("{op} over {} operands", src.len())),
                src.first().map_or(&crate::Device::nowhere(), |x| x.device()),
            ),
        }
    }
}
