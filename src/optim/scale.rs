//! [`LossScale`]: the factor on a loss that keeps small `f16` gradients from vanishing.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// A factor on losses that grows while gradients are finite and shrinks when they are not; a step
/// with an infinite gradient is left out, without anything being read from the device.
#[derive(Clone, Debug)]
pub struct LossScale {
    initial: f64,
    growth: f64,
    backoff: f64,
    interval: f64,
    /// The factor and how many finite steps there were since it changed, once there is a device.
    present: Option<[Tensor; 2]>,
}

impl LossScale {
    /// Begins at 65536, doubles after 2000 finite steps, halves at a step that is not.
    pub fn dynamic() -> LossScale {
        LossScale { initial: 65536.0, growth: 2.0, backoff: 0.5, interval: 2000.0, present: None }
    }

    /// The same factor always.
    pub fn constant(scale: f64) -> LossScale {
        LossScale { initial: scale, growth: 1.0, backoff: 1.0, ..LossScale::dynamic() }
    }

    /// What it begins at.
    pub fn initial(mut self, initial: f64) -> LossScale {
        self.initial = initial;
        self
    }

    /// After how many finite steps it grows.
    pub fn interval(mut self, steps: u64) -> LossScale {
        self.interval = steps as f64;
        self
    }

    fn both(&self, device: &Device) -> [Tensor; 2] {
        self.present.clone().unwrap_or_else(|| {
            let of = |x: f64| Tensor::new([x as f32], device);
            [of(self.initial), of(0.0)]
        })
    }

    /// The factor.
    pub(super) fn on(&self, device: &Device) -> Tensor {
        self.both(device)[0].squeeze(0)
    }

    /// Factor and count after a step.
    pub(super) fn next(&self, finite: &Tensor, device: &Device) -> [Tensor; 2] {
        let [scale, count] = self.both(device);
        let count = finite.where_(count + 1.0, 0.0);
        let full = count.ge(self.interval);
        // Infinite, it would never shrink again.
        let grown = (&scale * self.growth).minimum(f64::from(f32::MAX));
        let scale = finite.where_(full.where_(grown, &scale), &scale * self.backoff);
        [scale, full.where_(0.0, count)]
    }

    pub(super) fn commit(&mut self, roots: &[Tensor]) {
        if let [scale, count] = roots {
            self.present = Some([scale.clone(), count.clone()]);
        }
    }

    pub(super) fn state(&self, device: &Device) -> Vec<(String, Tensor)> {
        let names = ["loss_scale.factor", "loss_scale.count"];
        names.into_iter().map(String::from).zip(self.both(device)).collect()
    }

    pub(super) fn restore(&mut self, find: &impl Fn(&str) -> Option<Tensor>, device: &Device) -> Result<()> {
        let get = |name: &str| {
            let x = find(name).filter(|x| x.numel() == 1).map(|x| x.to_device(device).reshape([1]));
            x.ok_or_else(|| Error::new(ErrorKind::Operand, "restore", format!("{name}: there is no such saved state")))
        };
        self.present = Some([get("loss_scale.factor")?, get("loss_scale.count")?]);
        Ok(())
    }
}
