//! [`Gradients`]: what a backward pass gives, and the one run that computes a whole step.

use std::panic::Location;

use crate::device::cpu::threads::is_pooled;
use crate::device::explain::{Explanation, explain_last};
use crate::device::realize::realize_last;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::below::Below;
use crate::graph::mix::{ById, Ids};
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;
use crate::params::{Cells, Param, Params};

/// The gradient of every trained weight, and the loss they are of; graph, until a step runs it.
pub struct Gradients {
    params: Params,
    /// The losses: one, or those of the batches that were accumulated.
    loss: Tensor,
    found: Vec<(Param, Tensor)>,
}

/// A step made ready.
struct Work {
    roots: Vec<Tensor>,
    /// Running statistics and their new values.
    collected: Vec<(Param, Tensor)>,
    /// Leaves that may be overwritten.
    dying: Ids,
}

impl Tensor {
    /// The gradient of this loss by every trained weight of `params`; builds graph, runs nothing.
    ///
    /// For a weight that got a new value since the loss was built, by a step or an optimizer that was made
    /// meanwhile, there is none, but an error: pass the part of the store that the loss is of.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let w = params.weight("w", [2], Init::Ones);
    /// let pass = Pass::train(&params);
    /// let loss = (w.tensor(&pass) * 3.0).sum(..);
    /// let grads = loss.backward(&params);
    /// assert_eq!(grads.get(&w).unwrap().to_vec::<f32>()?, [3.0, 3.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn backward(&self, params: &Params) -> Gradients {
        self.backward_scaled(params, &self.ones_like())
    }

    /// `backward` with all gradients times `scale`.
    #[track_caller]
    pub(crate) fn backward_scaled(&self, params: &Params, scale: &Tensor) -> Gradients {
        let trained = params.trained();
        let leaves: Vec<Tensor> = trained.iter().map(Param::leaf).collect();
        let leaves: Vec<&Tensor> = leaves.iter().collect();
        let gradients = match self.numel() {
            1 => self.vjp(&scale.cast(self.dtype()).reshape(self.dims()), &leaves),
            _ => self.grad(&leaves),
        };
        let mut found = Vec::with_capacity(gradients.len());
        for ((param, leaf), mut gradient) in trained.into_iter().zip(leaves).zip(gradients) {
            // The loss is of a value that nobody has any more: not a gradient of zeros.
            if self.0.id < leaf.0.id && param.is_older_than(self) && gradient.is_valid() {
                let fact = format!("{} got a new value after the loss was built", param.path());
                let error = Error::new(ErrorKind::Gradient, "backward", fact).at(Location::caller());
                gradient = Tensor::from_error(error, self.device());
            }
            found.push((param, gradient));
        }
        Gradients { params: params.clone(), loss: self.clone(), found }
    }
}

impl Gradients {
    /// The loss.
    pub fn loss(&self) -> &Tensor {
        &self.loss
    }

    /// The gradient by `param`.
    pub fn get(&self, param: &Param) -> Option<&Tensor> {
        self.found.iter().find(|(known, _)| known == param).map(|(_, gradient)| gradient)
    }

    /// Every weight with its gradient.
    pub fn iter(&self) -> impl Iterator<Item = (&Param, &Tensor)> {
        self.found.iter().map(|(param, gradient)| (param, gradient))
    }

