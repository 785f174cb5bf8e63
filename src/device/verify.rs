//! Verify: new plans checked against the oracle on their real inputs.
//!
//! The oracle evaluates the raw graph twice, exactly and with every rounding a little off. An
//! element may differ from the exact run by a tolerance relative to its tensor's size and by a
//! multiple of what the two runs differ; where they differ in kind or by much, a comparison or a
//! rounding fell differently and the element is not compared.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compile::graph::{Graph, Node};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Device, Storage, WHOLE};
use crate::graph::tensor::Tensor;
use crate::reference::{Rounding, Values, evaluate};

/// How many times the difference of the oracle's runs an element may be off.
const SPREAD: f64 = 16.0;
/// Part of its tensor's size by which an element may differ between the runs and still be compared.
const STABLE: f64 = 0.02;

/// Whether new plans are checked against the oracle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// They are not.
    #[default]
    Off,
    /// The first run of each plan is, when plan and oracle need at most so much work; a larger one
    /// is only counted as unchecked.
    FirstUse {
        /// Operations and bytes together that are still checked, those of the plan and 8 bytes for
        /// each element on the way; the oracle does some 10 million a second.
        work_max: u64,
    },
}

/// How many plans were checked, and how many were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Plans whose first run agreed with the oracle.
    pub agreed: u64,
    /// Plans that were not checked, because of their size or because a browser's GPU made them.
    pub unchecked: u64,
}

/// A device's choice, and what came of it.
#[derive(Default)]
pub struct Checks(Mutex<State>);

#[derive(Default)]
struct State {
    verify: Verify,
    verified: Verified,
    /// [`ask`], once somebody chose to verify: a web page that does not is spared the oracle's code.
    ask: Option<fn(&[Tensor]) -> Result<Truth>>,
}

/// Judges what the roots of a run came to.
pub type Truth = Box<dyn FnOnce(&[Arc<dyn Storage>]) -> Result<()>>;

impl Device {
    /// Chooses whether new plans are checked against the oracle from now on. A plan that disagrees
    /// is an error of [`ErrorKind::Verify`], and its results are not kept. On a browser's GPU, whose
    /// results cannot be waited for, new plans are only counted as unchecked.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::device::Verify;
    /// let device = Device::cpu();
    /// device.set_verify(Verify::FirstUse { work_max: 1_000_000 });
    /// Tensor::ones([2, 3], &device).softmax(-1).realize()?;
    /// assert!(device.verified().agreed > 0);
    /// # device.set_verify(Verify::Off);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn set_verify(&self, verify: Verify) {
        if let Some(checks) = Checks::of(self) {
            // What a browser's GPU came to cannot be waited for.
            let waits = cfg!(not(target_arch = "wasm32")) || crate::device::cpu::Cpu::of(self).is_some();
            let mut state = checks.state();
            state.verify = verify;
            state.ask = waits.then_some(ask as _);
        }
    }

    /// How many plans were checked so far, and how many were not.
    pub fn verified(&self) -> Verified {
        Checks::of(self).map_or(Verified::default(), |checks| checks.state().verified)
    }
}

impl Checks {
    fn of(device: &Device) -> Option<&Checks> {
        #[cfg(feature = "gpu")]
        if let Some(checks) = crate::device::gpu::Gpu::checks(device) {
            return Some(checks);
        }
        crate::device::cpu::Cpu::of(device).map(|cpu| &cpu.checks)
    }

    /// What the oracle says of `roots`, if the plan is new and small enough to ask.
    pub fn truth(&self, fresh: bool, work: u64, roots: &[Tensor]) -> Result<Option<Truth>> {
        if !fresh || self.state().verify == Verify::Off {
            return Ok(None);
        }
        // The oracle also computes what the plan need not: a sum of equal elements, a view, a part.
        let elements = |node: &Node| (node.shape.numel() as u64).saturating_mul(8);
        let work = Graph::flatten(roots).0.nodes.iter().map(elements).fold(work, u64::saturating_add);
        let ask = {
            let mut state = self.state();
            match state.verify {
                Verify::FirstUse { work_max } if work <= work_max && state.ask.is_some() => state.ask,
                Verify::FirstUse { .. } => {
                    state.verified.unchecked += 1;
                    None
                }
                Verify::Off => None,
            }
        };
        ask.map(|ask| ask(roots)).transpose()
    }

