//! What the examples' models promise, under test as they stand in `examples/models`.

use wgrad::data::{Loader, TokenDataset};
use wgrad::prelude::*;

use crate::support::{by_itself, makes_no_plan};

#[path = "../../examples/models/gpt.rs"]
mod gpt;

use gpt::{Gpt, GptConfig, Writer};

fn small(params: &Params) -> Gpt {
    Gpt::new(params, GptConfig { vocab: 11, size: 16, heads: 2, layers: 2, dropout: 0.1 })
}

#[test]
fn a_writer_makes_two_plans() {
    by_itself("examples::a_writer_makes_two_plans", || {
        let device = Device::cpu();
        let params = Params::new(&device, 3);
        let gpt = small(&params);
        let before = device.plans_made();
        let text = written(&gpt, &device, 200, 1.0, 7);
        assert_eq!((text.len(), device.plans_made() - before), (200, 2));
        assert!(text.iter().all(|token| (0..11).contains(token)));
        // Another temperature and other randomness are the same plans.
        assert_ne!(written(&gpt, &device, 200, 1.5, 8), text);
        assert_eq!(device.plans_made() - before, 2);
    });
}

fn written(gpt: &Gpt, device: &Device, length: usize, temperature: f64, seed: u64) -> Vec<i32> {
    let mut writer = Writer::new(gpt, &[3, 1, 4], 3 + length, temperature, &Tensor::key(seed, device));
    (0..length).map(|_| writer.write().unwrap().item::<i32>().unwrap()).collect()
}

#[test]
fn a_cold_writer_takes_what_is_likeliest() {
    let gpt = small(&Params::new(&Device::cpu(), 3));
    let mut text = vec![3, 1, 4];
    for token in written(&gpt, &Device::cpu(), 20, 1e-4, 1) {
        let scores = gpt.forward(&Tensor::new([text.clone()], &Device::cpu()), &Pass::eval());
        assert_eq!(scores.argmax(-1).to_vec::<i32>().unwrap().last(), Some(&token), "after {text:?}");
        text.push(token);
    }
    makes_no_plan(|device| {
        let gpt = small(&Params::new(device, 3));
        assert_eq!(written(&gpt, device, 5, 1.0, 1).len(), 5);
    });
}

#[test]
fn a_gpt_learns_a_line_by_heart() {
    let device = Device::cpu();
    let line: Vec<u32> = [5, 2, 9, 1, 7, 3].into_iter().cycle().take(60).collect();
    let loader = Loader::new(TokenDataset::new(&line, 12, 1).unwrap(), 4).drop_last(true);
    let params = Params::new(&device, 3);
    let gpt = small(&params);
    let mut adam = Gpt::optimizer(&params, 60);
    let mut losses = Vec::new();
    for batch in std::iter::repeat_with(|| loader.epoch(&device)).flatten().take(60) {
        let loss = gpt.loss(&batch, &Pass::train(&params));
        adam.step(loss.backward(&params)).unwrap();
        losses.push(loss.item::<f32>().unwrap());
    }
    assert!(losses[59] < losses[0] / 3.0, "{losses:?}");
}
