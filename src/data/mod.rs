//! Datasets, readers of their files, and the loader that makes batches of them.
//!
//! | I have | |
//! |---|---|
//! | arrays in memory | [`TensorDataset`] |
//! | the MNIST family | [`mnist`], [`read_idx`] |
//! | CIFAR-10 or CIFAR-100, the binary version | [`read_cifar`] |
//! | a table | [`Csv`], `Parquet` (feature `parquet`) |
//! | folders of images (feature `image`) | `ImageFolder` |
//! | text | [`ByteTokenizer`], [`Bpe`], [`TokenDataset`] |
//! | something else | a [`Dataset`] of my own |
//!
//! A [`Loader`] shuffles, batches and prefetches any of them; the same seed gives the same batches,
//! whatever the number of workers. [`augment`] changes images on the device.
//!
//! Files are untrusted: whatever their bytes are, reading gives a dataset or an
//! [`Error`](crate::Error) that names file and place. Knows no modules and no optimizers.

mod array;
pub mod augment;
mod bpe;
mod cifar;
mod csv;
mod dataset;
#[cfg(feature = "image")]
mod folder;
mod hash;
mod idx;
mod loader;
mod order;
#[cfg(feature = "parquet")]
mod parquet;
mod text;

pub use array::Array;
pub use bpe::Bpe;
pub use cifar::{CifarKind, cifar_from_bytes, read_cifar};
pub use csv::{Csv, CsvOptions};
pub use dataset::{Dataset, Map, Sample, Subset, TensorDataset, random_split};
#[cfg(feature = "image")]
pub use folder::{ImageFolder, decode_image};
pub use hash::FileHash;
pub use idx::{idx_from_bytes, mnist, read_idx};
pub use loader::{Batch, Epoch, Loader, Position};
#[cfg(feature = "parquet")]
pub use parquet::Parquet;
pub use text::{ByteTokenizer, TokenDataset, Tokenizer};
