//! The primitives: one closed enum, each with its law.
//!
//! Everything a user calls is one of these or a function of them. No `match` that gives every
//! [`Op`] a meaning has a wildcard arm, so the compiler lists what a new primitive needs.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::dtype::{DType, Number};
use crate::error::Error;
use crate::graph::device::Device;
use crate::graph::scalar::Scalar;
use crate::graph::tensor::Tensor;
use crate::shape::{AxisSet, RANK_MAX, Shape, windows};

/// What a node computes from its operands `src`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant's sentence names its fields")]
pub enum Op {
    // ---- leaves
    /// Elements that are there from the start.
    Data,
    /// A scalar whose value may change from run to run without a new plan.
    Input(Number),
    /// Every element is this number.
    Const(Number),
    /// Each element is its own index along `axis`.
    Iota { axis: usize },
    /// `u32` bits: Threefry-2x32 of the row-major element number under the key `src[0]: u32 [2]`.
    Random,
    /// The first mistake of the formula this stands for.
    Invalid(Fault),

    // ---- elementwise
    /// A row of the scalar table; operands share one shape, and their dtypes are promoted.
    Scalar(Scalar),
    /// The same numbers in the node's dtype, rounded and wrapped as it does.
    Cast,
    /// The same bits in the node's dtype, which is as wide.
    Bitcast,

    // ---- movement
    /// The same elements in row-major order under another shape.
    Reshape,
    /// `y[i0, i1, …] = x` with axis `k` of `y` being axis `perm[k]` of `x`.
    Permute(Perm),
    /// NumPy broadcasting to the node's shape.
    Expand,
    /// `y[i] = x[start + i * step]` on every axis; steps are at least 1.
    Slice(Arc<SliceSpec>),
    /// `y = x[start .. start + n]` along `axis`; `start` is `src[1]: i32 []`, clamped into range.
    SliceAt { axis: usize },
    /// `x` with `src[1]` written at `src[2]: i32 []` along `axis`; the start is clamped into range.
    UpdateAt { axis: usize },
    /// The axes of the set run backwards.
    Flip(AxisSet),
    /// `lo` elements before, `hi` after and `interior` between neighbours, all equal to `fill`.
    Pad(Arc<PadSpec>),
    /// The operands one after another along `axis`.
    Concat { axis: usize },
    /// Sliding windows: `y[.., o, .., k] = x[.., o * stride + k * dilation, ..]`, for each windowed
    /// axis in order; the window axes come last.
    Window(Arc<WindowSpec>),
    /// The transpose of `Window`: overlapping windows add up into the node's shape.
    Fold(Arc<WindowSpec>),

    // ---- reductions and scans
    /// Reduces the axes of the set; they disappear. Empty sums are 0, empty products 1.
    Reduce(Reduction, AxisSet),
    /// `i32` index of the first greatest or least element along `axis`, which disappears;
    /// a NaN is greater and less than everything.
    ArgReduce(Extreme, usize),
    /// Running sum, product or extreme along an axis, first element included.
    Scan(Reduction, usize),

    // ---- products
    /// `[m, k] · [k, n] -> [m, n]`, or for each of a batch `[b, m, k] · [b, k, n] -> [b, m, n]`.
    Dot,
    /// `[n, c, spatial…] * [o, c / groups, kernel…] -> [n, o, spatial…]`, a cross-correlation.
    Conv(Arc<ConvSpec>),

    // ---- indexed
    /// `y[.., i, ..] = x[.., src[1][.., i, ..], ..]` along `axis`, other axes in step;
    /// an index out of range reads 0 and sets the device's fault word.
    Gather { axis: usize, word: Word },
    /// `x` with `src[2]` written or added at the indices `src[1]` along `axis`, in ascending order
    /// of position; an index out of range writes nothing and sets the fault word.
    Scatter { axis: usize, mode: ScatterMode, word: Word },
    /// `i32` indices that sort along `axis`, stable; NaN is greatest.
    ArgSort { axis: usize, descending: bool },

    // ---- marks
    /// `src[0]`; no gradient passes.
    Detach,
    /// `src[0]` as a leaf that keeps the history built on it.
    Tracked,
    /// `src[0]`; nothing built on it is merged with what was built without it.
    Fence(Region),
    /// `src[0]`, the definition; `src[1..]` are what the gradient (and a template) reads instead.
    Block(Block),
    /// `src[0]`, the definition, computed by a kernel from `src[1..]`: the user's own or a template.
    Custom(CustomCall),
}

