//! Movement: the same elements under another shape or in another order.
//!
//! Parts of a tensor are in `slice`, joining is in `join`, padding in `pad`.

use crate::dtype::Number;
use crate::graph::op::WindowSpec;
use crate::graph::tensor::Tensor;
use crate::shape::{Axes, AxisSet, Dims, RANK_MAX, Shape, axis_set, shape_of};

impl Tensor {
    /// The same elements, in row-major order, under `dims`; one `-1` stands for what is left.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3, 4], &Device::cpu());
    /// assert_eq!(x.reshape([6, -1]).dims(), [6, 4]);
    /// ```
    #[track_caller]
    pub fn reshape(&self, dims: impl Dims) -> Tensor {
        self.under(&dims.dims())
    }

    #[track_caller]
    fn under(&self, dims: &[isize]) -> Tensor {
        let shape = checked!(self, "reshape", inferred(self.shape(), dims));
        self.to_shape("reshape", shape)
    }

    /// The axes from `start` to `end`, both included, made one.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3, 4], &Device::cpu());
    /// assert_eq!(x.flatten(1, -1).dims(), [2, 12]);
    /// assert_eq!(x.flatten(0, -1).dims(), [24]);
    /// ```
    #[track_caller]
    pub fn flatten(&self, start: isize, end: isize) -> Tensor {
        if self.is_valid() && self.rank() == 0 && [0, -1].contains(&start) && [0, -1].contains(&end) {
            return self.unsqueeze(0);
        }
        let start = checked!(self, "flatten", self.shape().axis(start));
        let end = checked!(self, "flatten", self.shape().axis(end));
        if start > end {
            return self.refuse("flatten", format!("axis {start} is after axis {end}"));
        }
        let (before, rest) = self.dims().split_at(start);
        let (middle, after) = rest.split_at(end + 1 - start);
        let dims = [before, &[middle.iter().product()], after].concat();
        let shape = checked!(self, "flatten", Shape::new(&dims));
        self.to_shape("flatten", shape)
    }

    /// The axes in another order: axis `k` of the result is axis `axes[k]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3, 4], &Device::cpu());
    /// assert_eq!(x.permute([2, 0, 1]).dims(), [4, 2, 3]);
    /// ```
    #[track_caller]
    pub fn permute(&self, axes: impl Axes) -> Tensor {
        let Some(axes) = axes.axes() else {
            return self.clone();
        };
        let perm: Result<Vec<usize>, String> = axes.iter().map(|&axis| self.shape().axis(axis)).collect();
        let perm = checked!(self, "permute", perm);
        self.permute_to("permute", &perm)
    }

