//! Indices out of range, on every device.

use wgrad::graph::Op;
use wgrad::graph::op::{ScatterMode, Word};
use wgrad::prelude::*;

use crate::agree::{on, prim};
use crate::devices::devices_for_faults;

/// An index out of range reads 0 and writes nothing, and is told, on every device.
#[test]
fn indices_out_of_range() {
    let (devices, _turn) = devices_for_faults();
    for axis in 0..2 {
        on(&devices, "indices out of range", &|leaves| {
            let x = leaves.of(DType::F32, &[4, 5], 1.0..2.0);
            let strays = [-1, 5, 0, 1, i32::MAX, i32::MIN, 4, 3, -5, 2];
            let index = Tensor::from_vec(strays.to_vec(), if axis == 0 { [2, 5] } else { [5, 2] }, leaves.device);
            let index = if axis == 0 { index } else { index.slice_axis(0, 0..4, 1) };
            let updates = leaves.of(DType::F32, index.dims(), 1.0..2.0);
            let first = index.slice_axis(axis, 0..1, 1);
            let once = updates.slice_axis(axis, 0..1, 1);
            let axis = axis as usize;
            let scatter = |mode| Op::Scatter { axis, mode, word: Word("scatter") };
            let gather = |word| Op::Gather { axis, word: Word(word) };
            let empty = Tensor::zeros(if axis == 0 { [0, 5] } else { [4, 0] }, leaves.device);
            let inside = Tensor::from_vec(vec![1; index.numel()], index.dims(), leaves.device);
            let read = |word, index: &Tensor| prim(gather(word), &[&x, index], &[], DType::F32);
            let roots = vec![
                read("gather", &index),
                prim(gather("gather"), &[&empty, &index], &[], DType::F32),
                prim(scatter(ScatterMode::Set), &[&x, &index, &updates], &[], DType::F32),
                prim(scatter(ScatterMode::Add), &[&x, &index, &updates], &[], DType::F32),
                prim(scatter(ScatterMode::Add), &[&x, &first, &once], &[], DType::F32),
                // Two words of one kernel.
                read("first", &inside) + read("second", &index),
                read("first", &index) + read("second", &inside),
            ];
            let words = ["gather", "gather", "scatter", "scatter", "scatter", "second", "first"];
            for (root, word) in roots.iter().zip(words) {
                let error = wgrad::realize([root]).and_then(|()| root.to_vec::<f32>()).unwrap_err();
                assert_eq!((error.kind(), error.op()), (wgrad::ErrorKind::Index, word), "{}", leaves.device);
            }
            roots
        });
    }
    for device in &devices {
        let x = Tensor::new([1.0, 2.0], device);
        let index = Tensor::new([0, 2], device);
        for y in [x.gather(0, &index), x.scatter_add(0, &index, &x)] {
            let error = y.to_vec::<f32>().unwrap_err();
            assert_eq!(error.kind(), wgrad::ErrorKind::Index, "{device}: {error}");
            assert_eq!(error.location().map(|at| at.file()), Some(file!()), "{device}: {error}");
        }
        assert_eq!((&x * 2.0).to_vec::<f32>().unwrap(), [2.0, 4.0], "{device}: a fault is told once");
    }
}
