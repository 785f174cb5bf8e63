//! [`Params`]: the store of every weight of a model, by path, and [`Param`], a cell in it.
//!
//! A module holds `Param`s; a formula that uses one takes its present value, and an optimizer puts
//! new values into the cells. Weights that an optimizer steps together lie in one flat tensor, a
//! slab, and each is a slice of it. Knows nothing of modules, optimizers or files.

mod gradients;
pub mod init;
mod pass;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use gradients::Gradients;
pub use init::Init;
pub use pass::Pass;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::mix::Ids;
use crate::graph::tensor::Tensor;
use crate::shape::{Dims, shape_of};

/// Every weight and running statistic of a model, by path; or, after [`Params::at`], those below one.
///
/// Cheap to clone: a clone is another handle on the same store.
///
/// ```
/// # use wgrad::prelude::*;
/// let params = Params::new(&Device::cpu(), 42);
/// let block = params.at("block.0");
/// let w = block.weight("fc.weight", [3, 2], Init::XavierUniform { gain: 1.0 });
/// assert_eq!(w.path(), "block.0.fc.weight");
/// assert_eq!((params.len(), params.count()), (1, 6));
/// ```
#[derive(Clone)]
pub struct Params {
    store: Arc<Store>,
    prefix: Arc<str>,
}

/// A cell of the store: one weight or one running statistic.
#[derive(Clone)]
pub struct Param {
    store: Arc<Store>,
    index: usize,
}

struct Store {
    device: Device,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    by_path: BTreeMap<String, usize>,
    /// Passes begun in training: what makes each one's random numbers its own.
    passes: u64,
    /// Weights that lie one after another in one tensor.
    slabs: Vec<(Vec<usize>, Tensor)>,
    live: Vec<std::sync::Weak<pass::Collected>>,
    /// How to find what passes recorded, once one did: a program without such statistics is spared it.
    newest: Option<fn(&State, &Param) -> Option<Tensor>>,
}

struct Entry {
    path: String,
    kind: Kind,
    frozen: bool,
    /// The present value: tracked when it is a weight.
    value: Tensor,
    /// The number of the first value.
    first: u64,
}

/// What a cell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learned by an optimizer.
    Weight,
    /// Kept by a module, as running statistics are.
    Buffer,
}

