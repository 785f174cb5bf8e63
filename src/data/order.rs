//! The order of an epoch's samples: a function of seed and epoch, equal everywhere.
//!
//! Draws from Threefry by counter, so that nothing has to be remembered to go on in mid-epoch.

use crate::ops::threefry::threefry2x32;

/// Samples of a batch or an epoch at most.
pub(crate) const MOST: usize = i32::MAX as usize;

/// Random numbers of one seed and epoch.
struct Draws([u32; 2]);

impl Draws {
    fn new(seed: u64, epoch: u64) -> Draws {
        Draws(threefry2x32(words(seed), words(epoch)))
    }

    /// The 64 bits at `counter`.
    fn bits(&self, counter: u64) -> u64 {
        let [high, low] = threefry2x32(self.0, words(counter));
        u64::from(high) << 32 | u64::from(low)
    }
}

fn words(x: u64) -> [u32; 2] {
    [(x >> 32) as u32, x as u32]
}

/// `0..n` in random order.
pub(crate) fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let draws = Draws::new(seed, epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for k in (1..n).rev() {
        // The high half of the product is uniform below k + 1, to within 2^-64 of it.
        let other = (u128::from(draws.bits(k as u64)) * (k as u128 + 1)) >> 64;
        order.swap(k, other as usize);
    }
    order
}

/// `n` numbers below the count of `cumulated`, drawn with replacement; `cumulated` are the running
/// sums of the weights, which are not negative, and their last is not 0.
pub(crate) fn weighted(n: usize, cumulated: &[f64], seed: u64, epoch: u64) -> Vec<usize> {
    let draws = Draws::new(seed, epoch);
    let total = cumulated.last().copied().unwrap_or(0.0);
    // Where rounding reaches the total, the last sample with a weight is meant.
    let last = cumulated.partition_point(|&sum| sum < total);
    let draw = |k: usize| {
        let unit = (draws.bits(k as u64) >> 11) as f64 / (1u64 << 53) as f64;
        cumulated.partition_point(|&sum| sum <= unit * total).min(last)
    };
    (0..n).map(draw).collect()
}
