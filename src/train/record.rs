//! [`Record`]: what a run was and how it went, in a file of lines that are chained by hash.
//!
//! Each line holds the hash of the line before it and its own, so that a line that was changed,
//! taken out or put in later is found by [`verify_record`].

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::data::FileHash;
use crate::device::clock::unix_seconds;
use crate::error::Result;
use crate::graph::device::Device;
use crate::io::digest::{hex, sha256};
use crate::io::file::{fault, fault_at, read};
use crate::io::json::Value;

/// The hash that the first line is chained to.
const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const OP: &str = "record";

/// A run's record, being written.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::train::{Record, verify_record};
/// # let path = std::env::temp_dir().join("wgrad-doc-record.jsonl");
/// # let _ = std::fs::remove_file(&path);
/// let mut record = Record::begin(&path, &Device::cpu(), 42, &[], &[("lr", "0.001".into())])?;
/// record.event("epoch", &[("loss", 0.25)])?;
/// assert_eq!(verify_record(&path)?.lines, 2);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct Record {
    path: PathBuf,
    file: File,
    last: String,
    device: Device,
    /// The plans that lines name already.
    plans: BTreeSet<u64>,
}

/// What an intact record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// How many lines there are.
    pub lines: usize,
    /// The hash of the last one, which stands for all of them.
    pub hash: String,
}

impl Record {
    /// Begins the record of a run at `path`, or goes on with the one that is there and intact: a line
    /// says with which crate and features, commit, device, driver and tuning, seed, files and settings.
    ///
    /// Every line also names the plans that the device made since the line before, by their
    /// [fingerprints](Device::plan_fingerprints).
    pub fn begin(
        path: impl AsRef<Path>,
        device: &Device,
        seed: u64,
        files: &[FileHash],
        settings: &[(&str, String)],
    ) -> Result<Record> {
        let path = path.as_ref();
        let last = if path.exists() { mended(path)? } else { START.into() };
        let open = || OpenOptions::new().append(true).create(true).open(path);
        let file = open().map_err(|error| fault(OP, path.display(), error))?;
        let mut record = Record { path: path.into(), file, last, device: device.clone(), plans: BTreeSet::new() };
        let text = |text: &str| Value::Text(text.into());
        let described = |file: &FileHash| {
            let mut fields = vec![
                ("name".to_string(), text(&file.name)),
                ("bytes".into(), Value::Int(i128::from(file.bytes))),
                ("sha256".into(), text(&file.sha256)),
            ];
            fields.extend(file.dvc_md5.iter().map(|md5| ("dvc_md5".into(), text(md5))));
            Value::Object(fields)
        };
        let settings = Value::object(settings.iter().map(|(key, value)| (key.to_string(), text(value))));
        record.line(vec![
            ("event".into(), text("begin")),
            ("crate".into(), text(concat!("wgrad ", env!("CARGO_PKG_VERSION")))),
            ("features".into(), Value::List(features().map(text).collect())),
            ("commit".into(), commit().map_or(Value::Null, Value::Text)),
            ("device".into(), text(&device.name())),
            ("driver".into(), device.driver().map_or(Value::Null, Value::Text)),
            ("tuning".into(), tuning(device).map_or(Value::Null, Value::Text)),
            ("seed".into(), Value::Int(i128::from(seed))),
            ("files".into(), Value::List(files.iter().map(described).collect())),
            ("settings".into(), settings),
        ])?;
        Ok(record)
    }

    /// Adds a line with numbers; of equal names the last counts, and none has the name of a line's own field.
    pub fn event(&mut self, event: &str, numbers: &[(&str, f64)]) -> Result<()> {
        let numbers = numbers.iter().map(|(key, x)| (key.to_string(), Value::Float(*x)));
        let own = ["event", "plans", "time", "before", "hash"];
        let fields = std::iter::once(("event".to_string(), Value::Text(event.into())));
        match Value::object(fields.chain(numbers.filter(|(key, _)| !own.contains(&key.as_str())))) {
            Value::Object(fields) => self.line(fields),
            _ => Ok(()),
        }
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn line(&mut self, mut fields: Vec<(String, Value)>) -> Result<()> {
        let made = self.device.plan_fingerprints();
        let fresh: Vec<u64> = made.into_iter().filter(|plan| !self.plans.contains(plan)).collect();
        if !fresh.is_empty() {
            let plans = fresh.iter().map(|plan| Value::Text(format!("{plan:016x}"))).collect();
            fields.push(("plans".into(), Value::List(plans)));
        }
        let seconds = unix_seconds();
        fields.push(("time".into(), Value::Float(seconds)));
        fields.push(("before".into(), Value::Text(self.last.clone())));
        let body = Value::Object(fields.clone()).to_string();
        let own = hex(&sha256(body.as_bytes()));
        fields.push(("hash".into(), Value::Text(own.clone())));
        let line = format!("{}\n", Value::Object(fields));
        let wrong = |error| fault(OP, self.path.display(), error);
        let whole = self.file.metadata().map_err(wrong)?.len();
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The first error is the one to tell.
            let _ = cut(&self.path, whole);
            return Err(wrong(error));
        }
        self.last = own;
        self.plans.extend(fresh);
        Ok(())
    }
}

