//! One constructor for each primitive: checks operands, infers shape and dtype, makes the node.
//!
//! This is the type rule of the graph. `word` is what the user called, for messages. Nothing here
//! normalises user arguments (negative axes, broadcasting): that is what `ops` does.

use std::sync::Arc;

use crate::dtype::{DType, Number};
use crate::graph::device::Device;
use crate::graph::op::{
    Block, ConvSpec, CustomCall, Extreme, Op, PadSpec, Perm, Reduction, Region, ScatterMode, SliceSpec, WindowSpec,
    Word,
};
use crate::graph::scalar::{Family, Scalar};
use crate::graph::tensor::{Operands, Tensor};
use crate::shape::{AxisSet, RANK_MAX, Shape, windows};

impl Tensor {
    // ---- leaves

    /// Every element is `value`.
    #[track_caller]
    pub(crate) fn constant(value: Number, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        Tensor::node(Op::Const(value), Operands::new(), shape, dtype, device)
    }

    /// `i32` indices along `axis`.
    #[track_caller]
    pub(crate) fn iota(axis: usize, shape: Shape, device: &Device) -> Tensor {
        Tensor::node(Op::Iota { axis }, Operands::new(), shape, DType::I32, device)
    }

    /// Threefry bits of `shape` under the key `self`.
    #[track_caller]
    pub(crate) fn random_bits(&self, word: &str, shape: Shape) -> Tensor {
        Tensor::build(word, &[self], || {
            if self.dims() != [2] || self.dtype() != DType::U32 {
                return Err(format!("a key is u32 [2], got {} {}", self.dtype(), self.shape()));
            }
            Ok((Op::Random, shape, DType::U32))
        })
    }

    // ---- elementwise

    /// A row of the table over operands of any shapes that broadcast and dtypes that promote.
    #[track_caller]
    pub(crate) fn scalar_op(op: Scalar, operands: &[&Tensor]) -> Tensor {
        let spec = op.spec();
        if let Some(bad) = operands.iter().find(|x| !x.is_valid()) {
            return (*bad).clone();
        }
        let Some(first) = operands.first() else { return Tensor::build(spec.name, &[], || Err(String::new())) };
        // `where` promotes its two values; every other row promotes all operands.
        let values = if spec.family == Family::Choose { operands.get(1..).unwrap_or(&[]) } else { operands };
        let promoted = values.iter().map(|x| x.dtype()).reduce(DType::promote).unwrap_or(DType::F32);
        let operand = match spec.family {
            Family::Float | Family::Test if !promoted.is_float() => DType::F32,
            Family::Number if promoted == DType::Bool => DType::I32,
            Family::Round if !promoted.is_float() => return (*first).clone(),
            Family::Logic if promoted.is_float() => {
                let fact = format!("takes bool or integer tensors, got {promoted}");
                return Tensor::invalid(spec.name, fact, first.device());
            }
            Family::Shift if !promoted.is_int() => {
                let fact = format!("takes integer tensors, got {promoted}");
                return Tensor::invalid(spec.name, fact, first.device());
            }
            _ => promoted,
        };
        let result = if matches!(spec.family, Family::Compare | Family::Test) { DType::Bool } else { operand };
        let shape = operands.iter().try_fold(*first.shape(), |shape, x| shape.broadcast(x.shape()));
        let shape = match shape {
            Ok(shape) => shape,
            Err(fact) if fact.contains("elements") => return Tensor::invalid(spec.name, fact, first.device()),
            Err(_) => {
                let shapes: Vec<_> = operands.iter().map(|x| x.shape().to_string()).collect();
                let fact = format!("shapes do not broadcast: {}", shapes.join(" and "));
                return Tensor::invalid(spec.name, fact, first.device());
            }
        };
        let wanted = |k: usize| if spec.family == Family::Choose && k == 0 { DType::Bool } else { operand };
        let made = || Ok((Op::Scalar(op), shape, result));
        // Most operands are what they must be: no copies of their handles.
        if operands.iter().enumerate().all(|(k, x)| x.dtype() == wanted(k) && *x.shape() == shape) {
            return Tensor::build(spec.name, operands, made);
        }
        let fitted = operands.iter().enumerate().map(|(k, x)| x.cast(wanted(k)).expand_to(spec.name, shape));
        let fitted: Vec<Tensor> = fitted.collect();
        Tensor::build(spec.name, &fitted.iter().collect::<Vec<_>>(), made)
    }

