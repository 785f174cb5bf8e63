//! What checkpoints keep and what they compute again, on a stack of transformer blocks.

use wgrad::Recompute;
use wgrad::compile::kernel::Kind;
use wgrad::device::Explanation;
use wgrad::nn::TransformerBlock;
use wgrad::prelude::*;

use crate::devices::devices;
use crate::support::Rng;

const POLICIES: [Option<Recompute>; 3] = [None, Some(Recompute::Cheap), Some(Recompute::All)];

/// Loss and gradients of `depth` blocks of `size` elements with dropout, on `[2, tokens, size]`.
fn stack(
    device: &Device,
    recompute: Option<Recompute>,
    low: Option<DType>,
    [depth, tokens, size]: [usize; 3],
) -> Vec<Tensor> {
    let params = Params::new(device, 3);
    let mut blocks: Vec<TransformerBlock> = Vec::new();
    for k in 0..depth {
        let block = TransformerBlock::new(&params.at(k), size, 2).causal().rotary(100.0).dropout(0.1);
        blocks.push(match recompute {
            Some(recompute) => block.recompute(recompute),
            None => block,
        });
    }
    let x = Rng::new(11).tensor(&[2, tokens, size], -1.0..1.0).to_device(device);
    let pass = Pass::train(&params);
    let pass = low.into_iter().fold(pass, Pass::autocast);
    let y = blocks.iter().fold(x, |x, block| block.forward(&x, &pass));
    let loss = (&y * &y).mean(..);
    let grads = loss.backward(&params);
    let mut roots: Vec<Tensor> = grads.iter().map(|(_, g)| g.clone()).collect();
    roots.push(loss);
    roots
}

fn dots(plan: &Explanation) -> usize {
    plan.plan().steps.iter().filter(|step| matches!(step.kernel.kind, Kind::Dot(_))).count()
}

/// The same gradients with the same elements dropped, whatever is computed again.
#[test]
fn gradients_are_those_without_a_checkpoint() {
    for device in devices() {
        for low in [None, Some(DType::BF16)] {
            let [plain, cheap, all] = POLICIES.map(|recompute| stack(&device, recompute, low, [2, 6, 8]));
            for roots in [&plain, &cheap, &all] {
                wgrad::realize(roots).unwrap();
            }
            // A rounding to 8 bits that falls the other way in one of the plans.
            let tolerance = if low.is_some() { 2e-2 } else { 1e-5 };
            for (k, x) in plain.iter().enumerate() {
                let x = x.to_vec::<f32>().unwrap();
                let greatest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (what, y) in [("cheap", &cheap[k]), ("all", &all[k])] {
                    let y = y.to_vec::<f32>().unwrap();
                    let far = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                    assert!(far <= tolerance * greatest.max(1e-3), "{device} {low:?} {what} {k}: {far} of {greatest}");
                }
            }
        }
    }
}

/// A deep stack: the less is kept, the more is computed again; products only where all is.
#[test]
fn policies_trade_memory_for_work() {
    for device in devices() {
        for low in [None, Some(DType::F16)] {
            let plans =
                POLICIES.map(|recompute| wgrad::explain(&stack(&device, recompute, low, [6, 128, 32])).unwrap());
            let [none, cheap, all] = &plans;
            for plan in &plans {
                println!(
                    "{device} {low:?}: a peak of {} bytes, {} operations, {} products",
                    plan.peak_bytes(),
                    plan.flops(),
                    dots(plan)
                );
            }
            assert!(all.peak_bytes() * 10 < cheap.peak_bytes() * 9 && cheap.peak_bytes() * 10 < none.peak_bytes() * 9);
            assert!(none.flops() <= cheap.flops() && cheap.flops() < all.flops());
            assert_eq!(dots(cheap), dots(none), "{device} {low:?}");
            assert!(dots(all) > dots(none));
        }
    }
}

/// Evaluation has nothing to compute again, and the plan of a step is the same each time.
#[test]
fn a_block_that_recomputes_is_only_another_plan() {
    // Nobody else makes plans of it.
    let device = wgrad::device::cpu::Cpu::beside();
    let params = Params::new(&device, 3);
    let block = TransformerBlock::swiglu(&params, 8, 2, 1, 12).recompute(Recompute::Cheap);
    let x = Tensor::ones([1, 3, 8], &device);
    let plain = block.clone();
    assert!(block.forward(&x, &Pass::eval()).to_string().len() > 2 && format!("{plain:?}").contains("Cheap"));
    let mut adam = wgrad::optim::AdamW::new(&params, 1e-2);
    let mut losses = Vec::new();
    let mut plans = Vec::new();
    for _ in 0..5 {
        let loss = (block.forward(&x, &Pass::train(&params)) - 2.0).abs().mean(..);
        adam.step(loss.backward(&params)).unwrap();
        losses.push(loss.item::<f32>().unwrap());
        plans.push(device.plans_made());
    }
    assert!(losses[4] < losses[0], "{losses:?}");
    assert_eq!(plans[1], plans[4]);
}
