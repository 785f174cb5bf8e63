//! Loops that look like training: what they hold does not grow, runs repeat to the bit, and what
//! they made is read where it lies.
//!
//! What is measured of a whole process is measured in a process of its own.

use wgrad::prelude::*;

use crate::devices::{devices, own_gpu};
use crate::support::{Rng, by_itself};

/// An MLP with Adam, written out.
struct Training {
    x: Tensor,
    ids: Tensor,
    weights: Vec<Tensor>,
    moments: Vec<[Tensor; 2]>,
    losses: Vec<Tensor>,
}

impl Training {
    fn new(device: &Device) -> Training {
        let mut rng = Rng::new(5);
        let mut random = |dims: &[usize]| rng.tensor(dims, -0.5..0.5).to_device(device);
        let x = random(&[32, 16]);
        let weights = vec![random(&[16, 32]), random(&[32]), random(&[32, 10]), random(&[10])];
        let moments = weights.iter().map(|w| [w.zeros_like(), w.zeros_like()]).collect();
        let ids: Vec<i32> = (0..32).map(|_| rng.below(10) as i32).collect();
        Training { x, ids: Tensor::new(ids, device), weights, moments, losses: Vec::new() }
    }

    fn step(&mut self) {
        let turn = self.losses.len() as i32 + 1;
        let device = self.x.device().clone();
        let weights: Vec<Tensor> = self.weights.iter().map(Tensor::tracked).collect();
        let h = (self.x.matmul(&weights[0]) + &weights[1]).relu();
        let loss = (h.matmul(&weights[2]) + &weights[3]).cross_entropy(&self.ids);
        let grads = loss.grad(&weights.iter().collect::<Vec<_>>());
        let rate = 0.01 * (1.0 - 0.999f64.powi(turn)).sqrt() / (1.0 - 0.9f64.powi(turn));
        let rate = Tensor::input(rate, &device);
        for ((w, [m, v]), g) in self.weights.iter_mut().zip(&mut self.moments).zip(&grads) {
            let g = g.detach();
            *m = &*m * 0.9 + &g * 0.1;
            *v = &*v * 0.999 + &g * &g * 0.001;
            *w = &*w - &rate * &*m / (v.sqrt() + 1e-8);
        }
        let loss = loss.detach();
        wgrad::realize(self.weights.iter().chain(self.moments.iter().flatten()).chain([&loss])).unwrap();
        self.losses.push(loss);
    }

    fn read(&self) -> Vec<u32> {
        self.losses.iter().map(|loss| loss.item::<f32>().unwrap().to_bits()).collect()
    }
}

/// Bytes this process has in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|s| s.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}

fn a_thousand_steps(device: &Device) {
    let mut training = Training::new(device);
    let bytes = || device.memory_use().live_bytes + device.memory_use().pooled_bytes;
    // The smallest buffer, which each loss that is kept has of its own.
    let loss_bytes = 256;
    let mut at_tenth = (0, 0);
    let mut at_hundredth = 0;
    for turn in 1..=1000 {
        training.step();
        if turn % 50 == 0 || turn == 10 {
            let loss: f32 = training.losses[turn - 1].item().unwrap();
            assert!(loss.is_finite());
        }
        match turn {
            10 => at_tenth = (bytes(), device.plans_made()),
            100 => at_hundredth = resident(),
            _ if turn % 50 == 0 => {
                let kept = loss_bytes * (turn as u64 - 10);
                assert!(bytes() <= at_tenth.0 + kept, "{turn}: {} after {}", bytes(), at_tenth.0);
                assert_eq!(device.plans_made(), at_tenth.1, "{turn}: plans");
            }
            _ => {}
        }
    }
    let grown = resident().saturating_sub(at_hundredth);
    println!(
        "{device}: {} bytes at the tenth step, {} at the last; the process grew by {grown} bytes from the hundredth",
        at_tenth.0,
        bytes()
    );
    assert!(grown < 8 << 20, "{device}: the process grew by {grown} bytes");
    let first: f32 = training.losses[0].item().unwrap();
    let last: f32 = training.losses[999].item().unwrap();
    assert!(last < first * 0.5, "{device}: the loss went from {first} to {last}");
}

#[test]
fn a_thousand_steps_hold_no_more_than_ten_on_the_cpu() {
    by_itself("loops::a_thousand_steps_hold_no_more_than_ten_on_the_cpu", || a_thousand_steps(&Device::cpu()));
}

