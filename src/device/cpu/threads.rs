//! Work spread over threads, or not.
//!
//! Callers cut work so that results do not depend on who does it. The threads are our own, or those of
//! the pool that the caller belongs to: never ones that take up other work while they wait for ours,
//! because a step holds a lock meanwhile.

use crate::error::Result;

/// How many tasks are worth making of divisible work.
pub(super) fn tasks(parallel: bool) -> usize {
    if parallel && threads() > 1 { threads() * 4 } else { 1 }
}

#[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
mod imp {
    use std::sync::OnceLock;

    use rayon::prelude::*;
    use rayon::{ThreadPool, ThreadPoolBuilder, current_num_threads, current_thread_index};

    use super::Result;

    /// As many threads as rayon makes of itself; none where the system has none.
    fn pool() -> Option<&'static ThreadPool> {
        static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
        POOL.get_or_init(|| ThreadPoolBuilder::new().build().ok()).as_ref()
    }

    /// Whether the calling thread may take up other work while it waits for ours.
    pub(crate) fn is_pooled() -> bool {
        current_thread_index().is_some()
    }

    /// Runs `f` on a thread whose pool does the work that it spreads.
    pub(crate) fn apart<R: Send>(f: impl FnOnce() -> R + Send) -> R {
        match pool().filter(|_| !is_pooled()) {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// How many threads there are.
    pub(crate) fn threads() -> usize {
        match is_pooled() {
            true => current_num_threads(),
            false => pool().map_or(1, ThreadPool::current_num_threads),
        }
    }

    /// Runs `f` for every number under `n`.
    pub(crate) fn each(parallel: bool, n: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        if parallel && n > 1 && threads() > 1 {
            apart(|| (0..n).into_par_iter().try_for_each(&f))
        } else {
            (0..n).try_for_each(f)
        }
    }
}

#[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
mod imp {
    use super::Result;

    /// Whether the calling thread may take up other work while it waits for ours.
    pub(crate) fn is_pooled() -> bool {
        false
    }

    /// How many threads there are.
    pub(crate) fn threads() -> usize {
        1
    }

    /// Runs `f` for every number under `n`.
    pub(crate) fn each(_: bool, n: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        (0..n).try_for_each(f)
    }
}

#[cfg(all(feature = "threads", feature = "gpu", not(target_arch = "wasm32")))]
pub(in crate::device) use imp::apart;
pub(crate) use imp::is_pooled;
pub(super) use imp::{each, threads};
