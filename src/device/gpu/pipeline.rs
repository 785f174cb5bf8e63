//! Compute pipelines, compiled once for each text and layout.
//!
//! Modules are compiled without the runtime checks that wgpu would add to every index and loop.
//! Knows no plans.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use crate::compile::shader::Shader;
use crate::device::gpu::health::Verdict;
use crate::device::gpu::{Gpu, lock, mismatch};
use crate::error::{ErrorKind, Result};
use crate::graph::mix::Map;

/// Pipelines that are kept although no program uses them.
const IDLE_MAX: usize = 4096;
/// Bytes of the uniform `Meta`.
pub const META_BYTES: u64 = 16;

/// Who is told of shaders.
static OBSERVER: OnceLock<fn(&str)> = OnceLock::new();

/// Has `tell` called with the text of every shader that is compiled from now on; the first one to
/// ask stays the only one. For tests that judge the texts.
#[doc(hidden)]
pub fn observe(tell: fn(&str)) {
    OBSERVER.get_or_init(|| tell);
}

/// A compiled shader.
pub struct Pipeline {
    /// What runs.
    pub raw: wgpu::ComputePipeline,
    /// What it binds in group 0.
    pub layout: wgpu::BindGroupLayout,
    /// What a browser says about it after it was made.
    verdict: Verdict,
}

impl Pipeline {
    /// The error of a shader that the driver refused, once that is known.
    pub fn check(&self) -> Result<()> {
        self.verdict.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// The pipelines of a device.
#[derive(Default)]
pub struct Pipelines(Mutex<Map<Key, Arc<Pipeline>>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    text: String,
    entry: String,
    /// In the order of the bindings.
    slots: Vec<Slot>,
    unchecked: bool,
}

/// What a layout says of one binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Meta,
    Storage { writable: bool, element_bytes: u64 },
}

impl Key {
    fn new(shader: &Shader, checked: bool) -> Key {
        let meta = (!shader.bare).then_some(Slot::Meta);
        let faults = shader.raises_faults.then_some(Slot::Storage { writable: true, element_bytes: 4 });
        let bindings = shader
            .bindings
            .iter()
            .map(|binding| Slot::Storage { writable: binding.writable, element_bytes: binding.element_bytes });
        Key {
            text: shader.text.clone(),
            entry: shader.entry.clone(),
            slots: meta.into_iter().chain(faults).chain(bindings).collect(),
            unchecked: shader.unchecked && !checked,
        }
    }
}

impl Gpu {
    /// The pipelines of `shaders`, each with the name of its kernel; the missing ones are compiled,
    /// side by side where there are threads.
    pub(in crate::device) fn pipelines(&self, shaders: &[(&str, &Shader)]) -> Result<Vec<Arc<Pipeline>>> {
        let checked = self.checked.load(Ordering::Relaxed);
        let keys: Vec<Key> = shaders.iter().map(|(_, shader)| Key::new(shader, checked)).collect();
        let mut ready: Vec<Option<Arc<Pipeline>>> = {
            let known = lock(&self.pipelines.0);
            keys.iter().map(|key| known.get(key).cloned()).collect()
        };
        let mut missing: Vec<(&Key, &str)> = Vec::new();
        for ((key, (name, _)), found) in keys.iter().zip(shaders).zip(&ready) {
            if found.is_none() && !missing.iter().any(|(other, _)| *other == key) {
                missing.push((key, name));
            }
        }
        let made = self.compile_all(&missing)?;
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(kept) = self.kept().filter(|_| !made.is_empty()) {
            kept.note(made.len());
        }
        {
            let mut known = lock(&self.pipelines.0);
            for ((key, _), pipeline) in missing.into_iter().zip(made) {
                let equal = keys.iter().zip(&mut ready).filter(|(other, _)| *other == key);
                equal.for_each(|(_, place)| *place = Some(Arc::clone(&pipeline)));
                known.insert(key.clone(), pipeline);
            }
            if known.len() > IDLE_MAX {
                known.retain(|_, pipeline| Arc::strong_count(pipeline) > 1);
            }
        }
        ready.into_iter().collect::<Option<_>>().ok_or_else(|| mismatch("gpu", "a shader was not compiled"))
    }

    #[cfg(all(feature = "threads", not(target_arch = "wasm32")))]
    fn compile_all(&self, missing: &[(&Key, &str)]) -> Result<Vec<Arc<Pipeline>>> {
        use rayon::prelude::*;

        use crate::device::cpu::threads::apart;
        match missing {
            [one] => Ok(vec![self.compile(one)?]),
            _ => apart(|| missing.par_iter().map(|one| self.compile(one)).collect()),
        }
    }

    #[cfg(not(all(feature = "threads", not(target_arch = "wasm32"))))]
    fn compile_all(&self, missing: &[(&Key, &str)]) -> Result<Vec<Arc<Pipeline>>> {
        missing.iter().map(|one| self.compile(one)).collect()
    }

    fn compile(&self, (key, name): &(&Key, &str)) -> Result<Arc<Pipeline>> {
        #[cfg(not(target_arch = "wasm32"))]
        let kept = self.kept();
        #[cfg(not(target_arch = "wasm32"))]
        let cache = kept.as_ref().and_then(|kept| kept.pipelines());
        #[cfg(target_arch = "wasm32")]
        let cache = None;
        let verdict = Verdict::default();
        let made = self.health.judged(&self.device, ErrorKind::Shader, name, Some(&verdict), || {
            let source = wgpu::ShaderSource::Wgsl(Cow::Borrowed(&key.text));
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
            let module = match key.unchecked {
                // SAFETY: a shader says `unchecked` when every index in it is under the size of what
                // it indexes and every loop ends: the emitter guards what it writes, and of a
                // user's own shader the user promised it in `unsafe`.
                true => unsafe {
                    self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
                },
                false => self.device.create_shader_module(descriptor),
            };
            let entries: Vec<_> = key.slots.iter().zip(0..).map(|(slot, n)| entry(*slot, n)).collect();
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let layout = self.device.create_bind_group_layout(&descriptor);
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(&key.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // A user's checked shader may count on zeros; the emitter's never do.
                    zero_initialize_workgroup_memory: !key.unchecked,
                },
                cache,
            });
            (raw, layout)
        });
        let (raw, layout) = made?;
        if let Some(tell) = OBSERVER.get() {
            tell(&key.text);
        }
        Ok(Arc::new(Pipeline { raw, layout, verdict }))
    }
}

fn entry(slot: Slot, binding: u32) -> wgpu::BindGroupLayoutEntry {
    let (ty, size) = match slot {
        Slot::Meta => (wgpu::BufferBindingType::Uniform, META_BYTES),
        Slot::Storage { writable, element_bytes } => {
            (wgpu::BufferBindingType::Storage { read_only: !writable }, element_bytes)
        }
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: std::num::NonZeroU64::new(size),
        },
        count: None,
    }
}
