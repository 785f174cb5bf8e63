//! [`TensorBoard`]: scalars in the event files that TensorBoard opens.
//!
//! A file is a row of records (length, its checksum, data, its checksum); the data are two small
//! protocol buffer messages, written by hand.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::device::clock::unix_seconds;
use crate::error::Result;
use crate::io::file::fault;
use crate::train::crc::masked;
use crate::train::tracker::{RunStart, Tracker};

/// Writes the scalars of a run into a folder; `tensorboard --logdir` on it or a folder above.
///
/// ```
/// use wgrad::train::TensorBoard;
/// # let folder = std::env::temp_dir().join("wgrad-doc-tensorboard");
/// let mut board = TensorBoard::create(&folder)?;
/// board.scalar("train/loss", 1, 0.5)?;
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// Begins a new event file in `folder`, which is made if need be.
    pub fn create(folder: impl AsRef<Path>) -> Result<TensorBoard> {
        let folder = folder.as_ref();
        let now = unix_seconds();
        let path = folder.join(format!("events.out.tfevents.{}.{}.wgrad", now as u64, std::process::id()));
        let file = fs::create_dir_all(folder).and_then(|()| File::options().append(true).create(true).open(&path));
        let file = file.map_err(|error| fault("tensorboard", path.display(), error))?;
        let mut board = TensorBoard { path, file };
        let mut event = Vec::new();
        field_f64(&mut event, 1, now);
        field_bytes(&mut event, 3, b"brain.Event:2");
        board.record(&event)?;
        Ok(board)
    }

    /// Adds the value of `tag` at `step`.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        let mut one = Vec::new();
        field_bytes(&mut one, 1, tag.as_bytes());
        varint(&mut one, 2 << 3 | 5);
        one.extend((value as f32).to_le_bytes());
        let mut summary = Vec::new();
        field_bytes(&mut summary, 1, &one);
        let mut event = Vec::new();
        field_f64(&mut event, 1, unix_seconds());
        varint(&mut event, 2 << 3);
        varint(&mut event, step);
        field_bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Says that a run goes on after `steps` steps: TensorBoard forgets what was written before of
    /// later ones.
    pub fn resume(&mut self, steps: u64) -> Result<()> {
        let mut start = Vec::new();
        varint(&mut start, 1 << 3);
        varint(&mut start, 1);
        let mut event = Vec::new();
        field_f64(&mut event, 1, unix_seconds());
        varint(&mut event, 2 << 3);
        varint(&mut event, steps.saturating_add(1));
        field_bytes(&mut event, 7, &start);
        self.record(&event)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked(data).to_le_bytes());
        self.file.write_all(&record).map_err(|error| fault("tensorboard", self.path.display(), error))
    }
}

impl Tracker for TensorBoard {
    fn begin(&mut self, run: &RunStart) -> Result<()> {
        if run.steps > 0 { self.resume(run.steps) } else { Ok(()) }
    }
    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> Result<()> {
        numbers.iter().try_for_each(|(name, x)| self.scalar(name, step, *x))
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn field_f64(out: &mut Vec<u8>, field: u64, x: f64) {
    varint(out, field << 3 | 1);
    out.extend(x.to_le_bytes());
}

fn field_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}
