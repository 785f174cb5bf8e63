//! [`CustomKernel`]: the user's own WGSL as an op, with its meaning in ordinary ops.
//!
//! The definition gives the gradient and runs where WGSL cannot. Checks the text as far as naga
//! can, natively; a browser checks it when it is first used.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::op::{CustomCall, CustomShader, CustomSpec};
use crate::graph::tensor::Tensor;

/// A compute shader of the user's, with a fixed grid.
///
/// Its bindings are in group 0: the inputs from 0 on as `var<storage, read>`, then the outputs as
/// `var<storage, read_write>`. Elements are row-major; `bool` and `u8` lie four to a `u32`, `f16`
/// and `bf16` two.
///
/// ```
/// # use wgrad::prelude::*;
/// # use wgrad::device::CustomKernel;
/// let double = CustomKernel::new(
///     "double",
///     "@group(0) @binding(0) var<storage, read> x: array<f32>;
///      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
///          if id.x < arrayLength(&y) { y[id.x] = 2.0 * x[id.x]; }
///      }",
/// )
/// .inputs(1)
/// .outputs(1)
/// .grid([1, 1, 1])
/// .build()?;
/// let x = Tensor::new([1.0, 2.0], &Device::cpu());
/// let y = double.call(&[&x], |x| vec![&x[0] + &x[0]]);
/// assert_eq!(y[0].to_vec::<f32>()?, [2.0, 4.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CustomKernel {
    spec: Arc<CustomSpec>,
    inputs: usize,
    outputs: usize,
}

/// A [`CustomKernel`] that is being described.
#[derive(Debug)]
#[must_use]
pub struct CustomKernelBuilder {
    name: String,
    wgsl: String,
    entry: String,
    grid: [u32; 3],
    unchecked: bool,
    inputs: usize,
    outputs: usize,
}

impl CustomKernel {
    /// Starts to describe the kernel `name` with the shader `wgsl`: one input, one output, one
    /// workgroup and the entry point `main` unless said otherwise.
    #[allow(clippy::new_ret_no_self, reason = "a kernel exists only once it was checked")]
    pub fn new(name: impl Into<String>, wgsl: impl Into<String>) -> CustomKernelBuilder {
        CustomKernelBuilder {
            name: name.into(),
            wgsl: wgsl.into(),
            entry: "main".into(),
            grid: [1; 3],
            unchecked: false,
            inputs: 1,
            outputs: 1,
        }
    }

    /// The outputs for `inputs`; `definition` says in ordinary ops what they are, in shape, dtype
    /// and value.
    #[track_caller]
    pub fn call(&self, inputs: &[&Tensor], definition: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Vec<Tensor> {
        let (name, n) = (&self.spec.name, self.outputs);
        let device = inputs.first().map_or_else(Device::nowhere, |x| x.device().clone());
        if let Some(bad) = inputs.iter().find(|x| !x.is_valid()) {
            return vec![(*bad).clone(); n];
        }
        if inputs.len() != self.inputs {
            let fact = format!("takes {} inputs, got {}", self.inputs, inputs.len());
            return vec![Tensor::invalid(name, fact, &device); n];
        }
        let owned: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
        let outputs = definition(&owned);
        if outputs.len() != n {
            let fact = format!("has {n} outputs, its definition gives {}", outputs.len());
            return vec![Tensor::invalid(name, fact, &device); n];
        }
        if let Some(bad) = outputs.iter().find(|y| !y.is_valid()) {
            return vec![bad.clone(); n];
        }
        let results: Arc<[_]> = outputs.iter().map(|y| (*y.shape(), y.dtype())).collect();
        let call = |output| CustomCall { kernel: self.spec.clone(), output, results: results.clone() };
        // Not `map`: a closure would hide the caller's line.
        let mut results = Vec::with_capacity(n);
        for (output, y) in outputs.iter().enumerate() {
            results.push(y.custom(call(output), inputs));
        }
        results
    }
}

impl CustomKernelBuilder {
    /// How many inputs there are.
    pub fn inputs(mut self, n: usize) -> CustomKernelBuilder {
        self.inputs = n;
        self
    }

    /// How many outputs there are.
    pub fn outputs(mut self, n: usize) -> CustomKernelBuilder {
        self.outputs = n;
        self
    }

    /// Workgroups along x, y and z.
    pub fn grid(mut self, grid: [u32; 3]) -> CustomKernelBuilder {
        self.grid = grid;
        self
    }

    /// The entry point, when it is not `main`.
    pub fn entry(mut self, entry: impl Into<String>) -> CustomKernelBuilder {
        self.entry = entry.into();
        self
    }

    /// Leaves out the driver's bounds and loop checks.
    ///
    /// # Safety
    ///
    /// With any inputs that fit the definition, the shader must index nothing out of bounds, end
    /// every loop, and read no workgroup memory it did not write.
    pub unsafe fn unchecked(mut self) -> CustomKernelBuilder {
        self.unchecked = true;
        self
    }

    /// The kernel, if its shader is valid and has these bindings.
    #[track_caller]
    pub fn build(self) -> Result<CustomKernel> {
        let at = std::panic::Location::caller();
        if self.outputs == 0 || self.grid.contains(&0) {
            let error =
                Error::new(ErrorKind::Shader, &self.name, "a kernel without outputs or workgroups does nothing");
            return Err(error.at(at));
        }
        #[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
        check(&self).map_err(|fact| Error::new(ErrorKind::Shader, &self.name, fact).at(at))?;
        let CustomKernelBuilder { name, wgsl, entry, grid, unchecked, inputs, outputs } = self;
        let shader = CustomShader::Own { wgsl, entry, grid, unchecked };
        Ok(CustomKernel { spec: Arc::new(CustomSpec { name, shader }), inputs, outputs })
    }
}

/// What is wrong with a shader, as naga or the declared bindings see it.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
fn check(spec: &CustomKernelBuilder) -> std::result::Result<(), String> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{AddressSpace, StorageAccess};

    let (inputs, outputs) = (spec.inputs, spec.outputs);
    let path = format!("{}.wgsl", spec.name);
    // The user's line goes on a line of its own below naga's drawing.
    let shown = |text: String| format!("{}\n ", text.trim_end());
    let module =
        naga::front::wgsl::parse_str(&spec.wgsl).map_err(|e| shown(e.emit_to_string_with_path(&spec.wgsl, &path)))?;
    Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|e| shown(e.emit_to_string_with_path(&spec.wgsl, &path)))?;
    if !module.entry_points.iter().any(|e| e.stage == naga::ShaderStage::Compute && e.name == spec.entry) {
        return Err(format!("there is no compute entry point {:?}", spec.entry));
    }
    let declared = inputs.saturating_add(outputs);
    let mut found = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        let n = binding.binding as usize;
        let name = variable.name.as_deref().unwrap_or("a variable");
        if binding.group != 0 || n >= declared {
            let fact = format!("but {inputs} inputs and {outputs} outputs end at binding {}", declared - 1);
            return Err(format!("{name} is at group {} binding {n}, {fact} of group 0", binding.group));
        }
        let (role, needs, access) = match n < inputs {
            true => ("an input", "var<storage, read>", StorageAccess::LOAD),
            false => ("an output", "var<storage, read_write>", StorageAccess::LOAD | StorageAccess::STORE),
        };
        if variable.space != (AddressSpace::Storage { access }) {
            return Err(format!("{name} at binding {n} is {role} and must be {needs}"));
        }
        found.push(n);
    }
    match (0..declared).find(|n| !found.contains(n)) {
        Some(n) => Err(format!("nothing is at group 0 binding {n}")),
        None => Ok(()),
    }
}
