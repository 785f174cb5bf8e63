//! [`Lstm`] and [`Gru`]: layers that go over a sequence step by step, unrolled into the graph.
//!
//! The products of the inputs are one for the whole sequence; those of the state are one a step.

use crate::graph::tensor::Tensor;
use crate::nn::linear::linear;
use crate::nn::{Dropout, Module, uniform};
use crate::params::{Param, Params, Pass};

/// The weights of one layer: `weight_ih_l0 [gates · hidden, inputs]`, `weight_hh_l0 [gates · hidden,
/// hidden]`, `bias_ih_l0` and `bias_hh_l0 [gates · hidden]`, and so on.
#[derive(Clone, Debug)]
struct Layer {
    weight_ih: Param,
    weight_hh: Param,
    bias_ih: Option<Param>,
    bias_hh: Option<Param>,
}

/// The layers of a network of either kind.
#[derive(Clone, Debug)]
struct Layers {
    word: &'static str,
    layers: Vec<Layer>,
    inputs: usize,
    hidden: usize,
    dropout: Dropout,
}

impl Layers {
    #[track_caller]
    fn new(word: &'static str, params: &Params, sizes: [usize; 3], gates: usize, bias: bool) -> Layers {
        let [inputs, hidden, count] = sizes;
        let rows = hidden.saturating_mul(gates);
        let mut layers = Vec::new();
        for k in 0..count.min(LAYERS_MAX) {
            let from = if k == 0 { inputs } else { hidden };
            layers.push(Layer {
                weight_ih: params.weight(&format!("weight_ih_l{k}"), [rows, from], uniform(hidden)),
                weight_hh: params.weight(&format!("weight_hh_l{k}"), [rows, hidden], uniform(hidden)),
                bias_ih: None,
                bias_hh: None,
            });
            if let Some(layer) = layers.last_mut().filter(|_| bias) {
                layer.bias_ih = Some(params.weight(&format!("bias_ih_l{k}"), [rows], uniform(hidden)));
                layer.bias_hh = Some(params.weight(&format!("bias_hh_l{k}"), [rows], uniform(hidden)));
            }
        }
        Layers { word, layers, inputs, hidden, dropout: Dropout::new(0.0) }
    }

    /// What is wrong with `x` or a state of the layers.
    fn fits(&self, x: &Tensor, states: &[&Tensor]) -> Result<(), String> {
        let (inputs, hidden, count) = (self.inputs, self.hidden, self.layers.len());
        if count == 0 || count == LAYERS_MAX {
            return Err(format!("takes 1 to {} layers", LAYERS_MAX - 1));
        }
        let n = match *x.dims() {
            [n, t, size] if size == inputs && (1..=STEPS_MAX).contains(&t) => n,
            _ => return Err(format!("takes [n, t, {inputs}] with t from 1 to {STEPS_MAX}, got {}", x.shape())),
        };
        match states.iter().find(|state| state.dims() != [count, n, hidden]) {
            Some(state) => Err(format!("the state is [{count}, {n}, {hidden}], got {}", state.shape())),
            None => Ok(()),
        }
    }

    /// The products of the whole input of layer `k`, with their bias.
    #[track_caller]
    fn of_input(&self, k: usize, layer: &Layer, x: &Tensor, pass: &Pass) -> Tensor {
        // Without a key where nothing is dropped.
        let dropped = k > 0 && self.dropout.p != 0.0;
        let x = if dropped { self.dropout.forward(x, pass) } else { x.clone() };
        linear(self.word, &x, &layer.weight_ih, layer.bias_ih.as_ref(), pass)
    }

    /// Zeros for a state, `[layers, n, hidden]`.
    #[track_caller]
    fn zeros(&self, x: &Tensor) -> Tensor {
        Tensor::zeros([self.layers.len(), x.dim(0), self.hidden], x.device())
    }
}

/// Every step of every layer is graph: a number by mistake must not take the memory.
const LAYERS_MAX: usize = 1000;
const STEPS_MAX: usize = 1 << 16;

/// A long short-term memory over `[n, t, inputs]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let lstm = nn::Lstm::new(&params.at("lstm"), 3, 4, 2);
/// let (y, state) = lstm.run(&Tensor::ones([1, 5, 3], &device), None, &Pass::eval());
/// assert_eq!((y.dims(), state.h.dims()), (&[1, 5, 4][..], &[2, 1, 4][..]));
/// // What follows begins where that ended.
/// let (y, _) = lstm.run(&Tensor::ones([1, 1, 3], &device), Some(&state), &Pass::eval());
/// assert_eq!(y.dims(), [1, 1, 4]);
/// ```
#[derive(Clone, Debug)]
pub struct Lstm {
    layers: Layers,
}

/// What an [`Lstm`] carries from step to step, each `[layers, n, hidden]`.
#[derive(Clone, Debug)]
pub struct LstmState {
    /// The last outputs.
    pub h: Tensor,
    /// The cells.
    pub c: Tensor,
}

impl Lstm {
    /// `layers` layers of `hidden` elements, the first over `inputs`.
    #[track_caller]
    pub fn new(params: &Params, inputs: usize, hidden: usize, layers: usize) -> Lstm {
        Lstm { layers: Layers::new("lstm", params, [inputs, hidden, layers], 4, true) }
    }

