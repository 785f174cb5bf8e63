//! CIFAR-10 and CIFAR-100 in their binary version: records of labels and 3072 pixels.
//!
//! Also reads them gzipped. Knows one format of fixed size.

use std::path::Path;

use crate::data::array::Array;
use crate::data::dataset::TensorDataset;
use crate::data::hash::{FileHash, read_hashed};
use crate::dtype::DType;
use crate::error::Result;
use crate::io::file::fault_at;
use crate::io::inflate::plain;
use crate::shape::Shape;

const OP: &str = "cifar";
const PIXELS: usize = 3 * 32 * 32;

/// Which dataset, and which of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100 with its 100 fine labels.
    Hundred,
    /// CIFAR-100 with its 20 coarse labels.
    HundredCoarse,
}

impl CifarKind {
    /// Bytes before the pixels, which of them is the label, and how many classes there are.
    fn record(self) -> (usize, usize, u8) {
        match self {
            CifarKind::Ten => (1, 0, 10),
            CifarKind::Hundred => (2, 1, 100),
            CifarKind::HundredCoarse => (2, 0, 20),
        }
    }
}

/// Reads files of CIFAR's binary version, as `data_batch_1.bin` to `_5.bin`, one after the other.
///
/// `x` is `u8 [n, 3, 32, 32]`, `y` is `i32 [n]`.
///
/// ```no_run
/// # use wgrad::data::*;
/// let test = read_cifar(CifarKind::Ten, ["cifar-10-batches-bin/test_batch.bin"])?;
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn read_cifar<P: AsRef<Path>>(kind: CifarKind, paths: impl IntoIterator<Item = P>) -> Result<TensorDataset> {
    let (mut records, mut files) = (Records::default(), Vec::new());
    for path in paths {
        let path = path.as_ref();
        let (bytes, hash) = read_hashed(OP, path)?;
        records.read(kind, &path.display().to_string(), bytes)?;
        files.push(hash);
    }
    records.dataset(files)
}

/// Reads one file of CIFAR's binary version in memory; errors call it `name`.
pub fn cifar_from_bytes(kind: CifarKind, name: &str, bytes: Vec<u8>) -> Result<TensorDataset> {
    let mut records = Records::default();
    let hash = FileHash::of(name, &bytes);
    records.read(kind, name, bytes)?;
    records.dataset(vec![hash])
}

#[derive(Default)]
struct Records {
    pixels: Vec<u8>,
    labels: Vec<i32>,
}

impl Records {
    fn read(&mut self, kind: CifarKind, name: &str, bytes: Vec<u8>) -> Result<()> {
        let (before, which, classes) = kind.record();
        let bytes = plain(OP, name, bytes)?;
        let record = before + PIXELS;
        if bytes.len() % record != 0 || bytes.is_empty() {
            let fact = format!("records of {record} bytes were expected, but {} bytes are there", bytes.len());
            return Err(fault_at(OP, name, bytes.len() - bytes.len() % record, fact));
        }
        for (k, one) in bytes.chunks_exact(record).enumerate() {
            let (labels, pixels) = one.split_at(before);
            let label = labels.get(which).copied().unwrap_or(u8::MAX);
            if label >= classes {
                let fact = format!("a label of 0 to {} was expected, got {label}", classes - 1);
                return Err(fault_at(OP, name, k * record + which, fact));
            }
            self.labels.push(label.into());
            self.pixels.extend_from_slice(pixels);
        }
        Ok(())
    }

    fn dataset(self, files: Vec<FileHash>) -> Result<TensorDataset> {
        let n = self.labels.len();
        let too_large = |fact| crate::io::file::fault(OP, n, fact);
        let shape = Shape::new(&[n, 3, 32, 32]).map_err(too_large)?;
        let x = Array::of_bytes(self.pixels, shape, DType::U8).map_err(too_large)?;
        Ok(TensorDataset::of_arrays(x, Array::new(&self.labels, [n])?)?.with_files(files))
    }
}
