//! Reverse-mode differentiation: a function from tensors to tensors.
//!
//! A gradient is graph made of ordinary ops, so it can be differentiated again and is fused like
//! everything else; nothing runs here. The walk is iterative and follows creation numbers, which
//! are a topological order. How each op passes a cotangent on stands in `rules`.

mod block;
mod rules;

use std::panic::Location;

use crate::error::{Error, ErrorKind};
use crate::graph::below::ROOM;
use crate::graph::mix::{ById, Ids};
use crate::graph::op::Op;
use crate::graph::tensor::{Operands, Tensor};

pub use block::{Recompute, checkpoint, checkpoint_with, custom_gradient};

impl Tensor {
    /// The gradient of this tensor, which has one element, with respect to each of `targets`.
    ///
    /// Builds graph and runs nothing; the results can be differentiated again. A target that this
    /// tensor does not depend on has a gradient of zeros. A gradient whose path may have been
    /// released is an error: make the target [`Tensor::tracked`] before building on it.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new(3.0, &Device::cpu()).tracked();
    /// let y = &x * &x * &x;
    /// let dx = &y.grad(&[&x])[0];
    /// let ddx = &dx.grad(&[&x])[0];
    /// assert_eq!((dx.item::<f32>()?, ddx.item::<f32>()?), (27.0, 18.0));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn grad(&self, targets: &[&Tensor]) -> Vec<Tensor> {
        if self.is_valid() && self.numel() != 1 {
            let fact = format!("the loss must have one element, got {}", self.shape());
            return vec![mistake("grad", fact, self); targets.len()];
        }
        let one = Tensor::constant(1.0.into(), *self.shape(), self.dtype(), self.device());
        pull("grad", self, &one, targets)
    }

    /// The product of `dy`, of this tensor's shape, with the derivative of this tensor with respect
    /// to each of `targets`; [`Tensor::grad`] for any shape.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::new([1.0, 2.0], &device).tracked();
    /// let dx = (&x * &x).vjp(&Tensor::new([1.0, 10.0], &device), &[&x]);
    /// assert_eq!(dx[0].to_vec::<f32>()?, [2.0, 40.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn vjp(&self, dy: &Tensor, targets: &[&Tensor]) -> Vec<Tensor> {
        if self.is_valid() && dy.is_valid() && (dy.shape() != self.shape() || !dy.dtype().is_float()) {
            let fact = format!("the cotangent of {} {} is {} {}", self.dtype(), self.shape(), dy.dtype(), dy.shape());
            return vec![mistake("vjp", fact, self); targets.len()];
        }
        if self.is_valid() && dy.is_valid() && dy.device() != self.device() {
            let fact = format!("the cotangent of a tensor on {} is on {}", self.device(), dy.device());
            return vec![mistake("vjp", fact, self); targets.len()];
        }
        pull("vjp", self, dy, targets)
    }
}

/// Cotangents of `targets` for the user; `word` is what was called.
#[track_caller]
fn pull(word: &'static str, y: &Tensor, dy: &Tensor, targets: &[&Tensor]) -> Vec<Tensor> {
    if let Some(bad) = [y, dy].into_iter().find(|x| !x.is_valid()) {
        return vec![bad.clone(); targets.len()];
    }
    if !y.dtype().is_float() {
        return vec![mistake(word, format!("the loss must be a float tensor, got {}", y.dtype()), y); targets.len()];
    }
    let Walk { found, released } = walk(y, &dy.cast(y.dtype()), targets, false);
    let mut results = Vec::with_capacity(targets.len());
    for (k, &target) in targets.iter().enumerate() {
        let hides = |node: &&Tensor| {
            let older = (node.0.oldest..node.0.id).contains(&target.0.id);
            older && (node.0.tracked || !target.0.tracked)
        };
        results.push(if !target.is_valid() {
            target.clone()
        } else if !target.dtype().is_float() {
            let fact = format!("target {k} is {}; only float tensors have gradients", target.dtype());
            mistake(word, fact, y)
        } else if let Some(node) = released.iter().find(hides) {
            let place = |x: &Tensor| format!("{}:{}", x.0.at.file(), x.0.at.line());
            let fact = format!(
                "the history between target {k} (from {}) and the {} at {} was released when that was computed; \
                 build on target.tracked() to keep it",
                place(target),
                node.0.op,
                place(node)
            );
            mistake(word, fact, y)
        } else if let Some(dx) = found.get(&target.0.id) {
            dx.clone()
        } else {
            zeros(target)
        });
    }
    results
}

/// What a walk back from a tensor found.
struct Walk {
    /// The cotangents of the targets that were reached, by id.
    found: ById<Tensor>,
    /// Nodes met whose operands were let go.
    released: Vec<Tensor>,
}

