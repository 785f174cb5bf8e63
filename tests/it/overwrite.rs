//! Results written over what dies: that a step needs no second copy of the weights, and that
//! whoever still holds an old value keeps it.

use wgrad::compile::compile;
use wgrad::compile::graph::Graph;
use wgrad::compile::plan::{Limits, Plan, Target};
use wgrad::device::cpu::Cpu;
use wgrad::optim::{AdamW, LossScale, Muon, Optimizer, Sgd};
use wgrad::prelude::*;

use crate::compare::{Case, How, agree};
use crate::devices::{devices, devices_for_faults, gpu, is_cpu, own_gpu, plain_cpu};

/// A network whose weights are far more than what flows through it.
struct Wide([Param; 2]);

impl Wide {
    fn new(params: &Params) -> Wide {
        let init = Init::Normal { mean: 0.0, std: 0.05 };
        Wide([params.weight("a", [300, 40], init), params.weight("b", [3, 300], init)])
    }

    fn loss(&self, pass: &Pass, ids: &[i32]) -> Tensor {
        let device = self.0[0].value().device().clone();
        let x: Vec<f32> = (0..40 * ids.len()).map(|k| (k * 7 % 23) as f32 / 23.0 - 0.5).collect();
        let [a, b] = self.0.each_ref().map(|p| p.tensor(pass));
        let x = Tensor::from_vec(x, [ids.len(), 40], &device);
        let ids = Tensor::from_vec(ids.to_vec(), [ids.len()], &device);
        x.matmul(&a.t()).tanh().matmul(&b.t()).cross_entropy(&ids)
    }
}

fn bits(params: &Params) -> Vec<u32> {
    params.iter().flat_map(|p| p.value().to_vec::<f32>().unwrap()).map(f32::to_bits).collect()
}

/// Five steps, before each of which `hold` may take what it wants; the weights, and the most bytes
/// that were in use during the last.
fn train<H>(device: &Device, average: bool, hold: impl Fn(&Wide) -> H) -> (Vec<u32>, u64) {
    let params = Params::new(device, 7);
    let model = Wide::new(&params);
    let mut adam = AdamW::new(&params, 0.01).clip_norm(1.0).group("b", 0.5, 0.0);
    if average {
        adam = adam.average(0.9).loss_scale(LossScale::dynamic());
    }
    let mut most = 0;
    for _ in 0..5 {
        let held = hold(&model);
        let loss = model.loss(&Pass::train(&params), &[0, 2, 1, 1]);
        let gradients = adam.backward(&loss);
        // What was there before the step, and what the step takes from the pool.
        let before = device.memory_use().live_bytes;
        adam.step(gradients).unwrap();
        assert!(loss.item::<f32>().unwrap().is_finite());
        most = before;
        drop(held);
    }
    (bits(&params), most)
}

#[test]
fn a_step_overwrites_weights_and_states() {
    let own: Vec<Device> = std::iter::once(Cpu::beside()).chain(own_gpu()).collect();
    for device in own {
        let weights = (300 * 40 + 3 * 300) * 4;
        let peak = |hold: bool| {
            let device = if is_cpu(&device) { Cpu::beside() } else { own_gpu().unwrap() };
            let (bits, before) = train(&device, false, |model| hold.then(|| model.0.each_ref().map(Param::value)));
            (bits, device.memory_use().peak_bytes - before)
        };
        let ((free, least), (held, most)) = (peak(false), peak(true));
        assert_eq!(free, held, "{device}: the bits do not depend on what is overwritten");
        assert!(
            most >= least + weights * 9 / 10,
            "{device}: {least} bytes beside what there is, {most} with old weights"
        );
        assert!(least < weights * 2, "{device}: {least} bytes beside weights and states");
    }
}

#[test]
fn explaining_and_measuring_a_step_moves_nothing() {
    for device in own_gpu().into_iter().chain([Cpu::beside()]) {
        let train = |explained: bool| {
            let params = Params::new(&device, 7);
            let model = Wide::new(&params);
            let mut adam = AdamW::new(&params, 0.01);
            for _ in 0..3 {
                if explained {
                    let before = bits(&params);
                    let loss = model.loss(&Pass::train(&params), &[0, 2, 1, 1]);
                    let step = adam.explain(loss.backward(&params)).unwrap();
                    assert_eq!(step.plan().overwritten.len(), 3, "{device}: weights and two states\n{}", step.plan());
                    assert_eq!(step.measure().unwrap().kernels().len(), step.kernels(), "{device}");
                    assert!(bits(&params) == before, "{device}: measuring moved weights");
                }
                let loss = model.loss(&Pass::train(&params), &[0, 2, 1, 1]);
                adam.step(loss.backward(&params)).unwrap();
            }
            bits(&params)
        };
        assert!(train(false) == train(true), "{device}: explaining changed the weights");
    }
}