impl Op {
    /// Whether the result is its operand seen in another way: nothing is computed.
    pub fn is_view(&self) -> bool {
        matches!(
            self,
            Op::Reshape | Op::Permute(_) | Op::Expand | Op::Slice(_) | Op::Flip(_) | Op::Detach | Op::Tracked
        )
    }
}

/// An [`Error`] inside a node; all faults are alike to hash and equality.
#[derive(Clone, Debug)]
pub struct Fault(pub Error);

impl PartialEq for Fault {
    fn eq(&self, _: &Fault) -> bool {
        true
    }
}
impl Eq for Fault {}
impl Hash for Fault {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The word a fault is reported under; not part of a node's identity.
#[derive(Clone, Copy, Debug)]
pub struct Word(pub &'static str);

impl PartialEq for Word {
    fn eq(&self, _: &Word) -> bool {
        true
    }
}
impl Eq for Word {}
impl Hash for Word {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A permutation of axes: entry `k` is the operand's axis that becomes axis `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Perm(pub [u8; RANK_MAX]);

/// Where a slice starts on each axis and how far it steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SliceSpec {
    /// First index on each axis.
    pub start: Vec<usize>,
    /// Distance between neighbours on each axis, at least 1.
    pub step: Vec<usize>,
}

impl SliceSpec {
    /// The row-major place in `x` of the first element of a slice of `dims`, when its elements lie
    /// side by side there.
    pub(crate) fn place(&self, x: &Shape, dims: &[usize]) -> Option<usize> {
        // Behind the first axis of several elements each one is whole.
        let split = dims.iter().position(|&n| n != 1).unwrap_or(dims.len());
        let dense = self.step.iter().skip(split).all(|&step| step == 1);
        let whole = dims.iter().zip(x.dims()).skip(split + 1).all(|(n, dim)| n == dim);
        let first = || self.start.iter().zip(x.strides()).map(|(start, stride)| start * stride).sum();
        (dense && whole).then(first)
    }
}

/// What is put around and between the elements of each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PadSpec {
    /// Elements before the first.
    pub lo: Vec<usize>,
    /// Elements after the last.
    pub hi: Vec<usize>,
    /// Elements between two neighbours.
    pub interior: Vec<usize>,
    /// What the new elements are.
    pub fill: Number,
}

/// The windows of [`Op::Window`], one entry for each windowed axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// The windowed axes of the operand.
    pub axes: Vec<usize>,
    /// Elements in a window.
    pub size: Vec<usize>,
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Distance between elements of a window.
    pub dilation: Vec<usize>,
}

/// A convolution; each vector has one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// Distance between outputs.
    pub stride: Vec<usize>,
    /// Zeros before the first element; negative crops.
    pub lo: Vec<isize>,
    /// Zeros after the last element; negative crops.
    pub hi: Vec<isize>,
    /// Distance between elements of the input, as in a transposed convolution.
    pub spread: Vec<usize>,
    /// Distance between elements of the kernel.
    pub dilation: Vec<usize>,
    /// Channel groups.
    pub groups: usize,
}

impl ConvSpec {
    /// Length of spatial axis `k` of the result, of `n` elements and a kernel of `size`.
    pub(crate) fn output(&self, k: usize, n: usize, size: usize) -> Result<usize, String> {
        if self.spread[k] == 0 {
            return Err("the input's dilation must be at least 1".into());
        }
        let wide = |x: usize| i64::try_from(x).unwrap_or(i64::MAX);
        let spread = wide(n.saturating_sub(1)).saturating_mul(wide(self.spread[k])).saturating_add(i64::from(n > 0));
        let padded = spread.saturating_add(self.lo[k] as i64).saturating_add(self.hi[k] as i64);
        if !(0..1 << 40).contains(&padded) {
            return Err(format!("{n} elements padded by {} and {}", self.lo[k], self.hi[k]));
        }
        windows(padded as usize, size, self.stride[k], self.dilation[k])
    }
}

/// What a reduction or scan does with its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Adds.
    Sum,
    /// Multiplies.
    Prod,
    /// Keeps the greatest; NaN wins.
    Max,
    /// Keeps the least; NaN wins.
    Min,
}

