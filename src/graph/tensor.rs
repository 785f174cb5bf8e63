//! [`Tensor`], the handle, and [`Node`], what it points to.
//!
//! Knows how a node is made, kept and dropped; not what its op means.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::dtype::{DType, Number};
use crate::error::{Error, ErrorKind};
use crate::graph::device::{Device, HostData, Storage};
use crate::graph::op::{Fault, Op};
use crate::graph::source::ALL_KERNELS;
use crate::shape::Shape;

/// An n-dimensional array on a device: a cheap handle on a node of a lazy graph.
///
/// Ops build graph and run nothing; reading ([`Tensor::to_vec`], [`Tensor::item`]) or
/// [`Tensor::realize`] computes. Cloning copies the handle, never the elements.
#[derive(Clone)]
pub struct Tensor(pub(crate) Arc<Node>);

/// One value of the graph.
pub struct Node {
    pub(crate) id: u64,
    pub(crate) op: Op,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    /// Whether a tracked leaf is among what this was computed from.
    pub(crate) tracked: bool,
    /// The oldest node that a gradient could reach through this one.
    pub(crate) oldest: u64,
    pub(crate) at: &'static Location<'static>,
    state: Mutex<State>,
}

/// A node's operands; seldom more than two.
pub(crate) type Operands = SmallVec<[Tensor; 2]>;

struct State {
    src: Operands,
    value: Option<Arc<dyn Storage>>,
    /// The operands were let go after the value was computed.
    released: bool,
}

