//! What a dataset is, and the ones that are made of arrays or of other datasets.
//!
//! Knows samples on the host; batches on a device are the loader's.

use std::sync::Arc;

use crate::data::array::Array;
use crate::data::hash::FileHash;
use crate::data::order::{MOST, permutation};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;

/// One sample, or a batch of them along a first axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What a model is given.
    pub x: Array,
    /// What it should answer; [`Array::nothing`] where there is no label.
    pub y: Array,
}

/// A number of samples that can be had in any order.
///
/// ```
/// use wgrad::data::{Array, Dataset, Sample};
///
/// /// The squares of the numbers below 100.
/// struct Squares;
///
/// impl Dataset for Squares {
///     fn len(&self) -> usize {
///         100
///     }
///     fn get(&self, index: usize) -> wgrad::Result<Sample> {
///         let x = index as f32;
///         Ok(Sample { x: Array::new(&[x], [1])?, y: Array::new(&[x * x], [1])? })
///     }
/// }
///
/// assert_eq!(Squares.batch(&[3, 4])?.y.to_vec::<f32>()?, [9.0, 16.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;

    /// The sample at `index`, which is less than [`Dataset::len`]; always the same one.
    fn get(&self, index: usize) -> Result<Sample>;

    /// The samples at `indices` along a new first axis.
    fn batch(&self, indices: &[usize]) -> Result<Sample> {
        let samples = indices.iter().map(|&index| self.get(index)).collect::<Result<Vec<Sample>>>()?;
        let (x, y): (Vec<Array>, Vec<Array>) = samples.into_iter().map(|sample| (sample.x, sample.y)).unzip();
        Ok(Sample { x: Array::stack(&x)?, y: Array::stack(&y)? })
    }

    /// The files the samples came from, for the record of a run.
    fn files(&self) -> Vec<FileHash> {
        Vec::new()
    }

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This dataset with `f` applied to each sample, on the loader's worker.
    ///
    /// ```
    /// # use wgrad::data::*;
    /// let data = TensorDataset::of_arrays(Array::new(&[1u8, 2], [2, 1])?, Array::new(&[0, 1], [2])?)?;
    /// let data = data.map(|sample| {
    ///     let x: Vec<f32> = sample.x.to_vec::<u8>()?.iter().map(|&x| f32::from(x) / 255.0).collect();
    ///     Ok(Sample { x: Array::new(&x, [1])?, y: sample.y })
    /// });
    /// assert_eq!(data.get(1)?.x.to_vec::<f32>()?, [2.0 / 255.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    fn map<F: Fn(Sample) -> Result<Sample> + Send + Sync>(self, f: F) -> Map<Self, F>
    where
        Self: Sized,
    {
        Map { dataset: self, f }
    }
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn get(&self, index: usize) -> Result<Sample> {
        (**self).get(index)
    }
    fn batch(&self, indices: &[usize]) -> Result<Sample> {
        (**self).batch(indices)
    }
    fn files(&self) -> Vec<FileHash> {
        (**self).files()
    }
}

/// A dataset in memory: samples lie along the first axis of `x` and of `y`.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::data::{Dataset, TensorDataset};
/// let x = Tensor::new([[0.0, 1.0], [2.0, 3.0]], &Device::cpu());
/// let data = TensorDataset::new(&x, &Tensor::new([0, 1], &Device::cpu()))?;
/// assert_eq!((data.len(), data.get(1)?.x.to_vec::<f32>()?), (2, vec![2.0, 3.0]));
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorDataset {
    x: Array,
    y: Array,
    files: Vec<FileHash>,
}

impl TensorDataset {
    /// The samples of two tensors, copied to the host.
    pub fn new(x: &Tensor, y: &Tensor) -> Result<TensorDataset> {
        TensorDataset::of_arrays(Array::of_tensor(x)?, Array::of_tensor(y)?)
    }

    /// The samples of two arrays.
    pub fn of_arrays(x: Array, y: Array) -> Result<TensorDataset> {
        if x.shape().rank() == 0 || y.shape().rank() == 0 || x.len() != y.len() {
            let fact = format!("x {} and y {} have not as many samples", x.shape(), y.shape());
            return Err(Error::new(ErrorKind::Operand, "dataset", fact));
        }
        Ok(TensorDataset { x, y, files: Vec::new() })
    }

