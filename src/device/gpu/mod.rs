//! The GPU device: runs plans whose kernels were emitted as WGSL, through wgpu.
//!
//! [`Gpu`] is the device with everything that belongs to it: buffers ([`memory`]), pipelines
//! ([`pipeline`]), programs made of them ([`run`]), reading back ([`read`]), and what went wrong
//! when ([`health`]). Knows no graph but for the leaves it uploads, and no shader text: a kernel
//! arrives as a [`Shader`](crate::compile::shader::Shader).

pub mod adapter;
pub mod fault;
pub mod health;
pub mod interop;
#[cfg(not(target_arch = "wasm32"))]
mod keep;
pub mod memory;
pub mod pipeline;
pub mod read;
pub mod run;
mod signal;
pub mod slice;
#[cfg(not(target_arch = "wasm32"))]
mod timer;
#[cfg(not(target_arch = "wasm32"))]
mod tuned;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compile::plan::{Limits, Target};
use crate::compile::tiles::Tiles;
use crate::compile::wgsl::cooperative::Cooperative;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Backend, Device};

use super::cache::Cache;
#[cfg(not(target_arch = "wasm32"))]
use super::selftest::Subject;
use super::verify::Checks;
use fault::Faults;
use health::Health;
use memory::Pool;
use pipeline::Pipelines;
use slice::Pace;

pub use memory::GpuBuffer;
pub use run::Program;

/// Submissions that may be under way before the next one waits for the oldest.
#[cfg(not(target_arch = "wasm32"))]
const IN_FLIGHT_MAX: usize = 3;
/// Submissions that may be under way when a device is ready for the next.
const READY_MAX: usize = 2;

/// Operations from which on a template makes up for workgroups that lie idle.
const TEMPLATE_FLOPS_MIN: u64 = 1 << 27;

/// A device of wgpu and what was made on it.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    /// Whether it was opened here, and not shared by a host program.
    #[cfg(not(target_arch = "wasm32"))]
    ours: bool,
    limits: Limits,
    checked: AtomicBool,
    template_flops_min: AtomicU64,
    /// Whether invocations of products share nothing.
    alone: AtomicBool,
    /// The matrix units that the device was opened with, and those that may serve.
    units: Option<Cooperative>,
    cooperative: Mutex<Option<Cooperative>>,
    health: Arc<Health>,
    pool: Pool,
    pipelines: Pipelines,
    faults: Arc<Faults>,
    in_flight: Mutex<VecDeque<Flight>>,
    pace: Mutex<Pace>,
    /// Whether the pace is only a guess.
    #[cfg(not(target_arch = "wasm32"))]
    guessed: AtomicBool,
    counts: [AtomicU64; 3],
    #[cfg(not(target_arch = "wasm32"))]
    recorder: super::trace::Recorder,
    #[cfg(not(target_arch = "wasm32"))]
    kept: Mutex<Option<Arc<keep::Kept>>>,
    #[cfg(not(target_arch = "wasm32"))]
    tuned: Mutex<tuned::Tuned>,
}

/// By what the end of a submission is known.
#[cfg(not(target_arch = "wasm32"))]
type Flight = wgpu::SubmissionIndex;
#[cfg(target_arch = "wasm32")]
type Flight = Arc<signal::Signal>;

/// What a device handle holds: the GPU, and apart from it the programs, which hold it themselves.
struct GpuDevice {
    gpu: Arc<Gpu>,
    programs: Cache<Program>,
    checks: Checks,
    /// What was tried of the templates.
    #[cfg(not(target_arch = "wasm32"))]
    tried: Mutex<Vec<Subject>>,
}

impl Backend for GpuDevice {
    fn name(&self) -> String {
        self.gpu.name()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Gpu {
    /// The GPU behind a device handle.
    pub fn of(device: &Device) -> Option<&Arc<Gpu>> {
        device.0.as_any().downcast_ref::<GpuDevice>().map(|handle| &handle.gpu)
    }

    /// The GPU behind a device handle, and the programs that were made for it.
    pub(super) fn with_programs(device: &Device) -> Option<(&Arc<Gpu>, &Cache<Program>)> {
        device.0.as_any().downcast_ref::<GpuDevice>().map(|handle| (&handle.gpu, &handle.programs))
    }

    /// Whether something was tried on a device.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_tried(device: &Device, subject: Subject) -> bool {
        device.0.as_any().downcast_ref::<GpuDevice>().is_some_and(|handle| lock(&handle.tried).contains(&subject))
    }

    /// Notes that it was.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn set_tried(device: &Device, subject: Subject) {
        if let Some(handle) = device.0.as_any().downcast_ref::<GpuDevice>() {
            lock(&handle.tried).push(subject);
        }
    }

