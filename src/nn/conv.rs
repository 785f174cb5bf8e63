//! Convolutions with weights of their own, over one, two and three spatial axes, and their
//! transposes.
//!
//! The options are those of the words ([`Tensor::conv2d`] and its like), which do the work.

use crate::graph::tensor::Tensor;
use crate::nn::{Module, refused, uniform};
use crate::ops::conv::{ConvOptions, per_axis};
use crate::params::{Param, Params, Pass};
use crate::shape::Dims;

macro_rules! convs {
    ($($name:ident $word:ident $spatial:literal $transposed:literal $dims:literal;)*) => {$(
        #[doc = concat!("[`Tensor::", stringify!($word), "`] with a weight and a bias of its own.")]
        ///
        /// ```
        /// # use wgrad::prelude::*;
        /// let device = Device::cpu();
        /// let params = Params::new(&device, 42);
        #[doc = concat!("let conv = nn::", stringify!($name), "::new(&params.at(\"conv\"), 2, 4, 3, ConvOptions::default().padding(1));")]
        #[doc = concat!("let x = Tensor::ones([&[1, 2][..], &[5; ", stringify!($spatial), "]].concat(), &device);")]
        #[doc = concat!("assert_eq!(conv.forward(&x, &Pass::eval()).dims(), [&[1, 4][..], &[5; ", stringify!($spatial), "]].concat());")]
        /// ```
        #[derive(Clone, Debug)]
        pub struct $name {
            #[doc = concat!("`weight: ", $dims, "`.")]
            pub weight: Param,
            /// `bias: [outputs]`.
            pub bias: Option<Param>,
            options: ConvOptions,
        }

        impl $name {
            /// From `inputs` to `outputs` channels; `kernel` is one size for all axes or one for each.
            #[track_caller]
            pub fn new(params: &Params, inputs: usize, outputs: usize, kernel: impl Dims, options: ConvOptions) -> $name {
                let bias = true;
                let (weight, bias) = cells(stringify!($word), params, $spatial, $transposed, [inputs, outputs], &kernel.dims(), &options, bias);
                $name { weight, bias, options }
            }

            /// Without a bias, as before a norm.
            #[track_caller]
            pub fn without_bias(params: &Params, inputs: usize, outputs: usize, kernel: impl Dims, options: ConvOptions) -> $name {
                let bias = false;
                let (weight, bias) = cells(stringify!($word), params, $spatial, $transposed, [inputs, outputs], &kernel.dims(), &options, bias);
                $name { weight, bias, options }
            }
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
                let (weight, bias) = (self.weight.tensor(pass), self.bias.as_ref().map(|b| b.tensor(pass)));
                let x = pass.operand(&x.cast(weight.dtype()));
                pass.result(&x.$word(&pass.operand(&weight), bias.as_ref(), self.options.clone()))
            }
        }
    )*};
}

convs! {
    Conv1d conv1d 1 false "[outputs, inputs / groups, kernel]";
    Conv2d conv2d 2 false "[outputs, inputs / groups, kernel…]";
    Conv3d conv3d 3 false "[outputs, inputs / groups, kernel…]";
    ConvTranspose1d conv_transpose1d 1 true "[inputs, outputs / groups, kernel]";
    ConvTranspose2d conv_transpose2d 2 true "[inputs, outputs / groups, kernel…]";
    ConvTranspose3d conv_transpose3d 3 true "[inputs, outputs / groups, kernel…]";
}

/// The weight and the bias of a convolution.
#[track_caller]
fn cells(
    word: &str,
    params: &Params,
    spatial: usize,
    transposed: bool,
    channels: [usize; 2],
    kernel: &[isize],
    options: &ConvOptions,
    bias: bool,
) -> (Param, Option<Param>) {
    let [inputs, outputs] = channels;
    match weight_dims(spatial, transposed, channels, kernel, options.groups) {
        Ok(dims) => {
            let fan_in = dims.iter().skip(1).fold(1usize, |n, &d| n.saturating_mul(d));
            let weight = params.weight("weight", dims, uniform(fan_in));
            let bias = if bias { Some(params.weight("bias", [outputs], uniform(fan_in))) } else { None };
            (weight, bias)
        }
        Err(fact) => (refused(params, "weight", word, format!("{inputs} to {outputs} channels: {fact}")), None),
    }
}

fn weight_dims(
    spatial: usize,
    transposed: bool,
    [inputs, outputs]: [usize; 2],
    kernel: &[isize],
    groups: usize,
) -> Result<Vec<usize>, String> {
    let kernel = per_axis("kernel", kernel, spatial, 1)?;
    if groups == 0 || inputs % groups != 0 || outputs % groups != 0 {
        return Err(format!("they do not make {groups} groups"));
    }
    let first = if transposed { [inputs, outputs / groups] } else { [outputs, inputs / groups] };
    Ok([&first[..], &kernel].concat())
}