impl Entry {
    fn is_trained(&self) -> bool {
        self.kind == Kind::Weight && !self.frozen
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Params {
    /// An empty store; the same seed gives the same weights and random numbers everywhere.
    pub fn new(device: &Device, seed: u64) -> Params {
        let store = Store { device: device.clone(), seed, state: Mutex::default() };
        Params { store: Arc::new(store), prefix: "".into() }
    }

    /// The part of the store below `path`, where a module puts its weights.
    pub fn at(&self, path: impl fmt::Display) -> Params {
        Params { store: self.store.clone(), prefix: self.path(&path.to_string()).into() }
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// The device the weights are on.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    /// The seed of weights and random numbers.
    pub fn seed(&self) -> u64 {
        self.store.seed
    }

    /// A new weight of `dims`, with its first value from `init`.
    ///
    /// A path that is taken, or a shape that cannot be, makes a weight whose value is the error.
    #[track_caller]
    pub fn weight(&self, name: &str, dims: impl Dims, init: Init) -> Param {
        self.made(self.path(name), &dims, init)
    }

    #[track_caller]
    fn made(&self, path: String, dims: &dyn Dims, init: Init) -> Param {
        let value = match shape_of(dims) {
            Ok(shape) => init.tensor(&shape, self.store.seed, &path, &self.store.device),
            Err(fact) => Tensor::invalid("weight", format!("{path}: {fact}"), &self.store.device),
        };
        self.insert("weight", path, Kind::Weight, value)
    }

    /// A new running statistic, beginning as `value`; saved with the weights, never learned.
    #[track_caller]
    pub fn buffer(&self, name: &str, value: &Tensor) -> Param {
        // Elements in memory stay the leaf that they are: the first step is then a graph like the next.
        let leaf = value.is_realized() && !value.0.tracked;
        let value = if leaf { value.clone() } else { value.detach() };
        self.insert("buffer", self.path(name), Kind::Buffer, value)
    }

    /// Makes `name` another path of `param`: the two share one value, one gradient, one update.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// let table = params.weight("embedding.weight", [10, 4], Init::Normal { mean: 0.0, std: 1.0 });
    /// let head = params.at("head").tie("weight", &table);
    /// assert_eq!((head.path(), params.count()), ("embedding.weight".to_string(), 40));
    /// ```
    #[track_caller]
    pub fn tie(&self, name: &str, param: &Param) -> Param {
        let path = self.path(name);
        let mut state = self.store.lock();
        let same = self.holds(param);
        if !same || state.by_path.contains_key(&path) {
            let fact = if same { "is taken already" } else { "cannot be tied to a weight of another store" };
            let error = Tensor::invalid("tie", format!("{path} {fact}"), &self.store.device);
            drop(state);
            return self.insert("tie", format!("{path} (refused)"), Kind::Buffer, error);
        }
        state.by_path.insert(path, param.index);
        param.clone()
    }

    #[track_caller]
    fn insert(&self, word: &str, path: String, kind: Kind, value: Tensor) -> Param {
        let mut state = self.store.lock();
        let index = state.entries.len();
        let (path, value) = match state.by_path.contains_key(&path) {
            // It stands in the table of contents, beside the one that has the path.
            true => {
                let error = Tensor::invalid(word, format!("{path} is taken already"), &self.store.device);
                (format!("{path} (refused)"), error)
            }
            false => (path, value),
        };
        let value = if kind == Kind::Weight { value.tracked() } else { value };
        state.by_path.entry(path.clone()).or_insert(index);
        let first = value.0.id;
        state.entries.push(Entry { path, kind, frozen: false, value, first });
        Param { store: self.store.clone(), index }
    }

    /// The cells below here, in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = Param> + use<> {
        let state = self.store.lock();
        let below: Vec<usize> = (0..state.entries.len()).filter(|&k| self.covers(&state.entries[k].path)).collect();
        drop(state);
        let store = self.store.clone();
        below.into_iter().map(move |index| Param { store: store.clone(), index })
    }

    /// The weights below here that an optimizer moves.
    pub(crate) fn trained(&self) -> Vec<Param> {
        self.iter().filter(Param::is_trained).collect()
    }

    /// How many there are.
    pub(crate) fn count_trained(&self) -> usize {
        let state = self.store.lock();
        state.entries.iter().filter(|entry| entry.is_trained() && self.covers(&entry.path)).count()
    }

    fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.prefix);
        self.prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The cell of `path`, counted from here.
    pub fn get(&self, path: &str) -> Option<Param> {
        let index = self.store.lock().by_path.get(&self.path(path)).copied()?;
        Some(Param { store: self.store.clone(), index })
    }

    /// Every path below here with its cell, tied ones too, by name.
    pub fn paths(&self) -> Vec<(String, Param)> {
        let state = self.store.lock();
        let named = state.by_path.iter().filter(|(path, _)| self.covers(path));
        named.map(|(path, &index)| (path.clone(), Param { store: self.store.clone(), index })).collect()
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many numbers the weights have, frozen ones too; running statistics do not count.
    pub fn count(&self) -> usize {
        self.iter().filter(|p| p.kind() == Kind::Weight).map(|p| p.value().numel()).sum()
    }

    /// Stops training the weights whose whole path matches `pattern`, where `*` stands for anything;
    /// gives how many there are. Freeze before making an optimizer.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let params = Params::new(&Device::cpu(), 42);
    /// params.weight("trunk.0.weight", [3], Init::Zeros);
    /// params.weight("head.weight", [3], Init::Zeros);
    /// assert_eq!(params.freeze("trunk.*"), 1);
    /// ```
    pub fn freeze(&self, pattern: &str) -> usize {
        self.set_frozen(pattern, true)
    }

    /// Trains the weights that match `pattern` again; gives how many there are.
    pub fn unfreeze(&self, pattern: &str) -> usize {
        self.set_frozen(pattern, false)
    }

    fn set_frozen(&self, pattern: &str, frozen: bool) -> usize {
        let pattern = self.path(pattern);
        let mut state = self.store.lock();
        let weights = state.entries.iter_mut().filter(|e| e.kind == Kind::Weight && matches(&pattern, &e.path));
        weights.map(|entry| entry.frozen = frozen).count()
    }

    /// How many training passes were begun: the state of the random numbers.
    pub fn passes(&self) -> u64 {
        self.store.lock().passes
    }

    /// Sets how many training passes were begun, when a run goes on from a checkpoint.
    pub fn set_passes(&self, passes: u64) {
        self.store.lock().passes = passes;
    }

    /// Gives cells new values, all or none; each is cast to the dtype of its cell.
    pub fn assign<'a>(&self, values: impl IntoIterator<Item = (&'a Param, Tensor)>) -> Result<()> {
        self.assign_all(values.into_iter().collect())
    }

    fn assign_all(&self, values: Vec<(&Param, Tensor)>) -> Result<()> {
        let mut found: Vec<(usize, Tensor)> = Vec::new();
        for (param, value) in values {
            let old = param.value();
            let path = param.path();
            value.check()?;
            if !self.holds(param) {
                return Err(wrong("assign", format!("{path} is of another store")));
            }
            if value.shape() != old.shape() {
                let fact = format!("{path} has shape {}, the new value {}", old.shape(), value.shape());
                return Err(wrong("assign", fact));
            }
            found.push((param.index, value.cast(old.dtype()).to_device(&self.store.device).detach()));
        }
        crate::realize(found.iter().map(|(_, value)| value))?;
        let mut state = self.store.lock();
        state.slabs.retain(|(members, _)| !found.iter().any(|(index, _)| members.contains(index)));
        for (index, value) in found {
            let entry = &mut state.entries[index];
            entry.value = if entry.kind == Kind::Weight { value.tracked() } else { value };
        }
        Ok(())
    }

