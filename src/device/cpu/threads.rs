//! Work spread over threads, or not.
//!
//! Callers cut work so that results do not depend on who does it.

use crate::error::Result;

/// How many tasks are worth making of divisible work.
pub(super) fn tasks(parallel: bool) -> usize {
    if parallel && threads() > 1 { threads() * 4 } else { 1 }
}

#[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
mod imp {
    use rayon::prelude::*;

    use super::Result;

    /// How many threads there are.
    pub(crate) fn threads() -> usize {
        rayon::current_num_threads()
    }

    /// Runs `f` for every number under `n`.
    pub(crate) fn each(parallel: bool, n: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        if parallel && n > 1 && threads() > 1 {
            (0..n).into_par_iter().try_for_each(&f)
        } else {
            (0..n).try_for_each(f)
        }
    }
}

#[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
mod imp {
    use super::Result;

    /// How many threads there are.
    pub(crate) fn threads() -> usize {
        1
    }

    /// Runs `f` for every number under `n`.
    pub(crate) fn each(_: bool, n: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        (0..n).try_for_each(f)
    }
}

pub(super) use imp::{each, threads};
