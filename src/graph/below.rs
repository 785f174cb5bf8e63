//! [`Met`], the tensors below some others, and [`Below`], what will become of them when these are
//! computed. Knows handles and operands; not what an op means.

use std::ops::Range;
use std::sync::Arc;

use crate::graph::mix::{ById, Ids};
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;

/// Nodes that a small step of training has.
pub const ROOM: usize = 112;

/// The tensors below some others, each looked at once: another thread may compute them meanwhile.
pub struct Met {
    /// Each tensor, users before operands.
    pub tensors: Vec<Tensor>,
    /// Where each one's operands stand in `edges`; `None` where it was not followed.
    pub src: Vec<Option<Range<usize>>>,
    /// Places in `tensors`.
    pub edges: Vec<usize>,
    /// The place of each tensor, by its id.
    pub places: ById<usize>,
}

impl Default for Met {
    fn default() -> Met {
        // Room for a small step: growing from nothing would cost it as much as looking at it.
        let places = ById::with_capacity_and_hasher(ROOM, Default::default());
        Met {
            tensors: Vec::with_capacity(ROOM),
            src: Vec::with_capacity(ROOM),
            edges: Vec::with_capacity(ROOM),
            places,
        }
    }
}

impl Met {
    /// The place of `x`, which is met unless it was before.
    pub fn place(&mut self, x: &Tensor) -> usize {
        let next = self.tensors.len();
        let k = *self.places.entry(x.0.id).or_insert(next);
        if k == next {
            self.tensors.push(x.clone());
        }
        k
    }

    /// Meets the operands of everything met; with `open`, only of what has no elements yet.
    pub fn follow(&mut self, open: bool) {
        while let Some(x) = self.tensors.get(self.src.len()).cloned() {
            let first = self.edges.len();
            let meet = |src: &[Tensor]| {
                for x in src {
                    let k = self.place(x);
                    self.edges.push(k);
                }
            };
            let followed = match open {
                true => x.with_open_src(meet).is_some(),
                false => {
                    x.with_src(meet);
                    true
                }
            };
            self.src.push(followed.then_some(first..self.edges.len()));
        }
    }

    /// The places of the operands of number `k`.
    pub fn operands(&self, k: usize) -> &[usize] {
        &self.edges[self.src[k].clone().unwrap_or_default()]
    }
}

/// What will become of the tensors below some roots.
#[derive(Default)]
pub struct Below {
    /// What somebody else still holds, and what is worth computing along with the roots: not leaves,
    /// not views of leaves.
    pub held: Vec<Tensor>,
    /// Leaves whose elements nobody can ask for once roots and `held` are computed and have let go
    /// of their operands.
    pub dying: Ids,
}

impl Below {
    /// Looks below `roots`. `ours` are the caller's own handles that it drops before it computes
    /// anything, and `replaced` those that it drops afterwards.
    pub fn new(roots: &[Tensor], ours: &[&Tensor], replaced: &[&Tensor]) -> Below {
        let mut met = Met::default();
        let roots: Vec<usize> = roots.iter().map(|x| met.place(x)).collect();
        met.follow(false);
        let reached = met.tensors.len();
        if ALL_KERNELS {
            for x in replaced {
                met.place(x);
            }
            met.follow(false);
        }
        let n = met.tensors.len();
        // Handles that are accounted for: one is in `met`.
        let mut known = vec![1; n];
        met.edges.iter().for_each(|&k| known[k] += 1);
        let mine = ours.iter().chain(replaced).filter_map(|x| met.places.get(&x.0.id));
        mine.for_each(|&k| known[k] += 1);
        let foreign = |k: usize| Arc::strong_count(&met.tensors[k].0) > known[k];

        let (mut light, mut result) = (vec![false; n], vec![false; n]);
        roots.into_iter().for_each(|k| result[k] = true);
        // Operands are older than their users.
        let mut order: Vec<(u64, usize)> = met.tensors.iter().map(|x| x.0.id).zip(0..).collect();
        order.sort_unstable();
        let mut below = Below::default();
        for k in order.iter().map(|(_, k)| *k).filter(|&k| k < reached) {
            let (x, src) = (&met.tensors[k], met.operands(k));
            light[k] = src.is_empty() || x.is_realized() || (x.0.op.is_view() && src.iter().all(|&s| light[s]));
            if !light[k] && !result[k] && foreign(k) {
                result[k] = true;
                below.held.push(x.clone());
            }
        }
        if ALL_KERNELS && !replaced.is_empty() {
            // What somebody could still ask for, and what that is computed from.
            let mut wanted = vec![false; n];
            for k in order.iter().rev().map(|(_, k)| *k).filter(|&k| !result[k]) {
                wanted[k] |= foreign(k);
                if wanted[k] {
                    met.operands(k).iter().for_each(|&s| wanted[s] = true);
                }
            }
            let dies = |x: &&&Tensor| met.places.get(&x.0.id).is_some_and(|&k| !wanted[k] && !result[k]);
            below.dying = replaced.iter().filter(dies).filter(|x| x.0.is_alone()).map(|x| x.0.id).collect();
        }
        below
    }
}
