//! Traces: every kernel is noted once, with its work, and only while somebody traces.

use wgrad::device::Trace;
use wgrad::prelude::*;

use crate::devices::{own_gpu, plain_cpu};

fn traced(device: &Device) -> Trace {
    let x = Tensor::full([64, 64], 0.5, device);
    let ((), trace) = device.trace(|| x.matmul(&x).softmax(-1).sum(0).realize()).unwrap();
    trace
}

#[test]
fn every_kernel_is_noted_with_its_work() {
    for device in own_gpu().into_iter().chain([wgrad::device::cpu::Cpu::beside()]) {
        let x = Tensor::ones([64, 64], &device);
        // The first product of a device is preceded by a test of the template.
        x.matmul(&x).realize().unwrap();
        let y = x.matmul(&x).softmax(-1);
        let expected = wgrad::explain([&y]).unwrap();
        let ((), trace) = device.trace(|| y.realize()).unwrap();
        let of = |f: fn(&wgrad::device::Traced) -> u64| trace.kernels().iter().map(f).sum::<u64>();
        assert_eq!(trace.kernels().len(), expected.kernels(), "{device}: {trace}");
        assert_eq!((of(|k| k.bytes), of(|k| k.flops)), (expected.bytes(), expected.flops()));
        assert!(trace.kernel_seconds() > 0.0 && trace.kernel_seconds() <= 1.01 * trace.seconds(), "{device}: {trace}");
        assert!(trace.kernels().is_sorted_by(|a, b| a.start + a.seconds <= b.start + 1e-6), "{device}: {trace:?}");
    }
}

#[test]
fn nothing_is_noted_after_the_trace_or_on_other_devices() {
    let (device, other) = (wgrad::device::cpu::Cpu::beside(), plain_cpu());
    traced(&device);
    Tensor::ones([3], &device).exp().realize().unwrap();
    let ((), trace) = device.trace(|| Tensor::ones([3], &other).sin().realize()).unwrap();
    assert!(trace.kernels().is_empty(), "{trace}");
}

#[test]
fn a_traced_failure_ends_the_trace() {
    let device = wgrad::device::cpu::Cpu::beside();
    let error = device.trace(|| Tensor::ones([2, 3], &device).matmul(&Tensor::ones([2, 3], &device)).realize());
    assert!(error.unwrap_err().to_string().contains("matmul"));
    assert!(!traced(&device).kernels().is_empty());
    let twice = device.trace(|| device.trace(|| Ok(())).map(drop));
    assert!(twice.unwrap_err().to_string().contains("traced already"));
}

#[test]
fn a_trace_has_an_event_for_each_kernel() {
    let trace = traced(&wgrad::device::cpu::Cpu::beside());
    let events = trace.to_json();
    assert_eq!(events.matches(r#""ph":"X""#).count(), trace.kernels().len());
    assert_eq!((events.matches('{').count(), events.matches('[').count()), (events.matches('}').count(), 1));
}