#[test]
fn a_thousand_steps_hold_no_more_than_ten_on_the_gpu() {
    by_itself("loops::a_thousand_steps_hold_no_more_than_ten_on_the_gpu", || match own_gpu() {
        Some(device) => a_thousand_steps(&device),
        None => println!("not run: there is no adapter"),
    });
}

#[test]
fn two_runs_of_a_loop_give_the_same_bits() {
    for device in devices() {
        let [first, second] = [0; 2].map(|_| {
            let mut training = Training::new(&device);
            (0..60).for_each(|_| training.step());
            training.read()
        });
        assert_eq!(first, second, "{device}");
    }
}

const BLOCKS: usize = 12;
const WIDTH: usize = 32;
const INNER: usize = 512;
const TOKENS: usize = 128;

/// Loss and gradients of a stack of blocks.
fn stack(device: &Device, checkpointed: bool) -> Vec<Tensor> {
    let mut rng = Rng::new(11);
    let mut random = |dims: &[usize]| rng.tensor(dims, -0.2..0.2).to_device(device).tracked();
    let x = random(&[TOKENS, WIDTH]);
    let weights: Vec<[Tensor; 2]> = (0..BLOCKS).map(|_| [random(&[WIDTH, INNER]), random(&[INNER, WIDTH])]).collect();
    let mut h = x;
    for [up, down] in &weights {
        let (up, down) = (up.clone(), down.clone());
        let block = move |h: &[Tensor]| &h[0] + h[0].matmul(&up).gelu().matmul(&down);
        h = if checkpointed { wgrad::checkpoint(block, &[&h]) } else { block(&[h]) };
    }
    let loss = (&h * &h).mean(..);
    let mut roots = loss.grad(&weights.iter().flatten().collect::<Vec<_>>());
    roots.push(loss);
    roots
}

#[test]
fn checkpoints_halve_the_predicted_peak_and_keep_the_bits() {
    for device in devices() {
        let [plain, checkpointed] = [false, true].map(|c| stack(&device, c));
        let [before, after] = [&plain, &checkpointed].map(|roots| wgrad::explain(roots).unwrap());
        let (before, after) = (before.peak_bytes(), after.peak_bytes());
        println!("{device}: a predicted peak of {after} bytes, {before} without checkpoints");
        assert!(after * 2 <= before, "{device}: {after} bytes, {before} without checkpoints");
        wgrad::realize(&plain).unwrap();
        wgrad::realize(&checkpointed).unwrap();
        for (k, (x, y)) in plain.iter().zip(&checkpointed).enumerate() {
            let [x, y] = [x, y].map(|t| t.to_vec::<f32>().unwrap());
            assert!(x.iter().any(|&x| x != 0.0), "{device}: gradient {k} is not all zeros");
            let differs = x.iter().zip(&y).position(|(x, y)| x.to_bits() != y.to_bits());
            assert_eq!(differs, None, "{device}: an element of gradient {k}");
        }
    }
}

#[test]
fn checkpoints_halve_the_measured_peak_on_the_gpu() {
    let measured = |checkpointed| {
        let device = own_gpu()?;
        let roots = stack(&device, checkpointed);
        let predicted = wgrad::explain(&roots).unwrap().peak_bytes();
        let leaves = (TOKENS * WIDTH + 2 * BLOCKS * WIDTH * INNER) as u64 * 4;
        wgrad::realize(&roots).unwrap();
        let peak = device.memory_use().peak_bytes - leaves;
        println!("{device}: a peak of {peak} bytes beside the leaves, {predicted} predicted");
        // Buffers come in classes an eighth apart.
        assert!(peak as f64 <= predicted as f64 * 1.2 + 65536.0, "{peak} bytes, not {predicted}");
        Some(peak)
    };
    let (Some(before), Some(after)) = (measured(false), measured(true)) else {
        return println!("not run: there is no adapter");
    };
    assert!(after * 2 <= before, "{after} bytes, {before} without checkpoints");
}

