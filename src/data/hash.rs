//! The hash of a dataset's file, and the check against DVC's note beside it.
//!
//! Knows how a `.dvc` file names an MD5; knows no dataset format.

use std::path::Path;

use crate::error::Result;
use crate::io::digest::{hex, md5, sha256};
use crate::io::file::{fault, read};

/// What a file of a dataset held when it was read: it goes into the record of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// The path as it was given.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The MD5 of DVC's note beside the file, which the content has; none where there is no note.
    pub dvc_md5: Option<String>,
}

impl FileHash {
    /// The hash of `bytes`, which came from `name`.
    pub fn of(name: &str, bytes: &[u8]) -> FileHash {
        FileHash { name: name.into(), bytes: bytes.len() as u64, sha256: hex(&sha256(bytes)), dvc_md5: None }
    }
}

/// The file at `path` and its hash; an error when `path` + `.dvc` exists and notes another MD5.
pub(crate) fn read_hashed(op: &'static str, path: &Path) -> Result<(Vec<u8>, FileHash)> {
    let bytes = read(op, path)?;
    let mut hash = FileHash::of(&path.display().to_string(), &bytes);
    let mut note = path.as_os_str().to_os_string();
    note.push(".dvc");
    let note = Path::new(&note);
    if note.exists() {
        let text = String::from_utf8_lossy(&read(op, note)?).into_owned();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(Note { md5: want, raw }) = Note::of(&file, &text) else {
            return Err(fault(op, note.display(), format!("an output {file:?} with its md5 was expected")));
        };
        let mut found = hex(&md5(&bytes));
        // Before version 3 DVC hashed text as if its lines ended as on Unix.
        if found != want && !raw {
            found = hex(&md5(&unix_lines(&bytes)));
        }
        if found != want {
            let fact = format!("the content has the md5 {found}, but {} says {want}", note.display());
            return Err(fault(op, path.display(), fact));
        }
        hash.dvc_md5 = Some(want);
    }
    Ok((bytes, hash))
}

/// What a `.dvc` file says of one output.
struct Note {
    md5: String,
    /// Whether the MD5 is surely that of the bytes as they are.
    raw: bool,
}

impl Note {
    /// The note about `file`: the entry of `outs` whose `path` it is.
    fn of(file: &str, text: &str) -> Option<Note> {
        let (mut inside, mut md5, mut path, mut raw) = (false, None, None, false);
        let mut found = None;
        for line in text.lines().chain(["end:"]) {
            let entry = line.trim_start().starts_with("- ");
            let top = line.starts_with(|c: char| !c.is_whitespace() && c != '-' && c != '#');
            if (entry || top) && path.as_deref() == Some(file) && md5.is_some() {
                found = found.or(md5.take().map(|md5| Note { md5, raw }));
            }
            if entry || top {
                (md5, path, raw) = (None, None, false);
            }
            if top {
                inside = line.trim_end() == "outs:";
            }
            let field = line.trim_start().trim_start_matches("- ").split_once(':');
            if let (true, Some((key, value))) = (inside, field) {
                let value = value.trim().trim_matches(['\'', '"']).to_string();
                match key.trim() {
                    "md5" => md5 = Some(value),
                    "path" => path = Some(value),
                    "hash" => raw = value == "md5",
                    _ => {}
                }
            }
        }
        found
    }
}

/// `bytes` with each `\r\n` as `\n`.
fn unix_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (k, &byte) in bytes.iter().enumerate() {
        if byte != b'\r' || bytes.get(k + 1) != Some(&b'\n') {
            out.push(byte);
        }
    }
    out
}
