//! The tiles that were found best for products, in force on a device and kept in its folder.
//!
//! Knows how they are written, not how they are found. Natively only.

use std::path::PathBuf;
use std::sync::Arc;

use crate::compile::plan::Plan;
use crate::compile::tiles::{Product, Tile, Tiles};
use crate::device::gpu::{Gpu, lock};

/// A product and the tile it has.
pub type Choice = (Product, Tile);

/// The name of what is kept.
const KIND: &str = "tuned";

/// What a device knows of tuning.
#[derive(Default)]
pub struct Tuned {
    /// Sorted by product.
    chosen: Vec<Choice>,
    /// The plans that ran while somebody wanted to know.
    plans: Option<Vec<Arc<Plan>>>,
    /// What tests want tried, on whatever device.
    candidates: Option<&'static [Tile]>,
}

/// Stops noting plans, however the work ends that runs them.
pub struct Noting<'a>(&'a Gpu);

impl Noting<'_> {
    /// The plans that ran meanwhile, each one time.
    pub fn plans(&self) -> Vec<Arc<Plan>> {
        lock(&self.0.tuned).plans.clone().unwrap_or_default()
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        lock(&self.0.tuned).plans = None;
    }
}

impl Gpu {
    /// Has `candidates` tried for products beside the default tile and nothing else, on software too,
    /// for tests.
    #[doc(hidden)]
    pub fn set_candidates(&self, candidates: &'static [Tile]) {
        lock(&self.tuned).candidates = Some(candidates);
    }

    /// Whether tiles make a difference: not where a processor stands in for a GPU.
    pub(in crate::device) fn is_tunable(&self) -> bool {
        self.info.device_type != wgpu::DeviceType::Cpu || lock(&self.tuned).candidates.is_some()
    }

    /// The tiles that products may be given.
    pub(in crate::device) fn candidates(&self) -> Vec<Tile> {
        let given = lock(&self.tuned).candidates;
        let limits = self.limits();
        given.map_or_else(|| limits.tiles.candidates(&limits), <[Tile]>::to_vec)
    }

    /// Notes the plans that run from now on; nothing when somebody else does.
    pub(in crate::device) fn note_plans(&self) -> Option<Noting<'_>> {
        let plans = &mut lock(&self.tuned).plans;
        plans.is_none().then(|| {
            *plans = Some(Vec::new());
            Noting(self)
        })
    }

    /// Notes a plan that ran, where that is wanted.
    pub(in crate::device) fn note(&self, plan: &Arc<Plan>) {
        if let Some(plans) = &mut lock(&self.tuned).plans
            && !plans.iter().any(|known| Arc::ptr_eq(known, plan))
        {
            plans.push(Arc::clone(plan));
        }
    }

    /// `tiles` with what was chosen.
    pub(super) fn tuned(&self, tiles: &Tiles) -> Tiles {
        tiles.with(lock(&self.tuned).chosen.clone())
    }

    /// What was chosen.
    pub(in crate::device) fn choices(&self) -> Vec<Choice> {
        lock(&self.tuned).chosen.clone()
    }

    /// Takes choices for products that had none, and keeps them all; where, if that was possible.
    pub(in crate::device) fn choose(&self, new: Vec<Choice>) -> Option<PathBuf> {
        self.add(new);
        let line = |(product, tile): &Choice| format!("{product} {tile}\n");
        let text: String = self.choices().iter().map(line).collect();
        let kept = self.kept()?;
        kept.put(KIND, &text);
        kept.holds(KIND, &text).then(|| kept.file(KIND))
    }

    /// Takes the choices of an earlier program; a file that says anything but tiles which this device
    /// may have is passed over.
    pub(super) fn recall(&self) {
        let Some(text) = self.kept().and_then(|kept| kept.text(KIND)) else { return };
        let candidates: Vec<(String, Tile)> =
            self.candidates().into_iter().map(|tile| (tile.to_string(), tile)).collect();
        let choice = |line: &str| {
            let (product, tile) = line.rsplit_once(' ')?;
            let (_, tile) = candidates.iter().find(|(known, _)| known == tile)?;
            Some((product.parse().ok()?, *tile))
        };
        self.add(text.lines().map(choice).collect::<Option<Vec<Choice>>>().unwrap_or_default());
    }

    fn add(&self, new: Vec<Choice>) {
        let chosen = &mut lock(&self.tuned).chosen;
        // Stable, so that what is in force stays before what is new.
        chosen.extend(new);
        chosen.sort_by_key(|(product, _)| *product);
        chosen.dedup_by_key(|(product, _)| *product);
    }
}
