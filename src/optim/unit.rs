//! [`Unit`]: weights that are updated as one tensor, with their states. Knows no particular rule.

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::optim::Rule;
use crate::params::{Cells, Gradients, Param, Params};

/// What a rule knows of the present step.
pub struct Now {
    /// The number of the step, from 1.
    pub step: u64,
    /// The weight decay of this group.
    pub weight_decay: f64,
    lr: f64,
    device: Device,
}

impl Now {
    pub(super) fn new(step: u64, lr: f64, weight_decay: f64, device: &Device) -> Now {
        Now { step, weight_decay, lr, device: device.clone() }
    }

    /// The learning rate, as an input of the graph.
    pub fn lr(&self) -> Tensor {
        self.input(self.lr)
    }

    /// A number that changes from step to step, as an input of the graph: no new plan.
    pub fn input(&self, value: f64) -> Tensor {
        Tensor::input(value as f32, &self.device)
    }

    /// `1 - decay^step`, by which a running average that began at 0 is too small.
    pub fn bias_correction(&self, decay: f64) -> f64 {
        1.0 - libm::pow(decay, self.step as f64)
    }
}

/// Weights updated together: one after another in a flat tensor, or a single one in its shape.
pub(super) struct Unit {
    params: Params,
    members: Vec<Param>,
    /// The factor on the common learning rate.
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    states: Vec<Tensor>,
    average: Option<Tensor>,
    by_weight: bool,
}

impl Unit {
    pub(super) fn new<R: Rule>(
        rule: &R,
        params: &Params,
        members: Vec<Param>,
        lr: f64,
        weight_decay: f64,
        average: bool,
    ) -> Result<Unit> {
        let mut unit = Unit {
            params: params.clone(),
            by_weight: rule.by_weight(),
            members,
            lr,
            weight_decay,
            states: Vec::new(),
            average: None,
        };
        let w = unit.weight()?;
        for k in 0..rule.states().len() {
            unit.states.push(Tensor::zeros(rule.state_dims(k, w.dims()), w.device()));
        }
        // Tensors that are equal share their memory, and could not be overwritten by the first step:
        // so they are computed one by one, and the average by a product that nobody can foresee.
        unit.average = average.then(|| (w.cast(DType::F32) * Tensor::input(1f32, w.device())).detach());
        unit.kept().try_for_each(Tensor::realize)?;
        Ok(unit)
    }

    fn dims(&self) -> Vec<usize> {
        match self.members.first() {
            Some(only) if self.by_weight => only.value().dims().to_vec(),
            _ => vec![self.members.iter().map(|p| p.value().numel()).sum()],
        }
    }

    /// The weights as the rule sees them.
    fn weight(&self) -> Result<Tensor> {
        Ok(self.params.flat(&self.members)?.reshape(self.dims()))
    }

    /// Their gradients likewise, in `f32`.
    pub(super) fn gradient(&self, gradients: &Gradients) -> Result<Tensor> {
        if let Some(frozen) = self.members.iter().find(|p| !p.is_trained()) {
            let fact = format!("{} was frozen after the optimizer began; make a new one", frozen.path());
            return Err(Error::new(ErrorKind::Operand, "step", fact));
        }
        Ok(gradients.flat(&self.members)?.cast(DType::F32).reshape(self.dims()))
    }

    /// The weights.
    pub(super) fn members(&self) -> &[Param] {
        &self.members
    }

    /// Whether it keeps as many states as the rule wants, and an average if there is one.
    pub(super) fn is_of<R: Rule>(&self, rule: &R, average: Option<f64>) -> bool {
        self.states.len() == rule.states().len() && self.average.is_some() == average.is_some()
    }

