//! Rules that treat every number by itself, as PyTorch's optimizers of the same names do.

use crate::graph::tensor::Tensor;
use crate::optim::{Now, Optimizer, Rule};
use crate::params::Params;

/// Builder methods that set a field of the rule.
macro_rules! settings {
    ($rule:ident { $($(#[$doc:meta])* $field:ident: $t:ty),* $(,)? }) => {
        impl Optimizer<$rule> {
            $($(#[$doc])* pub fn $field(mut self, $field: $t) -> Self {
                self.rule.$field = $field;
                self
            })*
        }
    };
}

/// What a setting may be, in words and as a test that NaN fails.
pub(super) type Bound = (&'static str, fn(f64) -> bool);

pub(super) const POSITIVE: Bound = ("at least 0", |x| x >= 0.0);
pub(super) const SHARE: Bound = ("in 0..=1", |x| (0.0..=1.0).contains(&x));
const NUMBER: Bound = ("a number", |x| !x.is_nan());
const BETA: Bound = ("at least 0 and less than 1", |x| (0.0..1.0).contains(&x));

/// The first setting that is not what it may be.
pub(super) fn within(settings: &[(&str, f64, Bound)]) -> Result<(), String> {
    match settings.iter().find(|(_, value, (_, holds))| !holds(*value)) {
        Some((name, value, (bound, _))) => Err(format!("{name} {value} is not {bound}")),
        None => Ok(()),
    }
}

/// Stochastic gradient descent, with momentum.
#[derive(Clone, Debug)]
pub struct Sgd {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    /// Plain descent; see [`Optimizer::<Sgd>::momentum`].
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<Sgd> {
        Optimizer::with(Sgd { momentum: 0.0, dampening: 0.0, nesterov: false }, params, lr, 0.0)
    }
}

settings!(Sgd {
    /// How much of the earlier direction is kept; 0.
    momentum: f64,
    /// How much less of the new gradient goes into the direction; 0.
    dampening: f64,
    /// Whether the gradient is taken where the momentum leads; false.
    nesterov: bool,
});

impl Rule for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn states(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { Vec::new() } else { vec!["momentum"] }
    }
    fn check(&self) -> Result<(), String> {
        let Sgd { momentum, dampening, nesterov } = *self;
        within(&[("momentum", momentum, POSITIVE), ("dampening", dampening, NUMBER)])?;
        match nesterov && (momentum == 0.0 || dampening != 0.0) {
            true => Err(format!("nesterov takes a momentum and no dampening, got {momentum} and {dampening}")),
            false => Ok(()),
        }
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let g = decayed(g, w, now);
        let Some(before) = states.first() else { return (w - now.lr() * g, Vec::new()) };
        let direction = match self.dampening {
            0.0 => before * self.momentum + &g,
            // The first gradient is the direction, undamped.
            d => before * self.momentum + &g * now.input(if now.step == 1 { 1.0 } else { 1.0 - d }),
        };
        let by = if self.nesterov { g + &direction * self.momentum } else { direction.clone() };
        (w - now.lr() * by, vec![direction])
    }
}

/// The gradient with the weight decay in it.
fn decayed(g: &Tensor, w: &Tensor, now: &Now) -> Tensor {
    if now.weight_decay == 0.0 { g.clone() } else { g + w * now.weight_decay }
}

/// The weight, decayed by itself.
pub(super) fn shrunk(w: &Tensor, now: &Now) -> Tensor {
    if now.weight_decay == 0.0 { w.clone() } else { w * (1.0 - now.lr() * now.weight_decay) }
}

macro_rules! adam {
    ($(#[$doc:meta])* $rule:ident $name:literal, decay $decay:literal, $decoupled:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $rule {
            beta1: f64,
            beta2: f64,
            eps: f64,
        }

        impl $rule {
            /// With PyTorch's settings: betas 0.9 and 0.999, eps 1e-8.
            #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
            pub fn new(params: &Params, lr: f64) -> Optimizer<$rule> {
                Optimizer::with($rule { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, params, lr, $decay)
            }
        }

        settings!($rule {
            /// How much of the mean of earlier gradients is kept; 0.9.
            beta1: f64,
            /// How much of the mean of earlier squares is kept; 0.999.
            beta2: f64,
            /// Added to the root of the squares; 1e-8.
            eps: f64,
        });

        impl Rule for $rule {
            fn name(&self) -> &'static str {
                $name
            }
            fn states(&self) -> Vec<&'static str> {
                vec!["mean", "square"]
            }
            fn check(&self) -> Result<(), String> {
                within(&[("beta1", self.beta1, BETA), ("beta2", self.beta2, BETA), ("eps", self.eps, POSITIVE)])
            }
            fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
                let (w, g) = if $decoupled { (shrunk(w, now), g.clone()) } else { (w.clone(), decayed(g, w, now)) };
                let mean = &states[0] * self.beta1 + &g * (1.0 - self.beta1);
                let square = &states[1] * self.beta2 + &g * &g * (1.0 - self.beta2);
                // Both corrections are numbers of the host: one factor, one divisor.
                let root = now.input(now.bias_correction(self.beta2).sqrt());
                let rate = now.lr() / now.input(now.bias_correction(self.beta1));
                let w = w - rate * &mean / (square.sqrt() / root + self.eps);
                (w, vec![mean, square])
            }
        }
    };
}
adam! {
    /// Adam; weight decay is part of the gradient.
    Adam "adam", decay 0.0, false
}
adam! {
    /// Adam with weight decay by itself; 0.01 unless said otherwise.
    AdamW "adamw", decay 0.01, true
}

/// Divides by the root of a running mean of squares.
#[derive(Clone, Debug)]
pub struct RmsProp {
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
}

impl RmsProp {
    /// With PyTorch's settings: alpha 0.99, eps 1e-8, no momentum.
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<RmsProp> {
        Optimizer::with(RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false }, params, lr, 0.0)
    }
}