/// Whether nothing was changed in the record at `path` since it was written; the error names the line.
pub fn verify_record(path: impl AsRef<Path>) -> Result<RecordSummary> {
    let path = path.as_ref();
    checked(path, &read(OP, path)?)
}

fn checked(path: &Path, bytes: &[u8]) -> Result<RecordSummary> {
    let (mut at, mut lines, mut last) = (0, 0, START.to_string());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let wrong = |fact: String| fault_at(OP, path.display(), at, format!("line {}: {fact}", lines + 1));
        if line.last() != Some(&b'\n') {
            return Err(wrong("cut off in the middle".into()));
        }
        let value = Value::parse(line).map_err(|found| wrong(found.fact))?;
        let Value::Object(mut fields) = value else { return Err(wrong("an object was expected".into())) };
        let (Some((key, Value::Text(own))), Some((before, Value::Text(chained)))) = (fields.pop(), fields.last())
        else {
            return Err(wrong("its hashes are missing".into()));
        };
        if key != "hash" || before != "before" {
            return Err(wrong("its hashes are missing".into()));
        }
        if *chained != last {
            return Err(wrong("it does not follow the line before it".into()));
        }
        if hex(&sha256(Value::Object(fields).to_string().as_bytes())) != own {
            return Err(wrong("it was changed after it was written".into()));
        }
        (at, lines, last) = (at + line.len(), lines + 1, own);
    }
    Ok(RecordSummary { lines, hash: last })
}

/// The hash of the last whole line of a record that a crash may have cut; what was cut is taken off.
fn mended(path: &Path) -> Result<String> {
    let bytes = read(OP, path)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let summary = checked(path, bytes.get(..whole).unwrap_or(&[]))?;
    if whole < bytes.len() {
        cut(path, whole as u64).map_err(|error| fault(OP, path.display(), error))?;
    }
    Ok(summary.hash)
}

/// Leaves the first `whole` bytes of the file at `path`.
fn cut(path: &Path, whole: u64) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(whole)
}

/// The features of the crate that may change bits or speed.
fn features() -> impl Iterator<Item = &'static str> {
    let known = [("gpu", cfg!(feature = "gpu")), ("threads", cfg!(feature = "threads"))];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
}

/// Which tiles were chosen for the device, as a record and a checkpoint say it.
pub(super) fn tuning(device: &Device) -> Option<String> {
    device.tuning_hash().map(|hash| format!("{hash:016x}"))
}

/// What trackers are told of a run: what the first line of its record says.
pub(super) fn facts(device: &Device, seed: u64, files: &[FileHash]) -> Vec<(String, String)> {
    let mut facts = vec![
        ("version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("device".into(), device.name()),
        ("seed".into(), seed.to_string()),
    ];
    facts.extend(device.driver().map(|driver| ("driver".into(), driver)));
    facts.extend(tuning(device).map(|hash| ("tuning".into(), hash)));
    facts.extend(commit().map(|commit| ("commit".into(), commit)));
    facts.extend(files.iter().map(|file| (format!("sha256/{}", file.name), file.sha256.clone())));
    facts
}

/// The commit of the repository that the program runs in, where there is one.
fn commit() -> Option<String> {
    let start = Path::new(".").canonicalize().ok()?;
    let git = start.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    // In a worktree or a submodule it is a file that names the folder, and that may name the shared one.
    let git = if git.is_dir() { git } else { git.with_file_name(read(git.clone())?.trim().strip_prefix("gitdir: ")?) };
    let shared = read(git.join("commondir")).map_or(git.clone(), |folder| git.join(folder.trim()));
    let head = read(git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().into()) };
    if let Some(hash) = read(shared.join(name)) {
        return Some(hash.trim().into());
    }
    let packed = read(shared.join("packed-refs"))?;
    packed.lines().find_map(|line| Some(line.strip_suffix(name)?.strip_suffix(' ')?.to_string()))
}
