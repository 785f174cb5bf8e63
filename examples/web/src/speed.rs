//! How fast a device is at what training is made of.
//!
//! Each case is compiled and run once, then again and again for about a second; only the last
//! result is waited for, so that the device is never idle. Knows no clock: the caller brings one.

use wgrad::Result;
use wgrad::prelude::*;

use crate::digits::{DigitsNet, SEED};
use crate::place::Place;

/// For how long a case runs, in seconds, and how often at least.
const SECONDS: f64 = 0.8;
const RUNS_MIN: u32 = 3;

/// Something to measure.
pub struct Case {
    /// Its name in the program.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Operations of one run, where they are what counts.
    flops: f64,
    /// Bytes that one run must move, where they are what counts.
    bytes: f64,
    make: fn(&Device) -> Result<Run>,
}

/// What is run again and again; its operands were computed before.
type Run = Box<dyn FnMut() -> Result<Tensor>>;

/// What was measured.
pub struct Figure {
    /// Seconds of one run.
    pub seconds: f64,
    /// How many runs it is the mean of.
    pub runs: u32,
    /// Billions of operations a second.
    pub gflops: Option<f64>,
    /// Billions of bytes a second.
    pub gbs: Option<f64>,
}

const N: usize = 512;
const ROWS: usize = 1024;
const T: usize = 256;
const HEADS: usize = 8;
const WIDTH: usize = 64;

/// All that can be measured.
pub const CASES: &[Case] = &[
    Case {
        id: "matmul",
        name: "matrix product",
        what: "512 × 512 times 512 × 512",
        flops: 2.0 * (N * N * N) as f64,
        bytes: 0.0,
        make: |device| {
            let [a, b] = random([N, N], device)?;
            Ok(Box::new(move || Ok(a.matmul(&b))))
        },
    },
    Case {
        id: "elementwise",
        name: "elementwise",
        what: "x · y + x over 4 million numbers",
        flops: 0.0,
        bytes: 3.0 * 4.0 * (1 << 22) as f64,
        make: |device| {
            let [x, y] = random([1 << 22, 1], device)?;
            Ok(Box::new(move || Ok(&x * &y + &x)))
        },
    },
    Case {
        id: "softmax",
        name: "softmax",
        what: "1024 rows of 1024",
        flops: 0.0,
        bytes: 2.0 * 4.0 * (ROWS * ROWS) as f64,
        make: |device| {
            let [x] = random([ROWS, ROWS], device)?;
            Ok(Box::new(move || Ok(x.softmax(-1))))
        },
    },
    Case {
        id: "attention",
        name: "attention",
        what: "8 heads of 64 over 256 positions, causal",
        flops: 4.0 * (HEADS * T * T * WIDTH) as f64,
        bytes: 0.0,
        make: |device| {
            let [q, k, v] = random([HEADS * T, WIDTH], device)?.map(|x| x.reshape([1, HEADS, T, WIDTH]));
            Ok(Box::new(move || Ok(q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal()))))
        },
    },
    Case {
        id: "training",
        name: "training step",
        what: "the digits network, forward, backward and AdamW, 64 images",
        flops: 0.0,
        bytes: 0.0,
        make: |device| {
            let params = Params::new(device, SEED);
            let model = DigitsNet::new(&params);
            let mut adam = DigitsNet::optimizer(&params, 1_000_000);
            let x = Tensor::uniform_in([64, 64], 0.0..16.0, &Tensor::key(SEED, device));
            let y = Tensor::randint([64], 0..10, &Tensor::key(SEED + 1, device));
            wgrad::realize([&x, &y])?;
            Ok(Box::new(move || {
                let loss = model.forward(&x, &Pass::train(&params)).cross_entropy(&y);
                adam.step(loss.backward(&params))?;
                Ok(loss)
            }))
        },
    },
];

/// Numbers that are drawn once: a formula of them would draw them in every run.
fn random<const K: usize>(dims: [usize; 2], device: &Device) -> Result<[Tensor; K]> {
    let drawn = std::array::from_fn(|k| Tensor::normal(dims, &Tensor::key(k as u64 + 1, device)));
    wgrad::realize(&drawn)?;
    Ok(drawn)
}

impl Case {
    /// Measures it by the clock `now`, which tells seconds.
    pub async fn measure(&self, place: &Place, now: fn() -> f64) -> Result<Figure> {
        let device = &place.device;
        let mut make = (self.make)(device)?;
        let mut run = || -> Result<Tensor> {
            let y = make()?;
            y.realize()?;
            Ok(y)
        };
        settle(&run()?).await?;
        let (start, mut runs) = (now(), 0);
        loop {
            let y = run()?;
            device.ready().await?;
            runs += 1;
            if runs >= RUNS_MIN && now() - start > SECONDS {
                settle(&y).await?;
                break;
            }
        }
        // A browser's clock is coarse, and may stand still.
        let seconds = ((now() - start) / f64::from(runs)).max(1e-9);
        let rate = |amount: f64| (amount > 0.0).then(|| amount / seconds / 1e9);
        Ok(Figure { seconds, runs, gflops: rate(self.flops), gbs: rate(self.bytes) })
    }
}

/// Waits until `y` is there, and with it all that was begun before.
async fn settle(y: &Tensor) -> Result<()> {
    y.reshape(-1).narrow(0, 0, 1).read::<f32>().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a case computes it computes of operands that are there: no run draws a random number.
    #[test]
    fn a_run_draws_nothing() {
        for case in CASES {
            let mut run = (case.make)(&Device::cpu()).expect(case.id);
            run().expect(case.id).realize().expect(case.id);
            let plan = wgrad::explain([&run().expect(case.id)]).expect(case.id).to_string();
            assert!(!plan.contains("random"), "{}:\n{plan}", case.id);
        }
    }
}
