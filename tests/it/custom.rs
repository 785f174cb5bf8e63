//! Kernels of the user's: what is launched, and what is refused.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::Target;
use wgrad::device::CustomKernel;
use wgrad::prelude::*;

use crate::devices::devices;
use crate::wgsl::limits;

const DOUBLE: &str = "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < arrayLength(&y) { y[id.x] = 2.0 * x[id.x]; }
    }";

/// The definition alone says how many elements a call gives.
#[test]
fn calls_that_differ_in_their_results_are_launched_apart() {
    let kernel = CustomKernel::new("double", DOUBLE).build().unwrap();
    let firsts = |x: &Tensor, n| kernel.call(&[x], |x| vec![x[0].narrow(0, 0, n) * 2.0]).remove(0);
    for device in devices() {
        let x = Tensor::new([1.0, 2.0, 3.0, 4.0], &device);
        let (a, b, c) = (firsts(&x, 4), firsts(&x, 3), firsts(&x, 4));
        let graph = Graph::flatten(&[a.clone(), b.clone(), c.clone()]).0;
        assert_eq!(compile(&graph, &limits(Target::Gpu)).steps.len(), 2, "equal calls are one launch");
        wgrad::realize([&a, &b, &c]).unwrap();
        assert_eq!(a.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0], "{device}");
        assert_eq!(b.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0], "{device}");
        assert_eq!(c.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0], "{device}");
    }
}

#[test]
fn a_kernel_that_does_nothing_is_refused() {
    for (outputs, grid) in [(0, [1; 3]), (1, [0, 1, 1]), (1, [1, 1, 0])] {
        let error = CustomKernel::new("idle", DOUBLE).outputs(outputs).grid(grid).build().unwrap_err().to_string();
        assert!(error.contains("does nothing"), "{error}");
    }
}