settings!(RmsProp {
    /// How much of the mean of earlier squares is kept; 0.99.
    alpha: f64,
    /// Added to the root; 1e-8.
    eps: f64,
    /// How much of the earlier direction is kept; 0.
    momentum: f64,
    /// Whether the square of the mean gradient is taken off the mean square; false.
    centered: bool,
});

impl Rule for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }
    fn states(&self) -> Vec<&'static str> {
        let optional = [(self.momentum != 0.0).then_some("momentum"), self.centered.then_some("mean")];
        std::iter::once("square").chain(optional.into_iter().flatten()).collect()
    }
    fn check(&self) -> Result<(), String> {
        within(&[("alpha", self.alpha, POSITIVE), ("eps", self.eps, POSITIVE), ("momentum", self.momentum, POSITIVE)])
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let g = decayed(g, w, now);
        let square = &states[0] * self.alpha + &g * &g * (1.0 - self.alpha);
        let mut kept = vec![square.clone()];
        let mean = self.centered.then(|| &states[states.len() - 1] * self.alpha + &g * (1.0 - self.alpha));
        let spread = mean.as_ref().map_or(square.clone(), |mean| (&square - mean * mean).maximum(0.0));
        let mut by = g / (spread.sqrt() + self.eps);
        if self.momentum != 0.0 {
            by = &states[1] * self.momentum + by;
            kept.push(by.clone());
        }
        kept.extend(mean);
        (w - now.lr() * by, kept)
    }
}

/// Divides by the root of the sum of all squares so far.
#[derive(Clone, Debug)]
pub struct Adagrad {
    lr_decay: f64,
    eps: f64,
}

impl Adagrad {
    /// With PyTorch's settings: eps 1e-10.
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<Adagrad> {
        Optimizer::with(Adagrad { lr_decay: 0.0, eps: 1e-10 }, params, lr, 0.0)
    }
}

settings!(Adagrad {
    /// How the learning rate falls: divided by `1 + (step - 1) * lr_decay`; 0.
    lr_decay: f64,
    /// Added to the root; 1e-10.
    eps: f64,
});

impl Rule for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }
    fn states(&self) -> Vec<&'static str> {
        vec!["sum"]
    }
    fn check(&self) -> Result<(), String> {
        within(&[("lr_decay", self.lr_decay, POSITIVE), ("eps", self.eps, POSITIVE)])
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let g = decayed(g, w, now);
        let sum = &states[0] + &g * &g;
        let rate = now.lr() / now.input(1.0 + (now.step - 1) as f64 * self.lr_decay);
        (w - rate * g / (sum.sqrt() + self.eps), vec![sum])
    }
}

/// Steps of the same length in every weight, by the sign of a running mean.
#[derive(Clone, Debug)]
pub struct Lion {
    beta1: f64,
    beta2: f64,
}

impl Lion {
    /// With betas 0.9 and 0.99; a third to a tenth of AdamW's learning rate suits it.
    #[allow(clippy::new_ret_no_self, reason = "the optimizer is what is wanted; the rule is its setting")]
    pub fn new(params: &Params, lr: f64) -> Optimizer<Lion> {
        Optimizer::with(Lion { beta1: 0.9, beta2: 0.99 }, params, lr, 0.0)
    }
}

settings!(Lion {
    /// How much of the mean goes into a step; 0.9.
    beta1: f64,
    /// How much of the mean is kept; 0.99.
    beta2: f64,
});

impl Rule for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }
    fn states(&self) -> Vec<&'static str> {
        vec!["mean"]
    }
    fn check(&self) -> Result<(), String> {
        within(&[("beta1", self.beta1, BETA), ("beta2", self.beta2, BETA)])
    }
    fn update(&self, w: &Tensor, g: &Tensor, states: &[Tensor], now: &Now) -> (Tensor, Vec<Tensor>) {
        let by = (&states[0] * self.beta1 + g * (1.0 - self.beta1)).sign();
        let mean = &states[0] * self.beta2 + g * (1.0 - self.beta2);
        (shrunk(w, now) - now.lr() * by, vec![mean])
    }
}