    /// Whether plans of a device are checked, and what came of it.
    pub(super) fn checks(device: &Device) -> Option<&Checks> {
        device.0.as_any().downcast_ref::<GpuDevice>().map(|handle| &handle.checks)
    }

    /// Takes over a device of wgpu; one that is not `ours` keeps its host's callbacks.
    fn wrap(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue, ours: bool) -> Result<Device> {
        enough(&device.limits())?;
        let info = device.adapter_info();
        let pace = Pace::of(info.device_type);
        let limits = limits(&device, &info);
        let units = adapter::units(adapter, &device);
        let health = Arc::new(Health::default());
        if ours {
            health.listen(&device);
        }
        let faults = health.scoped(&device, ErrorKind::Memory, "gpu", || Faults::new(&device))?;
        let gpu = Arc::new(Gpu {
            device,
            queue,
            info,
            #[cfg(not(target_arch = "wasm32"))]
            ours,
            checked: AtomicBool::new(false),
            template_flops_min: AtomicU64::new(limits.template_flops_min),
            alone: AtomicBool::new(false),
            units,
            // Software only imitates them.
            cooperative: Mutex::new(units.filter(|_| limits.target == Target::Gpu)),
            limits,
            health,
            pool: Pool::default(),
            pipelines: Pipelines::default(),
            faults: Arc::new(faults),
            in_flight: Mutex::default(),
            pace: Mutex::new(pace),
            #[cfg(not(target_arch = "wasm32"))]
            guessed: AtomicBool::new(true),
            counts: Default::default(),
            #[cfg(not(target_arch = "wasm32"))]
            recorder: super::trace::Recorder::default(),
            #[cfg(not(target_arch = "wasm32"))]
            kept: Mutex::default(),
            #[cfg(not(target_arch = "wasm32"))]
            tuned: Mutex::default(),
        });
        Ok(Device(Arc::new(GpuDevice {
            gpu,
            programs: Cache::default(),
            checks: Checks::default(),
            #[cfg(not(target_arch = "wasm32"))]
            tried: Mutex::default(),
        })))
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match self.info.name.as_str() {
            // Browsers keep it to themselves.
            "" => format!("GPU ({})", self.info.backend),
            name => format!("{name} ({})", self.info.backend),
        }
    }

