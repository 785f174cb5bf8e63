//! Files: reading with errors that name file and byte, and writing that survives a crash.
//!
//! Knows no format. A [`Cursor`] walks bytes in memory, a [`Source`] reads pieces of a file that
//! stays on disk. Positioned reads rather than a memory map: a tensor's bytes are copied into
//! memory of their own either way, and a file that shrinks gives an error here, a signal there.

use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};

/// How often a writer asks for a temporary file that nobody else took.
const TRIES_MAX: usize = 100;
/// Links that lead to links; as many as Linux follows.
const LINKS_MAX: usize = 40;

/// The error of `op` about the file `name`.
pub(crate) fn fault(op: &str, name: impl Display, fact: impl Display) -> Error {
    Error::new(ErrorKind::File, op, format!("{name}: {fact}"))
}

/// The error of `op` about the byte `at` of the file `name`.
pub(crate) fn fault_at(op: &str, name: impl Display, at: impl Display, fact: impl Display) -> Error {
    Error::new(ErrorKind::File, op, format!("{name}, byte {at}: {fact}"))
}

/// The whole file.
pub(crate) fn read(op: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| fault(op, path.display(), error))
}

/// What is in the folder at `path`, in the order of the names.
#[cfg(feature = "image")]
pub(crate) fn list(op: &str, path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut found: Vec<PathBuf> = entries.map_err(|error| fault(op, path.display(), error))?;
    found.sort();
    Ok(found)
}

/// Bytes being read in order; every step is checked, and an error says where it stood.
pub(crate) struct Cursor<'a> {
    /// Who reads.
    pub op: &'static str,
    /// What is read, for errors.
    pub name: &'a str,
    /// All the bytes.
    pub bytes: &'a [u8],
    /// How many were read.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor before the first byte.
    pub fn new(op: &'static str, name: &'a str, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { op, name, bytes, at: 0 }
    }

    /// The next `n` bytes, which are `what`.
    pub fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let found = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        match found {
            Some(found) => {
                self.at += n;
                Ok(found)
            }
            None => Err(self.fault(format!("{n} bytes of {what} were expected, but {} are left", self.left()))),
        }
    }

    /// The next `N` bytes, which are `what`.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut found = [0; N];
        found.copy_from_slice(self.take(N, what)?);
        Ok(found)
    }

    /// The next byte.
    pub fn u8(&mut self, what: &str) -> Result<u8> {
        self.array(what).map(u8::from_le_bytes)
    }

    /// The next two bytes, the low one first.
    pub fn u16(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// The next four bytes, the lowest first.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next four bytes, the highest first.
    pub fn u32_be(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// An error about where the cursor stands.
    pub fn fault(&self, fact: impl Display) -> Error {
        fault_at(self.op, self.name, self.at, fact)
    }
}

/// A file, or bytes in memory, read in pieces.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    len: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

impl Source {
    /// The file at `path`, which stays on disk.
    pub fn open(op: &str, path: &Path) -> Result<Source> {
        let name = path.display().to_string();
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|error: io::Error| fault(op, &name, error))?;
        Ok(Source { name, len, place: Place::File(Mutex::new(file)) })
    }

    /// `bytes` that errors call `name`.
    pub fn memory(name: &str, bytes: Vec<u8>) -> Source {
        Source { name: name.into(), len: bytes.len() as u64, place: Place::Memory(bytes) }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// `n` bytes from `at`; never allocates for more than there are.
    pub fn read(&self, op: &str, at: u64, n: u64) -> Result<Vec<u8>> {
        let left = self.len.saturating_sub(at);
        let short = || fault_at(op, &self.name, at, format!("{n} bytes were expected, but {left} are left"));
        let (Ok(start), Ok(count), true) = (usize::try_from(at), usize::try_from(n), n <= left) else {
            return Err(short());
        };
        match &self.place {
            Place::Memory(bytes) => {
                let found = start.checked_add(count).and_then(|end| bytes.get(start..end));
                found.map(<[u8]>::to_vec).ok_or_else(short)
            }
            Place::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let mut found = Vec::with_capacity(count);
                let done = file.seek(SeekFrom::Start(at)).and_then(|_| (&mut *file).take(n).read_to_end(&mut found));
                match done {
                    Ok(read) if read == count => Ok(found),
                    Ok(read) => Err(fault_at(op, &self.name, at, format!("{n} bytes were expected, but {read} came"))),
                    Err(error) => Err(fault_at(op, &self.name, at, error)),
                }
            }
        }
    }
}

/// A file being written by [`write_atomically`]; [`Write`] works too.
pub struct Output {
    out: BufWriter<File>,
    name: String,
}

impl Output {
    /// Appends `bytes`; an error names the file.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| fault("write", &self.name, error))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the file at `path` so that a crash at any moment leaves the old file or the new one whole.
///
/// What `write` puts out goes into a hidden file of the same folder, which is flushed to the disk
/// and then takes the name `path`. When `write` fails the old file stays as it is. What a killed
/// process left behind is removed by the next call.
///
/// ```
/// # let folder = std::env::temp_dir().join("wgrad-doc-write");
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("notes.txt");
/// wgrad::io::write_atomically(&path, |out| out.put(b"step 100"))?;
/// assert_eq!(std::fs::read(&path)?, b"step 100");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_atomically(path: impl AsRef<Path>, write: impl FnOnce(&mut Output) -> Result<()>) -> Result<()> {
    // Through a link to what it names, which need not be there yet, so that the link stays.
    let mut path = path.as_ref().to_path_buf();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder(&path).join(target);
    }
    let name = path.display().to_string();
    let failed = |error: io::Error| fault("write", &name, error);
    let (file, hidden) = create_beside(&path).map_err(failed)?;
    let mut output = Output { out: BufWriter::new(file), name: name.clone() };
    let done = write(&mut output).and_then(|()| {
        output.out.flush().map_err(failed)?;
        output.out.get_ref().sync_all().map_err(failed)?;
        // The file is still open and locked here, so that no other writer takes it for a dead one's.
        fs::rename(&hidden, &path).map_err(failed)
    });
    match done {
        Ok(()) => sync_folder(&path).map_err(failed),
        Err(error) => {
            // The first error is the one to tell.
            let _ = fs::remove_file(&hidden);
            Err(error)
        }
    }
}

/// A new hidden file in the folder of `path`, locked for as long as it is open, and no name of it
/// ever used twice; removes those whose writer died, because nobody holds their lock.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let name = path.file_name().ok_or_else(no_name)?.to_string_lossy();
    let (start, end) = (format!(".{name}."), ".tmp");
    for entry in fs::read_dir(folder(path))?.flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        let random = other.strip_prefix(&start).and_then(|rest| rest.strip_suffix(end));
        let ours = random.is_some_and(|random| random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()));
        // The lock is held while the file is removed: a writer that just made it notices. Over a
        // network only a file that is open for writing can be locked.
        if ours
            && let Ok(dead) = OpenOptions::new().write(true).open(entry.path())
            && dead.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    for _ in 0..TRIES_MAX {
        let random = RandomState::new().build_hasher().finish();
        let hidden = path.with_file_name(format!("{start}{random:016x}{end}"));
        let file = match File::create_new(&hidden) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        };
        // A file system without locks writes as well; it only keeps what the dead left.
        let locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if locked && hidden.exists() {
            return Ok((file, hidden));
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "other writers take every temporary file"))
}

/// The folder that `path` names a file of.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename in the folder of `path` last; only Unix can say so.
fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder(path))?.sync_all(),
        false => Ok(()),
    }
}