/// Creation numbers: unique in the process and ascending, so that operands precede their users.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A fresh number from the same sequence as node ids.
pub(crate) fn fresh_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Tensor {
    /// A node of `op` over `src`; operands are taken as checked by the caller.
    #[track_caller]
    pub(crate) fn node(op: Op, src: Operands, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        Tensor::made(op, src, shape, dtype, device, Location::caller())
    }

    /// The same op from the same line of the user's over other operands, which are like its own.
    pub(crate) fn over(&self, src: Operands) -> Tensor {
        Tensor::made(self.0.op.clone(), src, self.0.shape, self.0.dtype, &self.0.device, self.0.at)
    }

    fn made(
        op: Op,
        src: Operands,
        shape: Shape,
        dtype: DType,
        device: &Device,
        at: &'static Location<'static>,
    ) -> Tensor {
        let tracked = match op {
            Op::Detach => false,
            Op::Tracked => true,
            _ => src.iter().any(|x| x.0.tracked),
        };
        let id = fresh_id();
        let passes = dtype.is_float() && !matches!(op, Op::Detach | Op::Tracked);
        let oldest = src.iter().filter(|_| passes).map(|x| x.0.oldest).min().unwrap_or(id);
        Tensor(Arc::new(Node {
            id,
            op,
            shape,
            dtype,
            device: device.clone(),
            tracked,
            oldest,
            at,
            state: Mutex::new(State { src, value: None, released: false }),
        }))
    }

    /// A leaf with elements in some memory.
    #[track_caller]
    pub(crate) fn leaf(value: Arc<dyn Storage>, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        let x = Tensor::node(Op::Data, Operands::new(), shape, dtype, device);
        x.0.lock().value = Some(value);
        x
    }

    /// A leaf with elements in the host's memory; a device copies them when it first needs them.
    #[track_caller]
    pub(crate) fn host(mut bytes: Vec<u8>, shape: Shape, dtype: DType, device: &Device) -> Tensor {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Tensor::leaf(Arc::new(HostData(Arc::new(bytes))), shape, dtype, device)
    }

    /// The invalid tensor of a mistake in `op`.
    #[track_caller]
    pub(crate) fn invalid(op: &str, fact: impl Into<String>, device: &Device) -> Tensor {
        let error = Error::new(ErrorKind::Operand, op, fact).at(Location::caller());
        Tensor::from_error(error, device)
    }

    /// The invalid tensor that stands for `error`.
    #[track_caller]
    pub fn from_error(error: Error, device: &Device) -> Tensor {
        Tensor::node(Op::Invalid(Fault(error)), Operands::new(), Shape::SCALAR, DType::F32, device)
    }

    /// The first mistake this tensor was built on, if any.
    pub fn error(&self) -> Option<&Error> {
        match &self.0.op {
            Op::Invalid(Fault(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether no mistake is among what this tensor was built on.
    pub fn is_valid(&self) -> bool {
        self.error().is_none()
    }

    /// The tensor itself, or the error it stands for.
    pub fn check(&self) -> Result<&Tensor, Error> {
        self.error().map_or(Ok(self), |error| Err(error.clone()))
    }

    /// The shape; a scalar's when the tensor is invalid.
    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.0.shape.dims()
    }

    /// The size along `axis` (from the end when negative); 0 when there is no such axis or the
    /// tensor is invalid.
    pub fn dim(&self, axis: isize) -> usize {
        self.0.shape.dim(axis).unwrap_or(0)
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        self.0.shape.rank()
    }

    /// How many elements there are.
    pub fn numel(&self) -> usize {
        self.0.shape.numel()
    }

    /// The dtype of the elements.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The device the elements are on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Runs `f` on the dimensions of a valid tensor of rank `N`; otherwise gives an invalid tensor.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::ones([2, 3, 4], &Device::cpu());
    /// let y = x.with_dims(|[b, t, c]| x.reshape([b * t, c]));
    /// assert_eq!(y.dims(), [6, 4]);
    /// ```
    #[track_caller]
    pub fn with_dims<const N: usize>(&self, f: impl FnOnce([usize; N]) -> Tensor) -> Tensor {
        if !self.is_valid() {
            return self.clone();
        }
        match <[usize; N]>::try_from(self.dims()) {
            Ok(dims) => f(dims),
            Err(_) => {
                let fact = format!("{N} dimensions are needed, but the shape is {}", self.shape());
                Tensor::invalid("with_dims", fact, self.device())
            }
        }
    }

    /// Runs `f` on the operands.
    pub(crate) fn with_src<R>(&self, f: impl FnOnce(&[Tensor]) -> R) -> R {
        f(&self.0.lock().src)
    }

    /// Runs `f` on the operands, unless the elements have been computed.
    pub(crate) fn with_open_src<R>(&self, f: impl FnOnce(&[Tensor]) -> R) -> Option<R> {
        let state = self.0.lock();
        state.value.is_none().then(|| f(&state.src))
    }

    /// The operands; none when they were released.
    pub(crate) fn src(&self) -> Operands {
        self.0.lock().src.clone()
    }

    /// The elements, when they have been computed.
    pub(crate) fn value(&self) -> Option<Arc<dyn Storage>> {
        self.0.lock().value.clone()
    }

    /// Whether the elements have been computed.
    pub fn is_realized(&self) -> bool {
        self.0.lock().value.is_some()
    }

    /// Whether the operands were let go after the elements were computed.
    pub(crate) fn is_released(&self) -> bool {
        self.0.lock().released
    }

    /// Stores the computed elements and, unless the node is tracked, lets the operands go.
    pub(crate) fn set_value(&self, value: Arc<dyn Storage>) {
        self.0.lock().value = Some(value);
        if !self.0.tracked {
            self.release();
        }
    }

    /// Takes the elements of a leaf that is about to be overwritten.
    pub(crate) fn take_value(&self) -> Option<Arc<dyn Storage>> {
        self.0.lock().value.take()
    }

    /// Lets the operands go; a gradient can no longer pass.
    pub(crate) fn release(&self) {
        let src = {
            let mut state = self.0.lock();
            if state.value.is_none() || state.src.is_empty() {
                return;
            }
            state.released = true;
            std::mem::take(&mut state.src)
        };
        // Dropped outside the lock: an operand's own drop may be long.
        drop(src);
    }
}

impl Node {
    /// Whether it was given its elements, and nobody else has a hand on them.
    pub(super) fn is_alone(&self) -> bool {
        let state = self.lock();
        state.src.is_empty() && state.value.as_ref().is_some_and(|value| Arc::strong_count(value) == 1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned one still holds good data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Functions of the user's that a drop under way leaves to its end, for they may hold nodes again; and
    /// whether there is one.
    static LEFT: RefCell<(Vec<Op>, bool)> = const { RefCell::new((Vec::new(), false)) };
}

/// The outermost of the drops under way.
struct Outermost<'l>(&'l RefCell<(Vec<Op>, bool)>);

impl Drop for Outermost<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().1 = false;
    }
}

/// Drops functions one after another: those that are met meanwhile in the outermost call.
fn drop_functions(mut functions: Vec<Op>) {
    // Without an answer the thread is at its end.
    let _ = LEFT.try_with(|left| {
        left.borrow_mut().0.append(&mut functions);
        if !std::mem::replace(&mut left.borrow_mut().1, true) {
            // Also where one of them panics.
            let _end = Outermost(left);
            let next = || left.borrow_mut().0.pop();
            while let Some(function) = next() {
                drop(function);
            }
        }
    });
}

impl Drop for Node {
    /// Drops long chains without recursion.
    fn drop(&mut self) {
        let mut doomed: Vec<Tensor> = Vec::new();
        let mut functions = Vec::new();
        let mut open = |doomed: &mut Vec<Tensor>, node: &mut Node| {
            if ALL_KERNELS && matches!(node.op, Op::Block(_)) {
                functions.push(std::mem::replace(&mut node.op, Op::Detach));
            }
            let state = node.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            while let Some(x) = state.src.pop() {
                doomed.push(x);
            }
        };
        open(&mut doomed, self);
        while let Some(Tensor(mut node)) = doomed.pop() {
            // A node is large: it is moved only where another thread lets go of it at the same time.
            match Arc::get_mut(&mut node) {
                Some(node) => open(&mut doomed, node),
                None => {
                    if let Some(mut node) = Arc::into_inner(node) {
                        open(&mut doomed, &mut node);
                    }
                }
            }
        }
        if ALL_KERNELS && !functions.is_empty() {
            drop_functions(functions);
        }
    }
}

/// What may stand beside a tensor in an op: a tensor, owned or borrowed, or a number.
pub trait Operand {
    /// This operand as a tensor beside `like`: a number takes its device and promoted dtype.
    fn operand(&self, like: &Tensor) -> Tensor;
}

impl Operand for Tensor {
    fn operand(&self, _: &Tensor) -> Tensor {
        self.clone()
    }
}
impl Operand for &Tensor {
    fn operand(&self, _: &Tensor) -> Tensor {
        (*self).clone()
    }
}
impl Operand for Number {
    #[track_caller]
    fn operand(&self, like: &Tensor) -> Tensor {
        let dtype = self.promote(like.dtype());
        Tensor::node(Op::Const(*self), Operands::new(), Shape::SCALAR, dtype, like.device())
    }
}

macro_rules! number_operand {
    ($($t:ty),*) => {$(
        impl Operand for $t {
            #[track_caller]
            fn operand(&self, like: &Tensor) -> Tensor {
                Number::from(*self).operand(like)
            }
        }
    )*};
}
number_operand!(f64, f32, half::f16, half::bf16, i64, i32, u32, u8, bool);

/// The invalid tensor that stands for the error.
impl From<Error> for Tensor {
    #[track_caller]
    fn from(error: Error) -> Tensor {
        Tensor::from_error(error, &Device::nowhere())
    }
}