impl Reduction {
    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Prod => "prod",
            Reduction::Max => "max",
            Reduction::Min => "min",
        }
    }

    /// The table row that combines two partial results.
    pub const fn combine(self) -> Scalar {
        match self {
            Reduction::Sum => Scalar::Add,
            Reduction::Prod => Scalar::Mul,
            Reduction::Max => Scalar::Maximum,
            Reduction::Min => Scalar::Minimum,
        }
    }

    /// What combines with anything to that thing; for `Max` and `Min` the extreme of `dtype`.
    pub fn identity(self, dtype: DType) -> Number {
        use DType::{BF16, Bool, F16, F32, I32, U8, U32};
        let (least, greatest) = match dtype {
            F32 | F16 | BF16 => (Number::Float(f64::NEG_INFINITY), Number::Float(f64::INFINITY)),
            I32 => (Number::Int(i64::from(i32::MIN)), Number::Int(i64::from(i32::MAX))),
            U32 => (Number::Int(0), Number::Int(i64::from(u32::MAX))),
            U8 => (Number::Int(0), Number::Int(255)),
            Bool => (Number::Bool(false), Number::Bool(true)),
        };
        match self {
            Reduction::Sum => Number::Int(0),
            Reduction::Prod => Number::Int(1),
            Reduction::Max => least,
            Reduction::Min => greatest,
        }
    }
}

/// Which element an arg-reduction looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extreme {
    /// The greatest.
    Max,
    /// The least.
    Min,
}

/// How a scatter combines with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScatterMode {
    /// The last write wins.
    Set,
    /// Writes add up.
    Add,
}

/// A region of recomputation: nodes behind different regions are never merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region(pub u64);

/// A function of tensors with a gradient of its own.
#[derive(Clone)]
pub struct Block(pub Arc<dyn Gradient>);

/// The gradient of a [`Block`].
pub trait Gradient: Send + Sync {
    /// The block's name in messages and printed graphs.
    fn name(&self) -> &str;
    /// Cotangents of the operands `src`, which leave out the definition, given the result `y` and
    /// its cotangent `dy`; `None` where there is none. No cotangents at all, an empty vector, stand
    /// for the gradient of the definition, and `definition` gives what that has for each operand.
    fn gradient(
        &self,
        src: &[Tensor],
        y: &Tensor,
        dy: &Tensor,
        definition: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>>;
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({})", self.0.name())
    }
}
/// A block means its definition, so the name is identity enough for a plan.
impl PartialEq for Block {
    fn eq(&self, other: &Block) -> bool {
        self.0.name() == other.0.name()
    }
}
impl Eq for Block {}
impl Hash for Block {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

/// One output of one launch of a kernel with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CustomCall {
    /// What is launched.
    pub kernel: Arc<CustomSpec>,
    /// Which of its outputs this node is.
    pub output: usize,
    /// Shape and dtype of every output, also of those nobody uses.
    pub results: Arc<[(Shape, DType)]>,
}

/// A kernel with a definition as plain data.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CustomSpec {
    /// The name in messages.
    pub name: String,
    /// What it runs.
    pub shader: CustomShader,
}

/// What computes an [`Op::Custom`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum CustomShader {
    /// The user's own.
    Own {
        /// The whole shader; bindings are inputs then outputs, in group 0.
        wgsl: String,
        /// The entry point.
        entry: String,
        /// Workgroups along x, y and z.
        grid: [u32; 3],
        /// Whether the driver's bounds and loop checks are left out.
        unchecked: bool,
    },
    /// One of ours, where a device has tried it and it is worth it; elsewhere the definition.
    Template(Templated),
}

/// A template of `shaders/` with its parameters; inputs, then outputs are bound from 1 on.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Templated {
    /// The template.
    pub template: &'static Template,
    /// Its constants by name: integers are `u32`.
    pub constants: Vec<(&'static str, Number)>,
    /// Workgroups of its linear grid.
    pub groups: u64,
    /// Floating point operations.
    pub flops: u64,
}

/// A file of `shaders/` that ops hang on, so that a program without them does not carry it.
#[derive(Debug)]
pub struct Template {
    /// The name; no two have the same.
    pub name: &'static str,
    /// The text below its parameters.
    pub text: &'static str,
    /// What runs it with all its kin, and the operands that it is differentiated by, for a device to
    /// compare with what the definition gives.
    pub trial: Trial,
}

/// Tensors with their operands.
pub type Trial = fn(&Device) -> Vec<(Tensor, Vec<Tensor>)>;

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.name == other.name
    }
}
impl Eq for Template {}
impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
