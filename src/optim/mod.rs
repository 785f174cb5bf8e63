//! Optimizers: how weights follow their gradients.
//!
//! Start from [`AdamW::new`]: it takes the trained weights of a store
//! together into flat tensors, and [`Optimizer::step`] runs forward, backward and update in one plan.
//! Learning rate and step number are inputs of the graph: changing them compiles nothing.
//!
//! ```
//! # use wgrad::prelude::*;
//! use wgrad::optim::AdamW;
//! let params = Params::new(&Device::cpu(), 42);
//! let w = params.weight("w", [1], Init::Zeros);
//! let mut adam = AdamW::new(&params, 0.1).weight_decay(0.0).clip_norm(1.0);
//! for _ in 0..100 {
//!     let pass = Pass::train(&params);
//!     let loss = (w.tensor(&pass) - 3.0).abs().sum(..);
//!     adam.step(loss.backward(&params))?;
//! }
//! assert!((w.value().item::<f32>()? - 3.0).abs() < 0.2);
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! An optimizer is a [`Rule`], which says in ordinary tensor formulas what one update is, in an
//! [`Optimizer`], which does what all have in common: groups of weights, clipping, schedules,
//! averages, loss scaling, saving. Write a `Rule` for one of your own.

mod matrix;
mod rules;
mod scale;
pub mod schedule;
mod unit;

pub use matrix::{Adafactor, Muon};
pub use rules::{Adagrad, Adam, AdamW, Lion, RmsProp, Sgd};
pub use scale::LossScale;
pub use schedule::{Plateau, Schedule};
pub use unit::Now;

use crate::device::explain::Explanation;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;
use crate::params::{Gradients, Param, Params};
use unit::Unit;

/// What one update does, in tensor formulas.
pub trait Rule: Send + Sync + 'static {
    /// What a person calls it.
    fn name(&self) -> &'static str;
    /// Names of the tensors it keeps for each weight.
    fn states(&self) -> Vec<&'static str>;
    /// The shape of state `k` of a weight of shape `dims`; that of the weight unless it says other.
    fn state_dims(&self, k: usize, dims: &[usize]) -> Vec<usize> {
        let _ = k;
        dims.to_vec()
    }
    /// Whether it must see each weight in its shape; else it sees many as one flat tensor.
    fn by_weight(&self) -> bool {
        false
    }
    /// What is wrong with its settings; the first step asks, and every step after it.
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }
    /// The new weight and the new states of weight `w` with gradient `g`.
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>);
}

/// A [`Rule`] applied to the trained weights of a store.
pub struct Optimizer<R> {
    rule: R,
    params: Params,
    lr: f64,
    weight_decay: f64,
    groups: Vec<Group>,
    schedule: Schedule,
    factor: f64,
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    average: Option<f64>,
    scale: Option<LossScale>,
    steps: u64,
    /// Whether groups or weight decay were set since it was last looked at.
    regrouped: bool,
    /// Made by the first step, when all options are known.
    units: Vec<Unit>,
}

/// Weights with settings of their own.
struct Group {
    pattern: String,
    lr: f64,
    weight_decay: f64,
}

impl<R: Rule> Optimizer<R> {
    /// `rule` on every trained weight of `params`, at learning rate `lr`.
    pub fn with(rule: R, params: &Params, lr: f64, weight_decay: f64) -> Optimizer<R> {
        let optimizer = Optimizer {
            rule,
            params: params.clone(),
            lr,
            weight_decay,
            groups: Vec::new(),
            schedule: Schedule::constant(),
            factor: 1.0,
            clip_norm: None,
            clip_value: None,
            average: None,
            scale: None,
            steps: 0,
            regrouped: false,
            units: Vec::new(),
        };
        optimizer.gather();
        optimizer
    }

    /// Puts the weights together, so that the plan of the first step is that of all others.
    fn gather(&self) {
        // What goes wrong here goes wrong in the first step, too, which can say it.
        let gathered =
            self.grouped().map(|groups| groups.iter().try_for_each(|(_, members)| self.params.flat(members).map(drop)));
        drop(gathered);
    }

