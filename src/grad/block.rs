//! Functions of tensors with a gradient of their own: the user's, or one that recomputes.

use std::sync::Arc;

use super::walk;
use crate::graph::mix::{ById, Ids};
use crate::graph::op::{Block, Gradient, Op, Region};
use crate::graph::scalar::Scalar;
use crate::graph::tensor::{Operands, Tensor, fresh_id};

/// A gradient that is a closure.
struct Rule<F> {
    name: String,
    gradient: F,
}

impl<F> Gradient for Rule<F>
where
    F: Fn(&[Tensor], &Tensor, &Tensor) -> Vec<Option<Tensor>> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }
    fn gradient(
        &self,
        src: &[Tensor],
        y: &Tensor,
        dy: &Tensor,
        _: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>> {
        (self.gradient)(src, y, dy)
    }
}

/// `f(inputs)`, with `gradient(inputs, y, dy)` in place of the derivative of `f`.
///
/// The gradient gives one cotangent for each input, or `None` where there is none, or an empty
/// vector to fall back on the derivative of `f`. It is built of ordinary ops, so it can be
/// differentiated again. Tensors that `f` captures get no gradient: pass them as inputs.
///
/// ```
/// # use wgrad::prelude::*;
/// // The identity, whose gradient is clipped.
/// let x = Tensor::new(2.0, &Device::cpu()).tracked();
/// let clipped = wgrad::custom_gradient(
///     "clip_gradient",
///     &[&x],
///     |x| x[0].clone(),
///     |_, _, dy| vec![Some(dy.minimum(1.0).maximum(-1.0))],
/// );
/// assert_eq!((clipped * 5.0).grad(&[&x])[0].item::<f32>()?, 1.0);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn custom_gradient(
    name: &str,
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Tensor,
    gradient: impl Fn(&[Tensor], &Tensor, &Tensor) -> Vec<Option<Tensor>> + Send + Sync + 'static,
) -> Tensor {
    let src: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
    let rule = Rule { name: name.to_string(), gradient };
    f(&src).block(name, Block(Arc::new(rule)), inputs)
}

/// What a checkpoint computes again in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Everything between the inputs and the result: the least memory.
    #[default]
    All,
    /// What is cheap. Results of products, convolutions and kernels are kept; element by element work,
    /// norms and softmax run again.
    Cheap,
}

/// `f(inputs)`, whose intermediate results are not kept for the backward pass but computed again
/// there.
///
/// Tensors that `f` captures, weights as well as random keys, are shared by both passes, so the same
/// bits are drawn and the gradients of weights arrive as ever.
///
/// ```
/// # use wgrad::prelude::*;
/// let w = Tensor::new(2.0, &Device::cpu()).tracked();
/// let x = Tensor::new(3.0, &Device::cpu()).tracked();
/// let y = wgrad::checkpoint(|x| (&x[0] * &w).exp().ln(), &[&x]);
/// let grads = y.grad(&[&x, &w]);
/// assert!((grads[0].item::<f32>()? - 2.0).abs() < 1e-5);
/// assert!((grads[1].item::<f32>()? - 3.0).abs() < 1e-5);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn checkpoint(f: impl FnOnce(&[Tensor]) -> Tensor, inputs: &[&Tensor]) -> Tensor {
    checkpoint_with(Recompute::All, f, inputs)
}

/// [`checkpoint`] that computes again what `recompute` says.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::{Recompute, checkpoint_with};
/// let w = Tensor::ones([64, 64], &Device::cpu()).tracked();
/// let x = Tensor::ones([8, 64], &Device::cpu());
/// let flops = |recompute| -> wgrad::Result<u64> {
///     let y = checkpoint_with(recompute, |x| x[0].matmul(&w).tanh().matmul(&w).tanh(), &[&x]).sum(..);
///     Ok(wgrad::explain([&y, &y.grad(&[&w])[0]])?.flops())
/// };
/// assert!(flops(Recompute::Cheap)? < flops(Recompute::All)?);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn checkpoint_with(recompute: Recompute, f: impl FnOnce(&[Tensor]) -> Tensor, inputs: &[&Tensor]) -> Tensor {
    let start = fresh_id();
    let src: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
    let y = f(&src);
    let captured = captured(&y, start);
    let operands: Vec<&Tensor> = inputs.iter().copied().chain(&captured).collect();
    let again = Again { inputs: inputs.len(), recompute };
    y.block(CHECKPOINT, Block(Arc::new(again)), &operands)
}

const CHECKPOINT: &str = "checkpoint";

/// The gradient of a checkpoint: that of a copy of its definition, which nothing is shared with.
struct Again {
    /// How many of the operands are inputs; the others were captured.
    inputs: usize,
    recompute: Recompute,
}