    /// The elements converted to `dtype`: floats round to nearest even and truncate towards zero
    /// to integers (saturating, NaN to 0), integers wrap, bools are 0 and 1, and anything but 0 is `true`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1.7, -1.7], &Device::cpu());
    /// assert_eq!(x.cast(DType::I32).to_vec::<i32>()?, [1, -1]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        // A constant takes another dtype without a node of its own, unless that would round twice. A number
        // that its dtype does not hold may fit another.
        if let Op::Const(value) = self.0.op
            && (self.dtype() == value.dtype() && dtype.is_float() && self.dtype().is_float()
                || value.fits(self.dtype()).is_err())
        {
            return Tensor::constant(value, *self.shape(), dtype, self.device());
        }
        Tensor::build("cast", &[self], || Ok((Op::Cast, *self.shape(), dtype)))
    }

    /// The same bits read as `dtype`, which must be as wide; 32-bit dtypes only.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new(1.0, &Device::cpu());
    /// assert_eq!(x.bitcast(DType::U32).item::<u32>()?, 0x3f80_0000);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn bitcast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        Tensor::build("bitcast", &[self], || {
            if dtype.bytes() != 4 || self.dtype().bytes() != 4 {
                return Err(format!("only 32-bit dtypes can be reinterpreted, got {} as {dtype}", self.dtype()));
            }
            Ok((Op::Bitcast, *self.shape(), dtype))
        })
    }

    // ---- movement

    /// The same elements under `shape`.
    #[track_caller]
    pub(crate) fn to_shape(&self, word: &str, shape: Shape) -> Tensor {
        if shape == *self.shape() {
            return self.clone();
        }
        Tensor::build(word, &[self], || {
            if shape.numel() != self.numel() {
                return Err(format!("{} has {} elements, {shape} has {}", self.shape(), self.numel(), shape.numel()));
            }
            Ok((Op::Reshape, shape, self.dtype()))
        })
    }

    /// Axis `k` of the result is axis `perm[k]` of this tensor.
    #[track_caller]
    pub(crate) fn permute_to(&self, word: &str, perm: &[usize]) -> Tensor {
        if perm.iter().enumerate().all(|(k, &axis)| k == axis) && perm.len() == self.rank() {
            return self.clone();
        }
        Tensor::build(word, &[self], || {
            let named = perm.iter().fold(AxisSet::default(), |set, &axis| set.and(axis));
            if perm.len() != self.rank() || named != AxisSet::all(self.rank()) {
                return Err(format!("{perm:?} does not name every axis of {} once", self.shape()));
            }
            let mut axes = [0; RANK_MAX];
            perm.iter().enumerate().for_each(|(k, &axis)| axes[k] = axis as u8);
            let dims: Vec<usize> = perm.iter().map(|&axis| self.dims()[axis]).collect();
            Ok((Op::Permute(Perm(axes)), Shape::new(&dims)?, self.dtype()))
        })
    }

    /// NumPy broadcasting to exactly `shape`.
    #[track_caller]
    pub(crate) fn expand_to(&self, word: &str, shape: Shape) -> Tensor {
        if shape == *self.shape() {
            return self.clone();
        }
        if let Op::Const(value) = self.0.op
            && self.shape().expands_to(&shape)
        {
            return Tensor::constant(value, shape, self.dtype(), self.device());
        }
        Tensor::build(word, &[self], || {
            if !self.shape().expands_to(&shape) {
                return Err(format!("{} does not broadcast to {shape}", self.shape()));
            }
            Ok((Op::Expand, shape, self.dtype()))
        })
    }

    /// `dims[k]` elements of each axis from `start[k]` in steps of `step[k]`.
    #[track_caller]
    pub(crate) fn slice_spec(&self, word: &str, start: Vec<usize>, mut step: Vec<usize>, dims: &[usize]) -> Tensor {
        // From the only element no step leads on, however long it is.
        step.iter_mut().zip(dims).filter(|(s, n)| **n <= 1 && **s > 0).for_each(|(s, _)| *s = 1);
        if dims == self.dims() && step.iter().all(|&s| s == 1) && start.iter().all(|&s| s == 0) {
            return self.clone();
        }
        Tensor::build(word, &[self], || {
            let rank = self.rank();
            let inside = |k: usize| dims[k] == 0 || start[k] + (dims[k] - 1) * step[k] < self.dims()[k];
            if [start.len(), step.len(), dims.len()] != [rank; 3] || step.contains(&0) || !(0..rank).all(inside) {
                return Err(format!("{dims:?} from {start:?} in steps of {step:?} leaves {}", self.shape()));
            }
            let shape = Shape::new(dims)?;
            Ok((Op::Slice(Arc::new(SliceSpec { start, step })), shape, self.dtype()))
        })
    }

    /// `n` elements of `axis` from `start: i32 []`, clamped into range.
    #[track_caller]
    pub(crate) fn slice_at(&self, word: &str, axis: usize, start: &Tensor, n: usize) -> Tensor {
        Tensor::build(word, &[self, start], || {
            if start.rank() != 0 || start.dtype() != DType::I32 {
                return Err(format!("a start is i32 [], got {} {}", start.dtype(), start.shape()));
            }
            match self.dims().get(axis) {
                Some(&dim) if n <= dim => Ok((Op::SliceAt { axis }, self.shape().with(axis, n)?, self.dtype())),
                _ => Err(format!("{n} elements do not fit axis {axis} of {}", self.shape())),
            }
        })
    }

    /// This tensor with `part` written at `start: i32 []` along `axis`, clamped into range.
    #[track_caller]
    pub(crate) fn write_at(&self, word: &str, axis: usize, part: &Tensor, start: &Tensor) -> Tensor {
        Tensor::build(word, &[self, part, start], || {
            if start.rank() != 0 || start.dtype() != DType::I32 {
                return Err(format!("a start is i32 [], got {} {}", start.dtype(), start.shape()));
            }
            let fits = axis < self.rank()
                && part.rank() == self.rank()
                && (0..self.rank()).all(|k| match k == axis {
                    true => part.dims()[k] <= self.dims()[k],
                    false => part.dims()[k] == self.dims()[k],
                });
            if !fits || part.dtype() != self.dtype() {
                return Err(format!(
                    "{} {} does not fit into {} {} along axis {axis}",
                    part.dtype(),
                    part.shape(),
                    self.dtype(),
                    self.shape()
                ));
            }
            Ok((Op::UpdateAt { axis }, *self.shape(), self.dtype()))
        })
    }

    /// The axes of `set` backwards.
    #[track_caller]
    pub(crate) fn flip_axes(&self, word: &str, set: AxisSet) -> Tensor {
        if set.is_empty() {
            return self.clone();
        }
        Tensor::build(word, &[self], || Ok((Op::Flip(set), *self.shape(), self.dtype())))
    }

    /// Elements of `fill` before, after and between.
    #[track_caller]
    pub(crate) fn pad_spec(
        &self,
        word: &str,
        lo: Vec<usize>,
        hi: Vec<usize>,
        interior: Vec<usize>,
        fill: Number,
    ) -> Tensor {
        if [&lo, &hi, &interior].iter().all(|v| v.iter().all(|&n| n == 0)) && lo.len() == self.rank() {
            return self.clone();
        }
        Tensor::build(word, &[self], || {
            if [lo.len(), hi.len(), interior.len()] != [self.rank(); 3] {
                return Err(format!("padding of {} axes on {}", lo.len(), self.shape()));
            }
            let grown = |k: usize| {
                let n = self.dims()[k];
                let between = n.saturating_sub(1).checked_mul(interior[k])?;
                n.checked_add(between)?.checked_add(lo[k])?.checked_add(hi[k])
            };
            let dims: Option<Vec<usize>> = (0..self.rank()).map(grown).collect();
            let shape = Shape::new(&dims.ok_or("the padding is too large")?)?;
            Ok((Op::Pad(Arc::new(PadSpec { lo, hi, interior, fill })), shape, self.dtype()))
        })
    }

    /// The tensors one after another along `axis`; dtypes are equal.
    #[track_caller]
    pub(crate) fn concat(word: &str, parts: &[&Tensor], axis: usize) -> Tensor {
        Tensor::build(word, parts, || {
            let first = parts[0];
            for part in parts {
                let same = part.rank() == first.rank()
                    && (0..first.rank()).all(|k| k == axis || part.dims()[k] == first.dims()[k]);
                if !same || axis >= first.rank() || part.dtype() != first.dtype() {
                    return Err(format!(
                        "{} {} and {} {} do not join along axis {axis}",
                        first.dtype(),
                        first.shape(),
                        part.dtype(),
                        part.shape()
                    ));
                }
            }
            let n = parts.iter().try_fold(0usize, |n, part| n.checked_add(part.dims()[axis]));
            let n = n.ok_or("the result has too many elements")?;
            Ok((Op::Concat { axis }, first.shape().with(axis, n)?, first.dtype()))
        })
    }

    /// Sliding windows; the window axes come last.
    #[track_caller]
    pub(crate) fn window(&self, word: &str, mut spec: WindowSpec) -> Tensor {
        Tensor::build(word, &[self], || {
            let mut dims = self.dims().to_vec();
            for (k, &axis) in spec.axes.iter().enumerate() {
                dims[axis] = windows(self.dims()[axis], spec.size[k], spec.stride[k], spec.dilation[k])?;
                // Beyond the only window no stride leads on, within the only element no dilation.
                spec.stride[k] = spec.stride[k].min(self.dims()[axis]);
                spec.dilation[k] = spec.dilation[k].min(self.dims()[axis]);
            }
            dims.extend(&spec.size);
            let shape = Shape::new(&dims)?;
            Ok((Op::Window(Arc::new(spec)), shape, self.dtype()))
        })
    }

    /// The transpose of [`Tensor::window`]: windows of a tensor of `shape` add up.
    #[track_caller]
    pub(crate) fn fold(&self, word: &str, spec: WindowSpec, shape: Shape) -> Tensor {
        Tensor::build(word, &[self], || {
            let mut dims = shape.dims().to_vec();
            for (k, &axis) in spec.axes.iter().enumerate() {
                dims[axis] = windows(shape.dims()[axis], spec.size[k], spec.stride[k], spec.dilation[k])?;
            }
            dims.extend(&spec.size);
            if dims != self.dims() {
                return Err(format!("windows of {shape} have the shape {dims:?}, got {}", self.shape()));
            }
            Ok((Op::Fold(Arc::new(spec)), shape, self.dtype()))
        })
    }

    // ---- reductions and scans

    /// Reduces the axes of `set`; they disappear.
    #[track_caller]
    pub(crate) fn reduce(&self, word: &str, kind: Reduction, set: AxisSet) -> Tensor {
        if set.is_empty() {
            return self.clone();
        }
        Tensor::build(word, &[self], || {
            if matches!(kind, Reduction::Max | Reduction::Min) && set.iter().any(|axis| self.dims()[axis] == 0) {
                return Err(format!("{} over axes {set} of {} has no elements", kind.name(), self.shape()));
            }
            if matches!(kind, Reduction::Sum | Reduction::Prod) && self.dtype() == DType::Bool {
                return Err(format!("{} of a bool tensor; cast it first", kind.name()));
            }
            Ok((Op::Reduce(kind, set), self.shape().without(set), self.dtype()))
        })
    }

    /// `i32` index of the first extreme along `axis`, which disappears.
    #[track_caller]
    pub(crate) fn arg_reduce(&self, word: &str, extreme: Extreme, axis: usize) -> Tensor {
        Tensor::build(word, &[self], || match self.dims().get(axis) {
            None | Some(0) => Err(format!("axis {axis} of {} has no elements", self.shape())),
            Some(_) => Ok((Op::ArgReduce(extreme, axis), self.shape().without(AxisSet::one(axis)), DType::I32)),
        })
    }

    /// Running result along `axis`.
    #[track_caller]
    pub(crate) fn scan(&self, word: &str, kind: Reduction, axis: usize) -> Tensor {
        Tensor::build(word, &[self], || {
            if axis >= self.rank() || self.dtype() == DType::Bool {
                return Err(format!(
                    "no running {} along axis {axis} of {} {}",
                    kind.name(),
                    self.dtype(),
                    self.shape()
                ));
            }
            Ok((Op::Scan(kind, axis), *self.shape(), self.dtype()))
        })
    }

    // ---- products

    /// `[m, k] · [k, n] -> [m, n]`, or as many products of `[b, m, k] · [b, k, n]`; dtypes are equal.
    #[track_caller]
    pub(crate) fn dot(&self, word: &str, other: &Tensor) -> Tensor {
        Tensor::build(word, &[self, other], || match (self.dims(), other.dims()) {
            (&[ref batch @ .., _, k], &[ref same @ .., k2, n])
                if batch == same && batch.len() < 2 && k == k2 && self.dtype() == other.dtype() =>
            {
                Ok((Op::Dot, self.shape().with(batch.len() + 1, n)?, self.dtype()))
            }
            _ => {
                Err(format!("no product of {} {} and {} {}", self.dtype(), self.shape(), other.dtype(), other.shape()))
            }
        })
    }

    /// Cross-correlation of `[n, c, spatial…]` with `[o, c / groups, kernel…]`; dtypes are equal.
    #[track_caller]
    pub(crate) fn conv(&self, word: &str, weight: &Tensor, spec: ConvSpec) -> Tensor {
        Tensor::build(word, &[self, weight], || {
            let spatial = spec.stride.len();
            let (x, w) = (self.dims(), weight.dims());
            let lengths = [spec.lo.len(), spec.hi.len(), spec.spread.len(), spec.dilation.len()];
            if lengths != [spatial; 4] || x.len() != spatial + 2 || w.len() != spatial + 2 {
                return Err(format!(
                    "{spatial} spatial axes take an input and a weight of {} dimensions, got {} and {}",
                    spatial + 2,
                    self.shape(),
                    weight.shape()
                ));
            }
            if self.dtype() != weight.dtype() {
                return Err(format!("the input is {}, the weight {}", self.dtype(), weight.dtype()));
            }
            let groups = spec.groups;
            if groups == 0 || Some(x[1]) != w[1].checked_mul(groups) || w[0] % groups != 0 {
                return Err(format!(
                    "channels do not fit: input {} and weight {} in {groups} groups",
                    self.shape(),
                    weight.shape()
                ));
            }
            let mut dims = vec![x[0], w[0]];
            for k in 0..spatial {
                dims.push(spec.output(k, x[k + 2], w[k + 2])?);
            }
            let shape = Shape::new(&dims)?;
            Ok((Op::Conv(Arc::new(spec)), shape, self.dtype()))
        })
    }

    // ---- indexed

    /// Elements at `index: i32` along `axis`; the other axes are in step.
    #[track_caller]
    pub(crate) fn gather_axis(&self, word: &'static str, axis: usize, index: &Tensor) -> Tensor {
        Tensor::build(word, &[self, index], || {
            in_step(self, index, axis)?;
            Ok((Op::Gather { axis, word: Word(word) }, *index.shape(), self.dtype()))
        })
    }

    /// This tensor with `updates` written or added at `index: i32` along `axis`.
    #[track_caller]
    pub(crate) fn scatter_axis(
        &self,
        word: &'static str,
        mode: ScatterMode,
        axis: usize,
        index: &Tensor,
        updates: &Tensor,
    ) -> Tensor {
        Tensor::build(word, &[self, index, updates], || {
            in_step(self, index, axis)?;
            if updates.shape() != index.shape() || updates.dtype() != self.dtype() {
                return Err(format!(
                    "updates {} {} for indices {} into {} {}",
                    updates.dtype(),
                    updates.shape(),
                    index.shape(),
                    self.dtype(),
                    self.shape()
                ));
            }
            if mode == ScatterMode::Add && self.dtype() == DType::Bool {
                return Err("bools do not add; cast them first".into());
            }
            Ok((Op::Scatter { axis, mode, word: Word(word) }, *self.shape(), self.dtype()))
        })
    }

    /// `i32` indices that sort along `axis`, stable.
    #[track_caller]
    pub(crate) fn arg_sort(&self, word: &str, axis: usize, descending: bool) -> Tensor {
        Tensor::build(word, &[self], || {
            if axis >= self.rank() {
                return Err(format!("axis {axis} is out of range for {}", self.shape()));
            }
            Ok((Op::ArgSort { axis, descending }, *self.shape(), DType::I32))
        })
    }

    // ---- marks

    /// This tensor as a leaf that no gradient passes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new(3.0, &Device::cpu()).tracked();
    /// let y = &x * x.detach();
    /// assert_eq!(y.grad(&[&x])[0].item::<f32>()?, 3.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        Tensor::build("detach", &[self], || Ok((Op::Detach, *self.shape(), self.dtype())))
    }

    /// This tensor as a leaf whose history is kept: what is built on it can be differentiated
    /// even after it was computed.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new(3.0, &Device::cpu()).tracked();
    /// let y = &x * &x;
    /// assert_eq!(y.item::<f32>()?, 9.0);
    /// assert_eq!(y.grad(&[&x])[0].item::<f32>()?, 6.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn tracked(&self) -> Tensor {
        Tensor::build("tracked", &[self], || Ok((Op::Tracked, *self.shape(), self.dtype())))
    }

    /// This tensor inside a region of recomputation.
    #[track_caller]
    pub(crate) fn fence(&self, region: Region) -> Tensor {
        Tensor::build("checkpoint", &[self], || Ok((Op::Fence(region), *self.shape(), self.dtype())))
    }

    /// This tensor, the definition, with a gradient of its own in terms of `operands`.
    #[track_caller]
    pub(crate) fn block(&self, word: &str, block: Block, operands: &[&Tensor]) -> Tensor {
        let src: Vec<&Tensor> = std::iter::once(self).chain(operands.iter().copied()).collect();
        Tensor::build(word, &src, || Ok((Op::Block(block), *self.shape(), self.dtype())))
    }

    /// This tensor, the definition of one output of a kernel over `inputs`.
    #[track_caller]
    pub(crate) fn custom(&self, call: CustomCall, inputs: &[&Tensor]) -> Tensor {
        let src: Vec<&Tensor> = std::iter::once(self).chain(inputs.iter().copied()).collect();
        let word = call.kernel.name.clone();
        Tensor::build(&word, &src, || Ok((Op::Custom(call), *self.shape(), self.dtype())))
    }
}

/// Whether `index` goes along `axis` of `x` with the other axes in step.
fn in_step(x: &Tensor, index: &Tensor, axis: usize) -> Result<(), String> {
    if index.dtype() != DType::I32 {
        return Err(format!("indices are i32, got {}", index.dtype()));
    }
    let same = index.rank() == x.rank()
        && axis < x.rank()
        && (0..x.rank()).all(|k| k == axis || index.dims()[k] == x.dims()[k]);
    match same {
        true => Ok(()),
        false => Err(format!("indices {} along axis {axis} of {}", index.shape(), x.shape())),
    }
}