    /// The length of all gradients as one vector.
    pub fn norm(&self) -> Tensor {
        let squares: Vec<Tensor> =
            self.found.iter().map(|(_, g)| g.cast(crate::DType::F32)).map(|g| (&g * &g).sum(..)).collect();
        squares.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| self.loss.zeros_like()).sqrt()
    }

    /// Adds these gradients and this loss to those of earlier batches, and runs that: what a batch
    /// needed is free again before the next. `step` takes the sum; scale each loss to have a mean.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let w = params.weight("w", [2], Init::Ones);
    /// let mut sum = None;
    /// for x in [1.0, 2.0] {
    ///     let loss = (w.tensor(&Pass::train(&params)) * x).sum(..) / 2.0;
    ///     loss.backward(&params).accumulate(&mut sum)?;
    /// }
    /// assert_eq!(sum.unwrap().get(&w).unwrap().to_vec::<f32>()?, [1.5, 1.5]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn accumulate(self, sum: &mut Option<Gradients>) -> Result<()> {
        let (loss, found) = match sum {
            None => (self.loss.detach(), self.found.iter().map(|(p, g)| (p.clone(), g.detach())).collect()),
            Some(sum) => {
                let add = |(p, g): &(Param, Tensor)| match sum.get(p) {
                    Some(before) => (p.clone(), (before + g).detach()),
                    None => (p.clone(), g.detach()),
                };
                ((&sum.loss + &self.loss).detach(), self.found.iter().map(add).collect::<Vec<_>>())
            }
        };
        let roots: Vec<Tensor> = found.iter().map(|(_, g)| g.clone()).chain([loss.clone()]).collect();
        let params = self.params.clone();
        drop(self.run(&params, roots, &[], &[])?);
        *sum = Some(Gradients { params, loss, found });
        Ok(())
    }

    /// Runs `roots`, the loss, what the user still holds of their graph, and the running statistics
    /// that training passes collected, in one plan; keeps the statistics, and lets history go. Then the
    /// caller drops the tensors `kept` and puts new values into the cells `moved`, which `params`
    /// holds still for it: what nobody else needs of the old ones may have been overwritten.
    pub(crate) fn run<'p>(
        self,
        params: &'p Params,
        roots: Vec<Tensor>,
        kept: &[&Tensor],
        moved: &[&Param],
    ) -> Result<Cells<'p>> {
        // A thread that takes up other work meanwhile must hold no lock, for that work may want it.
        let overwrites = ALL_KERNELS && !moved.is_empty() && !is_pooled();
        let cells = params.cells();
        let Work { roots, collected, dying } = self.work(&cells, roots, overwrites.then_some((kept, moved)))?;
        let cells = overwrites.then_some(cells);
        realize_last(roots.clone(), &dying)?;
        let mut cells = cells.unwrap_or_else(|| params.cells());
        collected.iter().for_each(|(param, value)| cells.put(param, value));
        roots.iter().for_each(Tensor::release);
        Ok(cells)
    }

    /// What [`Gradients::run`] would run, of which nothing is computed or kept.
    pub(crate) fn explain(
        self,
        params: &Params,
        roots: Vec<Tensor>,
        kept: &[&Tensor],
        moved: &[&Param],
    ) -> Result<Explanation> {
        let overwrites = ALL_KERNELS && !is_pooled();
        let Work { roots, dying, .. } = self.work(&params.cells(), roots, overwrites.then_some((kept, moved)))?;
        explain_last(roots, &dying)
    }

    /// What is computed for `roots`, and what that leaves of the values that are `replaced`.
    fn work(
        self,
        cells: &Cells<'_>,
        mut roots: Vec<Tensor>,
        replaced: Option<(&[&Tensor], &[&Param])>,
    ) -> Result<Work> {
        let collected = cells.collected();
        if let Some((param, _)) = collected.iter().find(|(param, _)| !self.params.holds(param)) {
            return Err(self.missing(param));
        }
        let Gradients { params: _, loss, found } = self;
        roots.extend(collected.iter().map(|(_, value)| value.clone()));
        roots.push(loss.clone());
        if let Some(error) = roots.iter().find_map(Tensor::error) {
            return Err(error.clone());
        }
        let mut ours: Vec<&Tensor> = roots.iter().collect();
        ours.push(&loss);
        found.iter().chain(&collected).for_each(|(_, x)| ours.push(x));
        let mut old = Vec::new();
        if ALL_KERNELS && let Some((kept, moved)) = replaced {
            let moved: Vec<&Param> = moved.iter().copied().chain(collected.iter().map(|(param, _)| param)).collect();
            old = cells.handles(&moved);
            old.extend(kept);
        }
        let Below { held, dying } = Below::new(&roots, &ours, &old);
        roots.extend(held);
        Ok(Work { roots, collected, dying })
    }

    /// The gradients of `members`, one after another in one flat tensor.
    pub(crate) fn flat(&self, members: &[Param]) -> Result<Tensor> {
        let place: ById<usize> = self.found.iter().zip(0..).map(|((p, _), k)| (p.index as u64, k)).collect();
        let mut parts = Vec::with_capacity(members.len());
        for member in members {
            let found = place.get(&(member.index as u64)).and_then(|&k| self.found.get(k)).filter(|(p, _)| p == member);
            parts.push(found.ok_or_else(|| self.missing(member))?.1.reshape(-1));
        }
        Ok(Tensor::cat(&parts, 0))
    }

    /// That there is no gradient by `param`.
    pub(crate) fn missing(&self, param: &Param) -> Error {
        let fact = format!("no gradient by {}: frozen or made after the optimizer, or of another store", param.path());
        Error::new(ErrorKind::Gradient, "step", fact)
    }
}