    /// Without biases.
    #[track_caller]
    pub fn without_bias(params: &Params, inputs: usize, hidden: usize, layers: usize) -> Lstm {
        Lstm { layers: Layers::new("lstm", params, [inputs, hidden, layers], 4, false) }
    }

    /// Drops with probability `p` between layers in training.
    pub fn dropout(self, p: f64) -> Lstm {
        Lstm { layers: Layers { dropout: Dropout::new(p), ..self.layers } }
    }

    /// The outputs of the last layer, `[n, t, hidden]`, and the state behind them; it begins with
    /// `state`, or with zeros.
    #[track_caller]
    pub fn run(&self, x: &Tensor, state: Option<&LstmState>, pass: &Pass) -> (Tensor, LstmState) {
        let (h, c) = match state {
            Some(state) => (state.h.clone(), state.c.clone()),
            None => (self.layers.zeros(x), self.layers.zeros(x)),
        };
        if let Err(bad) = Tensor::examine("lstm", &[x, &h, &c], || self.layers.fits(x, &[&h, &c])) {
            return (bad.clone(), LstmState { h: bad.clone(), c: bad });
        }
        let mut y = x.clone();
        let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
        for (k, layer) in self.layers.layers.iter().enumerate() {
            let from_x = self.layers.of_input(k, layer, &y, pass);
            let (mut h, mut c) = (h.narrow(0, k, 1).squeeze(0), c.narrow(0, k, 1).squeeze(0));
            let mut outputs = Vec::new();
            for t in 0..x.dim(1) {
                let from_h = linear("lstm", &h, &layer.weight_hh, layer.bias_hh.as_ref(), pass);
                let gates = from_x.narrow(1, t, 1).squeeze(1) + from_h;
                let [i, f, g, o] = gates.split([self.layers.hidden; 4], -1);
                c = f.sigmoid() * c + i.sigmoid() * g.tanh();
                h = o.sigmoid() * c.tanh();
                outputs.push(h.clone());
            }
            y = Tensor::stack(&outputs, 1);
            last_h.push(h);
            last_c.push(c);
        }
        (y, LstmState { h: Tensor::stack(&last_h, 0), c: Tensor::stack(&last_c, 0) })
    }
}

impl Module for Lstm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        self.run(x, None, pass).0
    }
}

/// A network of gated recurrent units over `[n, t, inputs]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let params = Params::new(&device, 42);
/// let gru = nn::Gru::new(&params.at("gru"), 3, 4, 1);
/// let (y, h) = gru.run(&Tensor::ones([1, 5, 3], &device), None, &Pass::eval());
/// assert_eq!((y.dims(), h.dims()), (&[1, 5, 4][..], &[1, 1, 4][..]));
/// ```
#[derive(Clone, Debug)]
pub struct Gru {
    layers: Layers,
}

impl Gru {
    /// `layers` layers of `hidden` elements, the first over `inputs`.
    #[track_caller]
    pub fn new(params: &Params, inputs: usize, hidden: usize, layers: usize) -> Gru {
        Gru { layers: Layers::new("gru", params, [inputs, hidden, layers], 3, true) }
    }

    /// Without biases.
    #[track_caller]
    pub fn without_bias(params: &Params, inputs: usize, hidden: usize, layers: usize) -> Gru {
        Gru { layers: Layers::new("gru", params, [inputs, hidden, layers], 3, false) }
    }

    /// Drops with probability `p` between layers in training.
    pub fn dropout(self, p: f64) -> Gru {
        Gru { layers: Layers { dropout: Dropout::new(p), ..self.layers } }
    }

    /// The outputs of the last layer, `[n, t, hidden]`, and the last ones of every layer, `[layers,
    /// n, hidden]`; it begins with `state`, or with zeros.
    #[track_caller]
    pub fn run(&self, x: &Tensor, state: Option<&Tensor>, pass: &Pass) -> (Tensor, Tensor) {
        let h = match state {
            Some(state) => state.clone(),
            None => self.layers.zeros(x),
        };
        if let Err(bad) = Tensor::examine("gru", &[x, &h], || self.layers.fits(x, &[&h])) {
            return (bad.clone(), bad);
        }
        let (mut y, mut last) = (x.clone(), Vec::new());
        for (k, layer) in self.layers.layers.iter().enumerate() {
            let from_x = self.layers.of_input(k, layer, &y, pass);
            let mut h = h.narrow(0, k, 1).squeeze(0);
            let mut outputs = Vec::new();
            for t in 0..x.dim(1) {
                let from_h = linear("gru", &h, &layer.weight_hh, layer.bias_hh.as_ref(), pass);
                let [xr, xz, xn] = from_x.narrow(1, t, 1).squeeze(1).split([self.layers.hidden; 3], -1);
                let [hr, hz, hn] = from_h.split([self.layers.hidden; 3], -1);
                let z = (xz + hz).sigmoid();
                let new = (xn + (xr + hr).sigmoid() * hn).tanh();
                h = (1.0 - &z) * new + z * h;
                outputs.push(h.clone());
            }
            y = Tensor::stack(&outputs, 1);
            last.push(h);
        }
        (y, Tensor::stack(&last, 0))
    }
}

impl Module for Gru {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        self.run(x, None, pass).0
    }
}
