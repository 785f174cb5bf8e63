//! [`KvCache`]: the keys and values of the positions a model has seen, for generation.
//!
//! Its capacity is fixed and positions are inputs of the graph, so that every step is the same
//! plan. Knows nothing of projections and heads beyond the shapes it is given.

use crate::device::realize::realize;
use crate::error::Result;
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;

/// Keys and values of all attentions of a model, for up to `capacity` positions.
///
/// A step calls the model's attentions with the cache, then [`KvCache::advance`]. Calls before
/// that see the same positions; a call that fails leaves the cache as it was.
///
/// ```
/// # use wgrad::prelude::*;
/// let device = Device::cpu();
/// let block = nn::TransformerBlock::new(&Params::new(&device, 42).at("block"), 8, 2).causal();
/// let mut cache = nn::KvCache::new(32, &device);
/// let pass = Pass::eval();
/// let y = block.forward_cached(&Tensor::ones([1, 5, 8], &device), &mut cache, &pass);
/// cache.advance([&y])?;
/// let y = block.forward_cached(&Tensor::ones([1, 1, 8], &device), &mut cache, &pass);
/// cache.advance([&y])?;
/// assert_eq!((cache.len(), y.dims()), (6, &[1, 1, 8][..]));
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct KvCache {
    device: Device,
    capacity: usize,
    len: usize,
    /// `len` as an input.
    start: Tensor,
    /// Keys and values `[n, heads, capacity, width]` by the path of their weight.
    kept: Vec<(String, [Tensor; 2])>,
    /// What they will be, and for how many positions more.
    fresh: Vec<(String, [Tensor; 2])>,
    added: usize,
}

impl KvCache {
    /// Room for `capacity` positions, none of them seen.
    #[track_caller]
    pub fn new(capacity: usize, device: &Device) -> KvCache {
        KvCache {
            device: device.clone(),
            capacity,
            len: 0,
            start: Tensor::input(0, device),
            kept: Vec::new(),
            fresh: Vec::new(),
            added: 0,
        }
    }

    /// How many positions were seen.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many positions there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets what was seen.
    #[track_caller]
    pub fn clear(&mut self) {
        *self = KvCache::new(self.capacity, &self.device);
    }

    /// The numbers of the next `t` positions, `i32 [t]`, for an embedding of positions.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let cache = nn::KvCache::new(32, &Device::cpu());
    /// assert_eq!(cache.positions(3).to_vec::<i32>()?, [0, 1, 2]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn positions(&self, t: usize) -> Tensor {
        Tensor::arange(0, t as i64, 1, &self.device) + &self.start
    }

    /// Computes `results` together with the keys and values they were made from, and goes on
    /// behind the positions that were added.
    pub fn advance<'a>(&mut self, results: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let added = std::mem::take(&mut self.added);
        let all: Vec<Tensor> =
            results.into_iter().cloned().chain(fresh.iter().flat_map(|(_, pair)| pair).cloned()).collect();
        realize(&all)?;
        fresh.into_iter().for_each(|(path, pair)| put(&mut self.kept, path, pair));
        self.len = self.len.saturating_add(added);
        self.start = Tensor::input(self.len as i64, &self.device);
        Ok(())
    }

    /// How many positions were seen, as an input.
    pub(super) fn start(&self) -> Tensor {
        self.start.clone()
    }

    /// All keys and values of `path` with those of the next positions `[n, heads, t, width]`; or
    /// why there are none.
    #[track_caller]
    pub(super) fn extend(&mut self, path: &str, k: &Tensor, v: &Tensor) -> std::result::Result<[Tensor; 2], Tensor> {
        let t = k.dim(2);
        let (len, capacity) = (self.len, self.capacity);
        let differs = !self.fresh.is_empty() && self.added != t && !self.fresh.iter().any(|(known, _)| known == path);
        let added = self.added;
        // The device is compared with the cache's own.
        Tensor::examine("kv_cache", &[&self.start, k, v], || {
            match len.checked_add(t) {
                Some(end) if end <= capacity => {}
                _ => return Err(format!("{t} positions after {len} are more than the capacity {capacity}")),
            }
            match differs {
                true => Err(format!("{t} positions where another attention added {added}")),
                false => Ok(()),
            }
        })?;
        let grown = match self.kept.iter().find(|(known, _)| known == path) {
            Some((_, [keys, values])) => [keys.update_at(2, &self.start, k), values.update_at(2, &self.start, v)],
            None => {
                let zeros = Tensor::zeros([k.dim(0), k.dim(1), capacity, k.dim(3)], &self.device).cast(k.dtype());
                [zeros.update_at(2, &self.start, k), zeros.update_at(2, &self.start, v)]
            }
        };
        if let Some(bad) = grown.iter().find(|x| !x.is_valid()) {
            return Err(bad.clone());
        }
        let [keys, values] = &grown;
        put(&mut self.fresh, path.to_string(), [keys.detach(), values.detach()]);
        self.added = t;
        Ok(grown)
    }

    /// Which of the cache's positions each of the next `t` sees: `[t, capacity]`.
    #[track_caller]
    pub(super) fn mask(&self, t: usize) -> Tensor {
        let all = Tensor::arange(0, self.capacity as i64, 1, &self.device);
        self.positions(t).reshape([t, 1]).ge(&all)
    }
}

/// Makes `pair` the keys and values of `path`.
fn put(all: &mut Vec<(String, [Tensor; 2])>, path: String, pair: [Tensor; 2]) {
    match all.iter_mut().find(|(known, _)| *known == path) {
        Some((_, old)) => *old = pair,
        None => all.push((path, pair)),
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache of {} positions, {} of them seen", self.capacity, self.len)
    }
}