    /// Axes `a` and `b` exchanged.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3, 4], &Device::cpu());
    /// assert_eq!(x.transpose(-1, -2).dims(), [2, 4, 3]);
    /// ```
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        let a = checked!(self, "transpose", self.shape().axis(a));
        let b = checked!(self, "transpose", self.shape().axis(b));
        let mut perm: Vec<usize> = (0..self.rank()).collect();
        perm.swap(a, b);
        self.permute_to("transpose", &perm)
    }

    /// The transpose of a matrix: `[m, n] -> [n, m]`; vectors and scalars stay as they are.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// assert_eq!(Tensor::ones([2, 3], &Device::cpu()).t().dims(), [3, 2]);
    /// ```
    #[track_caller]
    pub fn t(&self) -> Tensor {
        match self.rank() {
            0 | 1 => self.clone(),
            2 => self.permute_to("t", &[1, 0]),
            _ => self.refuse("t", format!("takes a matrix, got {}; transpose names the axes", self.shape())),
        }
    }

    /// Without the named axes, which must have size 1; `..` drops every such axis.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([1, 3, 1], &Device::cpu());
    /// assert_eq!(x.squeeze(-1).dims(), [1, 3]);
    /// assert_eq!(x.squeeze(..).dims(), [3]);
    /// ```
    #[track_caller]
    pub fn squeeze(&self, axes: impl Axes) -> Tensor {
        let set = if axes.axes().is_some() {
            checked!(self, "squeeze", axis_set(self.shape(), &axes))
        } else {
            let ones = self.dims().iter().enumerate().filter(|&(_, &dim)| dim == 1);
            ones.fold(AxisSet::default(), |set, (axis, _)| set.and(axis))
        };
        let long = self.dims().iter().enumerate().find(|&(axis, &dim)| set.has(axis) && dim != 1);
        if let Some((axis, dim)) = long {
            return self.refuse("squeeze", format!("axis {axis} of {} has size {dim}, not 1", self.shape()));
        }
        self.to_shape("squeeze", self.shape().without(set))
    }

    /// With a new axis of size 1 in front of `axis`; `-1` puts it last.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3], &Device::cpu());
    /// assert_eq!(x.unsqueeze(0).dims(), [1, 2, 3]);
    /// assert_eq!(x.unsqueeze(-1).dims(), [2, 3, 1]);
    /// ```
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let axis = checked!(self, "unsqueeze", new_axis(self.shape(), axis));
        let mut dims = self.dims().to_vec();
        dims.insert(axis, 1);
        let shape = checked!(self, "unsqueeze", Shape::new(&dims));
        self.to_shape("unsqueeze", shape)
    }

    /// Axes of size 1 repeated to `dims`, without a copy; `-1` leaves an axis as it is, and new axes
    /// may stand in front.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1], [2]], &Device::cpu());
    /// assert_eq!(x.expand([-1, 2]).to_vec::<i32>()?, [1, 1, 2, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn expand(&self, dims: impl Dims) -> Tensor {
        let mut dims = dims.dims();
        let rank = dims.len();
        for (k, dim) in dims.iter_mut().enumerate() {
            if *dim == -1
                && let Some(own) = self.shape().dim(k as isize - rank as isize)
            {
                *dim = own as isize;
            }
        }
        let shape = checked!(self, "expand", shape_of(&dims));
        self.expand_to("expand", shape)
    }

    /// Repeated to exactly `dims` by NumPy's broadcasting.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2], &Device::cpu());
    /// assert_eq!(x.broadcast_to([2, 2]).to_vec::<i32>()?, [1, 2, 1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn broadcast_to(&self, dims: impl Dims) -> Tensor {
        let shape = checked!(self, "broadcast_to", shape_of(&dims));
        self.expand_to("broadcast_to", shape)
    }

    /// The named axes backwards.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1, 2], [3, 4]], &Device::cpu());
    /// assert_eq!(x.flip(-1).to_vec::<i32>()?, [2, 1, 4, 3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn flip(&self, axes: impl Axes) -> Tensor {
        let set = checked!(self, "flip", axis_set(self.shape(), &axes));
        self.flip_axes("flip", set)
    }

    /// `y[i, j] = x[i, j]` where `j - i <= diagonal`, elsewhere 0; for each matrix of the last two axes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 2], &Device::cpu());
    /// assert_eq!(x.tril(0).to_vec::<f32>()?, [1.0, 0.0, 1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Tensor {
        let mask = self.triangle("tril", diagonal);
        mask.where_(self, Tensor::scalar(Number::Int(0), self.dtype(), self.device()))
    }

    /// `y[i, j] = x[i, j]` where `j - i >= diagonal`, elsewhere 0; for each matrix of the last two axes.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 2], &Device::cpu());
    /// assert_eq!(x.triu(1).to_vec::<f32>()?, [0.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Tensor {
        // What lies below the diagonal before is what goes.
        let mask = self.triangle("triu", diagonal.saturating_sub(1));
        mask.where_(Tensor::scalar(Number::Int(0), self.dtype(), self.device()), self)
    }

    /// `j - i <= diagonal` over the last two axes.
    #[track_caller]
    fn triangle(&self, word: &str, diagonal: isize) -> Tensor {
        let Some(&[m, n]) = self.dims().last_chunk::<2>() else {
            return self.refuse(word, format!("takes matrices, got {}", self.shape()));
        };
        let shape = checked!(self, word, Shape::new(&[m, n]));
        let (row, column) = (Tensor::iota(0, shape, self.device()), Tensor::iota(1, shape, self.device()));
        // Beyond the corners nothing changes any more.
        let diagonal = (diagonal as i64).clamp(-(m as i64) - 1, n as i64 + 1);
        if [m, n].iter().any(|&d| d > i32::MAX as usize / 2) {
            return self.refuse(word, format!("{} is too large", self.shape()));
        }
        (column - row).le(diagonal)
    }

    /// A vector as the `offset`-th diagonal of a matrix of zeros, or that diagonal of a matrix.
    ///
    /// `[n] -> [n + |offset|, n + |offset|]`, and `[m, n] -> [l]`; positive offsets lie above the main
    /// diagonal.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([1, 2], &Device::cpu());
    /// assert_eq!(x.diag(0).to_vec::<i32>()?, [1, 0, 0, 2]);
    /// assert_eq!(x.diag(1).diag(1).to_vec::<i32>()?, [1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn diag(&self, offset: isize) -> Tensor {
        let (below, above) = ((-offset.max(-isize::MAX)).max(0) as usize, offset.max(0) as usize);
        match *self.dims() {
            [n] => {
                let size = n.saturating_add(below).saturating_add(above);
                let shape = checked!(self, "diag", Shape::new(&[size, size]));
                // Along the rows laid end to end the diagonal lies at a distance of one row and one.
                let (lo, between) = if n == 0 { (0, 0) } else { (below * size + above, size) };
                let hi = shape.numel() - lo - n - n.saturating_sub(1) * between;
                self.pad_spec("diag", vec![lo], vec![hi], vec![between], Number::Int(0)).to_shape("diag", shape)
            }
            [m, n] => {
                let len = m.saturating_sub(below).min(n.saturating_sub(above));
                let start = if len == 0 { 0 } else { below * n + above };
                let flat = checked!(self, "diag", Shape::new(&[m * n]));
                self.to_shape("diag", flat).slice_spec("diag", vec![start], vec![n + 1], &[len])
            }
            _ => self.refuse("diag", format!("takes a vector or a matrix, got {}", self.shape())),
        }
    }

    /// Windows of `size` elements along `axis`, one every `step`; the elements of a window come last.
    ///
    /// `y[.., o, .., k] = x[.., o * step + k, ..]`.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::arange(0, 5, 1, &Device::cpu());
    /// assert_eq!(x.unfold(0, 3, 2).to_vec::<i32>()?, [0, 1, 2, 2, 3, 4]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn unfold(&self, axis: isize, size: usize, step: usize) -> Tensor {
        let axis = checked!(self, "unfold", self.shape().axis(axis));
        let spec = WindowSpec { axes: vec![axis], size: vec![size], stride: vec![step], dilation: vec![1] };
        self.window("unfold", spec)
    }
}

