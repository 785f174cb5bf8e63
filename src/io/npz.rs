//! NumPy's `.npz`: a zip archive of `.npy` files.
//!
//! Reads entries that are stored or deflated; writes them stored. Knows of zip only what NumPy
//! uses: no zip64, no encryption, no archive in several parts.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::io::file::{Cursor, Source, fault, fault_at, write_atomically};
use crate::io::inflate::{crc32, inflate, inflated_max};
use crate::io::npy::{npy_from_bytes, npy_to_bytes};

const OP: &str = "npz";
/// The signatures of an entry, of its line in the directory, and of the directory's end.
const ENTRY: u32 = 0x0403_4b50;
const LINE: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// The directory's end without its remark, and the longest remark.
const END_BYTES: u64 = 22;
const REMARK_BYTES_MAX: u64 = u16::MAX as u64;

/// An open `.npz` archive; its arrays are read one by one, when asked for.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::io::{Npz, save_npz};
/// # let folder = std::env::temp_dir().join("wgrad-doc-npz");
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("data.npz");
/// save_npz(&path, [("x", &Tensor::new([1.0, 2.0], &Device::cpu()))])?;
/// let file = Npz::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["x"]);
/// assert_eq!(file.tensor("x", &Device::cpu())?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Npz {
    source: Source,
    entries: BTreeMap<String, Line>,
}

/// An entry's line in the directory.
#[derive(Clone, Copy, Debug)]
struct Line {
    method: u16,
    crc: u32,
    packed_bytes: u64,
    bytes: u64,
    at: u64,
}

impl Npz {
    /// Opens the archive at `path` and reads its directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Npz> {
        Npz::read(Source::open(OP, path.as_ref())?)
    }

    /// The same of bytes in memory; errors call them `name`.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Npz> {
        Npz::read(Source::memory(name, bytes))
    }

    fn read(source: Source) -> Result<Npz> {
        let name = source.name().to_string();
        let tail_at = source.len().saturating_sub(END_BYTES + REMARK_BYTES_MAX);
        let tail = source.read(OP, tail_at, source.len() - tail_at)?;
        let Some(end) = tail.windows(4).rposition(|bytes| bytes == END.to_le_bytes()) else {
            return Err(fault(OP, &name, "no zip archive: its directory's end was not found"));
        };
        let end_at = tail_at + end as u64;
        let mut cursor = Cursor::new(OP, &name, tail.get(end..).unwrap_or(&[]));
        cursor.take(4, "directory's end")?;
        let (disk, first, here, count) =
            (cursor.u16("disk")?, cursor.u16("disk")?, cursor.u16("count")?, cursor.u16("count")?);
        let (bytes, at) = (u64::from(cursor.u32("directory size")?), u64::from(cursor.u32("directory place")?));
        if disk != 0 || first != 0 || here != count || count == u16::MAX || at + bytes > end_at {
            let fact = format!("a directory of {count} entries at {at}..{} in one part was expected", at + bytes);
            return Err(fault_at(OP, &name, end_at, fact));
        }
        let directory = source.read(OP, at, bytes)?;
        let mut cursor = Cursor::new(OP, &name, &directory);
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let place = at + cursor.at as u64;
            let within = |error: Error| fault_at(OP, &name, place, format!("a directory's line: {error}"));
            let (entry, line) = Line::read(&mut cursor).map_err(within)?;
            let name_of = entry.strip_suffix(".npy").unwrap_or(&entry).to_string();
            if line.at + line.packed_bytes > at {
                let fact = format!("entry {entry:?} lies beyond the directory");
                return Err(fault_at(OP, &name, place, fact));
            }
            if entries.insert(name_of, line).is_some() {
                return Err(fault_at(OP, &name, place, format!("entry {entry:?} comes twice")));
            }
        }
        Ok(Npz { source, entries })
    }

    /// The names, in order, without `.npy`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The array `name` on `device`; only its own bytes are read.
    #[track_caller]
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let file = format!("{}/{name}", self.source.name());
        let Some(line) = self.entries.get(name) else {
            return Err(fault(OP, self.source.name(), format!("no array {name:?}")));
        };
        let header = self.source.read(OP, line.at, 30)?;
        let mut cursor = Cursor::new(OP, &file, &header);
        let signature = cursor.u32("signature")?;
        if signature != ENTRY {
            return Err(fault_at(
                OP,
                &file,
                line.at,
                format!("an entry's {ENTRY:08x} was expected, got {signature:08x}"),
            ));
        }
        cursor.take(22, "header")?;
        let (name_bytes, extra_bytes) = (cursor.u16("name length")?, cursor.u16("extra length")?);
        let at = line.at + 30 + u64::from(name_bytes) + u64::from(extra_bytes);
        let packed = self.source.read(OP, at, line.packed_bytes)?;
        let whole = usize::try_from(line.bytes).unwrap_or(usize::MAX);
        let bytes = match line.method {
            0 => packed,
            8 => inflate(&mut Cursor::new(OP, &file, &packed), whole.min(inflated_max(packed.len())))?,
            method => {
                return Err(fault_at(OP, &file, line.at, format!("stored or deflated was expected, got {method}")));
            }
        };
        if bytes.len() != whole || crc32(&bytes) != line.crc {
            return Err(fault_at(OP, &file, at, "the contents do not have the length and the CRC of the directory"));
        }
        npy_from_bytes(&file, &bytes, device)
    }
}

