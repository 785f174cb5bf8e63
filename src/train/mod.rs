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
//! Knows every layer below; nothing below knows it.

mod checkpoint;
mod crc;
mod curves;
mod metrics;
#[cfg(feature = "mlflow")]
mod mlflow;
mod progress;
mod record;
mod tensorboard;
mod tracker;
mod trainer;

pub use checkpoint::Checkpoint;
pub use curves::Curves;
pub use metrics::{Accuracy, Confusion, MeanAbsoluteError, Metric, Perplexity, RootMeanSquareError, TopK};
#[cfg(feature = "mlflow")]
pub use mlflow::Mlflow;
pub use progress::Progress;
pub use record::{Record, RecordSummary, verify_record};
pub use tensorboard::TensorBoard;
pub use tracker::{RunStart, Tracker};
pub use trainer::{EpochReport, Outcome, Report, Trainer};