    /// What the adapter says about itself.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// What plans for this device must keep to.
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes_max: self.memory_limit().unwrap_or(u64::MAX),
            template_flops_min: self.template_flops_min.load(Ordering::Relaxed),
            tiles: match self.limits.target {
                _ if !self.is_alone() => self.tuned(&self.limits.tiles),
                Target::SoftwareGpu => Tiles::SOFTWARE,
                Target::Gpu | Target::Cpu => Tiles::APPLE,
            },
            cooperative: *lock(&self.cooperative),
            ..self.limits.clone()
        }
    }

    /// Whether invocations of products load for themselves.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Has invocations of products load for themselves.
    pub(super) fn share_nothing(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    /// The matrix units that the device was opened with, software's too, for tests.
    #[doc(hidden)]
    pub fn units(&self) -> Option<Cooperative> {
        self.units
    }

    /// Has products computed on these matrix units, once those were tried, or on none.
    #[doc(hidden)]
    pub fn set_cooperative(&self, units: Option<Cooperative>) {
        *lock(&self.cooperative) = units;
    }

    /// Forgets the programs of a device, whose limits have changed.
    pub(super) fn forget_programs(device: &Device) {
        if let Some((_, programs)) = Gpu::with_programs(device) {
            programs.clear();
        }
    }

    /// The device underneath.
    pub fn wgpu(&self) -> (&wgpu::Device, &wgpu::Queue) {
        (&self.device, &self.queue)
    }

    /// Compiles shaders from now on with the driver's bounds and loop checks, as tests do.
    pub fn set_checked(&self, checked: bool) {
        self.checked.store(checked, Ordering::Relaxed);
    }

    /// Whether shaders are compiled with the driver's checks.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    /// Runs `f` and returns the first error the driver found in what it did.
    fn scoped<R>(&self, kind: ErrorKind, op: &str, f: impl FnOnce() -> R) -> Result<R> {
        self.health.scoped(&self.device, kind, op, f)
    }

    /// Has errors arrive as late as in a browser, for tests.
    #[doc(hidden)]
    pub fn set_late(&self, late: bool) {
        self.health.set_late(late);
    }

    /// How fast the device is thought to be, and how long it may work without a break.
    pub fn pace(&self) -> Pace {
        *lock(&self.pace)
    }

    /// Has programs that are made from now on cut their work by `pace`.
    #[doc(hidden)]
    pub fn set_pace(&self, pace: Pace) {
        *lock(&self.pace) = pace;
        #[cfg(not(target_arch = "wasm32"))]
        self.guessed.store(false, Ordering::Relaxed);
    }

    /// Has a pace count as a guess, for tests.
    #[doc(hidden)]
    #[cfg(not(target_arch = "wasm32"))]
    pub fn guess_pace(&self, pace: Pace) {
        self.set_pace(pace);
        self.guessed.store(true, Ordering::Relaxed);
    }

    /// Whether the pace is a guess that nobody is about to replace; who asks will.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn takes_pace(&self) -> bool {
        self.guessed.swap(false, Ordering::Relaxed)
    }

    /// Has templates with definitions serve from so many operations on, for tests.
    #[doc(hidden)]
    pub fn set_template_flops_min(&self, flops: u64) {
        self.template_flops_min.store(flops, Ordering::Relaxed);
    }

    /// How many dispatches and submissions plans came to so far, and how many bind groups were made
    /// for them, for tests.
    #[doc(hidden)]
    pub fn counts(&self) -> [u64; 3] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Submits `commands`; natively, waits until few enough submissions are under way.
    fn submit(&self, op: &str, commands: Option<wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        let index = self.scoped(ErrorKind::Device, op, || self.queue.submit(commands))?;
        self.depart(op, &index)?;
        Ok(index)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn depart(&self, op: &str, index: &wgpu::SubmissionIndex) -> Result<()> {
        lock(&self.in_flight).push_back(index.clone());
        self.land(op, IN_FLIGHT_MAX)
    }

    /// Waits until at most `most` submissions are under way.
    #[cfg(not(target_arch = "wasm32"))]
    fn land(&self, op: &str, most: usize) -> Result<()> {
        let oldest = || {
            let mut in_flight = lock(&self.in_flight);
            (in_flight.len() > most).then(|| in_flight.pop_front()).flatten()
        };
        while let Some(oldest) = oldest() {
            self.wait(op, Some(oldest))?;
        }
        Ok(())
    }

    /// Waits until so few submissions are under way that the next one need not wait; natively the
    /// future waits inside instead of yielding.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn ready(&self, op: &str) -> Result<()> {
        self.health.check(op)?;
        self.land(op, READY_MAX)
    }

    #[cfg(target_arch = "wasm32")]
    fn depart(&self, _: &str, _: &wgpu::SubmissionIndex) -> Result<()> {
        let (signal, answer) = signal::Signal::new();
        self.queue.on_submitted_work_done(move || answer.say(true));
        let mut in_flight = lock(&self.in_flight);
        in_flight.retain(|flight| flight.now().is_none());
        in_flight.push_back(signal);
        Ok(())
    }

    /// Waits until so few submissions are under way that the next one need not wait.
    #[cfg(target_arch = "wasm32")]
    pub async fn ready(&self, op: &str) -> Result<()> {
        loop {
            let oldest = {
                let mut in_flight = lock(&self.in_flight);
                in_flight.retain(|flight| flight.now().is_none());
                (in_flight.len() > READY_MAX).then(|| in_flight.front().cloned()).flatten()
            };
            match oldest {
                Some(oldest) => drop(oldest.get().await),
                None => return self.health.check(op),
            }
        }
    }

    /// Waits for a submission, or for all of them; a browser never waits.
    #[cfg(not(target_arch = "wasm32"))]
    fn wait(&self, op: &str, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.poll_for(op, wgpu::PollType::Wait { submission_index, timeout: None })
    }

    /// Has callbacks called whose time has come, without waiting.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll(&self, op: &str) -> Result<()> {
        self.poll_for(op, wgpu::PollType::Poll)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn poll_for(&self, op: &str, what: wgpu::PollType) -> Result<()> {
        // wgpu panics, with no lock held, when the driver says during a wait that the device is
        // lost; an index it does not know is one of a submission it dropped for the same reason.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.device.poll(what))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.health.lost(op, &error.to_string())),
            Err(_) => Err(self.health.lost(op, "the driver reported it while waiting")),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn wait(&self, _: &str, _: Option<wgpu::SubmissionIndex>) -> Result<()> {
        Ok(())
    }

    /// A browser calls back by itself.
    #[cfg(target_arch = "wasm32")]
    fn poll(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Gpu {
    /// Keeps what outlives the program in the folder `path` from now on.
    pub(super) fn set_cache_dir(&self, path: &std::path::Path) {
        let kept = self.keep(path);
        *lock(&self.kept) = Some(Arc::new(kept));
        self.recall();
    }

    fn kept(&self) -> Option<Arc<keep::Kept>> {
        lock(&self.kept).clone()
    }

    /// Whether an earlier program tested these shaders here.
    pub(super) fn remembers(&self, texts: &str) -> bool {
        self.kept().is_some_and(|kept| kept.lists("tested", texts))
    }

    /// Remembers that these shaders passed.
    pub(super) fn remember(&self, texts: &str) {
        self.kept().iter().for_each(|kept| kept.list("tested", texts));
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Gpu {
    fn drop(&mut self) {
        // A lost device has nothing to say.
        if self.health.check("gpu").is_ok()
            && let Some(kept) = self.kept()
        {
            kept.save();
        }
    }
}

/// A browser has no folders.
#[cfg(target_arch = "wasm32")]
impl Gpu {
    pub(super) fn set_cache_dir(&self, _: &std::path::Path) {}

    /// A page tunes nothing.
    fn tuned(&self, tiles: &Tiles) -> Tiles {
        tiles.clone()
    }

    pub(super) fn remembers(&self, _: &str) -> bool {
        false
    }

    pub(super) fn remember(&self, _: &str) {}
}

/// An error when a device can do less than what WebGPU promises of each, on which kernels count.
fn enough(limits: &wgpu::Limits) -> Result<()> {
    let numbers = |l: &wgpu::Limits| {
        [
            ("storage buffers a stage", u64::from(l.max_storage_buffers_per_shader_stage)),
            ("invocations a workgroup", u64::from(l.max_compute_invocations_per_workgroup)),
            ("invocations along x", u64::from(l.max_compute_workgroup_size_x)),
            ("bytes of workgroup memory", u64::from(l.max_compute_workgroup_storage_size)),
            ("bytes a binding", l.max_storage_buffer_binding_size),
        ]
    };
    match numbers(limits).iter().zip(numbers(&wgpu::Limits::default())).find(|((_, has), (_, floor))| has < floor) {
        Some(((what, has), (_, floor))) => {
            let fact = format!("the device allows {has} {what}, but {floor} are needed");
            Err(Error::new(ErrorKind::Device, "gpu", fact))
        }
        None => Ok(()),
    }
}

/// The limits of a device as plans know them.
fn limits(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Limits {
    let wgpu = device.limits();
    // Windows of a buffer start at multiples of 256, and no array may end inside a word.
    let whole = |bytes: u64| bytes & !255;
    // A first pass ranks each position against its whole block.
    let (target, sort_block) = match info.device_type {
        wgpu::DeviceType::Cpu => (Target::SoftwareGpu, 64),
        _ => (Target::Gpu, 256),
    };
    // Barriers are slow in software.
    let template_flops_min = if target == Target::Gpu { TEMPLATE_FLOPS_MIN } else { u64::MAX };
    Limits {
        target,
        // One is left for the fault word.
        buffers_max: (wgpu.max_storage_buffers_per_shader_stage as usize).saturating_sub(1),
        binding_bytes_max: whole(wgpu.max_storage_buffer_binding_size),
        buffer_bytes_max: whole(wgpu.max_buffer_size),
        invocations_max: wgpu.max_compute_invocations_per_workgroup.min(wgpu.max_compute_workgroup_size_x),
        workgroup_bytes_max: wgpu.max_compute_workgroup_storage_size,
        groups_max: wgpu.max_compute_workgroups_per_dimension,
        tiles: tiles(info, device.features()),
        cooperative: None,
        sort_block,
        template_flops_min,
        memory_bytes_max: u64::MAX,
    }
}

/// The vendor table: how products are cut on a device.
fn tiles(info: &wgpu::AdapterInfo, features: wgpu::Features) -> Tiles {
    const INTEL: u32 = 0x8086;
    let name = info.name.to_ascii_lowercase();
    let subgroup =
        features.contains(wgpu::Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size]);
    match info.device_type {
        wgpu::DeviceType::Cpu => match subgroup {
            Some([8, 8]) => Tiles::VECTORS,
            Some([4, 4]) => Tiles::SHORT_VECTORS,
            _ => Tiles::SOFTWARE,
        },
        // Metal has no numbers for vendors.
        _ if name.contains("apple") => Tiles::APPLE,
        _ if info.vendor == INTEL || name.contains("intel") => Tiles::INTEL,
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu => Tiles::DISCRETE,
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Other => Tiles::PORTABLE,
    }
}

/// A lock whose data is good even if a holder panicked: nothing here leaves it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a plan and its shaders that do not fit together.
fn mismatch(op: &str, fact: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, op, fact)
}