    /// Samples without labels: each `y` is empty.
    pub fn unlabelled(x: Array) -> Result<TensorDataset> {
        let y = Array::new::<u8>(&[], [x.len(), 0])?;
        TensorDataset::of_arrays(x, y)
    }

    /// The same samples, which came from `files`.
    pub fn with_files(mut self, files: Vec<FileHash>) -> TensorDataset {
        self.files = files;
        self
    }

    /// All inputs.
    pub fn x(&self) -> &Array {
        &self.x
    }

    /// All labels.
    pub fn y(&self) -> &Array {
        &self.y
    }
}

impl Dataset for TensorDataset {
    fn len(&self) -> usize {
        self.x.len()
    }
    fn get(&self, index: usize) -> Result<Sample> {
        match (self.x.row(index), self.y.row(index)) {
            (Some(x), Some(y)) => Ok(Sample { x, y }),
            _ => Err(out_of_range(index, self.len())),
        }
    }
    fn batch(&self, indices: &[usize]) -> Result<Sample> {
        Ok(Sample { x: self.x.rows(indices)?, y: self.y.rows(indices)? })
    }
    fn files(&self) -> Vec<FileHash> {
        self.files.clone()
    }
}

/// Some samples of a dataset, in an order of their own.
#[derive(Clone, Debug)]
pub struct Subset<D> {
    dataset: D,
    indices: Vec<usize>,
}

impl<D: Dataset> Subset<D> {
    /// The samples of `dataset` at `indices`.
    ///
    /// ```
    /// # use wgrad::data::*;
    /// let data = TensorDataset::unlabelled(Array::new(&[1, 2, 3], [3])?)?;
    /// assert_eq!(Subset::new(data, [2, 0])?.get(0)?.x.to_vec::<i32>()?, [3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn new(dataset: D, indices: impl IntoIterator<Item = usize>) -> Result<Subset<D>> {
        let indices: Vec<usize> = indices.into_iter().collect();
        match indices.iter().find(|&&index| index >= dataset.len()) {
            Some(&index) => Err(out_of_range(index, dataset.len())),
            None => Ok(Subset { dataset, indices }),
        }
    }

    fn index(&self, index: usize) -> Result<usize> {
        self.indices.get(index).copied().ok_or_else(|| out_of_range(index, self.indices.len()))
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn get(&self, index: usize) -> Result<Sample> {
        self.dataset.get(self.index(index)?)
    }
    fn batch(&self, indices: &[usize]) -> Result<Sample> {
        self.dataset.batch(&indices.iter().map(|&index| self.index(index)).collect::<Result<Vec<usize>>>()?)
    }
    fn files(&self) -> Vec<FileHash> {
        self.dataset.files()
    }
}

/// Two parts of a dataset without a common sample, the first with `first` of them, drawn by `seed`.
///
/// ```
/// # use wgrad::data::*;
/// let data = TensorDataset::unlabelled(Array::new(&[0; 10], [10])?)?;
/// let (train, test) = random_split(data, 8, 42)?;
/// assert_eq!((train.len(), test.len()), (8, 2));
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn random_split<D: Dataset>(dataset: D, first: usize, seed: u64) -> Result<(Subset<Arc<D>>, Subset<Arc<D>>)> {
    let n = dataset.len();
    if first > n || n > MOST {
        return Err(Error::new(ErrorKind::Operand, "random_split", format!("{first} of {n} samples")));
    }
    let mut indices = permutation(n, seed, 0);
    let (dataset, rest) = (Arc::new(dataset), indices.split_off(first));
    Ok((Subset { dataset: dataset.clone(), indices }, Subset { dataset, indices: rest }))
}

/// A dataset whose samples go through a function; made by [`Dataset::map`].
#[derive(Clone, Debug)]
pub struct Map<D, F> {
    dataset: D,
    f: F,
}

impl<D: Dataset, F: Fn(Sample) -> Result<Sample> + Send + Sync> Dataset for Map<D, F> {
    fn len(&self) -> usize {
        self.dataset.len()
    }
    fn get(&self, index: usize) -> Result<Sample> {
        (self.f)(self.dataset.get(index)?)
    }
    fn files(&self) -> Vec<FileHash> {
        self.dataset.files()
    }
}

fn out_of_range(index: usize, n: usize) -> Error {
    Error::new(ErrorKind::Operand, "dataset", format!("sample {index} of {n}"))
}
