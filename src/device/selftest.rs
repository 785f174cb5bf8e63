//! Self-tests: a template of `shaders/` serves a device only after it computed there what its
//! definition says. Small integers make every sum exact, so that one wrong bit shows.

use crate::compile::kernel::Kind;
use crate::compile::plan::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// Rows, columns and depth of the products that are tried: tiles with edges, and narrow ones.
const PRODUCTS: [[usize; 3]; 3] = [[17, 19, 9], [1, 7, 130], [65, 5, 3]];

/// Whether `plan` runs a template.
pub fn concerns(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step.kernel.kind, Kind::Dot(_)))
}

/// An error unless products on `device` are what they should be.
#[cfg(not(target_arch = "wasm32"))]
pub fn products(device: &Device) -> Result<()> {
    for [m, n, k] in PRODUCTS {
        let small = |i: usize| (i * 7 % 11) as f32 - 5.0;
        let lhs: Vec<f32> = (0..m * k).map(small).collect();
        let rhs: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
        let y = Tensor::from_slice(&lhs, [m, k], device).matmul(&Tensor::from_slice(&rhs, [k, n], device));
        let got = y.to_vec::<f32>()?;
        for (at, got) in got.iter().enumerate() {
            let want: f32 = (0..k).map(|l| lhs[at / n * k + l] * rhs[l * n + at % n]).sum();
            if *got != want {
                let fact = format!(
                    "the product template gives {got} for {want} at {at} of [{m}, {k}] @ [{k}, {n}] on {device}"
                );
                return Err(Error::new(ErrorKind::Verify, "matmul", fact));
            }
        }
    }
    Ok(())
}

/// A browser cannot wait for a result in the middle of a realise.
#[cfg(target_arch = "wasm32")]
pub fn products(_: &Device) -> Result<()> {
    Ok(())
}
