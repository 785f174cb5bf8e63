//! [`Program`]: a plan made ready for a device, and how it runs.
//!
//! A run takes buffers from the pool, records every step into one compute pass and submits it
//! once, unless that would take so long that a watchdog might bite. Nothing waits for results.
//! Knows no graph and no shader text.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::compile::plan::{Home, Plan, Slot};
use crate::compile::shader::Shader;
#[cfg(not(target_arch = "wasm32"))]
use crate::compile::waves;
use crate::device::gpu::memory::GpuBuffer;
use crate::device::gpu::pipeline::{META_BYTES, Pipeline};
use crate::device::gpu::slice::Slice;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::gpu::timer::TIMED_MAX;
use crate::device::gpu::{Gpu, lock, mismatch};
#[cfg(not(target_arch = "wasm32"))]
use crate::device::trace::Traced;
use crate::error::{ErrorKind, Result};
use crate::graph::source::ALL_KERNELS;

/// Bytes from one step's `Meta` to the next: what every device accepts as a uniform's offset.
const META_STRIDE: u64 = 256;
/// Bind groups kept for a step: its buffers alternate with a short period in a loop.
const BINDINGS_MAX: usize = 8;

/// A plan with its pipelines, for one device.
pub struct Program {
    gpu: Arc<Gpu>,
    plan: Arc<Plan>,
    /// For each slot, its place among the buffers of a run.
    places: Vec<usize>,
    launches: Vec<Launch>,
    /// The launches of each submission.
    submissions: Vec<Range<usize>>,
    /// `Meta` of every launch.
    meta: wgpu::Buffer,
    /// The runtime scalars: written before each run, in the queue's order.
    scalars: Option<Arc<GpuBuffer>>,
    raises_faults: bool,
    /// For each launch, its bind groups, most recently used last. Held for a whole run, so that
    /// two runs of one program do not overwrite each other's scalars before they are submitted.
    bound: Mutex<Vec<Vec<Bound>>>,
}

/// A step or a slice of one, ready to be dispatched.
struct Launch {
    name: Arc<str>,
    pipeline: Arc<Pipeline>,
    grid: [u32; 3],
    meta_offset: Option<u64>,
    raises_faults: bool,
    windows: Arc<[Window]>,
    /// The places of what to wait for before it, on behalf of what runs beside it.
    #[cfg(not(target_arch = "wasm32"))]
    waits: Vec<usize>,
    /// Bytes and operations, by prediction.
    #[cfg(not(target_arch = "wasm32"))]
    work: [u64; 2],
}

/// A range of one of a run's buffers.
struct Window {
    place: usize,
    offset: u64,
    size: wgpu::BufferSize,
}

/// A bind group and the buffers it binds, by id.
struct Bound {
    ids: Vec<u64>,
    group: wgpu::BindGroup,
}

/// For each slot, its place among the buffers of a run: leaves, temporaries, the runtime scalars,
/// then outputs. A slot has one for good, so a run does not count hundreds of them up and down.
fn places(plan: &Plan) -> Vec<usize> {
    let temps = plan.leaves.len();
    let scalars = temps + plan.allocations.len();
    let mut outputs = scalars + usize::from(plan.scalars.is_some());
    let place = |slot: &Slot| match slot.home {
        Home::Leaf(n) if n < temps => n,
        Home::Temp(n) if n < plan.allocations.len() => temps + n,
        Home::Scalars => scalars,
        Home::Output => {
            outputs += 1;
            outputs - 1
        }
        // No memory, which a run refuses.
        Home::Leaf(_) | Home::Temp(_) => usize::MAX,
    };
    plan.slots.iter().map(place).collect()
}