/// `dims` with its one `-1` replaced by what is left of `shape`.
fn inferred(shape: &Shape, dims: &[isize]) -> Result<Shape, String> {
    let Some(hole) = dims.iter().position(|&dim| dim == -1) else {
        return shape_of(&dims);
    };
    let known = dims.iter().enumerate().filter(|&(k, _)| k != hole).map(|(_, &dim)| dim);
    let known = known.clone().all(|dim| dim > 0).then(|| known.fold(1usize, |n, dim| n.saturating_mul(dim as usize)));
    match known {
        Some(n) if shape.numel().is_multiple_of(n) => {
            let mut dims = dims.to_vec();
            if let Some(dim) = dims.get_mut(hole) {
                *dim = (shape.numel() / n) as isize;
            }
            shape_of(&dims)
        }
        _ => Err(format!("{shape} does not fit {dims:?}")),
    }
}

/// Where a new axis goes; negative ones count from behind the last.
pub(crate) fn new_axis(shape: &Shape, axis: isize) -> Result<usize, String> {
    let rank = shape.rank() as isize;
    let index = if axis < 0 { axis.saturating_add(rank + 1) } else { axis };
    if rank as usize == RANK_MAX {
        Err(format!("{shape} has {RANK_MAX} dimensions already"))
    } else if (0..=rank).contains(&index) {
        Ok(index as usize)
    } else {
        Err(format!("axis {axis} is out of range for a new axis of {shape}"))
    }
}