    /// The weights `members` one after another in one flat tensor.
    pub(crate) fn flat(&self, members: &[Param]) -> Result<Tensor> {
        let key: Vec<usize> = members.iter().map(|p| p.index).collect();
        if let Some((_, slab)) = self.store.lock().slabs.iter().find(|(known, _)| *known == key) {
            return Ok(slab.clone());
        }
        let parts: Vec<Tensor> = members.iter().map(|p| p.value().reshape(-1)).collect();
        let slab = Tensor::cat(&parts, 0).detach();
        slab.realize()?;
        self.put_flat(members, &slab);
        Ok(slab)
    }

    /// Makes slices of `slab` the values of `members`.
    pub(crate) fn put_flat(&self, members: &[Param], slab: &Tensor) {
        self.cells().put_flat(members, slab);
    }

    /// Whether `param` is a cell of this store.
    pub(crate) fn holds(&self, param: &Param) -> bool {
        Arc::ptr_eq(&self.store, &param.store)
    }

    /// The cells, which nobody else reads or writes meanwhile.
    pub(crate) fn cells(&self) -> Cells<'_> {
        Cells(self.store.lock())
    }
}

/// The cells of a store, held still.
pub(crate) struct Cells<'s>(MutexGuard<'s, State>);

impl Cells<'_> {
    /// Every handle that the store has on the values of `params`.
    pub fn handles(&self, params: &[&Param]) -> Vec<&Tensor> {
        let among: Ids = params.iter().map(|param| param.index as u64).collect();
        let own = (0..).zip(&self.0.entries).filter(|(k, _)| among.contains(k)).map(|(_, entry)| &entry.value);
        let slabs = self.0.slabs.iter().filter(|(members, _)| members.iter().any(|&k| among.contains(&(k as u64))));
        own.chain(slabs.map(|(_, slab)| slab)).collect()
    }

    /// What training passes collected since the last step: running statistics and their new values.
    pub fn collected(&self) -> Vec<(Param, Tensor)> {
        let mut all = Vec::new();
        for pass in self.0.live.iter().filter_map(std::sync::Weak::upgrade) {
            all.append(&mut pass.take());
        }
        all
    }

    /// Puts a computed value into a running statistic, unless it has a newer one: another pass went on
    /// from this value.
    pub fn put(&mut self, param: &Param, value: &Tensor) {
        let entry = &mut self.0.entries[param.index];
        if entry.value.0.id < value.0.id {
            entry.value = value.clone();
        }
    }

    /// Makes slices of `slab` the values of `members`.
    pub fn put_flat(&mut self, members: &[Param], slab: &Tensor) {
        let key: Vec<usize> = members.iter().map(|p| p.index).collect();
        let tracked = slab.tracked();
        let state = &mut *self.0;
        let mut start = 0;
        for &index in &key {
            let entry = &mut state.entries[index];
            let n = entry.value.numel();
            entry.value = tracked.narrow(0, start, n).reshape(entry.value.dims());
            start += n;
        }
        state.slabs.retain(|(known, _)| !known.iter().any(|index| key.contains(index)));
        state.slabs.push((key, slab.clone()));
    }
}

impl Param {
    /// The path of the cell.
    pub fn path(&self) -> String {
        self.with(|entry| entry.path.clone())
    }

    /// Whether it is learned or kept.
    pub fn kind(&self) -> Kind {
        self.with(|entry| entry.kind)
    }

    /// Whether it is left out of training.
    pub fn is_frozen(&self) -> bool {
        self.with(|entry| entry.frozen)
    }

    /// Whether an optimizer moves it.
    pub fn is_trained(&self) -> bool {
        self.with(Entry::is_trained)
    }

    /// The present value, for a formula: a gradient reaches it in a training pass only.
    pub fn tensor(&self, pass: &Pass) -> Tensor {
        let leaf = self.leaf();
        match pass.newest(self) {
            Some(recorded) if recorded.0.id > leaf.0.id => recorded,
            _ if pass.is_train() && self.is_trained() => leaf,
            _ => leaf.detach(),
        }
    }

    /// The present value, which no gradient reaches.
    pub fn value(&self) -> Tensor {
        self.leaf().detach()
    }

    /// The tensor that gradients are taken by.
    pub(crate) fn leaf(&self) -> Tensor {
        self.with(|entry| entry.value.clone())
    }

    /// Whether it was there when `y` was built.
    pub(crate) fn is_older_than(&self, y: &Tensor) -> bool {
        self.with(|entry| entry.first < y.0.id)
    }

    fn with<R>(&self, f: impl FnOnce(&Entry) -> R) -> R {
        f(&self.store.lock().entries[self.index])
    }
}

impl PartialEq for Param {
    /// Whether they are the same cell.
    fn eq(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.store, &other.store) && self.index == other.index
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Param({}: {:?})", self.path(), self.value())
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for anything.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn wrong(word: &str, fact: String) -> Error {
    Error::new(ErrorKind::Operand, word, fact)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("trunk.*", "trunk.0.weight") && matches("*.bias", "a.b.bias") && matches("*", ""));
        assert!(matches("a.*.c*", "a.b.c.d") && matches("exact", "exact") && matches("a*a", "aa"));
        assert!(!matches("trunk.*", "head.weight") && !matches("exact", "exactly") && !matches("a*a", "a"));
    }
}
