//! [`Graph`]: the reachable graph as a flat vector, operands before their users, and its hash.
//!
//! What differs from run to run without a new plan (elements, runtime scalars, the numbers of
//! regions) is kept out of it, so that two steps of a training loop have equal graphs. Equality
//! and hash are what the plan cache goes by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;

use crate::dtype::DType;
use crate::graph::mix::{ById, Mix};
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
        // What was met, by number in this graph once it has one.
        let mut number: ById<Option<Id>> = ById::default();
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut open: Vec<Tensor> = roots.to_vec();
        while let Some(x) = open.pop() {
            if number.insert(x.0.id, None).is_some() || x.is_realized() {
                continue;
            }
            x.with_src(|src| open.extend(src.iter().cloned()));
            tensors.push(x);
        }
        let mut order: Vec<(u64, usize)> = tensors.iter().zip(0..).map(|(x, k)| (x.0.id, k)).collect();
        order.sort_unstable();

        let mut regions: ById<usize> = ById::default();
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
        for x in order.iter().map(|&(_, k)| &tensors[k]) {
            let mut node = bare(x);
            x.with_src(|src| {
                let id = |s: &Tensor| {
                    *number.entry(s.0.id).or_default().get_or_insert_with(|| place(s, &mut nodes, &mut bindings.leaves))
                };
                node.src = src.iter().map(id).collect();
            });
            node.op = match &x.0.op {
                // Another thread computed it meanwhile, and its operands may be gone.
                _ if x.is_realized() => {
                    node.src.clear();
                    node.leaf = bindings.leaves.len();
                    bindings.leaves.push(x.clone());
                    Op::Data
                }
                Op::Input(value) => {
                    node.leaf = bindings.scalars.len();
                    bindings.scalars.push(value.bits(x.dtype()));
                    Op::Input(crate::Number::Int(0))
                }
                Op::Fence(Region(region)) => {
                    let fresh = regions.len();
                    Op::Fence(Region(*regions.entry(*region).or_insert(fresh) as u64))
                }
                op => op.clone(),
            };
            number.insert(x.0.id, Some(nodes.len() as Id));
            nodes.push(node);
        }
        let id = |x: &Tensor| {
            *number.entry(x.0.id).or_default().get_or_insert_with(|| place(x, &mut nodes, &mut bindings.leaves))
        };
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
