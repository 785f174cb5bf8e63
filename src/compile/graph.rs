//! [`Graph`]: the reachable graph as a flat vector, operands before their users, and its hash.
//!
//! What differs from run to run without a new plan (elements, runtime scalars, the numbers of
//! regions) is kept out of it, so that two steps of a training loop have equal graphs. Equality
//! and hash are what the plan cache goes by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::compile::plan::Plan;
use crate::dtype::DType;
use crate::graph::below::Met;
use crate::graph::device::Storage;
use crate::graph::mix::{ById, Mix};
use crate::graph::op::{Block, Gradient, Op, Region};
use crate::graph::source::ALL_KERNELS;
use crate::graph::tensor::Tensor;
use crate::shape::Shape;

/// A node's number in its graph.
pub type Id = u32;
/// The operands of a node.
pub type Operands = SmallVec<[Id; 4]>;

/// A flat graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Nodes, operands first.
    pub nodes: Vec<Node>,
    /// What is to be computed.
    pub roots: Vec<Id>,
    /// The numbers of leaves whose elements nobody wants after the run.
    pub dying: Vec<usize>,
}

/// One node of a flat graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// The primitive.
    pub op: Op,
    /// Its operands.
    pub src: Operands,
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

impl Bindings {
    /// The leaves that `plan` overwrites.
    pub fn overwritten(&self, plan: &Plan) -> impl Iterator<Item = &Tensor> {
        let overwritten = if ALL_KERNELS { &plan.overwritten[..] } else { &[] };
        overwritten.iter().filter_map(|&n| self.leaves.get(*plan.leaves.get(n)?))
    }

    /// Takes what `plan` overwrites from its tensors, `held` being the elements of the plan's leaves;
    /// where another thread reads one of them at this moment, it takes nothing and says `false`.
    pub fn take<S: Storage>(&self, plan: &Plan, held: &[Arc<S>]) -> bool {
        self.overwritten(plan).for_each(|leaf| drop(leaf.take_value()));
        let overwritten = if ALL_KERNELS { &plan.overwritten[..] } else { &[] };
        let ours = overwritten.iter().filter_map(|&n| held.get(n)).all(|held| Arc::strong_count(held) == 1);
        if !ours {
            self.give_back(plan, held);
        }
        ours
    }

    /// Undoes [`Bindings::take`].
    pub fn give_back<S: Storage>(&self, plan: &Plan, held: &[Arc<S>]) {
        for (leaf, held) in self.overwritten(plan).zip(plan.overwritten.iter().filter_map(|&n| held.get(n))) {
            leaf.set_value(held.clone());
        }
    }
}

impl Graph {
    /// The graph below `roots`, down to tensors whose elements are known.
    pub fn flatten(roots: &[Tensor]) -> (Graph, Bindings) {
        let mut met = Met::default();
        let roots: Vec<usize> = roots.iter().map(|x| met.place(x)).collect();
        met.follow(true);
        let all = met.tensors.iter().zip(0..).map(|(x, k)| (x.0.id, k));
        let mut order: Vec<(u64, usize)> = all.filter(|(_, k)| met.src[*k].is_some()).collect();
        order.sort_unstable();

        let mut regions: ById<usize> = ById::default();
        let mut nodes: Vec<Node> = Vec::with_capacity(met.tensors.len());
        let mut bindings = Bindings::default();
        let mut ids: Vec<Option<Id>> = vec![None; met.tensors.len()];
        // A leaf stands before its first user: when it was made says nothing about the formula.
        let mut id = |k: usize, nodes: &mut Vec<Node>, ids: &mut [Option<Id>]| {
            *ids[k].get_or_insert_with(|| {
                let x = &met.tensors[k];
                let leaf = bindings.leaves.len();
                bindings.leaves.push(x.clone());
                let (shape, dtype, at) = (*x.shape(), x.dtype(), x.0.at);
                nodes.push(Node { op: Op::Data, src: Operands::new(), shape, dtype, leaf, at });
                nodes.len() as Id - 1
            })
        };
        for (_, k) in order {
            let x = &met.tensors[k];
            // A step on another thread has just taken its elements: asked for as a leaf's, they are an error.
            if ALL_KERNELS && met.operands(k).is_empty() && (matches!(x.0.op, Op::Data) || x.is_released()) {
                id(k, &mut nodes, &mut ids);
                continue;
            }
            let mut src = Operands::new();
            met.operands(k).iter().for_each(|&s| src.push(id(s, &mut nodes, &mut ids)));
            let mut leaf = 0;
            let op = match &x.0.op {
                Op::Input(value) => {
                    leaf = bindings.scalars.len();
                    bindings.scalars.push(value.bits(x.dtype()));
                    Op::Input(crate::Number::Int(0))
                }
                Op::Fence(Region(region)) => {
                    let fresh = regions.len();
                    Op::Fence(Region(*regions.entry(*region).or_insert(fresh) as u64))
                }
                op => op.clone(),
            };
            ids[k] = Some(nodes.len() as Id);
            nodes.push(Node { op, src, shape: *x.shape(), dtype: x.dtype(), leaf, at: x.0.at });
        }
        let roots = roots.iter().map(|&k| id(k, &mut nodes, &mut ids)).collect();
        (Graph { nodes, roots, dying: Vec::new() }, bindings)
    }

    /// Says of which of its leaves nobody wants the elements after the run.
    pub fn let_die(&mut self, bindings: &Bindings, dies: impl Fn(&Tensor) -> bool) {
        if !ALL_KERNELS {
            return;
        }
        self.dying = (0..).zip(&bindings.leaves).filter(|(_, leaf)| dies(leaf)).map(|(n, _)| n).collect();
    }

    /// Lets go of what functions of the user's hold: for a plan, a block's name says all.
    pub fn let_go(&mut self) {
        for node in self.nodes.iter_mut().filter(|_| ALL_KERNELS) {
            if let Op::Block(block) = &mut node.op {
                *block = Block(Arc::new(Named(block.0.name().into())));
            }
        }
    }

    /// The node of number `id`.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Operand `k` of node `id`.
    pub fn src(&self, id: Id, k: usize) -> Id {
        self.node(id).src[k]
    }

    /// The last fence that each node is behind, by number from 1; 0 where there is none.
    pub fn regions(&self) -> Vec<u64> {
        let mut regions: Vec<u64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let below = node.src.iter().map(|&s| regions[s as usize]).max().unwrap_or(0);
            regions.push(if let Op::Fence(Region(n)) = node.op { below.max(n + 1) } else { below });
        }
        regions
    }

    /// The structural hash.
    pub fn structure(&self) -> u64 {
        let mut h = Mix::default();
        self.nodes.hash(&mut h);
        self.roots.hash(&mut h);
        self.dying.hash(&mut h);
        h.finish()
    }
}

/// The name of a block, whose gradient nobody will ask for.
struct Named(Box<str>);

impl Gradient for Named {
    fn name(&self) -> &str {
        &self.0
    }

    fn gradient(
        &self,
        _: &[Tensor],
        _: &Tensor,
        _: &Tensor,
        _: &dyn Fn() -> Vec<Option<Tensor>>,
    ) -> Vec<Option<Tensor>> {
        Vec::new()
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