impl Gpu {
    /// Makes `plan` ready: `shaders` are those of its steps, in order.
    pub fn program(self: &Arc<Self>, op: &str, plan: Arc<Plan>, shaders: &[Shader]) -> Result<Program> {
        self.health.check(op)?;
        if shaders.len() != plan.steps.len() {
            return Err(mismatch(op, format!("{} shaders for {} steps", shaders.len(), plan.steps.len())));
        }
        let named: Vec<_> = plan.steps.iter().map(|step| step.kernel.name.as_str()).zip(shaders).collect();
        let pipelines = self.pipelines(&named)?;
        let pace = self.pace();
        let places = places(&plan);
        let mut launches = Vec::with_capacity(shaders.len());
        let mut seconds = Vec::with_capacity(shaders.len());
        let mut metas = Vec::new();
        #[cfg(not(target_arch = "wasm32"))]
        let mut waits = waves::waits(&plan).into_iter();
        for ((step, shader), pipeline) in plan.steps.iter().zip(shaders).zip(pipelines) {
            #[cfg(not(target_arch = "wasm32"))]
            let waits = waits.next().unwrap_or_default();
            #[cfg(not(target_arch = "wasm32"))]
            let mut waits: Vec<usize> = waits.iter().filter_map(|&slot| places.get(slot).copied()).collect();
            let name: Arc<str> = step.kernel.name.as_str().into();
            let step_seconds = pace.seconds(step.flops, step.bytes);
            let slices = self.slices(&name, shader, step_seconds)?;
            if slices.is_empty() {
                continue;
            }
            let base = match shader.raises_faults {
                true => self.faults.number(&step.kernel.faults)?,
                false => 0,
            };
            let mut windows = Vec::with_capacity(shader.bindings.len());
            for binding in &shader.bindings {
                let slot = step.kernel.buffers.get(binding.buffer).map(|buffer| buffer.slot);
                let place = slot.and_then(|slot| places.get(slot).copied());
                match (place, wgpu::BufferSize::new(binding.size_bytes)) {
                    (Some(place), Some(size)) => windows.push(Window { place, offset: binding.offset_bytes, size }),
                    _ => return Err(mismatch(&name, format!("binding {} is of nothing in the plan", windows.len()))),
                }
            }
            let windows: Arc<[Window]> = windows.into();
            #[cfg(not(target_arch = "wasm32"))]
            let work = [step.bytes, step.flops].map(|n| n / slices.len() as u64);
            seconds.extend(slices.iter().map(|_| step_seconds / slices.len() as f64));
            for Slice { first, grid } in slices {
                let meta_offset = (!shader.bare).then_some(metas.len() as u64);
                if meta_offset.is_some() {
                    for word in [first, f32::INFINITY.to_bits(), f32::NAN.to_bits(), base] {
                        metas.extend(u32::to_le_bytes(word));
                    }
                    metas.resize(metas.len().next_multiple_of(META_STRIDE as usize), 0);
                }
                let (name, pipeline, windows) = (Arc::clone(&name), Arc::clone(&pipeline), Arc::clone(&windows));
                let raises_faults = shader.raises_faults;
                launches.push(Launch {
                    name,
                    pipeline,
                    grid,
                    meta_offset,
                    raises_faults,
                    windows,
                    #[cfg(not(target_arch = "wasm32"))]
                    waits: std::mem::take(&mut waits),
                    #[cfg(not(target_arch = "wasm32"))]
                    work,
                });
            }
        }
        let submissions = pace.submissions(seconds);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let size = (metas.len() as u64).max(META_STRIDE);
        let meta = self.scoped(ErrorKind::Memory, op, || {
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let meta = self.device.create_buffer(&descriptor);
            if !metas.is_empty() {
                self.queue.write_buffer(&meta, 0, &metas);
            }
            meta
        })?;
        let scalars = match plan.scalars.and_then(|slot| plan.slots.get(slot)) {
            Some(slot) => Some(self.allocate(op, slot.bytes(), self.health.begin())?),
            None => None,
        };
        let raises_faults = launches.iter().any(|launch| launch.raises_faults);
        let bound = Mutex::new(launches.iter().map(|_| Vec::new()).collect());
        Ok(Program { gpu: Arc::clone(self), plan, places, launches, submissions, meta, scalars, raises_faults, bound })
    }

    /// What is dispatched of a shader that takes `seconds`; nothing when its grid has a 0.
    fn slices(&self, name: &str, shader: &Shader, seconds: f64) -> Result<Vec<Slice>> {
        let max = self.limits.groups_max;
        match shader.grid {
            // A user's shader does not know of slices.
            Some(grid) if grid.contains(&0) => Ok(Vec::new()),
            Some(grid) if grid.iter().all(|&n| n <= max) => Ok(vec![Slice { first: 0, grid }]),
            Some(grid) => Err(mismatch(name, format!("a grid of {grid:?} workgroups, but {max} a side are possible"))),
            None => {
                let slices = self.pace().slices(shader.groups, seconds, max);
                slices.ok_or_else(|| mismatch(name, format!("a grid of {} workgroups", shader.groups)))
            }
        }
    }
}

