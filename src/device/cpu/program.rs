//! [`Program`]: a kernel made ready for the CPU, once; run as often as one likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::compile::kernel::{Access, Kernel, Kind};
use crate::device::cpu::check::{check, is_apart};
use crate::device::cpu::code::Compiled;
use crate::device::cpu::dot::Product;
use crate::device::cpu::lanes::Frame;
use crate::device::cpu::lines::{Scanning, Scattering, Sorting};
use crate::device::cpu::loops::Loops;
use crate::device::cpu::memory::{Binding, Pool, View};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};

/// Instructions times lanes from which several threads are worth waking.
const PARALLEL_WORK: usize = 1 << 17;
/// Bytes of registers that stay in the nearest cache.
const BLOCK_BYTES: usize = 24 << 10;

/// A kernel ready to run.
pub struct Program {
    name: String,
    buffers: Vec<Bound>,
    faults: usize,
    /// What runs, one after the other: several where a product has sums beside it.
    bodies: Vec<Body>,
}

struct Bound {
    dtype: DType,
    numel: usize,
    written: bool,
    apart: bool,
}

enum Body {
    Loop(Loops),
    Dot(Box<Product>),
    Scatter(Scattering),
    Scan(Scanning),
    Sort(Sorting),
}

impl Program {
    /// Prepares `kernel`; an error says what is wrong with it.
    pub fn new(kernel: &Kernel) -> Result<Program> {
        let refused = |fact| Error::new(ErrorKind::Device, kernel.name.clone(), fact);
        check(kernel).map_err(refused)?;
        let body = |kernel: &Kernel| match &kernel.kind {
            Kind::Loop(spec) => Loops::new(kernel, spec).map(Body::Loop),
            Kind::Dot(spec) => Product::new(kernel, spec).map(|body| Body::Dot(Box::new(body))),
            Kind::Scatter(spec) => Scattering::new(kernel, spec).map(Body::Scatter),
            Kind::Scan(spec) => Scanning::new(kernel, spec).map(Body::Scan),
            Kind::Sort(spec) => Sorting::new(kernel, spec).map(Body::Sort),
            Kind::Custom(spec) => Err(format!("{} is a shader; the CPU runs its definition", spec.name)),
        };
        // Only plans for GPUs have sums beside products, and a browser runs none of them here.
        #[cfg(not(target_arch = "wasm32"))]
        let sums = crate::compile::sums::apart(kernel);
        #[cfg(target_arch = "wasm32")]
        let sums: [Kernel; 0] = [];
        let bodies = std::iter::once(kernel).chain(&sums).map(body).collect::<std::result::Result<Vec<_>, _>>();
        let bound = |(at, buffer): (usize, &crate::compile::kernel::Buffer)| Bound {
            dtype: buffer.dtype,
            numel: buffer.numel,
            written: buffer.access != Access::Read,
            apart: buffer.access != Access::Read && is_apart(kernel, at),
        };
        let buffers = kernel.buffers.iter().enumerate().map(bound).collect();
        Ok(Program {
            name: kernel.name.clone(),
            buffers,
            faults: kernel.faults.len(),
            bodies: bodies.map_err(refused)?,
        })
    }

    /// Runs over `bindings`, one for each buffer of the kernel; the numbers of the faults raised.
    pub fn run(&self, mut bindings: Vec<Binding>, pool: &Arc<Pool>) -> Result<Vec<usize>> {
        if bindings.len() != self.buffers.len() {
            let fact = format!("{} buffers, but {} are bound", self.buffers.len(), bindings.len());
            return Err(Error::new(ErrorKind::Device, self.name.clone(), fact));
        }
        let mut views = Vec::with_capacity(bindings.len());
        for (at, (binding, buffer)) in bindings.iter_mut().zip(&self.buffers).enumerate() {
            let readable = !buffer.written || matches!(binding, Binding::Write(_));
            // SAFETY: `is_apart` proved that every element is used at one point of the iteration
            // only, and threads share no point.
            let view = unsafe { View::new(binding, buffer.dtype, buffer.numel, buffer.apart) };
            match view {
                Some(view) if readable => views.push(view),
                _ => {
                    let fact = format!("buffer {at} has no room for {} elements or is not writable", buffer.numel);
                    return Err(Error::new(ErrorKind::Device, self.name.clone(), fact));
                }
            }
        }
        let faults: Vec<AtomicBool> = (0..self.faults).map(|_| AtomicBool::new(false)).collect();
        let run = Run { views: &views, faults: &faults, parallel: true, pool };
        for body in &self.bodies {
            match body {
                Body::Loop(body) => body.run(&run)?,
                Body::Dot(body) => body.run(&run)?,
                Body::Scatter(body) => body.run(&run)?,
                Body::Scan(body) => body.run(&run)?,
                Body::Sort(body) => body.run(&run)?,
            }
        }
        Ok((0..self.faults).filter(|&n| faults[n].load(Relaxed)).collect())
    }
}

/// What a run has besides its code.
#[derive(Clone, Copy)]
pub(super) struct Run<'r> {
    pub views: &'r [View<'r>],
    pub faults: &'r [AtomicBool],
    /// Whether several threads may take part.
    pub parallel: bool,
    pub pool: &'r Arc<Pool>,
}

impl<'r> Run<'r> {
    /// The same run, on one thread unless there is `work` for more.
    pub(super) fn worth(&self, work: usize) -> Run<'r> {
        Run { parallel: self.parallel && work >= PARALLEL_WORK, ..*self }
    }

    /// A frame for `code`.
    pub(super) fn frame(&self, code: &Compiled, lanes: usize) -> Frame<'r> {
        Frame::new(code.uniforms, code.registers, lanes, self.views, self.faults)
    }
}

/// How many lanes a block should have along an extent, given the registers there are.
pub(super) fn block_lanes(registers: usize, extent: usize) -> usize {
    let fits = (BLOCK_BYTES / 4 / registers.max(1)).clamp(128, 1024);
    // A power of two, so that it does not depend on small changes of a kernel.
    (1 << fits.ilog2()).min(extent.max(1))
}