    /// An error unless `outputs` are what `truth` says.
    pub fn compare(&self, truth: Truth, outputs: &[Arc<dyn Storage>]) -> Result<()> {
        truth(outputs)?;
        self.state().verified.agreed += 1;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the oracle what `roots` should come to.
fn ask(roots: &[Tensor]) -> Result<Truth> {
    let (exact, shaken) = (evaluate(roots, Rounding::Exact)?, evaluate(roots, Rounding::Shaken)?);
    let roots = roots.to_vec();
    Ok(Box::new(move |outputs| {
        let truth = exact.values.iter().zip(&shaken.values);
        for ((root, output), (exact, shaken)) in roots.iter().zip(outputs).zip(truth) {
            let bytes = output.to_host(WHOLE)?;
            let got = Values::from_bytes(&bytes, root.dtype(), root.numel());
            // Shaders may assume special values away.
            let shades = crate::device::cpu::Cpu::of(root.device()).is_none();
            if let Some(fact) = disagreement(&got, exact, shaken, root.dtype(), shades) {
                let fact = format!("{} {} {fact}", root.dtype(), root.shape());
                return Err(Error::new(ErrorKind::Verify, "verify", fact).at(root.0.at));
            }
        }
        Ok(())
    }))
}

/// The first element that is wrong, in words.
fn disagreement(got: &Values, exact: &Values, shaken: &Values, dtype: DType, shades: bool) -> Option<String> {
    let wrong = |k: usize, got: &dyn std::fmt::Display, want: &dyn std::fmt::Display| {
        Some(format!("element {k} is {got}, but by its definition {want}"))
    };
    match (got, exact, shaken) {
        (Values::Float(got), Values::Float(exact), Values::Float(shaken)) => {
            let size = exact.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
            let tolerance = match dtype {
                DType::BF16 => 1e-2,
                DType::F16 => 2e-3,
                _ => 2e-5,
            };
            got.iter().zip(exact).zip(shaken).enumerate().find_map(|(k, ((&got, &exact), &shaken))| {
                let alike = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
                let moved = (exact - shaken).abs();
                let near = match exact.is_finite() && shaken.is_finite() {
                    // The runs fell differently.
                    true if moved > STABLE * size => true,
                    true => (got - exact).abs() <= tolerance * size + SPREAD * moved + f64::MIN_POSITIVE,
                    false => shades || !alike(exact, shaken) || alike(got, exact),
                };
                if near { None } else { wrong(k, &got, &exact) }
            })
        }
        (Values::Bits(got), Values::Bits(exact), Values::Bits(shaken)) => {
            got.iter().zip(exact).zip(shaken).enumerate().find_map(|(k, ((got, exact), shaken))| {
                if got == exact || exact != shaken { None } else { wrong(k, got, exact) }
            })
        }
        _ => Some("is of another kind than its definition".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values_are_compared_where_no_shader_computes() {
        let of = |v: [f64; 4]| Values::Float(v.to_vec());
        let exact = of([1.0, f64::INFINITY, f64::NAN, f64::INFINITY]);
        // Of the last, the runs say different things.
        let shaken = of([1.0, f64::INFINITY, f64::NAN, 1e30]);
        let wrong = |got, shades| disagreement(&of(got), &exact, &shaken, DType::F32, shades).is_some();
        assert!(!wrong([1.0, f64::INFINITY, f64::NAN, 3.0], false));
        for got in [[1.0, 3.0, f64::NAN, 3.0], [1.0, -f64::INFINITY, f64::NAN, 3.0], [1.0, f64::INFINITY, 0.0, 3.0]] {
            assert!(wrong(got, false) && !wrong(got, true), "{got:?}");
        }
        assert!(wrong([2.0, f64::INFINITY, f64::NAN, 3.0], true));
    }
}
