//! Traces: every kernel is noted once, with its work, and only while somebody traces; and how near
//! that comes to what the device can do.

use wgrad::device::{Roofline, Trace};
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
    assert!(!events.contains("roofline"), "{events}");
    assert_eq!(events.matches(r#""ph":"X""#).count(), trace.kernels().len());
    assert_eq!((events.matches('{').count(), events.matches('[').count()), (events.matches('}').count(), 1));
}

/// The numbers in the column "of roof", and its kernels.
fn shares(table: &str) -> Vec<(f64, &str)> {
    let rows = table.lines().skip(1).filter(|row| row.matches('%').count() == 2 && !row.contains("kernels;"));
    let cells = rows.map(|row| row.rsplit_once("%  ").unwrap());
    cells.map(|(left, name)| (left.split_whitespace().last().unwrap().parse().unwrap(), name)).collect()
}

#[test]
fn a_roofline_adds_a_column() {
    for device in own_gpu().into_iter().chain([wgrad::device::cpu::Cpu::beside()]) {
        let roofline = device.roofline().unwrap();
        for rate in [roofline.copy_bytes_per_second, roofline.flops_per_second] {
            assert!(rate.is_finite() && rate > 1e6, "{device}: {roofline}");
        }
        assert_eq!(device.roofline().unwrap(), roofline, "{device}: measured once");

        let x = Tensor::full([256, 512], 0.5, &device);
        let build = || x.matmul(&x.transpose(0, 1)).softmax(-1);
        // The first product is preceded by tests, and the first run of a kernel by its compilation.
        build().realize().unwrap();
        let ((), trace) = device.trace(|| build().realize()).unwrap();
        assert!(!trace.to_string().contains("roof"), "{trace}");
        let trace = trace.against(roofline);
        assert_eq!(trace.roofline(), Some(roofline));
        let text = trace.to_string();
        assert!(text.starts_with("       ms  share  runs     GB/s  GFLOP/s of roof  kernel\n"), "{text}");
        assert!(text.ends_with(&format!("% of the roofline: {roofline}")), "{text}");
        let column = shares(&text);
        assert!(column.len() >= 2 && column.iter().all(|(share, _)| share.is_finite()), "{text}");
        // A product of this size is far from nothing on any device.
        assert!(column.iter().any(|(share, name)| name.contains("dot") && *share > 0.0), "{text}");
    }
}

/// Rates that are easy to reckon with.
const PLAIN: Roofline = Roofline { copy_bytes_per_second: 1e9, flops_per_second: 2e9 };

#[test]
fn a_roofline_is_the_slower_of_bytes_and_operations() {
    assert_eq!(PLAIN.to_string(), "copy 1.0 GB/s, 2.0 GFLOP/s");
    assert_eq!([PLAIN.seconds(3_000, 0), PLAIN.seconds(0, 3_000), PLAIN.seconds(3_000, 8_000)], [3e-6, 1.5e-6, 4e-6]);
    let nothing = Roofline { copy_bytes_per_second: 0.0, flops_per_second: f64::NAN };
    assert!(nothing.seconds(u64::MAX, u64::MAX).is_finite());
}

#[test]
fn kernels_of_nothing_divide_by_nothing() {
    for device in own_gpu().into_iter().chain([wgrad::device::cpu::Cpu::beside()]) {
        let empty = Tensor::ones([0, 4], &device);
        let ((), trace) = device.trace(|| wgrad::realize([&empty.exp(), &empty.sum(0), &empty.sum(..)])).unwrap();
        for roofline in [PLAIN, Roofline { copy_bytes_per_second: 0.0, flops_per_second: 0.0 }] {
            let trace = trace.clone().against(roofline);
            let (text, json) = (trace.to_string(), trace.to_json());
            assert!(!text.contains("NaN") && !text.contains("inf"), "{device}: {text}");
            assert!(!json.contains("NaN") && !json.contains("inf"), "{device}: {json}");
        }
    }
    let ((), nothing) = plain_cpu().trace(|| Ok(())).unwrap();
    assert!(nothing.against(PLAIN).to_string().contains("0.0 % of the roofline"));
}

#[test]
fn the_json_tells_the_share() {
    let trace = traced(&wgrad::device::cpu::Cpu::beside()).against(PLAIN);
    let json = trace.to_json();
    let found: Vec<f64> = json
        .split("\"percent_of_roofline\":")
        .skip(1)
        .map(|rest| rest.split('}').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(found.len(), trace.kernels().len());
    for (found, kernel) in found.iter().zip(trace.kernels()) {
        let want = 100.0 * PLAIN.seconds(kernel.bytes, kernel.flops) / kernel.seconds.max(1e-12);
        assert!((found - want).abs() <= 0.01, "{found}, not {want}");
    }
    assert_eq!((json.matches('{').count(), json.matches('[').count()), (json.matches('}').count(), 1));
}

#[test]
fn an_explanation_is_measured() {
    for device in own_gpu().into_iter().chain([wgrad::device::cpu::Cpu::beside()]) {
        let x = Tensor::full([64, 32], 0.5, &device);
        // A scalar of the run, a leaf that still is on the host, several kernels.
        let scale = Tensor::input(2.0, &device);
        let y = (x.matmul(&Tensor::from_vec(vec![1f32; 32 * 16], [32, 16], &device)) * &scale).softmax(-1).sum(0);
        let explained = wgrad::explain([&y]).unwrap();
        let before = device.memory_use().live_bytes;
        let open = explained.measure().unwrap();
        assert!(!y.is_realized(), "{device}: results are thrown away");
        y.realize().unwrap();
        let realized = explained.measure().unwrap();
        for trace in [&open, &realized] {
            let of = |f: fn(&wgrad::device::Traced) -> u64| trace.kernels().iter().map(f).sum::<u64>();
            assert_eq!(trace.kernels().len(), explained.kernels(), "{device}: {trace}");
            assert_eq!((of(|k| k.bytes), of(|k| k.flops)), (explained.bytes(), explained.flops()));
            assert_eq!(trace.roofline(), Some(device.roofline().unwrap()));
        }
        // The leaf has moved to the device, and y is there; nothing else.
        assert!(device.memory_use().live_bytes <= before + 4 * (32 * 16 + 16) + 4096, "{device}");
        assert_eq!(y.to_vec::<f32>().unwrap(), [4.0; 16], "{device}");
    }
}

#[test]
fn what_cannot_be_measured_says_so() {
    let device = wgrad::device::cpu::Cpu::beside();
    let error = device.trace(|| device.roofline().map(drop)).unwrap_err();
    assert!(error.to_string().contains("traced already"), "{error}");
    let x = Tensor::ones([1024], &device);
    let explained = wgrad::explain([&x.exp()]).unwrap();
    explained.measure().unwrap();
    device.set_memory_limit(Some(64));
    let error = explained.measure().unwrap_err();
    assert!(error.to_string().contains("limit"), "{error}");
}