#[test]
fn who_holds_old_weights_keeps_them() {
    for device in devices() {
        for average in [false, true] {
            let params = Params::new(&device, 7);
            let model = Wide::new(&params);
            let mut adam = AdamW::new(&params, 0.01);
            if average {
                adam = adam.average(0.9);
            }
            for _ in 0..3 {
                let [old, _] = model.0.each_ref().map(|p| p.value().to_vec::<f32>().unwrap());
                let snapshot = model.0[0].value();
                let formula = model.0[0].tensor(&Pass::eval()) * 2.0;
                let tracked = model.0[0].tensor(&Pass::train(&params)) * 3.0;
                let loss = model.loss(&Pass::train(&params), &[0, 2, 1, 1]);
                adam.step(loss.backward(&params)).unwrap();
                assert_eq!(snapshot.to_vec::<f32>().unwrap(), old, "{device}: a snapshot");
                let twice: Vec<f32> = old.iter().map(|x| x * 2.0).collect();
                assert_eq!(formula.to_vec::<f32>().unwrap(), twice, "{device}: a formula");
                let thrice: Vec<f32> = old.iter().map(|x| x * 3.0).collect();
                assert_eq!(tracked.to_vec::<f32>().unwrap(), thrice, "{device}: a tracked formula");
                assert_ne!(model.0[0].value().to_vec::<f32>().unwrap(), old, "{device}: the weights moved");
            }
        }
    }
}

#[test]
fn a_realised_tensor_keeps_its_way_to_old_weights() {
    for device in devices() {
        let params = Params::new(&device, 7);
        let model = Wide::new(&params);
        let mut sgd = Sgd::new(&params, 0.5);
        for _ in 0..2 {
            let old = model.0[1].value().to_vec::<f32>().unwrap();
            let w = model.0[1].tensor(&Pass::train(&params));
            let squares = &w * &w;
            squares.realize().unwrap();
            let loss = model.loss(&Pass::train(&params), &[0, 2, 1, 1]) + squares.mean(..);
            sgd.step(loss.backward(&params)).unwrap();
            let slope = squares.sum(..).grad(&[&w])[0].to_vec::<f32>().unwrap();
            let twice: Vec<f32> = old.iter().map(|x| x * 2.0).collect();
            assert_eq!(slope, twice, "{device}");
        }
    }
}

#[test]
fn a_failing_step_leaves_weights_and_states() {
    let (devices, _turn) = devices_for_faults();
    for device in devices.into_iter().filter(is_cpu) {
        let run = |fail: bool| {
            let params = Params::new(&device, 7);
            let model = Wide::new(&params);
            let mut adam = AdamW::new(&params, 0.01);
            for k in 0..4 {
                if fail && k > 1 {
                    let before = bits(&params);
                    let loss = model.loss(&Pass::train(&params), &[0, 7, 1, 1]);
                    assert_eq!(adam.step(loss.backward(&params)).unwrap_err().kind(), wgrad::ErrorKind::Index);
                    assert_eq!(bits(&params), before);
                }
                adam.step(model.loss(&Pass::train(&params), &[0, 2, 1, 1]).backward(&params)).unwrap();
            }
            bits(&params)
        };
        assert_eq!(run(true), run(false), "{device}");
    }
}

#[test]
fn another_thread_reads_weights_of_one_step_or_the_next() {
    for device in devices() {
        let params = Params::new(&device, 7);
        let w = params.weight("w", [5000], Init::Zeros);
        let mut sgd = Sgd::new(&params, 1.0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _ in 0..60 {
                    let found = w.value().to_vec::<f32>().unwrap();
                    assert!(found.iter().all(|x| x == &found[0]), "{device}: {} and others", found[0]);
                }
            });
            while !reader.is_finished() {
                let loss = -w.tensor(&Pass::train(&params)).sum(..);
                sgd.step(loss.backward(&params)).unwrap();
            }
            reader.join().unwrap();
        });
    }
}

