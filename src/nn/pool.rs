//! Pools as modules, and [`Flatten`]: layers without weights that change the shape.
//!
//! The words of the same names ([`Tensor::max_pool2d`] and its like) do the work.

use crate::graph::tensor::Tensor;
use crate::nn::Module;
use crate::ops::pool::PoolOptions;
use crate::params::Pass;
use crate::shape::Dims;

macro_rules! pools {
    ($($name:ident $word:ident $spatial:literal;)*) => {$(
        #[doc = concat!("[`Tensor::", stringify!($word), "`] as a module.")]
        ///
        /// ```
        /// # use wgrad::prelude::*;
        #[doc = concat!("let pool = nn::", stringify!($name), "::new(2, PoolOptions::default());")]
        #[doc = concat!("let x = Tensor::ones([&[1, 3][..], &[4; ", stringify!($spatial), "]].concat(), &Device::cpu());")]
        #[doc = concat!("assert_eq!(pool.forward(&x, &Pass::eval()).dims(), [&[1, 3][..], &[2; ", stringify!($spatial), "]].concat());")]
        /// ```
        #[derive(Clone, Debug)]
        pub struct $name {
            kernel: Vec<isize>,
            options: PoolOptions,
        }

        impl $name {
            /// Windows of `kernel`: one size for all axes or one for each.
            pub fn new(kernel: impl Dims, options: PoolOptions) -> $name {
                $name { kernel: kernel.dims(), options }
            }
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor, _: &Pass) -> Tensor {
                x.$word(&self.kernel, self.options.clone())
            }
        }
    )*};
}

pools! {
    MaxPool1d max_pool1d 1;
    MaxPool2d max_pool2d 2;
    AvgPool1d avg_pool1d 1;
    AvgPool2d avg_pool2d 2;
}

macro_rules! adaptive_pools {
    ($($name:ident $word:ident $spatial:literal;)*) => {$(
        #[doc = concat!("[`Tensor::", stringify!($word), "`] as a module.")]
        ///
        /// ```
        /// # use wgrad::prelude::*;
        #[doc = concat!("let pool = nn::", stringify!($name), "::new(2);")]
        #[doc = concat!("let x = Tensor::ones([&[1, 3][..], &[5; ", stringify!($spatial), "]].concat(), &Device::cpu());")]
        #[doc = concat!("assert_eq!(pool.forward(&x, &Pass::eval()).dims(), [&[1, 3][..], &[2; ", stringify!($spatial), "]].concat());")]
        /// ```
        #[derive(Clone, Debug)]
        pub struct $name {
            size: Vec<isize>,
        }

        impl $name {
            /// To `size` windows: one number for all axes or one for each.
            pub fn new(size: impl Dims) -> $name {
                $name { size: size.dims() }
            }
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor, _: &Pass) -> Tensor {
                x.$word(&self.size)
            }
        }
    )*};
}

adaptive_pools! {
    AdaptiveAvgPool1d adaptive_avg_pool1d 1;
    AdaptiveAvgPool2d adaptive_avg_pool2d 2;
    AdaptiveMaxPool1d adaptive_max_pool1d 1;
    AdaptiveMaxPool2d adaptive_max_pool2d 2;
}

/// All axes but the first as one: `[n, …]` to `[n, m]`.
///
/// ```
/// # use wgrad::prelude::*;
/// let x = Tensor::ones([2, 3, 4], &Device::cpu());
/// assert_eq!(nn::Flatten.forward(&x, &Pass::eval()).dims(), [2, 12]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor, _: &Pass) -> Tensor {
        x.flatten(1, -1)
    }
}
