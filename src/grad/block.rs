//! Functions of tensors with a gradient of their own: the user's, or one that recomputes.

use std::sync::Arc;

use super::{mistake, walk};
use crate::graph::mix::Ids;
use crate::graph::op::{Block, Gradient, Op, Region};
use crate::graph::tensor::{Tensor, fresh_id};

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

/// `f(inputs)`, whose intermediate results are not kept for the backward pass but computed again
/// there.
///
/// `f` runs once now and once in each gradient; it must build the same formula both times. Tensors
/// it captures, weights as well as random keys, are shared by both, so the same bits are drawn and
/// the gradients of weights arrive as ever.
///
/// ```
/// # use wgrad::prelude::*;
/// let w = Tensor::new(2.0, &Device::cpu()).tracked();
/// let x = Tensor::new(3.0, &Device::cpu()).tracked();
/// let weight = w.clone();
/// let y = wgrad::checkpoint(move |x| (&x[0] * &weight).exp().ln(), &[&x]);
/// let grads = y.grad(&[&x, &w]);
/// assert!((grads[0].item::<f32>()? - 2.0).abs() < 1e-5);
/// assert!((grads[1].item::<f32>()? - 3.0).abs() < 1e-5);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[track_caller]
pub fn checkpoint(f: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static, inputs: &[&Tensor]) -> Tensor {
    let start = fresh_id();
    let n_inputs = inputs.len();
    let src: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
    let y = f(&src);
    let captured = captured(&y, start);
    let operands: Vec<&Tensor> = inputs.iter().copied().chain(&captured).collect();
    let gradient = move |src: &[Tensor], y: &Tensor, dy: &Tensor| {
        // Another id, so that nothing computed from these inputs is merged with the forward pass.
        let region = Region(fresh_id());
        let (inputs, captured) = src.split_at(n_inputs.min(src.len()));
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.fence(region)).collect();
        let again = f(&inputs);
        if again.is_valid() && (again.shape() != y.shape() || again.dtype() != y.dtype()) {
            let (first, then) = (y.shape(), again.shape());
            let fact = format!("the function gave {} {first}, then {} {then}", y.dtype(), again.dtype());
            return vec![Some(mistake("checkpoint", fact, y)); src.len()];
        }
        if !again.is_valid() {
            return vec![Some(again); src.len()];
        }
        let leaves: Vec<&Tensor> = inputs.iter().chain(captured).collect();
        let found = walk(&again, dy, &leaves, true).found;
        leaves.iter().map(|x| found.get(&x.0.id).cloned()).collect()
    };
    y.block("checkpoint", Block(Arc::new(Rule { name: "checkpoint".to_string(), gradient })), &operands)
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