/// Work that a pool takes up while it waits may read the very weights that are stepped.
#[cfg(feature = "threads")]
#[test]
fn steps_and_reads_share_a_pool_of_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for device in devices() {
        let params = Params::new(&device, 7);
        // Enough for several threads.
        let w = params.weight("w", [1000, 1000], Init::Zeros);
        let mut sgd = Sgd::new(&params, 1.0);
        let mut step = || {
            let loss = -w.tensor(&Pass::train(&params)).sum(..);
            sgd.step(loss.backward(&params)).unwrap();
        };
        let read = || {
            let found = (w.value() * 1.0).to_vec::<f32>().unwrap();
            assert!(found.iter().all(|x| x == &found[0]), "{device}: {} and others", found[0]);
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    pool.scope(|scope| (0..4).for_each(|_| scope.spawn(|_| read())));
                    rayon::scope(|scope| (0..4).for_each(|_| scope.spawn(|_| read())));
                }
            });
            for _ in 0..150 {
                pool.install(&mut step);
                step();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(w.value().to_vec::<f32>().unwrap()[0], 300.0);
    }
}

#[test]
fn scaled_and_averaged_and_by_weight() {
    for device in devices() {
        let held = |model: &Wide| model.0.each_ref().map(Param::value);
        assert_eq!(train(&device, true, |_| ()).0, train(&device, true, held).0, "{device}");
        let muon = |hold: bool| {
            let params = Params::new(&device, 7);
            let model = Wide::new(&params);
            let mut muon: Optimizer<Muon> = Muon::new(&params, 0.01);
            for _ in 0..3 {
                let _held = hold.then(|| held(&model));
                muon.step(model.loss(&Pass::train(&params), &[0, 2, 1, 1]).backward(&params)).unwrap();
            }
            bits(&params)
        };
        assert_eq!(muon(true), muon(false), "{device}");
    }
}

#[test]
fn gradients_of_another_store_are_refused() {
    let device = plain_cpu();
    let [ours, others] = [1, 2].map(|seed| Params::new(&device, seed));
    let (_, model) = (Wide::new(&ours), Wide::new(&others));
    let loss = model.loss(&Pass::train(&others), &[0, 2]);
    let error = Sgd::new(&ours, 0.1).step(loss.backward(&others)).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
}

fn limits(target: Target) -> Limits {
    Limits { target, ..Cpu::of(&plain_cpu()).unwrap().limits() }
}

fn plan_of(roots: &[Tensor]) -> Plan {
    let (mut graph, bindings) = Graph::flatten(roots);
    graph.let_die(&bindings, |_| true);
    compile(&graph, &limits(Target::Cpu))
}

#[test]
fn only_what_is_read_where_it_is_written_is_overwritten() {
    let x = Tensor::arange(0.0, 36.0, 1.0, &plain_cpu()).reshape([6, 6]);
    x.realize().unwrap();
    let overwritten = |roots: &[Tensor]| plan_of(roots).overwritten.len();
    assert_eq!(overwritten(&[&x * 2.0]), 1);
    assert_eq!(overwritten(&[(&x * 2.0).reshape([4, 9])]), 1);
    assert_eq!(overwritten(&[&x + x.sum(..)]), 0, "a sum of it is in the same kernel");
    assert_eq!(overwritten(&[&x * 2.0, &x * 3.0]), 1, "one result of two");
    assert_eq!(overwritten(&[x.t() + 1.0]), 0, "read elsewhere");
    assert_eq!(overwritten(&[&x + x.t()]), 0, "read there and elsewhere");
    assert_eq!(overwritten(&[x.flip(0) * 2.0]), 0);
    assert_eq!(overwritten(&[x.narrow(0, 0, 3) * 2.0]), 0, "another size");
    assert_eq!(overwritten(&[x.cast(DType::I32)]), 0, "another dtype");
    assert_eq!(overwritten(&[&x * 2.0, x.clone()]), 0, "asked for");
    assert_eq!(overwritten(&[&x * 2.0, x.softmax(0)]), 0, "read by a later kernel");
    let plan = plan_of(&[&x * 2.0]);
    assert_eq!((plan.peak_bytes, plan.slots.len()), (0, 1), "{plan}");
}

