//! [`Shader`]: what emitting a kernel ends in, WGSL and how to launch it.
//!
//! The contract between the emitter and the devices that run WGSL. Group 0 holds, in this order:
//!
//! 1. unless the shader is `bare`, a uniform `Meta { first: u32, inf: u32, nan: u32, fault: u32 }`:
//!    the first workgroup of this dispatch, the bits of +infinity and of a NaN (WGSL has no
//!    constants for them), and the number of the kernel's first fault;
//! 2. when `raises_faults`, `var<storage, read_write> faults: array<atomic<u32>>`, one word, which
//!    is raised by `atomicMax(&faults[0], meta.fault + k)` for fault `k` of the kernel;
//! 3. `bindings` in their order.
//!
//! Knows no device and no wgpu.

/// Workgroups along x of a linear grid; the rest goes along y. A power of two, as large grids are, whose rows
/// are whole then: 65,536 groups in rows of 65,535 would be 131,070.
pub const GROUPS_X_MAX: u32 = 32_768;

/// A kernel as WGSL.
///
/// A shader of a linear grid counts its workgroup as `meta.first + wid.x + wid.y * 32768` and does
/// nothing past its last one, because the grid is filled up to whole rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shader {
    /// The whole module.
    pub text: String,
    /// Its entry point.
    pub entry: String,
    /// Workgroups of a linear grid.
    pub groups: u64,
    /// The exact grid of a user's kernel, instead of a linear one.
    pub grid: Option<[u32; 3]>,
    /// What is bound after `Meta` and the fault word.
    pub bindings: Vec<ShaderBinding>,
    /// Whether the fault word is bound.
    pub raises_faults: bool,
    /// Whether the driver's bounds and loop checks are left out.
    pub unchecked: bool,
    /// A user's shader: no `Meta`, no fault word, bindings start at 0.
    pub bare: bool,
}

/// A window of one of the kernel's buffers; a buffer larger than a binding has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShaderBinding {
    /// Into [`Kernel::buffers`](crate::compile::kernel::Kernel::buffers).
    pub buffer: usize,
    /// Where the window starts.
    pub offset_bytes: u64,
    /// How long it is: a multiple of 4, at least 4.
    pub size_bytes: u64,
    /// Whether it is declared `read_write`.
    pub writable: bool,
    /// Bytes of what the shader calls an element: a word, or a vector of four; 0 where only the
    /// driver knows, as of a user's shader.
    pub element_bytes: u64,
}
