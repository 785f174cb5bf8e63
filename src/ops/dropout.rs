//! Dropout.
//!
//! A function of its key alone: where the key comes from is the caller's business.

use crate::dtype::Number;
use crate::graph::tensor::Tensor;

impl Tensor {
    /// Each element is 0 with probability `p`, otherwise `x / (1 - p)`; the same `key: u32 [2]`
    /// draws the same elements.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let key = Tensor::new([0u32, 42], &device);
    /// let y = Tensor::ones([1000], &device).dropout(0.25, &key);
    /// let mean = y.mean(..).item::<f32>()?;
    /// assert!((mean - 1.0).abs() < 0.1, "{mean}");
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn dropout(&self, p: f64, key: &Tensor) -> Tensor {
        self.dropped("dropout", p, key)
    }

    #[track_caller]
    pub(crate) fn dropped(&self, word: &str, p: f64, key: &Tensor) -> Tensor {
        let dtype = given!(word, &[self, key], {
            match (0.0..=1.0).contains(&p) {
                true => Ok(self.float_dtype()),
                false => Err(format!("p is {p}, but a probability is in 0..=1")),
            }
        });
        let x = self.cast(dtype);
        if p == 0.0 {
            return x;
        }
        let bits = key.random_bits(word, *self.shape());
        let keep = ((1.0 - p) * 4_294_967_296.0).round().min(4_294_967_295.0);
        // A scale of 1 / 0 would make NaN of the gradient.
        let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        bits.lt(Number::Int(keep as i64)).where_(x * scale, 0.0)
    }
}