    /// What it keeps from step to step.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Tensor> {
        self.states.iter().chain(&self.average)
    }

    /// Pushes the new weight, states and average; where `finite` is false, the old ones.
    pub(super) fn update<R: Rule>(
        &self,
        rule: &R,
        g: &Tensor,
        now: &Now,
        average: Option<f64>,
        finite: Option<&Tensor>,
        roots: &mut Vec<Tensor>,
    ) -> Result<()> {
        let old = self.weight()?;
        let (w, states) = rule.update(&old.cast(DType::F32), g, &self.states, now);
        let kept = |new: Tensor, old: &Tensor| match finite {
            Some(finite) => finite.where_(new, old),
            None => new,
        };
        let averaged = self.average.iter().zip(average).map(|(mean, decay)| (mean, mean + (&w - mean) * (1.0 - decay)));
        let averaged: Vec<Tensor> = averaged.map(|(old, new)| kept(new, old)).collect();
        roots.push(kept(w.cast(old.dtype()), &old).reshape(-1));
        roots.extend(states.into_iter().zip(&self.states).map(|(new, old)| kept(new, old)));
        roots.extend(averaged);
        Ok(())
    }

    /// Takes what `update` pushed, computed by now.
    pub(super) fn commit<'a>(&mut self, roots: &mut impl Iterator<Item = &'a Tensor>, cells: &mut Cells) {
        if let Some(w) = roots.next() {
            cells.put_flat(&self.members, w);
        }
        self.states.iter_mut().chain(&mut self.average).zip(roots).for_each(|(old, new)| *old = new.clone());
    }

    pub(super) fn swap_average(&mut self) -> Result<()> {
        let Some(mean) = &self.average else { return Ok(()) };
        let w = self.params.flat(&self.members)?;
        let (dtype, dims) = (w.dtype(), self.dims());
        let (w, mean) = (w.cast(DType::F32).reshape(dims).detach(), mean.cast(dtype).reshape(-1).detach());
        crate::realize([&w, &mean])?;
        self.params.put_flat(&self.members, &mean);
        self.average = Some(w);
        Ok(())
    }

    /// Names of what it keeps, with the range of each weight in it; a state of another shape is whole.
    fn parts<R: Rule>(&self, rule: &R) -> Vec<(String, usize, Option<(usize, Vec<usize>)>)> {
        let names = rule.states();
        let averages = self.average.iter().map(|_| "average");
        let mut parts = Vec::new();
        for (k, name) in names.into_iter().chain(averages).enumerate() {
            let mut start = 0;
            for member in &self.members {
                let value = member.value();
                let range = (!self.by_weight).then(|| (start, value.dims().to_vec()));
                parts.push((format!("{name}.{}", member.path()), k, range));
                start += value.numel();
            }
        }
        parts
    }

    /// The states by name and path of the weight.
    pub(super) fn state<R: Rule>(&self, rule: &R) -> Vec<(String, Tensor)> {
        let kept: Vec<&Tensor> = self.states.iter().chain(&self.average).collect();
        let part = |(name, k, range): (String, usize, Option<(usize, Vec<usize>)>)| {
            let x = match range {
                Some((start, dims)) => kept[k].narrow(0, start, dims.iter().product()).reshape(dims),
                None => kept[k].clone(),
            };
            (name, x)
        };
        self.parts(rule).into_iter().map(part).collect()
    }

    /// Takes saved states.
    pub(super) fn restore<R: Rule>(&mut self, rule: &R, find: &impl Fn(&str) -> Option<Tensor>) -> Result<()> {
        let mut pieces: Vec<Vec<Tensor>> = vec![Vec::new(); self.states.len() + 1];
        for (name, k, range) in self.parts(rule) {
            let wrong = |fact: String| Error::new(ErrorKind::Operand, "restore", format!("{name}: {fact}"));
            let x = find(&name).ok_or_else(|| wrong("there is no such saved state".into()))?;
            let kept = self.states.get(k).or(self.average.as_ref());
            let dims = range.as_ref().map_or_else(|| kept.map(|x| x.dims().to_vec()), |(_, dims)| Some(dims.clone()));
            if Some(x.dims()) != dims.as_deref() {
                return Err(wrong(format!("saved with shape {}, but {dims:?} is needed", x.shape())));
            }
            pieces[k].push(x.reshape(-1));
        }
        let device = self.params.device().clone();
        for (kept, pieces) in self.states.iter_mut().chain(&mut self.average).zip(&pieces) {
            let whole = Tensor::cat(pieces, 0).to_device(&device).cast(DType::F32);
            let whole = whole.reshape(kept.dims()).detach();
            whole.realize()?;
            *kept = whole;
        }
        Ok(())
    }
}