/// What needs too much is refused before anything runs, and the device lives on.
#[test]
fn memory_that_is_not_there_is_an_error_on_the_gpu() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let x = Tensor::arange(0.0, 1e6, 1.0, &device);
    x.realize().unwrap();
    device.set_memory_limit(Some(6 << 20));
    let before = device.memory_use();
    let y = (&x + 1.0).cumsum(0);
    let error = Tensor::stack(&[&y, &x], 0).realize().expect_err("over the limit");
    assert_eq!(error.kind(), wgrad::ErrorKind::Memory, "{error}");
    assert_eq!(device.memory_use(), before, "nothing ran");
    assert_eq!((&x + 1.0).max(..).item::<f32>().unwrap(), 1e6);
    device.set_memory_limit(None);
    assert!(Tensor::stack(&[&y, &x], 0).max(..).item::<f32>().unwrap() > 4e11);
    let huge = Tensor::full([65_535, 65_535], 1.0, &device) + Tensor::input(1.0, &device);
    let error = huge.realize().expect_err("16 GiB in one buffer");
    assert_eq!(error.kind(), wgrad::ErrorKind::Memory, "{error}");
    assert_eq!((&x * 0.0).sum(..).item::<f32>().unwrap(), 0.0);
}

#[test]
fn memory_that_is_not_there_is_an_error_on_the_cpu() {
    by_itself("loops::memory_that_is_not_there_is_an_error_on_the_cpu", || {
        let device = Device::cpu();
        let huge = Tensor::full([65_535, 65_535], 1.0, &device) + Tensor::input(1.0, &device);
        for _ in 0..2 {
            let error = huge.realize().expect_err("16 GiB");
            assert_eq!(error.kind(), wgrad::ErrorKind::Memory, "{error}");
        }
        let error = (huge.tracked().cumsum(0) * 2.0).sum(0).realize().expect_err("16 GiB between");
        assert_eq!(error.kind(), wgrad::ErrorKind::Memory, "{error}");
        assert_eq!(Tensor::ones([3], &device).sum(..).item::<f32>().unwrap(), 3.0);
    });
}

/// A row or an element of what was computed is copied from where it lies: no kernel runs for it.
#[test]
fn parts_are_read_where_they_lie() {
    for device in devices() {
        for dtype in [DType::F32, DType::I32, DType::F16, DType::U8, DType::Bool] {
            let x = Tensor::arange(0.0, 120.0, 1.0, &device).reshape([4, 5, 6]).cast(dtype);
            let all = x.cast(DType::F32).to_vec::<f32>().unwrap();
            x.realize().unwrap();
            let parts: [(Tensor, Vec<usize>, bool); 9] = [
                (x.reshape(-1).narrow(0, 8, 3), (8..11).collect(), true),
                (x.narrow(0, 1, 2), (30..90).collect(), dtype.bytes() > 1),
                (x.narrow(0, 2, 1).narrow(1, 4, 1).narrow(2, 0, 6), (84..90).collect(), true),
                (x.narrow(0, 3, 1).reshape([5, 6]).narrow(0, 1, 2).detach(), (96..108).collect(), true),
                (x.narrow(0, 3, 1).narrow(2, 5, 1), (95..120).step_by(6).collect(), false),
                (x.narrow(1, 0, 1), (0..4).flat_map(|i| 30 * i..30 * i + 6).collect(), false),
                (x.narrow(0, 0, 1).narrow(1, 0, 1).slice_axis(2, .., 2), vec![0, 2, 4], false),
                (x.narrow(1, 2, 0), vec![], false),
                (x.flip(0).narrow(0, 0, 1), (90..120).collect(), false),
            ];
            for (k, (part, places, lies)) in parts.iter().enumerate() {
                let want: Vec<f32> = places.iter().map(|&p| all[p]).collect();
                let got: Vec<f32> = match dtype {
                    DType::F32 => part.to_vec::<f32>().unwrap(),
                    DType::I32 => part.to_vec::<i32>().unwrap().iter().map(|&v| v as f32).collect(),
                    DType::F16 => part.to_vec::<half::f16>().unwrap().iter().map(|v| v.to_f32()).collect(),
                    DType::U8 => part.to_vec::<u8>().unwrap().iter().map(|&v| f32::from(v)).collect(),
                    _ => part.to_vec::<bool>().unwrap().iter().map(|&v| f32::from(u8::from(v))).collect(),
                };
                assert_eq!(got, want, "part {k} of {dtype} on {device}");
                assert_eq!(part.is_realized(), !lies, "part {k} of {dtype} on {device}");
            }
        }
    }
}