/// A node on the way, with its operands.
struct Step {
    node: Tensor,
    src: Operands,
    /// The number in the list of edges of the one to its first operand.
    edge: usize,
}

impl Step {
    fn new(node: &Tensor) -> Step {
        Step { node: node.clone(), src: Operands::new(), edge: 0 }
    }
}

/// Carries `dy` from `y` back to `targets`; when they are `leaves`, not beyond them.
#[track_caller]
fn walk(y: &Tensor, dy: &Tensor, targets: &[&Tensor], leaves: bool) -> Walk {
    let ids: Ids = targets.iter().map(|x| x.0.id).collect();
    let (oldest, newest) = (ids.iter().min().copied(), ids.iter().max().copied());
    let Some((oldest, newest)) = oldest.zip(newest) else {
        return Walk { found: ById::default(), released: Vec::new() };
    };

    // Edges are numbers of steps, looked up once: a step of training has thousands.
    let mut steps = Vec::with_capacity(ROOM);
    steps.push(Step::new(y));
    let mut number = ById::with_capacity_and_hasher(ROOM, Default::default());
    number.insert(y.0.id, 0);
    let mut edges: Vec<usize> = Vec::with_capacity(ROOM);
    let mut released = Vec::new();
    let mut at = 0;
    while let Some(Step { node, .. }) = steps.get(at) {
        let ends = node.0.id <= oldest
            || node.0.oldest > newest
            || !node.dtype().is_float()
            || matches!(node.0.op, Op::Detach | Op::Tracked)
            || (leaves && ids.contains(&node.0.id));
        let src = if ends { Operands::new() } else { node.src() };
        if !ends && src.is_empty() && node.is_released() {
            released.push(node.clone());
        }
        let edge = edges.len();
        for x in &src {
            let next = steps.len();
            let k = *number.entry(x.0.id).or_insert(next);
            if k == next {
                steps.push(Step::new(x));
            }
            edges.push(k);
        }
        (steps[at].src, steps[at].edge) = (src, edge);
        at += 1;
    }
    let mut order: Vec<(u64, usize)> = steps.iter().map(|step| step.node.0.id).zip(0..).collect();
    order.sort_unstable();
    let operands = |k: usize| &edges[steps[k].edge..][..steps[k].src.len()];
    // Whether a target is among what a step was computed from.
    let mut needed = vec![false; steps.len()];
    for &(id, k) in &order {
        needed[k] = ids.contains(&id) || operands(k).iter().any(|&x| needed[x]);
    }

    let mut cotangents: Vec<Option<Tensor>> = vec![None; steps.len()];
    cotangents[0] = Some(dy.clone());
    let mut found = ById::default();
    let mut wanted = Vec::new();
    for &(id, k) in order.iter().rev() {
        let Some(dy) = cotangents[k].take().filter(|_| needed[k]) else { continue };
        let Step { node, src, .. } = &steps[k];
        wanted.clear();
        wanted.extend(operands(k).iter().map(|&x| needed[x]));
        let dxs = match src.len() {
            0 => Vec::new(),
            // A rule may take its cotangent's shape for granted.
            n if !dy.is_valid() => vec![Some(dy.clone()); n],
            _ => rules::rule(node, src, &dy, &wanted),
        };
        for ((x, dx), &to) in src.iter().zip(dxs).zip(operands(k)) {
            let Some(dx) = dx.filter(|_| needed[to]) else { continue };
            let dx = fitted(dx, x, node);
            cotangents[to] = Some(match cotangents[to].take() {
                Some(sum) => sum + dx,
                None => dx,
            });
        }
        if ids.contains(&id) {
            found.insert(id, dy);
        }
    }
    Walk { found, released }
}

/// `dx` in the dtype of the operand `x` of `node`, whose shape it must have.
#[track_caller]
fn fitted(dx: Tensor, x: &Tensor, node: &Tensor) -> Tensor {
    if dx.is_valid() && (dx.shape() != x.shape() || !dx.dtype().is_float()) {
        let fact = format!("a cotangent of {} {} is {} {}", x.dtype(), x.shape(), dx.dtype(), dx.shape());
        let word = match &node.0.op {
            Op::Block(block) => block.0.name(),
            op => op.name(),
        };
        let error = Error::new(ErrorKind::Gradient, word, fact).at(node.0.at);
        return Tensor::from_error(error, x.device());
    }
    dx.cast(x.dtype())
}

/// Zeros like `x`.
#[track_caller]
fn zeros(x: &Tensor) -> Tensor {
    Tensor::constant(0.0.into(), *x.shape(), x.dtype(), x.device())
}

/// The invalid tensor of a gradient that cannot be formed.
#[track_caller]
fn mistake(word: &str, fact: String, like: &Tensor) -> Tensor {
    Tensor::from_error(Error::new(ErrorKind::Gradient, word, fact).at(Location::caller()), like.device())
}
