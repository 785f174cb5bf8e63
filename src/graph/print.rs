//! The text form of ops and graphs: stable, one node a line.

use std::fmt;

use crate::graph::op::{Extreme, Op, ScatterMode};

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Data => write!(f, "data"),
            Op::Input(_) => write!(f, "input"),
            Op::Const(value) => write!(f, "const {value}"),
            Op::Iota { axis } => write!(f, "iota axis={axis}"),
            Op::Random => write!(f, "random"),
            Op::Invalid(_) => write!(f, "invalid"),
            Op::Scalar(op) => write!(f, "{}", op.spec().name),
            Op::Cast => write!(f, "cast"),
            Op::Bitcast => write!(f, "bitcast"),
            Op::Reshape => write!(f, "reshape"),
            Op::Permute(perm) => write!(f, "permute {:?}", perm.0),
            Op::Expand => write!(f, "expand"),
            Op::Slice(s) => write!(f, "slice start={:?} step={:?}", s.start, s.step),
            Op::SliceAt { axis } => write!(f, "slice_at axis={axis}"),
            Op::UpdateAt { axis } => write!(f, "update_at axis={axis}"),
            Op::Flip(set) => write!(f, "flip {set}"),
            Op::Pad(p) => write!(f, "pad lo={:?} hi={:?} interior={:?} fill={}", p.lo, p.hi, p.interior, p.fill),
            Op::Concat { axis } => write!(f, "concat axis={axis}"),
            Op::Window(w) => {
                write!(f, "window axes={:?} size={:?} stride={:?} dilation={:?}", w.axes, w.size, w.stride, w.dilation)
            }
            Op::Fold(w) => {
                write!(f, "fold axes={:?} size={:?} stride={:?} dilation={:?}", w.axes, w.size, w.stride, w.dilation)
            }
            Op::Reduce(kind, set) => write!(f, "{} over {set}", kind.name()),
            Op::ArgReduce(Extreme::Max, axis) => write!(f, "argmax axis={axis}"),
            Op::ArgReduce(Extreme::Min, axis) => write!(f, "argmin axis={axis}"),
            Op::Scan(kind, axis) => write!(f, "running {} axis={axis}", kind.name()),
            Op::Dot => write!(f, "dot"),
            Op::Conv(c) => write!(
                f,
                "conv stride={:?} pad={:?},{:?} spread={:?} dilation={:?} groups={}",
                c.stride, c.lo, c.hi, c.spread, c.dilation, c.groups
            ),
            Op::Gather { axis, .. } => write!(f, "gather axis={axis}"),
            Op::Scatter { axis, mode: ScatterMode::Set, .. } => write!(f, "scatter axis={axis}"),
            Op::Scatter { axis, mode: ScatterMode::Add, .. } => write!(f, "scatter_add axis={axis}"),
            Op::ArgSort { axis, descending } => write!(f, "argsort axis={axis} descending={descending}"),
            Op::Detach => write!(f, "detach"),
            Op::Tracked => write!(f, "tracked"),
            Op::Fence(region) => write!(f, "fence {}", region.0),
            Op::Block(block) => write!(f, "block {}", block.0.name()),
            Op::Custom(call) => write!(f, "custom {} output={}", call.kernel.name, call.output),
        }
    }
}
