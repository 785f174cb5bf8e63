//! The oracle: a node-by-node interpreter of the raw graph, and the meaning of every op.
//!
//! Floats are `f64`; integers and bools are exact in their own dtype; constants are numbers of
//! their dtype, and a cast rounds and overflows as its dtype does. Everything else that computes
//! is tested against this. Slow on purpose; knows no plan and no device beyond copying a leaf to
//! the host.

mod meaning;

use std::collections::HashMap;
use std::sync::Arc;

use half::{bf16, f16};

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::{Storage, WHOLE};
use crate::graph::op::{Fault, Op};
use crate::graph::tensor::{Operands, Tensor};

/// How floats are kept between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `f64` throughout; only constants and casts round.
    Exact,
    /// Each node's result is rounded to its dtype.
    PerNode,
    /// Each node's result is rounded or not, as this seed has it, and as a fused kernel may.
    Some(u64),
    /// As `PerNode`, and whatever had to be rounded lies one unit further up or down: what changes
    /// by that hangs on the order in which a device computes.
    Shaken,
}

/// Elements as the oracle holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Elements of a float dtype.
    Float(Vec<f64>),
    /// Elements of any other dtype as the 32 bits they are computed in.
    Bits(Vec<u32>),
}

/// What the oracle found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// One for each root.
    pub values: Vec<Values>,
    /// Indices that were out of range, the first of each node, naming its op and line.
    pub faults: Vec<Error>,
}