impl Program {
    /// The plan it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Starts a run: `leaves` in the plan's order, `scalars` as bits; gives the buffer of each
    /// root, which are filled in the order of the device's queue.
    pub fn run(&self, op: &str, leaves: &[Arc<GpuBuffer>], scalars: &[u32]) -> Result<Vec<Arc<GpuBuffer>>> {
        let gpu = &self.gpu;
        gpu.health.check(op)?;
        self.launches.iter().try_for_each(|launch| launch.pipeline.check())?;
        let serial = gpu.health.begin();
        let buffers = self.memory(op, leaves, serial)?;
        let outputs = self.plan.outputs.iter().map(|&slot| buffers.get(*self.places.get(slot)?).map(Arc::clone));
        let outputs: Option<Vec<_>> = outputs.collect();
        let outputs = outputs.ok_or_else(|| mismatch(op, "a root has no memory"))?;
        if ALL_KERNELS {
            self.plan.overwritten.iter().filter_map(|&n| leaves.get(n)).for_each(|leaf| leaf.renew(serial));
        }

        let mut bound = lock(&self.bound);
        if let Some(buffer) = &self.scalars {
            // Those beyond belong to what the compiler found nobody needs.
            let read = scalars.get(..(buffer.bytes() / 4) as usize);
            let read = read.ok_or_else(|| mismatch(op, format!("{} runtime scalars are too few", scalars.len())))?;
            gpu.write(op, buffer, bytemuck::cast_slice(read))?;
        }
        for range in &self.submissions {
            let launches = self.launches.iter().zip(bound.iter_mut()).take(range.end).skip(range.start);
            #[cfg(not(target_arch = "wasm32"))]
            let submitted = match gpu.recorder().is_on() {
                true => self.submit_timed(op, launches, &buffers),
                false => self.submit(op, launches, &buffers),
            };
            #[cfg(target_arch = "wasm32")]
            let submitted = self.submit(op, launches, &buffers);
            if let Err(error) = submitted {
                // The driver may have refused a bind group, and the next run shall make its own.
                bound.iter_mut().for_each(Vec::clear);
                return Err(error);
            }
            if self.raises_faults {
                gpu.faults.expect();
            }
        }
        for (count, n) in gpu.counts.iter().zip([self.launches.len(), self.submissions.len()]) {
            count.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(outputs)
    }

    /// Submits launches, each with its bind groups, in one pass.
    fn submit<'a>(
        &self,
        op: &str,
        launches: impl Iterator<Item = (&'a Launch, &'a mut Vec<Bound>)>,
        buffers: &[Arc<GpuBuffer>],
    ) -> Result<()> {
        let gpu = &self.gpu;
        let commands = gpu.scoped(ErrorKind::Device, op, || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current = None;
            for (launch, bound) in launches {
                #[cfg(not(target_arch = "wasm32"))]
                if !launch.waits.is_empty() {
                    let read = launch.waits.iter().filter_map(|&place| buffers.get(place));
                    let state = wgpu::BufferUses::STORAGE_READ_ONLY;
                    let read = read.map(|buffer| wgpu::BufferTransition { buffer: buffer.raw(), state });
                    pass.transition_resources(read, std::iter::empty());
                }
                if current != Some(&launch.pipeline.raw) {
                    pass.set_pipeline(&launch.pipeline.raw);
                    current = Some(&launch.pipeline.raw);
                }
                pass.set_bind_group(0, self.bind(launch, bound, buffers)?, &[]);
                let [x, y, z] = launch.grid;
                pass.dispatch_workgroups(x, y, z);
            }
            drop(pass);
            Ok(encoder.finish())
        });
        gpu.submit(op, Some(commands??)).map(drop)
    }

    /// The same with a pass and two timestamps for each launch, which are noted.
    #[cfg(not(target_arch = "wasm32"))]
    fn submit_timed<'a>(
        &self,
        op: &str,
        launches: impl Iterator<Item = (&'a Launch, &'a mut Vec<Bound>)>,
        buffers: &[Arc<GpuBuffer>],
    ) -> Result<()> {
        let (gpu, mut launches) = (&self.gpu, launches.peekable());
        while launches.peek().is_some() {
            let timer = gpu.timer(op)?;
            let mut timed = Vec::new();
            let commands = gpu.scoped(ErrorKind::Device, op, || {
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (launch, bound) in launches.by_ref().take(TIMED_MAX) {
                    let mut pass = timer.pass(timed.len(), &mut encoder);
                    pass.set_pipeline(&launch.pipeline.raw);
                    pass.set_bind_group(0, self.bind(launch, bound, buffers)?, &[]);
                    let [x, y, z] = launch.grid;
                    pass.dispatch_workgroups(x, y, z);
                    drop(pass);
                    timed.push(launch);
                }
                timer.finish(&mut encoder);
                Ok(encoder.finish())
            });
            gpu.submit(op, Some(commands??))?;
            for (launch, (start, seconds)) in timed.into_iter().zip(timer.seconds(gpu, op)?) {
                let [bytes, flops] = launch.work;
                gpu.recorder().note(Traced { name: launch.name.to_string(), start, seconds, bytes, flops });
            }
        }
        Ok(())
    }

    /// Seconds that a run takes, of `runs` that follow on each other, by the GPU's clock; waits for them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn seconds(&self, op: &str, leaves: &[Arc<GpuBuffer>], runs: usize) -> Result<f64> {
        let gpu = &self.gpu;
        let buffers = self.memory(op, leaves, gpu.health.begin())?;
        let mut bound = lock(&self.bound);
        let mut seconds = 0.0;
        for range in &self.submissions {
            let timer = gpu.timer(op)?;
            let commands = gpu.scoped(ErrorKind::Device, op, || {
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let mut pass = timer.pass(0, &mut encoder);
                for _ in 0..runs {
                    let launches = self.launches.iter().zip(bound.iter_mut());
                    for (launch, bound) in launches.take(range.end).skip(range.start) {
                        pass.set_pipeline(&launch.pipeline.raw);
                        pass.set_bind_group(0, self.bind(launch, bound, &buffers)?, &[]);
                        let [x, y, z] = launch.grid;
                        pass.dispatch_workgroups(x, y, z);
                    }
                }
                drop(pass);
                timer.finish(&mut encoder);
                Ok(encoder.finish())
            });
            gpu.submit(op, Some(commands??))?;
            seconds += timer.seconds(gpu, op)?.first().map_or(0.0, |(_, seconds)| *seconds);
        }
        Ok(seconds / runs as f64)
    }

    /// The buffers of a run, leaves first, in the order of [`places`]; all of them are had before
    /// anything is recorded.
    fn memory(&self, op: &str, leaves: &[Arc<GpuBuffer>], serial: u64) -> Result<Vec<Arc<GpuBuffer>>> {
        let plan = &self.plan;
        if leaves.len() != plan.leaves.len() {
            return Err(mismatch(op, format!("{} leaves for a plan of {}", leaves.len(), plan.leaves.len())));
        }
        for leaf in leaves {
            self.gpu.health.condemned(leaf.serial())?;
        }
        let mut buffers = leaves.to_vec();
        for &bytes in &plan.allocations {
            buffers.push(self.gpu.allocate(op, bytes, serial)?);
        }
        buffers.extend(self.scalars.clone());
        for (slot, &place) in plan.slots.iter().zip(&self.places) {
            if slot.home == Home::Output {
                buffers.push(self.gpu.allocate(op, slot.bytes(), serial)?);
            }
            let bytes = buffers.get(place).map_or(0, |buffer| buffer.bytes());
            if bytes < slot.bytes() {
                return Err(mismatch(op, format!("{bytes} bytes for a slot of {}", slot.bytes())));
            }
        }
        Ok(buffers)
    }

    /// The bind group of `launch` over the buffers of `slots`.
    fn bind<'a>(
        &self,
        launch: &Launch,
        bound: &'a mut Vec<Bound>,
        buffers: &[Arc<GpuBuffer>],
    ) -> Result<&'a wgpu::BindGroup> {
        let buffer = |window: &Window| buffers.get(window.place);
        let ids = || launch.windows.iter().map(|window| buffer(window).map_or(0, |buffer| buffer.id()));
        match bound.iter().rposition(|known| known.ids.iter().copied().eq(ids())) {
            Some(n) => {
                let known = bound.remove(n);
                bound.push(known);
            }
            None => {
                if bound.len() >= BINDINGS_MAX {
                    bound.remove(0);
                }
                let mut resources = Vec::with_capacity(launch.windows.len() + 2);
                if let Some(offset) = launch.meta_offset {
                    resources.push((&self.meta, offset, wgpu::BufferSize::new(META_BYTES)));
                }
                if launch.raises_faults {
                    resources.push((self.gpu.faults.word(), 0, None));
                }
                for window in launch.windows.iter() {
                    let buffer = buffer(window).ok_or_else(|| mismatch(&launch.name, "a slot has no memory"))?;
                    resources.push((buffer.raw(), window.offset, Some(window.size)));
                }
                let entries: Vec<_> = resources
                    .into_iter()
                    .zip(0..)
                    .map(|((buffer, offset, size), binding)| wgpu::BindGroupEntry {
                        binding,
                        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size }),
                    })
                    .collect();
                let layout = &launch.pipeline.layout;
                let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
                let group = self.gpu.device.create_bind_group(&descriptor);
                self.gpu.counts[2].fetch_add(1, Ordering::Relaxed);
                bound.push(Bound { ids: ids().collect(), group });
            }
        }
        bound.last().map(|known| &known.group).ok_or_else(|| mismatch(&launch.name, "no bind group"))
    }
}
