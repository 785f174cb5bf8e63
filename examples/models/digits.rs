//! A small convolutional network that reads handwritten digits of 8 by 8 pixels.

use wgrad::nn::{Conv2d, Dropout, Linear, Module};
use wgrad::prelude::*;

/// Two convolutions, a pooling, two linear layers: 71,754 parameters.
pub struct DigitsNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl DigitsNet {
    /// The network, its weights in `params`.
    pub fn new(params: &Params) -> DigitsNet {
        let padded = || ConvOptions::default().padding(1);
        DigitsNet {
            conv1: Conv2d::new(&params.at("conv1"), 1, 16, 3, padded()),
            conv2: Conv2d::new(&params.at("conv2"), 16, 32, 3, padded()),
            fc1: Linear::new(&params.at("fc1"), 32 * 4 * 4, 128),
            fc2: Linear::new(&params.at("fc2"), 128, 10),
            dropout: Dropout::new(0.3),
        }
    }
}

impl Module for DigitsNet {
    /// Scores `[n, 10]` of images `[n, 64]` with pixels from 0 to 16.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let x = (x / 8.0 - 1.0).reshape([-1, 1, 8, 8]);
        let x = self.conv1.forward(&x, pass).relu();
        let x = self.conv2.forward(&x, pass).relu().max_pool2d(2, PoolOptions::default());
        let x = self.fc1.forward(&x.flatten(1, -1), pass).relu();
        self.fc2.forward(&self.dropout.forward(&x, pass), pass)
    }
}
