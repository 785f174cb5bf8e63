//! The text form of ops and graphs: stable, one node a line.

use std::fmt;

use crate::graph::op::{Extreme, Op, ScatterMode};

impl Op {
    /// Its word in printed graphs and messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Op::Data => "data",
            Op::Input(_) => "input",
            Op::Const(_) => "const",
            Op::Iota { .. } => "iota",
            Op::Random => "random",
            Op::Invalid(_) => "invalid",
            Op::Scalar(op) => op.spec().name,
            Op::Cast => "cast",
            Op::Bitcast => "bitcast",
            Op::Reshape => "reshape",
            Op::Permute(_) => "permute",
            Op::Expand => "expand",
            Op::Slice(_) => "slice",
            Op::SliceAt { .. } => "slice_at",
            Op::UpdateAt { .. } => "update_at",
            Op::Flip(_) => "flip",
            Op::Pad(_) => "pad",
            Op::Concat { .. } => "concat",
            Op::Window(_) => "window",
            Op::Fold(_) => "fold",
            Op::Reduce(kind, _) => kind.name(),
            Op::ArgReduce(Extreme::Max, _) => "argmax",
            Op::ArgReduce(Extreme::Min, _) => "argmin",
            Op::Scan(..) => "running",
            Op::Dot => "dot",
            Op::Conv(_) => "conv",
            Op::Gather { .. } => "gather",
            Op::Scatter { mode: ScatterMode::Set, .. } => "scatter",
            Op::Scatter { mode: ScatterMode::Add, .. } => "scatter_add",
            Op::ArgSort { .. } => "argsort",
            Op::Detach => "detach",
            Op::Tracked => "tracked",
            Op::Fence(_) => "fence",
            Op::Block(_) => "block",
            Op::Custom(_) => "custom",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Op::Const(value) => write!(f, " {value}"),
            Op::Permute(perm) => write!(f, " {:?}", perm.0),
            Op::Slice(s) => write!(f, " start={:?} step={:?}", s.start, s.step),
            Op::Iota { axis }
            | Op::SliceAt { axis }
            | Op::UpdateAt { axis }
            | Op::Concat { axis }
            | Op::ArgReduce(_, axis)
            | Op::Gather { axis, .. }
            | Op::Scatter { axis, .. } => write!(f, " axis={axis}"),
            Op::Scan(kind, axis) => write!(f, " {} axis={axis}", kind.name()),
            Op::ArgSort { axis, descending } => write!(f, " axis={axis} descending={descending}"),
            Op::Flip(set) => write!(f, " {set}"),
            Op::Reduce(_, set) => write!(f, " over {set}"),
            Op::Pad(p) => write!(f, " lo={:?} hi={:?} interior={:?} fill={}", p.lo, p.hi, p.interior, p.fill),
            Op::Window(w) | Op::Fold(w) => {
                write!(f, " axes={:?} size={:?} stride={:?} dilation={:?}", w.axes, w.size, w.stride, w.dilation)
            }
            Op::Conv(c) => write!(
                f,
                " stride={:?} pad={:?},{:?} spread={:?} dilation={:?} groups={}",
                c.stride, c.lo, c.hi, c.spread, c.dilation, c.groups
            ),
            Op::Fence(region) => write!(f, " {}", region.0),
            Op::Block(block) => write!(f, " {}", block.0.name()),
            Op::Custom(call) => write!(f, " {} output={}", call.kernel.name, call.output),
            Op::Data
            | Op::Input(_)
            | Op::Random
            | Op::Invalid(_)
            | Op::Scalar(_)
            | Op::Cast
            | Op::Bitcast
            | Op::Reshape
            | Op::Expand
            | Op::Dot
            | Op::Detach
            | Op::Tracked => Ok(()),
        }
    }
}