impl Line {
    /// The line at the cursor, and the entry's name.
    fn read(cursor: &mut Cursor<'_>) -> Result<(String, Line)> {
        let signature = cursor.u32("signature")?;
        if signature != LINE {
            return Err(cursor.fault(format!("{LINE:08x} was expected, got {signature:08x}")));
        }
        cursor.take(4, "versions")?;
        let (flags, method) = (cursor.u16("flags")?, cursor.u16("method")?);
        cursor.take(4, "time")?;
        let crc = cursor.u32("CRC")?;
        let (packed_bytes, bytes) = (cursor.u32("size")?, cursor.u32("size")?);
        let lengths = [cursor.u16("length")?, cursor.u16("length")?, cursor.u16("length")?];
        cursor.take(8, "attributes")?;
        let at = cursor.u32("place")?;
        let [name, extra, remark] = lengths.map(usize::from);
        let name = String::from_utf8_lossy(cursor.take(name, "name")?).into_owned();
        cursor.take(extra, "extra field")?;
        cursor.take(remark, "remark")?;
        if flags & 1 != 0 || [packed_bytes, bytes, at].contains(&u32::MAX) {
            return Err(cursor.fault(format!("entry {name:?} is encrypted, or larger than 4 GiB")));
        }
        Ok((name, Line { method, crc, packed_bytes: packed_bytes.into(), bytes: bytes.into(), at: at.into() }))
    }
}

/// Writes arrays by name as the `.npz` archive at `path`, stored; `numpy.load` reads it.
///
/// A crash leaves the old file or the new one whole.
pub fn save_npz<'a, N: Into<String>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, &'a Tensor)>,
) -> Result<()> {
    let refuse = |fact: String| Err(Error::new(ErrorKind::Operand, "save_npz", fact));
    // The greatest number says that zip64 has the true one.
    let fits = |n: u64| u32::try_from(n).ok().filter(|&n| n < u32::MAX);
    let tensors: Vec<(String, &Tensor)> = tensors.into_iter().map(|(name, x)| (name.into(), x)).collect();
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(name) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first()).flatten())
    {
        return refuse(format!("the name {name:?} is taken"));
    }
    write_atomically(path, |out| {
        let (mut directory, mut at) = (Vec::new(), 0u64);
        for (name, x) in &tensors {
            let file = format!("{name}.npy");
            let contents = npy_to_bytes(x)?;
            let crc = crc32(&contents);
            let (Some(size), Some(place), Ok(length)) =
                (fits(contents.len() as u64), fits(at), u16::try_from(file.len()))
            else {
                return refuse(format!("{name:?} ends beyond 4 GiB, or its name is too long"));
            };
            // The shared part: version, flags (names in UTF-8), stored, a date, CRC, sizes, lengths.
            let mut shared = Vec::new();
            [20u16, 1 << 11, 0, 0, 0x21].iter().for_each(|x| shared.extend(x.to_le_bytes()));
            [crc, size, size].iter().for_each(|x| shared.extend(x.to_le_bytes()));
            [length, 0].iter().for_each(|x| shared.extend(x.to_le_bytes()));
            let entry = [&ENTRY.to_le_bytes()[..], &shared, file.as_bytes()].concat();
            out.put(&entry)?;
            out.put(&contents)?;
            at += (entry.len() + contents.len()) as u64;
            directory.extend(LINE.to_le_bytes());
            directory.extend(20u16.to_le_bytes());
            directory.extend(&shared);
            directory.extend([0; 10]);
            directory.extend(place.to_le_bytes());
            directory.extend(file.bytes());
        }
        let count = u16::try_from(tensors.len()).ok().filter(|&n| n < u16::MAX);
        let (Some(count), Some(size), Some(place)) = (count, fits(directory.len() as u64), fits(at)) else {
            return refuse("more than 65,534 arrays, or 4 GiB".into());
        };
        out.put(&directory)?;
        let mut end = END.to_le_bytes().to_vec();
        [0, 0, count, count].iter().for_each(|x| end.extend(x.to_le_bytes()));
        [size, place].iter().for_each(|x| end.extend(x.to_le_bytes()));
        end.extend([0, 0]);
        out.put(&end)
    })
}
