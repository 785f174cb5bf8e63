//! Training: a loop for those who want one, and its parts for those who write their own.
//!
//! | I want | |
//! |---|---|
//! | a whole run: epochs, evaluation, progress, checkpoints | [`Trainer`] |
//! | only to save and to go on where I stopped | [`Checkpoint`] |
//! | accuracy and the like | [`Accuracy`], [`TopK`], [`Confusion`], [`Perplexity`], [`MeanAbsoluteError`], … |
//! | an account of a run that cannot be changed afterwards | [`Record`], [`verify_record`] |
//! | curves to look at | [`Curves`], [`TensorBoard`], `Mlflow` (feature `mlflow`) |
//! | to tell another program of a run | a [`Tracker`] of my own |
//!
//! A browser has [`Checkpoint`] and [`Curves`] of this: everything else waits for results, which a page
//! does by `read().await` in a loop of its own.
//!
//! Knows every layer below; nothing below knows it.

mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
mod crc;
mod curves;
#[cfg(not(target_arch = "wasm32"))]
mod metrics;
#[cfg(all(feature = "mlflow", not(target_arch = "wasm32")))]
mod mlflow;
#[cfg(not(target_arch = "wasm32"))]
mod progress;
#[cfg(not(target_arch = "wasm32"))]
mod record;
#[cfg(not(target_arch = "wasm32"))]
mod tensorboard;
#[cfg(not(target_arch = "wasm32"))]
mod tracker;
#[cfg(not(target_arch = "wasm32"))]
mod trainer;

pub use checkpoint::Checkpoint;
pub use curves::Curves;
#[cfg(not(target_arch = "wasm32"))]
pub use metrics::{Accuracy, Confusion, MeanAbsoluteError, Metric, Perplexity, RootMeanSquareError, TopK};
#[cfg(all(feature = "mlflow", not(target_arch = "wasm32")))]
pub use mlflow::Mlflow;
#[cfg(not(target_arch = "wasm32"))]
pub use progress::Progress;
#[cfg(not(target_arch = "wasm32"))]
pub use record::{Record, RecordSummary, verify_record};
#[cfg(not(target_arch = "wasm32"))]
pub use tensorboard::TensorBoard;
#[cfg(not(target_arch = "wasm32"))]
pub use tracker::{RunStart, Tracker};
#[cfg(not(target_arch = "wasm32"))]
pub use trainer::{EpochReport, Outcome, Report, Trainer};