#[test]
fn every_device_overwrites_like_the_oracle() {
    type Formula = fn(&Tensor, &Tensor) -> Vec<Tensor>;
    let formulas: [(&str, Formula); 9] = [
        ("map", |x, y| vec![x * 2.0 + y]),
        ("two", |x, y| vec![x + y, x - y]),
        ("three", |x, y| vec![x * y, y + 1.0, x.exp()]),
        ("scaled by a sum", |x, y| vec![x * y.sum(..), y * x.sum(..)]),
        ("there and elsewhere", |x, y| vec![x + x.flip(-1), y * x.flip(0)]),
        ("through temporaries", |x, y| {
            let h = (x.softmax(-1).matmul(&y.transpose(0, 1)) + 1.0).matmul(y);
            let g = (&h * 2.0 + x).tanh();
            vec![(&g + &h).matmul(&y.transpose(0, 1)).matmul(x) * &g + h.sum(..), g]
        }),
        ("halves", |x, y| vec![(x.cast(DType::F16) * 2.0 + y.cast(DType::F16)).cast(DType::F32) + x]),
        ("chosen", |x, y| vec![x.gt(y).where_(x, y), x.gt(y).where_(y, x)]),
        ("padded", |x, y| vec![x + x.narrow(0, 1, x.dim(0) - 1).pad(&[(1, 0), (0, 0)], 0.0), y * 1.5]),
    ];
    let plain: Vec<Device> = std::iter::once(plain_cpu()).chain(gpu()).collect();
    for device in plain {
        for dims in [[1, 1], [4, 8], [5, 7], [33, 64], [130, 17]] {
            for (what, formula) in &formulas {
                for dtype in [DType::F32, DType::F16, DType::BF16] {
                    let build = |device: &Device| {
                        let [x, y] = [3, 5].map(|step: usize| {
                            let n: usize = dims.iter().product();
                            let x: Vec<f32> = (0..n).map(|k| (k * step % 31) as f32 / 31.0 - 0.4).collect();
                            Tensor::from_vec(x, dims, device).cast(dtype).detach()
                        });
                        wgrad::realize([&x, &y]).unwrap();
                        Case::new(formula(&x, &y), vec![x, y])
                    };
                    for target in [Target::Cpu, Target::SoftwareGpu, Target::Gpu] {
                        if is_cpu(&device) || target != Target::Cpu {
                            let limits = match wgrad::device::gpu::Gpu::of(&device) {
                                Some(gpu) => Limits { target, ..gpu.limits() },
                                None => limits(target),
                            };
                            let what = format!("{what} {dims:?} {dtype} for {target:?}");
                            agree(&what, &How::Foreign(device.clone(), limits.into()), &build);
                        }
                    }
                }
            }
        }
    }
}

/// A thread that reads what a step computes meanwhile sees this step's numbers, or an error.
#[test]
fn who_reads_during_a_step_sees_no_other_numbers() {
    for device in own_gpu().into_iter().chain([Cpu::beside()]) {
        let params = Params::new(&device, 7);
        let model = Wide::new(&params);
        let mut adam = AdamW::new(&params, 0.01);
        for step in 0..100 {
            let loss = model.loss(&Pass::train(&params), &[step % 3, 2, 1, 1]);
            let gradients = loss.backward(&params);
            let seen = std::thread::scope(|scope| {
                let reader = scope.spawn(|| loss.item::<f32>());
                adam.step(gradients).unwrap();
                reader.join().unwrap()
            });
            let own = loss.item::<f32>().unwrap();
            match seen {
                Ok(seen) => assert!((seen - own).abs() < 1e-5, "{device}: step {step}: {seen} and {own}"),
                Err(error) => assert!(error.to_string().contains("went into a step"), "{device}: {error}"),
            }
        }
    }
}

/// What a block's gradient holds is free again when the tensors are, whatever plans are kept.
#[test]
fn plans_hold_nothing_of_a_custom_gradient() {
    for device in devices() {
        let held = std::sync::Arc::new(());
        let captured = held.clone();
        let x = Tensor::ones([3], &device).tracked();
        let y = wgrad::custom_gradient(
            "held",
            &[&x],
            |x| &x[0] * 3.0,
            move |_, _, dy| {
                let _ = &captured;
                vec![Some(dy * 3.0)]
            },
        );
        assert_eq!(y.sum(..).grad(&[&x])[0].to_vec::<f32>().unwrap(), [3.0; 3]);
        assert_eq!(y.to_vec::<f32>().unwrap(), [3.0; 3]);
        drop((x, y));
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "{device}");
    }
}

/// A limit holds for plans that were made before it, and for what tensors hold beside them.
#[test]
fn a_memory_limit_holds_for_known_plans() {
    let device = Cpu::beside();
    let x = Tensor::ones([1024], &device);
    x.realize().unwrap();
    (&x + 1.0).realize().unwrap();
    device.set_memory_limit(Some(6 << 10));
    let error = (&x + 1.0).realize().unwrap_err().to_string();
    assert!(error.contains("4096 bytes beside 4096 in use are over the limit of 6144"), "{error}");
    device.set_memory_limit(Some(9 << 10));
    (&x + 1.0).realize().unwrap();
}