impl Values {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Float(v) => v.len(),
            Values::Bits(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No elements of `dtype`.
    fn none(dtype: DType) -> Values {
        if dtype.is_float() { Values::Float(Vec::new()) } else { Values::Bits(Vec::new()) }
    }

    /// The elements as they lie in memory in `dtype`, padded to whole words.
    pub fn to_bytes(&self, dtype: DType) -> Vec<u8> {
        let mut bytes: Vec<u8> = match self {
            Values::Float(v) => match dtype {
                DType::F16 => v.iter().flat_map(|&x| f16::from_f32(x as f32).to_le_bytes()).collect(),
                DType::BF16 => v.iter().flat_map(|&x| bf16::from_f32(x as f32).to_le_bytes()).collect(),
                _ => v.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
            },
            Values::Bits(v) if dtype.bytes() == 1 => v.iter().map(|&x| x as u8).collect(),
            Values::Bits(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// `n` elements of `dtype` from memory.
    pub fn from_bytes(bytes: &[u8], dtype: DType, n: usize) -> Values {
        let halves = || bytes.as_chunks().0.iter().take(n);
        let words = || bytes.as_chunks().0.iter().take(n);
        match dtype {
            DType::F32 => Values::Float(words().map(|&b| f64::from(f32::from_le_bytes(b))).collect()),
            DType::F16 => Values::Float(halves().map(|&b| f16::from_le_bytes(b).to_f64()).collect()),
            DType::BF16 => Values::Float(halves().map(|&b| bf16::from_le_bytes(b).to_f64()).collect()),
            DType::I32 | DType::U32 => Values::Bits(words().map(|&b| u32::from_le_bytes(b)).collect()),
            DType::U8 | DType::Bool => Values::Bits(bytes.iter().take(n).map(|&b| u32::from(b)).collect()),
        }
    }

    /// The elements as `dtype` holds them.
    fn rounded(mut self, dtype: DType) -> Values {
        match &mut self {
            Values::Float(v) => v.iter_mut().for_each(|x| *x = round(*x, dtype)),
            Values::Bits(_) => {}
        }
        self
    }
}

/// `x` as an element of a float `dtype`; everything is computed in `f32` before it is stored.
fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f32(x as f32).to_f64(),
        DType::BF16 => bf16::from_f32(x as f32).to_f64(),
        _ => f64::from(x as f32),
    }
}

/// `values` rounded to `dtype`; those that it cannot hold move by a unit more, up or down.
fn shaken(values: Arc<Values>, dtype: DType, salt: u64) -> Arc<Values> {
    let Values::Float(v) = &*values else { return values };
    let unit = match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-23),
    };
    let moved = |(k, &x): (usize, &f64)| {
        let near = round(x, dtype);
        let up = (salt << 32 ^ k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1;
        if near == x || !near.is_finite() { near } else { round(if up { x + x * unit } else { x - x * unit }, dtype) }
    };
    Arc::new(Values::Float(v.iter().enumerate().map(moved).collect()))
}

/// Evaluates `roots` node by node; nodes that have a value are leaves.
pub fn evaluate(roots: &[Tensor], rounding: Rounding) -> Result<Evaluation> {
    evaluate_with(roots, rounding, &[])
}

/// [`evaluate`], with other elements in place of those of some float tensors.
#[doc(hidden)]
pub fn evaluate_with(roots: &[Tensor], rounding: Rounding, overrides: &[(&Tensor, Vec<f64>)]) -> Result<Evaluation> {
    let overrides: HashMap<u64, &Vec<f64>> = overrides.iter().map(|(x, v)| (x.0.id, v)).collect();
    let mut steps = collect(roots, &overrides)?;
    let mut uses: HashMap<u64, usize> = HashMap::new();
    let operands = steps.iter().flat_map(|step| &step.src);
    operands.chain(roots).for_each(|x| *uses.entry(x.0.id).or_default() += 1);

    let mut values: HashMap<u64, Arc<Values>> = HashMap::new();
    let mut faults = Vec::new();
    for (k, Step { node, src, leaf }) in steps.drain(..).enumerate() {
        let keep = match rounding {
            Rounding::Exact | Rounding::Shaken => true,
            Rounding::PerNode => false,
            Rounding::Some(seed) => (seed ^ k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1,
        };
        let value = match (overrides.get(&node.0.id), leaf) {
            (Some(v), _) if v.len() == node.numel() && node.dtype().is_float() => Arc::new(Values::Float(v.to_vec())),
            (Some(_), _) => return Err(internal(&node, "other elements do not fit")),
            (None, Some(storage)) => Arc::new(Values::from_bytes(&storage.to_host(WHOLE)?, node.dtype(), node.numel())),
            (None, None) => {
                let x: Option<Vec<_>> = src.iter().map(|x| values.get(&x.0.id).cloned()).collect();
                let x = x.ok_or_else(|| internal(&node, "an operand was never computed"))?;
                if node.numel() == 0 {
                    // Around nothing there may be more windows than a machine can count.
                    Arc::new(Values::none(node.dtype()))
                } else {
                    let value = meaning::meaning(&node, &src, &x, keep, &mut faults)?;
                    if rounding == Rounding::Shaken { shaken(value, node.dtype(), k as u64) } else { value }
                }
            }
        };
        if value.len() != node.numel() {
            return Err(internal(&node, &format!("{} elements for {}", value.len(), node.shape())));
        }
        values.insert(node.0.id, value);
        for x in &src {
            if let Some(left) = uses.get_mut(&x.0.id) {
                *left -= 1;
                if *left == 0 {
                    values.remove(&x.0.id);
                }
            }
        }
    }
    let found = roots.iter().map(|x| values.get(&x.0.id).map(|v| Values::clone(v)));
    let found: Option<Vec<Values>> = found.collect();
    let values = found.ok_or_else(|| Error::new(ErrorKind::Device, "evaluate", "a root was never computed"))?;
    Ok(Evaluation { values, faults })
}

/// A node to compute: with the operands its value needs, or a value that is there already.
struct Step {
    node: Tensor,
    src: Operands,
    leaf: Option<Arc<dyn Storage>>,
}

/// What `roots` need, operands before their users.
fn collect(roots: &[Tensor], overrides: &HashMap<u64, &Vec<f64>>) -> Result<Vec<Step>> {
    let mut steps: HashMap<u64, Step> = HashMap::new();
    let mut open: Vec<Tensor> = roots.to_vec();
    while let Some(node) = open.pop() {
        if steps.contains_key(&node.0.id) {
            continue;
        }
        if let Op::Invalid(Fault(error)) = &node.0.op {
            return Err(error.clone());
        }
        // The operands first: they may be released as soon as there is a value.
        let mut src = node.src();
        let leaf = node.value();
        if leaf.is_some() || overrides.contains_key(&node.0.id) {
            src.clear();
        } else if matches!(node.0.op, Op::Block(_) | Op::Custom(_)) {
            src.truncate(1);
        }
        open.extend(src.iter().cloned());
        steps.insert(node.0.id, Step { node, src, leaf });
    }
    let mut steps: Vec<Step> = steps.into_values().collect();
    steps.sort_unstable_by_key(|step| step.node.0.id);
    Ok(steps)
}

/// An error no user can cause.
fn internal(node: &Tensor, fact: &str) -> Error {
    Error::new(ErrorKind::Verify, node.0.op.to_string(), fact).at(node.0.at)
}
