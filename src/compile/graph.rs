//! [`Graph`]: the reachable graph as a flat vector, operands before their users, and its hash.
//!
//! What differs from run to run without a new plan (elements, runtime scalars, the numbers of
//! regions) is kept out of it, so that two steps of a training loop have equal graphs. Equality
//! and hash are what the plan cache goes by.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::Location;

use crate::dtype::DType;
use crate::graph::op::{Op, Region};
use crate::graph::tensor::Tensor;
use crate::shape::Shape;

/// A node's number in its graph.
pub type Id = u32;

/// A flat graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Nodes, operands first.
    pub nodes: Vec<Node>,
    /// What is to be computed.
    pub roots: Vec<Id>,
}

/// One node of a flat graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// The primitive.
    pub op: Op,
    /// Its operands.
    pub src: Vec<Id>,
    /// The shape of its result.
    pub shape: Shape,
    /// The dtype of its result.
    pub dtype: DType,
    /// For `Op::Data` the number of the leaf, for `Op::Input` the number of the runtime scalar.
    pub leaf: usize,
    /// The user's line; part of a node's identity only where a run may have to name it.
    pub at: &'static Location<'static>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.src == other.src
            && self.shape == other.shape
            && self.dtype == other.dtype
            && self.leaf == other.leaf
            && self.op == other.op
            && self.faulting_line() == other.faulting_line()
    }
}
impl Eq for Node {}
impl Hash for Node {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.op.hash(h);
        self.src.hash(h);
        self.shape.dims().hash(h);
        self.dtype.hash(h);
        self.leaf.hash(h);
        self.faulting_line().hash(h);
    }
}

impl Node {
    /// The line that an index out of range is reported with.
    fn faulting_line(&self) -> Option<&'static Location<'static>> {
        matches!(self.op, Op::Gather { .. } | Op::Scatter { .. }).then_some(self.at)
    }
}

/// What a graph's leaves stand for in one run.
#[derive(Default)]
pub struct Bindings {
    /// The tensors with data, by leaf number.
    pub leaves: Vec<Tensor>,
    /// The runtime scalars as bits, by number.
    pub scalars: Vec<u32>,
}

impl Graph {
    /// The graph below `roots`, down to tensors whose elements are known.
    pub fn flatten(roots: &[Tensor]) -> (Graph, Bindings) {
        let mut found: HashMap<u64, Option<Tensor>, BuildHasherDefault<Mix>> = HashMap::default();
        let mut open: Vec<Tensor> = roots.to_vec();
        while let Some(x) = open.pop() {
            if found.contains_key(&x.0.id) {
                continue;
            }
            let leaf = x.is_realized();
            if !leaf {
                x.with_src(|src| open.extend(src.iter().cloned()));
            }
            found.insert(x.0.id, (!leaf).then_some(x));
        }
        let mut tensors: Vec<Tensor> = found.into_values().flatten().collect();
        tensors.sort_unstable_by_key(|x| x.0.id);

        let mut number: HashMap<u64, Id, BuildHasherDefault<Mix>> = HashMap::default();
        number.reserve(tensors.len());
        let mut regions: HashMap<u64, u64, BuildHasherDefault<Mix>> = HashMap::default();
        let mut nodes: Vec<Node> = Vec::with_capacity(tensors.len());
        let mut bindings = Bindings::default();
        let bare = |x: &Tensor| Node {
            op: Op::Data,
            src: Vec::new(),
            shape: *x.shape(),
            dtype: x.dtype(),
            leaf: 0,
            at: x.0.at,
        };
        // A leaf stands before its first user: when it was made says nothing about the formula.
        let place = |x: &Tensor, nodes: &mut Vec<Node>, leaves: &mut Vec<Tensor>| {
            nodes.push(Node { leaf: leaves.len(), ..bare(x) });
            leaves.push(x.clone());
            nodes.len() as Id - 1
        };
        for x in tensors {
            let mut node = bare(&x);
            x.with_src(|src| {
                let id =
                    |s: &Tensor| *number.entry(s.0.id).or_insert_with(|| place(s, &mut nodes, &mut bindings.leaves));
                node.src = src.iter().map(id).collect();
            });
            node.op = match &x.0.op {
                Op::Input(value) => {
                    node.leaf = bindings.scalars.len();
                    bindings.scalars.push(value.bits(x.dtype()));
                    Op::Input(crate::Number::Int(0))
                }
                Op::Fence(Region(region)) => {
                    let fresh = regions.len() as u64;
                    Op::Fence(Region(*regions.entry(*region).or_insert(fresh)))
                }
                op => op.clone(),
            };
            number.insert(x.0.id, nodes.len() as Id);
            nodes.push(node);
        }
        let id = |x: &Tensor| *number.entry(x.0.id).or_insert_with(|| place(x, &mut nodes, &mut bindings.leaves));
        let roots = roots.iter().map(id).collect();
        (Graph { nodes, roots }, bindings)
    }

    /// The node of number `id`.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Operand `k` of node `id`.
    pub fn src(&self, id: Id, k: usize) -> Id {
        self.node(id).src[k]
    }

    /// The structural hash.
    pub fn structure(&self) -> u64 {
        let mut h = Mix::default();
        self.nodes.hash(&mut h);
        self.roots.hash(&mut h);
        h.finish()
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.nodes.iter().enumerate() {
            write!(f, "%{id} = {}", node.op)?;
            if matches!(node.op, Op::Data | Op::Input(_)) {
                write!(f, " {}", node.leaf)?;
            }
            for src in &node.src {
                write!(f, " %{src}")?;
            }
            writeln!(f, " : {} {}", node.dtype, node.shape)?;
        }
        let roots: Vec<String> = self.roots.iter().map(|r| format!("%{r}")).collect();
        writeln!(f, "return {}", roots.join(" "))
    }
}

/// A fast hash for keys that nobody chooses to collide: multiply and rotate. Equal hashes are
/// always followed by a comparison.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(26) ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}
