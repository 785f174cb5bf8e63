//! [`tune`]: the best tiles for the products of a user's own work on a user's own GPU.
//!
//! The only place where a device's choices change. Knows plans that ran, not graphs; what it finds is
//! data that later plans depend on. Natively only.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::compile::tiles::{Product, Tile};
use crate::device::clock::Clock;
use crate::device::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu::Gpu;
use crate::error::Result;
#[cfg(feature = "gpu")]
use crate::error::{Error, ErrorKind};
use crate::graph::device::Device;

/// What a search for better tiles came to; prints as a table, the longest products first.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    pub(super) rows: Vec<Tuned>,
    /// Products that had been tuned before.
    pub(super) known: usize,
    pub(super) left_out: Vec<String>,
    seconds: f64,
    kept: Option<PathBuf>,
    /// Why nothing was tried.
    reason: Option<String>,
}

/// A product and the tile that was found for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tuned {
    /// Its sizes and how its operands are read.
    pub product: Product,
    /// The tile it had.
    pub default: Tile,
    /// Seconds it took with that.
    pub default_seconds: f64,
    /// The tile it has from now on: another one only where that is some percent faster.
    pub best: Tile,
    /// Seconds it takes with this.
    pub best_seconds: f64,
}

impl Tuned {
    /// How many times as fast as before.
    pub fn speed_up(&self) -> f64 {
        self.default_seconds / self.best_seconds.max(1e-12)
    }
}

/// Runs `work`, then looks for the tiles with which each matrix product and convolution that ran on
/// `device` is fastest there; later plans have these.
///
/// `work` is what a program will do often: one or a few training steps, which are run as they are,
/// weights and all. The search takes some tenths of a second for each product of new sizes, and less
/// when [`Device::set_cache_dir`] named a folder before, for there the choices are kept: a later
/// program has them from the start, and its `tune` only searches for what is new. To search anew,
/// delete the folder's file that ends in `.tuned`.
///
/// A tile wins only when it computes what the default computes. Still, bits may depend on it:
/// [`Device::tuning_hash`] names the choices in force, and so do records and checkpoints. Where a
/// processor does the work there is nothing to choose, and where a GPU has no timestamps that is an
/// error, as for [`Device::trace`].
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let x = Tensor::ones([64, 64], &device);
/// let tuning = wgrad::tune(&device, || x.matmul(&x).realize())?;
/// println!("{tuning}"); // nothing was tuned: the built-in CPU has no tiles to choose from
/// assert!(tuning.products().is_empty());
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn tune(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Tuning> {
    let clock = Clock::start();
    #[cfg(feature = "gpu")]
    if let Some(gpu) = Gpu::of(device).filter(|gpu| gpu.is_tunable()) {
        let fault = |fact: &str| Error::new(ErrorKind::Device, "tune", format!("{device}: {fact}"));
        if !gpu.wgpu().0.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(fault("it has no timestamp queries"));
        }
        let noting = gpu.note_plans().ok_or_else(|| fault("it is tuned already"))?;
        work()?;
        // What went wrong in the work comes out here, and not as a fault of some candidate.
        crate::graph::tensor::Tensor::zeros([1], device).item::<f32>()?;
        let plans = noting.plans();
        drop(noting);
        if gpu.is_alone() {
            return Ok(Tuning::nothing(format!("{device} failed the tests of products that share memory")));
        }
        let mut tuning = crate::device::search::search(gpu, &plans)?;
        tuning.rows.sort_by(|a, b| b.default_seconds.total_cmp(&a.default_seconds));
        if !tuning.rows.is_empty() {
            tuning.kept = gpu.choose(tuning.rows.iter().map(|row| (row.product, row.best)).collect());
            Gpu::forget_programs(device);
        }
        tuning.seconds = clock.seconds();
        return Ok(tuning);
    }
    work()?;
    let _ = clock;
    Ok(Tuning::nothing(match Cpu::of(device) {
        Some(_) => "the built-in CPU has no tiles to choose from".into(),
        None => format!("{device} is a processor in place of a GPU, whose tiles are not worth a search"),
    }))
}

impl Device {
    /// A hash of the tiles that [`tune`] chose for this device, here or in an earlier program that kept
    /// them, when there are any: results may differ in their last bits where it does.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Device::cpu().tuning_hash(), None); // nothing is tuned there
    /// ```
    pub fn tuning_hash(&self) -> Option<u64> {
        #[cfg(feature = "gpu")]
        if let Some(choices) = Gpu::of(self).map(|gpu| gpu.choices()).filter(|choices| !choices.is_empty()) {
            use std::hash::{Hash, Hasher};
            let mut mix = crate::graph::mix::Mix::default();
            choices.hash(&mut mix);
            return Some(mix.finish());
        }
        None
    }
}

impl Tuning {
    fn nothing(reason: String) -> Tuning {
        Tuning { reason: Some(reason), ..Tuning::default() }
    }

    /// The products that were tuned, the longest first.
    pub fn products(&self) -> &[Tuned] {
        &self.rows
    }

    /// How many products had been tuned before.
    pub fn known(&self) -> usize {
        self.known
    }

    /// What was tried in vain, and why: a sentence each.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Seconds that passed, `work` included.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The file in which the choices are kept, when the device has a folder.
    pub fn kept(&self) -> Option<&Path> {
        self.kept.as_deref()
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.reason {
            return write!(f, "nothing was tuned: {reason}");
        }
        if !self.rows.is_empty() {
            let heads = ["product", "default", "ms", "best", "ms", "speed-up"];
            let [product, default, ms, best, best_ms, speed_up] = heads;
            writeln!(f, "{product:24} {default:15} {ms:>8}  {best:15} {best_ms:>8} {speed_up:>9}")?;
        }
        for row in &self.rows {
            let [before, after] = [row.default_seconds, row.best_seconds].map(|seconds| seconds * 1e3);
            let (product, default, best) = (row.product, row.default, row.best);
            writeln!(f, "{product:24} {default:15} {before:8.4}  {best:15} {after:8.4} {:9.2}", row.speed_up())?;
        }
        for fact in &self.left_out {
            writeln!(f, "left out: {fact}")?;
        }
        let better = self.rows.iter().filter(|row| row.best != row.default).count();
        let (all, seconds) = (self.rows.len(), self.seconds);
        write!(f, "{better} of {all} products have a better tile now; {seconds:.1} s")?;
        if self.known > 0 {
            write!(f, "; {} were known", self.known)?;
        }
        self.kept.iter().try_for_each(|path| write!(f, "; kept in {}", path.display()))
    }
}