impl Gradient for Again {
    fn name(&self) -> &str {
        CHECKPOINT
    }
    fn gradient(
        &self,
        src: &[Tensor],
        y: &Tensor,
        dy: &Tensor,
        _: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>> {
        let (inputs, captured) = src.split_at(self.inputs.min(src.len()));
        // Another id, so that nothing computed from these inputs is merged with the forward pass.
        let region = Region(fresh_id());
        let fenced: Vec<Tensor> = inputs.iter().map(|x| x.fence(region)).collect();
        let Some(definition) = y.with_src(|src| src.first().cloned()) else { return Vec::new() };
        let mut new = ById::default();
        for (old, new_one) in inputs.iter().zip(&fenced).chain(captured.iter().zip(captured)) {
            new.entry(old.0.id).or_insert_with(|| new_one.clone());
        }
        let oldest = inputs.iter().map(|x| x.0.id).min().unwrap_or(u64::MAX);
        let again = self.copied(&definition, oldest, new, region);
        let leaves: Vec<&Tensor> = fenced.iter().chain(captured).collect();
        let found = walk(&again, dy, &leaves, true).found;
        leaves.iter().map(|x| found.get(&x.0.id).cloned()).collect()
    }
}

impl Again {
    /// `y` over the operands in `new` in place of those they stand for; no user of those is as old as
    /// `oldest`.
    #[track_caller]
    fn copied(&self, y: &Tensor, oldest: u64, mut new: ById<Tensor>, region: Region) -> Tensor {
        let mut old: ById<Tensor> = ById::default();
        let mut open = vec![y.clone()];
        while let Some(x) = open.pop() {
            let id = x.0.id;
            if id > oldest && !new.contains_key(&id) && !old.contains_key(&id) {
                x.with_src(|src| open.extend(src.iter().cloned()));
                old.insert(id, x);
            }
        }
        let mut order: Vec<Tensor> = old.into_values().collect();
        order.sort_unstable_by_key(|x| x.0.id);
        for x in order {
            let src = x.src();
            let copies: Operands = match x.0.op {
                // Bits that are dropped by are drawn once more: they are as many as what they drop.
                Op::Random => src.iter().map(|key| key.fence(region)).collect(),
                _ => src.iter().map(|s| new.get(&s.0.id).unwrap_or(s).clone()).collect(),
            };
            if copies.iter().zip(&src).all(|(copy, s)| copy.0.id == s.0.id) {
                continue;
            }
            let mut copy = x.over(copies);
            if self.recompute == Recompute::Cheap && dear(&x) {
                copy = x.detach().fence(region).in_place_of(&copy);
            }
            new.insert(x.0.id, copy);
        }
        new.remove(&y.0.id).unwrap_or_else(|| y.clone())
    }
}

/// Whether [`Recompute::Cheap`] keeps a node: the result of a product, or that in 16 bits with its bias.
fn dear(x: &Tensor) -> bool {
    let rounded = x.dtype().bytes() == 2 && matches!(x.0.op, Op::Cast);
    let mut x = x.clone();
    loop {
        match x.0.op {
            Op::Dot | Op::Conv(_) | Op::Custom(_) => return true,
            Op::Cast | Op::Reshape | Op::Permute(_) | Op::Scalar(Scalar::Add) if rounded => {}
            _ => return false,
        }
        let Some(below) = x.with_src(|src| src.first().cloned()) else { return false };
        x = below;
    }
}

/// A gradient that is that of the only operand.
struct InPlace;

impl Gradient for InPlace {
    fn name(&self) -> &str {
        "in_place_of"
    }
    fn gradient(
        &self,
        _: &[Tensor],
        _: &Tensor,
        dy: &Tensor,
        _: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>> {
        vec![Some(dy.clone())]
    }
}

impl Tensor {
    /// This value with the gradient of `x`, as if it were that.
    #[track_caller]
    pub(crate) fn in_place_of(&self, x: &Tensor) -> Tensor {
        self.block("in_place_of", Block(Arc::new(InPlace)), &[x])
    }
}

/// What the derivative of a block's definition, the first of `src`, has for each of its operands.
#[track_caller]
pub(super) fn of_definition(src: &[Tensor], dy: &Tensor) -> Vec<Option<Tensor>> {
    let [definition, operands @ ..] = src else { return Vec::new() };
    let leaves: Vec<&Tensor> = operands.iter().collect();
    let found = walk(definition, dy, &leaves, true).found;
    leaves.iter().map(|x| found.get(&x.0.id).cloned()).collect()
}

/// The tensors older than `start` that a gradient of `y` can reach first. Inputs are among them,
/// because a function may capture what it is also given.
fn captured(y: &Tensor, start: u64) -> Vec<Tensor> {
    let mut met = Ids::default();
    let mut found = Vec::new();
    let mut open = vec![y.clone()];
    while let Some(node) = open.pop() {
        if !node.dtype().is_float() || !met.insert(node.0.id) {
            continue;
        }
        if node.0.id < start {
            found.push(node);
        } else if !matches!(node.0.op, Op::Detach | Op::Tracked) {
            node.with_src(|src| open.extend(src.iter().cloned()));
        }
    }
    found.sort_unstable_by_key(|x| x.0.id);
    found
}
