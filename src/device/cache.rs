//! The plan cache: graphs that were compiled before, with what was made of them.
//!
//! It is the just-in-time compiler's memory: a training step builds the same graph every time and
//! finds its program here. A hit compares the whole graph, never the hash alone.

use std::sync::{Arc, Mutex, PoisonError};

use crate::compile::graph::Graph;
use crate::error::Result;

/// Programs kept; the least recently used goes first.
const KEPT_MAX: usize = 256;
/// Fingerprints kept; a program whose plans never end does not fill the memory with them.
const MADE_MAX: usize = 1 << 16;

/// Programs by the graph they compute.
pub struct Cache<P>(Mutex<State<P>>);

struct State<P> {
    /// Most recently used last.
    entries: Vec<(u64, Graph, Arc<P>)>,
    misses: u64,
    /// The fingerprints of the plans, in ascending order.
    made: Vec<u64>,
}

impl<P> Default for Cache<P> {
    fn default() -> Self {
        Cache(Mutex::new(State { entries: Vec::new(), misses: 0, made: Vec::new() }))
    }
}

impl<P> Cache<P> {
    /// The program of `graph`, made by `make` where there is none; and whether it was made. What is
    /// made comes with the fingerprint of its plan, if anybody may ask for it.
    pub fn get(
        &self,
        mut graph: Graph,
        make: impl FnOnce(&Graph) -> Result<(P, Option<u64>)>,
    ) -> Result<(Arc<P>, bool)> {
        let hash = graph.structure();
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = state.entries.iter().rposition(|(h, g, _)| *h == hash && *g == graph) {
                let entry = state.entries.remove(at);
                let program = Arc::clone(&entry.2);
                state.entries.push(entry);
                return Ok((program, false));
            }
        }
        // Compiled outside the lock: another thread's hit need not wait.
        let (program, fingerprint) = make(&graph)?;
        let program = Arc::new(program);
        graph.let_go();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.misses += 1;
        if let Some(fingerprint) = fingerprint
            && state.made.len() < MADE_MAX
            && let Err(place) = state.made.binary_search(&fingerprint)
        {
            state.made.insert(place, fingerprint);
        }
        if state.entries.len() >= KEPT_MAX {
            state.entries.remove(0);
        }
        state.entries.push((hash, graph, Arc::clone(&program)));
        Ok((program, true))
    }

    /// How many programs were made so far.
    pub fn misses(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).misses
    }

    /// The fingerprints of the plans that were made, in ascending order.
    pub fn made(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).made.clone()
    }

    /// Forgets every program.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.clear();
    }
}
