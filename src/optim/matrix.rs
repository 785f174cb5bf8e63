//! Rules that look at a weight as a matrix: Adafactor and Muon.

use crate::graph::tensor::Tensor;
use crate::optim::rules::{POSITIVE, shrunk, within};
use crate::optim::{Now, Optimizer, Rule};
use crate::params::Params;
use crate::shape::keepdim;

/// Adam's second moment from one row and one column of each matrix, and no first one.
#[derive(Clone, Debug)]
pub struct Adafactor {
    beta2_decay: f64,
    eps: f64,
    threshold: f64,
}

/// The least number by which a mean square may be divided: the spacing of `f32` at 1.
const TINY: f64 = 1.1920928955078125e-7;

impl Adafactor {
    /// With PyTorch's settings; `lr` is the most a weight moves relative to its size.
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<Adafactor> {
        Optimizer::with(Adafactor { beta2_decay: -0.8, eps: 1e-3, threshold: 1.0 }, params, lr, 0.0)
    }
}

impl Optimizer<Adafactor> {
    /// The power of the step number that a new square counts; -0.8.
    pub fn beta2_decay(mut self, beta2_decay: f64) -> Self {
        self.rule.beta2_decay = beta2_decay;
        self
    }
    /// The least size of a weight that its step is relative to; 1e-3.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }
    /// The greatest root mean square of a step before the learning rate; 1.
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.rule.threshold = threshold;
        self
    }
}

impl Rule for Adafactor {
    fn name(&self) -> &'static str {
        "adafactor"
    }
    fn states(&self) -> Vec<&'static str> {
        vec!["row", "column"]
    }
    fn by_weight(&self) -> bool {
        true
    }
    fn check(&self) -> Result<(), String> {
        within(&[
            ("beta2_decay", self.beta2_decay, ("at most 0", |x| x <= 0.0)),
            ("eps", self.eps, POSITIVE),
            ("threshold", self.threshold, ("at least 1", |x| x >= 1.0)),
        ])
    }
    fn state_dims(&self, k: usize, dims: &[usize]) -> Vec<usize> {
        // A vector keeps every square in the first state, and nothing in the second.
        match (dims, k) {
            ([before @ .., rows, _], 0) => [before, &[*rows, 1]].concat(),
            ([before @ .., _, columns], _) => [before, &[1, *columns]].concat(),
            (_, 0) => dims.to_vec(),
            _ => vec![1],
        }
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let share = libm::pow(now.step as f64, self.beta2_decay);
        let (new, old) = (now.input(share), now.input(1.0 - share));
        let towards = |state: &Tensor, x: Tensor| state * &old + x * &new;
        let square = g * g;
        let (variance, kept) = if w.rank() > 1 {
            let row = towards(&states[0], square.mean(keepdim(-1)));
            let column = towards(&states[1], square.mean(keepdim(-2)));
            let whole = &row * &column / row.mean(keepdim(-2)).maximum(TINY);
            (whole, vec![row, column])
        } else {
            let variance = towards(&states[0], square);
            (variance.clone(), vec![variance, states[1].clone()])
        };
        let by = g * variance.maximum(TINY * TINY).rsqrt();
        let count = (w.numel().max(1) as f64).sqrt();
        let size = ((w * w).sum(..).sqrt() / count).maximum(self.eps);
        let rate = now.lr().minimum(now.input(1.0 / (now.step as f64).sqrt())) * size;
        let length = (&by * &by).sum(..).sqrt() / (count * self.threshold);
        (shrunk(w, now) - rate / length.maximum(1.0) * by, kept)
    }
}

/// Momentum whose matrices are turned into the nearest ones with equal singular values; weights
/// that are no matrix follow the momentum as it is.
#[derive(Clone, Debug)]
pub struct Muon {
    momentum: f64,
    nesterov: bool,
}

impl Muon {
    /// With momentum 0.95 and Nesterov's look ahead; weight decay 0.1, as PyTorch has it.
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<Muon> {
        Optimizer::with(Muon { momentum: 0.95, nesterov: true }, params, lr, 0.1)
    }
}

impl Optimizer<Muon> {
    /// How much of the earlier direction is kept; 0.95.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }
    /// Whether the gradient is taken where the momentum leads; true.
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.rule.nesterov = nesterov;
        self
    }
}

/// A quintic whose iteration brings singular values near 1 in five rounds (Jordan and others, 2024).
const QUINTIC: [f64; 3] = [3.4445, -4.775, 2.0315];

/// The matrix with the singular vectors of `x` and singular values near 1.
fn orthogonalized(x: &Tensor) -> Tensor {
    let tall = x.dim(0) > x.dim(1);
    let mut x = if tall { x.t() } else { x.clone() };
    x = &x / (&x * &x).sum(..).sqrt().maximum(1e-7);
    for _ in 0..5 {
        let square = x.matmul(&x.t());
        let higher = &square * QUINTIC[1] + square.matmul(&square) * QUINTIC[2];
        x = &x * QUINTIC[0] + higher.matmul(&x);
    }
    if tall { x.t() } else { x }
}

impl Rule for Muon {
    fn name(&self) -> &'static str {
        "muon"
    }
    fn states(&self) -> Vec<&'static str> {
        vec!["momentum"]
    }
    fn by_weight(&self) -> bool {
        true
    }
    fn check(&self) -> Result<(), String> {
        within(&[("momentum", self.momentum, POSITIVE)])
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let lerp = |a: &Tensor, b: &Tensor, t: f64| a + (b - a) * t;
        let direction = lerp(&states[0], g, 1.0 - self.momentum);
        let by = if self.nesterov { lerp(g, &direction, self.momentum) } else { direction.clone() };
        let (by, factor) = match w.rank() {
            2 => {
                let ratio = w.dim(0) as f64 / w.dim(1).max(1) as f64;
                (orthogonalized(&by), ratio.max(1.0).sqrt())
            }
            _ => (by, 1.0),
        };
        (shrunk(w, now) - now.lr() * factor * by, vec![direction])
    }
}