    /// How much weights decay: per unit of learning rate, or as a part of the gradient, as the rule says.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        (self.weight_decay, self.regrouped) = (weight_decay, true);
        self
    }

    /// Gives weights whose path matches `pattern` (`*` stands for anything) a learning rate `lr`
    /// times the common one and a weight decay of their own; the first group that matches counts.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::optim::AdamW;
    /// # let params = Params::new(&Device::cpu(), 42);
    /// let adam = AdamW::new(&params, 3e-4).group("*.bias", 1.0, 0.0).group("trunk.*", 0.1, 0.01);
    /// ```
    pub fn group(mut self, pattern: &str, lr: f64, weight_decay: f64) -> Self {
        self.groups.push(Group { pattern: pattern.into(), lr, weight_decay });
        self.regrouped = true;
        self.gather();
        self
    }

    /// Multiplies the learning rate by what `schedule` says of each step.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Shortens the gradient of all weights together to length `max`, where it is longer.
    pub fn clip_norm(mut self, max: f64) -> Self {
        self.clip_norm = Some(max);
        self
    }

    /// Brings every element of the gradient between `-max` and `max`.
    pub fn clip_value(mut self, max: f64) -> Self {
        self.clip_value = Some(max);
        self
    }

    /// Keeps an exponential moving average of the weights: `decay` of it and the rest of the new
    /// weight after each step. See [`Optimizer::swap_average`].
    pub fn average(mut self, decay: f64) -> Self {
        self.average = Some(decay);
        self
    }

    /// Scales losses before their gradient, for `f16`; needs [`Optimizer::backward`].
    pub fn loss_scale(mut self, scale: LossScale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// The learning rate of the next step, without groups' factors.
    pub fn lr(&self) -> f64 {
        self.lr * self.factor * self.schedule.at(self.steps)
    }

    /// Multiplies the learning rate from now on; 1 at first. [`Plateau`] finds factors.
    pub fn set_factor(&mut self, factor: f64) {
        self.factor = factor;
    }

    /// What [`Optimizer::set_factor`] set.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// How many steps were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The factor on losses, where there is one.
    pub fn present_loss_scale(&self) -> Option<Tensor> {
        self.scale.as_ref().map(|scale| scale.on(self.params.device()))
    }

    /// As [`Tensor::backward`], with the loss scaled on the way where [`Optimizer::loss_scale`] is set.
    #[track_caller]
    pub fn backward(&self, loss: &Tensor) -> Gradients {
        match &self.scale {
            None => loss.backward(&self.params),
            Some(scale) => loss.backward_scaled(&self.params, &scale.on(loss.device())),
        }
    }

    /// Moves every weight: runs forward, backward, update and loss in one plan. When it fails,
    /// weights, states and running statistics are what they were.
    ///
    /// A setting that cannot be, such as a beta of 1 or a negative learning rate, is an error that names it.
    ///
    /// A weight that the loss does not use has a gradient of zeros: it decays, its moments fade and move it
    /// on, where PyTorch leaves a parameter without a gradient alone. [`Params::freeze`] those that shall
    /// stay as they are, or give `Optimizer` the part of the store that is used.
    ///
    /// Natively the new ones are written over the old ones, unless something else still needs these:
    /// a [`Param::value`] or a formula that you hold, or the other threads of a rayon pool that this
    /// is called in. Then they get memory of their own.
    pub fn step(&mut self, gradients: Gradients) -> Result<()> {
        self.begin()?;
        let step = self.steps.saturating_add(1);
        let roots = self.roots(&gradients, step)?;
        let (kept, moved) = self.replaced();
        // Held until the new values are in their cells, so that nobody reads old ones that are gone.
        let mut cells = gradients.run(&self.params, roots.clone(), &kept, &moved)?;
        let mut found = roots.iter();
        for unit in &mut self.units {
            unit.commit(&mut found, &mut cells);
        }
        drop(cells);
        if let Some(scale) = &mut self.scale {
            scale.commit(found.as_slice());
        }
        self.steps = step;
        Ok(())
    }

    /// What [`Optimizer::step`] would run, of which nothing is computed: no weight moves, and the pass
    /// that these gradients are of is over.
    ///
    /// Measured, it runs beside the weights and leaves them as they are. While it is held, steps write no
    /// weight over its old value.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::{nn::{Linear, Module}, optim::AdamW};
    /// let params = Params::new(&Device::cpu(), 42);
    /// let layer = Linear::new(&params.at("layer"), 64, 32);
    /// let mut optimizer = AdamW::new(&params, 1e-3);
    /// let (x, y) = (Tensor::ones([8, 64], params.device()), Tensor::from_vec(vec![3i32; 8], [8], params.device()));
    /// let loss = layer.forward(&x, &Pass::train(&params)).cross_entropy(&y);
    /// let step = optimizer.explain(loss.backward(&params))?;
    /// println!("{} kernels, {} bytes at the peak", step.kernels(), step.peak_bytes());
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn explain(&mut self, gradients: Gradients) -> Result<Explanation> {
        self.begin()?;
        let roots = self.roots(&gradients, self.steps.saturating_add(1))?;
        let (kept, moved) = self.replaced();
        gradients.explain(&self.params, roots, &kept, &moved)
    }

    /// Makes the states at the first step.
    fn begin(&mut self) -> Result<()> {
        let wrong = |fact: String| Err(Error::new(ErrorKind::Operand, "step", fact));
        // A page has no room to ask.
        if ALL_KERNELS && let Err(fact) = self.check() {
            return wrong(fact);
        }
        if self.units.is_empty() {
            self.units = self.make_units()?;
            self.regrouped = false;
        }
        if !ALL_KERNELS {
            return Ok(());
        }
        if !self.units.iter().all(|unit| unit.is_of(&self.rule, self.average)) {
            return wrong("the rule or the average was set anew".into());
        }
        let as_set = |unit: &Unit| {
            let settings = unit.members().iter().map(|param| self.settings(self.group_of(&param.path())));
            settings.into_iter().all(|settings| settings == (unit.lr, unit.weight_decay))
        };
        if self.regrouped && !self.units.iter().all(as_set) {
            return wrong("groups or weight decay were set anew".into());
        }
        self.regrouped = false;
        let members = || self.units.iter().flat_map(Unit::members);
        if self.params.count_trained() > members().count()
            && let Some(param) = self.params.trained().iter().find(|param| !members().any(|known| known == *param))
        {
            return wrong(format!("{} is trained since the optimizer began; make a new one", param.path()));
        }
        Ok(())
    }

    /// Whether every setting is a number that it may be, as PyTorch has it.
    fn check(&self) -> std::result::Result<(), String> {
        let schedule = self.schedule.at(self.steps);
        rules::within(&[
            ("lr", self.lr, rules::POSITIVE),
            ("factor", self.factor, rules::POSITIVE),
            ("the schedule's factor", schedule, rules::POSITIVE),
            ("weight_decay", self.weight_decay, rules::POSITIVE),
            ("clip_norm", self.clip_norm.unwrap_or(0.0), rules::POSITIVE),
            ("clip_value", self.clip_value.unwrap_or(0.0), rules::POSITIVE),
            ("average", self.average.unwrap_or(0.0), rules::SHARE),
        ])?;
        for Group { pattern, lr, weight_decay } in &self.groups {
            let rows = [("lr", *lr, rules::POSITIVE), ("weight_decay", *weight_decay, rules::POSITIVE)];
            rules::within(&rows).map_err(|fact| format!("group {pattern}: {fact}"))?;
        }
        self.rule.check()
    }

    /// What a step replaces: the states that it keeps itself, and the weights.
    fn replaced(&self) -> (Vec<&Tensor>, Vec<&Param>) {
        let (mut kept, mut moved) = (Vec::new(), Vec::new());
        if ALL_KERNELS {
            self.units.iter().for_each(|unit| kept.extend(unit.kept()));
            self.units.iter().for_each(|unit| moved.extend(unit.members()));
        }
        (kept, moved)
    }

    /// What a step computes: of each unit the new weight, states and average, then the scale.
    fn roots(&self, gradients: &Gradients, step: u64) -> Result<Vec<Tensor>> {
        let mut roots = Vec::new();
        let mut gathered = Vec::with_capacity(self.units.len());
        for unit in &self.units {
            gathered.push(unit.gradient(gradients)?);
        }
        let finite = match &self.scale {
            Some(scale) => {
                let scale = scale.on(self.params.device());
                gathered.iter_mut().for_each(|g| *g = &*g / &scale);
                Some(all_finite(&gathered))
            }
            None => None,
        };
        self.clip(&mut gathered);
        for (unit, g) in self.units.iter().zip(&gathered) {
            let now = Now::new(step, self.lr() * unit.lr, unit.weight_decay, self.params.device());
            unit.update(&self.rule, g, &now, self.average, finite.as_ref(), &mut roots)?;
        }
        if let (Some(scale), Some(finite)) = (&self.scale, &finite) {
            roots.extend(scale.next(finite, self.params.device()));
        }
        Ok(roots.iter().map(Tensor::detach).collect())
    }

    /// Shortens gradients as was asked for.
    fn clip(&self, gradients: &mut [Tensor]) {
        if let Some(max) = self.clip_value {
            gradients.iter_mut().for_each(|g| *g = g.clamp(-max, max));
        }
        if let Some(max) = self.clip_norm {
            let squares = gradients.iter().map(|g| (g * g).sum(..)).reduce(|a, b| a + b);
            if let Some(squares) = squares {
                let factor = (max / (squares.sqrt() + 1e-6)).minimum(1.0);
                gradients.iter_mut().for_each(|g| *g = &*g * &factor);
            }
        }
    }

    /// Puts the averages in the place of the weights and the weights in theirs: evaluate, and swap
    /// back before the next step.
    pub fn swap_average(&mut self) -> Result<()> {
        if self.average.is_none() {
            return Err(Error::new(ErrorKind::Operand, "swap_average", "no average is kept: see Optimizer::average"));
        }
        self.begin()?;
        self.units.iter_mut().try_for_each(Unit::swap_average)
    }

    /// Everything to be saved but the weights: states by name and path, on this device.
    pub fn state(&mut self) -> Result<Vec<(String, Tensor)>> {
        self.begin()?;
        let mut all: Vec<(String, Tensor)> = self.units.iter().flat_map(|unit| unit.state(&self.rule)).collect();
        if let Some(scale) = &self.scale {
            all.extend(scale.state(self.params.device()));
        }
        crate::realize(all.iter().map(|(_, x)| x))?;
        Ok(all)
    }

    /// Goes on from `steps` steps and the saved states that `find` gives by name; all or nothing.
    pub fn restore(&mut self, steps: u64, find: impl Fn(&str) -> Option<Tensor>) -> Result<()> {
        self.restore_if(steps, find, || Ok(()))
    }

    /// As [`Optimizer::restore`], unless `check` fails when everything was asked for.
    pub(crate) fn restore_if(
        &mut self,
        steps: u64,
        find: impl Fn(&str) -> Option<Tensor>,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (mut units, mut scale) = (self.make_units()?, self.scale.clone());
        units.iter_mut().try_for_each(|unit| unit.restore(&self.rule, &find))?;
        if let Some(scale) = &mut scale {
            scale.restore(&find, self.params.device())?;
        }
        check()?;
        (self.units, self.scale, self.steps) = (units, scale, steps);
        Ok(())
    }

    /// The trained weights that are updated together, with the number of their group: as many as a
    /// kernel sees in one piece.
    fn grouped(&self) -> Result<Vec<(usize, Vec<Param>)>> {
        let mut sorted: Vec<((usize, DType), u64, Vec<Param>)> = Vec::new();
        let most = self.params.device().piece_bytes();
        for param in self.params.iter().filter(Param::is_trained) {
            let value = param.value();
            value.check()?;
            let key = (self.group_of(&param.path()), value.dtype());
            // Gradients and states have 32 bits.
            let bytes = value.numel() as u64 * 4;
            match sorted.iter_mut().rev().find(|(known, ..)| *known == key) {
                Some((_, held, members)) if !self.rule.by_weight() && *held + bytes <= most => {
                    *held += bytes;
                    members.push(param);
                }
                _ => sorted.push((key, bytes, vec![param])),
            }
        }
        Ok(sorted.into_iter().map(|((group, _), _, members)| (group, members)).collect())
    }

    /// The number of the first group that a weight's path matches, one past the last where none does.
    fn group_of(&self, path: &str) -> usize {
        let matching = |group: &Group| crate::params::matches(&group.pattern, path);
        self.groups.iter().position(matching).unwrap_or(self.groups.len())
    }

    /// The factor on the learning rate, and the weight decay, of a group.
    fn settings(&self, group: usize) -> (f64, f64) {
        match self.groups.get(group) {
            Some(group) => (group.lr, group.weight_decay),
            None => (1.0, self.weight_decay),
        }
    }

    fn make_units(&self) -> Result<Vec<Unit>> {
        let groups = self.grouped()?;
        if groups.is_empty() {
            return Err(Error::new(ErrorKind::Operand, "step", "there are no trained weights"));
        }
        let make = |(group, members)| {
            let (lr, weight_decay) = self.settings(group);
            Unit::new(&self.rule, &self.params, members, lr, weight_decay, self.average.is_some())
        };
        groups.into_iter().map(make).collect()
    }
}

/// Whether no gradient has an infinity or a NaN.
fn all_finite(gradients: &[Tensor]) -> Tensor {
    // A difference of a number with itself is 0 but for those two.
    let each = gradients.iter().map(|g| g.isinf().bitor(g.isnan()).any(..));
    each.reduce(|a, b| a.bitor(b))
        .unwrap_or_else(|| Tensor::from(Error::new(ErrorKind::Operand, "step", "no weights")))
        .not()
}
