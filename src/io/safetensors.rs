//! Safetensors: an 8-byte length, a JSON header, and the elements.
//!
//! Opening reads and checks the header only; each tensor is read when it is asked for. Knows names,
//! shapes and ranges, not what a checkpoint means.

use std::collections::BTreeMap;
use std::path::Path;

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::io::element::{Stored, host_bytes, read_bytes};
use crate::io::file::{Output, Source, fault, fault_at, write_atomically};
use crate::io::json::{Fault, Reader, quoted};
use crate::shape::Shape;

/// Longest header; the format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";
/// Names of stored types; those without one are only measured.
const DTYPES: &[(&str, usize, Option<Stored>)] = &[
    ("F32", 4, Some(Stored::F32)),
    ("F16", 2, Some(Stored::F16)),
    ("BF16", 2, Some(Stored::BF16)),
    ("I32", 4, Some(Stored::I32)),
    ("U32", 4, Some(Stored::U32)),
    ("U8", 1, Some(Stored::U8)),
    ("BOOL", 1, Some(Stored::Bool)),
    ("I64", 8, Some(Stored::I64)),
    ("F64", 8, Some(Stored::F64)),
    ("U64", 8, Some(Stored::U64)),
    ("I16", 2, Some(Stored::I16)),
    ("U16", 2, Some(Stored::U16)),
    ("I8", 1, Some(Stored::I8)),
    ("F8_E4M3", 1, None),
    ("F8_E5M2", 1, None),
    ("F8_E8M0", 1, None),
];

/// An open safetensors file; its tensors are read one by one, when asked for.
///
/// `f32`, `f16`, `bf16`, `i32`, `u32`, `u8` and `bool` come as they are. 64-bit types become `f32`,
/// `i32` and `u32`, and a value that does not fit is an error; 8- and 16-bit integers become `i32`.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::io::{SafeTensors, SafeTensorsWriter};
///
/// let weight = Tensor::new([[1.0, 2.0], [3.0, 4.0]], &Device::cpu());
/// let bytes = SafeTensorsWriter::new().tensor("fc.weight", &weight).to_bytes()?;
///
/// let file = SafeTensors::from_bytes("model.safetensors", bytes)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["fc.weight"]);
/// assert_eq!(file.tensor("fc.weight", &Device::cpu())?.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Debug)]
pub struct SafeTensors {
    source: Source,
    metadata: Notes,
    /// By name, where in `entries`.
    names: BTreeMap<String, usize>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    dtype: usize,
    shape: Shape,
    /// The first byte in the file, and how many there are.
    at: u64,
    bytes: u64,
}

/// What a file says of a tensor without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The dimensions.
    pub shape: Shape,
    /// The stored type, as in `BF16` or `I64`.
    pub stored: &'static str,
    /// The dtype it is read as; none where it cannot be read.
    pub dtype: Option<DType>,
    /// How many bytes it takes in the file.
    pub bytes: u64,
}

impl SafeTensors {
    /// Opens the file at `path` and reads its header.
    pub fn open(path: impl AsRef<Path>) -> Result<SafeTensors> {
        SafeTensors::read(Source::open("safetensors", path.as_ref())?)
    }

    /// The same of bytes in memory; errors call them `name`.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<SafeTensors> {
        SafeTensors::read(Source::memory(name, bytes))
    }

    fn read(source: Source) -> Result<SafeTensors> {
        let op = "safetensors";
        let length = source.read(op, 0, 8)?;
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        let left = source.len().saturating_sub(8);
        if length > left.min(HEADER_BYTES_MAX) {
            let most = left.min(HEADER_BYTES_MAX);
            return Err(fault_at(
                op,
                source.name(),
                0,
                format!("a header of {length} bytes, but at most {most} can be"),
            ));
        }
        let text = source.read(op, 8, length)?;
        let mut file = SafeTensors { source, metadata: Notes::default(), names: BTreeMap::new(), entries: Vec::new() };
        match file.header(&text, 8 + length) {
            Ok(()) => Ok(file),
            Err(Fault { at, fact }) => Err(fault_at(op, file.source.name(), 8 + at as u64, fact)),
        }
    }

    /// Reads and checks the header; the elements begin at `base`.
    fn header(&mut self, text: &[u8], base: u64) -> Result<(), Fault> {
        if text.first() != Some(&b'{') {
            return Err(Fault { at: 0, fact: "a header that begins with '{' was expected".into() });
        }
        let left = self.source.len() - base;
        let (mut metadata, mut places, mut order) = (None, Vec::new(), Vec::new());
        let mut reader = Reader::new(text)?;
        reader.object(&mut |reader, name| {
            let at = reader.place();
            if name == METADATA {
                let mut found = Notes::default();
                reader.object(&mut |reader, key| {
                    let value = reader.string()?;
                    match found.put(key, value) {
                        true => Ok(()),
                        false => Err(reader.fault("a key of the metadata comes twice")),
                    }
                })?;
                return match metadata.replace(found) {
                    None => Ok(()),
                    Some(_) => Err(Fault { at, fact: "the metadata come twice".into() }),
                };
            }
            let mut entry = Entry::read(reader, left).map_err(|Fault { at, fact }| {
                let fact = format!("tensor {name:?}: {fact}");
                Fault { at, fact }
            })?;
            if self.names.contains_key(&name) {
                return Err(Fault { at, fact: format!("tensor {name:?} comes twice") });
            }
            // One without elements stands before the one that begins where it ends.
            order.push((entry.at << 1 | u64::from(entry.bytes > 0), places.len()));
            places.push((entry.at, name.clone(), at));
            entry.at += base;
            self.names.insert(name, self.entries.len());
            self.entries.push(entry);
            Ok(())
        })?;
        reader.end()?;
        self.metadata = metadata.unwrap_or_default();
        // In order of their place the tensors must tile the rest of the file.
        let mut end = 0;
        order.sort_unstable();
        for (_, k) in order {
            let (start, ref name, at) = places[k];
            if start != end {
                let what = if start < end { "overlaps the one before it" } else { "leaves a hole before it" };
                let fact = format!("tensor {name:?} {what}: it begins at {start}, expected {end}");
                return Err(Fault { at, fact });
            }
            end = start + self.entries[k].bytes;
        }
        match end == left {
            true => Ok(()),
            false => Err(Fault { at: text.len(), fact: format!("{end} bytes of tensors, but {left} bytes are there") }),
        }
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(*self.names.get(name)?)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the writer noted beside the tensors, by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter()
    }

    /// What the writer noted under `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.metadata.values.get(*self.metadata.places.get(key)?).map(String::as_str)
    }

    /// Shape and type of a tensor, without reading it.
    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        let entry = self.entry(name)?;
        let &(stored, _, kind) = DTYPES.get(entry.dtype)?;
        Some(TensorInfo { shape: entry.shape, stored, dtype: kind.map(Stored::dtype), bytes: entry.bytes })
    }

    /// The tensor `name` on `device`; only its own bytes are read.
    #[track_caller]
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let op = "safetensors";
        let Some(entry) = self.entry(name) else {
            return Err(fault(op, self.source.name(), format!("no tensor {name:?}")));
        };
        let stored = DTYPES.get(entry.dtype).and_then(|(_, _, stored)| *stored);
        let Some(stored) = stored else {
            let kind = DTYPES.get(entry.dtype).map_or("", |(kind, ..)| kind);
            let fact = format!("tensor {name:?} is {kind}, which no dtype holds");
            return Err(fault_at(op, self.source.name(), entry.at, fact));
        };
        let bytes = self.source.read(op, entry.at, entry.bytes)?;
        let bytes = stored.convert(bytes).map_err(|(at, fact)| {
            fault_at(op, self.source.name(), entry.at + at as u64, format!("tensor {name:?}: {fact}"))
        })?;
        Ok(Tensor::host(bytes, entry.shape, stored.dtype(), device))
    }
}

impl Entry {
    /// The entry the reader stands at; `left` bytes follow the header.
    fn read(reader: &mut Reader<'_>, left: u64) -> Result<Entry, Fault> {
        let start = reader.place();
        let (mut dtype, mut shape, mut range) = (None, None, None);
        reader.object(&mut |reader, key| {
            let at = reader.place();
            let fault = |fact: String| Fault { at, fact };
            let again = match key.as_str() {
                "dtype" => {
                    let kind = reader.string()?;
                    let found = DTYPES.iter().position(|(name, ..)| *name == kind);
                    dtype.replace(found.ok_or_else(|| fault(format!("there is no dtype {kind:?}")))?).is_some()
                }
                "shape" => {
                    let mut dims = Vec::new();
                    reader.array(&mut |reader| {
                        let dim = reader.u64()?;
                        if dims.len() > crate::shape::RANK_MAX {
                            return Err(reader.fault("too many dimensions"));
                        }
                        dims.push(usize::try_from(dim).map_err(|_| reader.fault("a dimension too large"))?);
                        Ok(())
                    })?;
                    shape.replace(Shape::new(&dims).map_err(fault)?).is_some()
                }
                "data_offsets" => {
                    let (mut ends, mut n) = ([0; 2], 0);
                    reader.array(&mut |reader| {
                        let value = reader.u64()?;
                        match ends.get_mut(n) {
                            Some(end) => *end = value,
                            None => return Err(reader.fault("two offsets were expected")),
                        }
                        n += 1;
                        Ok(())
                    })?;
                    let [start, end] = ends;
                    if n != 2 || start > end || end > left {
                        return Err(fault(format!("{n} offsets {start}..{end}, but {left} bytes follow the header")));
                    }
                    range.replace((start, end - start)).is_some()
                }
                _ => return Err(fault(format!("{key:?} is no field of a tensor"))),
            };
            if again { Err(fault(format!("{key:?} comes twice"))) } else { Ok(()) }
        })?;
        let (Some(dtype), Some(shape), Some((at, bytes))) = (dtype, shape, range) else {
            return Err(Fault { at: start, fact: "dtype, shape and data_offsets were expected".into() });
        };
        let size = DTYPES.get(dtype).map_or(0, |(_, size, _)| *size);
        // A shape has fewer than 2^32 elements, so this fits.
        let want = shape.numel() as u64 * size as u64;
        match want == bytes {
            true => Ok(Entry { dtype, shape, at, bytes }),
            false => Err(Fault { at: start, fact: format!("{shape} takes {want} bytes, but its range has {bytes}") }),
        }
    }
}

/// Texts by key; a map of the kind that names have, so that a web page carries one.
#[derive(Clone, Debug, Default)]
struct Notes {
    places: BTreeMap<String, usize>,
    values: Vec<String>,
}

impl Notes {
    /// Whether `key` is new.
    fn put(&mut self, key: String, value: String) -> bool {
        self.values.push(value);
        self.places.insert(key, self.values.len() - 1).is_none()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places.iter().filter_map(|(key, &k)| Some((key.as_str(), self.values.get(k)?.as_str())))
    }
}

/// Tensors on their way into a safetensors file.
///
/// ```
/// # use wgrad::prelude::*;
/// # use wgrad::io::{SafeTensors, SafeTensorsWriter};
/// let steps = Tensor::new([1200], &Device::cpu());
/// let bytes = SafeTensorsWriter::new()
///     .metadata("format", "pt")
///     .tensor_as_i64("bn.num_batches_tracked", &steps)
///     .to_bytes()?;
/// let file = SafeTensors::from_bytes("model", bytes)?;
/// assert_eq!(file.info("bn.num_batches_tracked").map(|info| info.stored), Some("I64"));
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SafeTensorsWriter {
    metadata: Notes,
    tensors: Vec<(String, Tensor, Stored)>,
}

impl SafeTensorsWriter {
    /// No tensors yet.
    pub fn new() -> SafeTensorsWriter {
        SafeTensorsWriter::default()
    }

    /// Notes `value` under `key`; the last one of a key stays.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> SafeTensorsWriter {
        self.metadata.put(key.into(), value.into());
        self
    }

    /// Adds `x` as `name`.
    pub fn tensor(mut self, name: impl Into<String>, x: &Tensor) -> SafeTensorsWriter {
        self.tensors.push((name.into(), x.clone(), Stored::of(x.dtype())));
        self
    }

    /// Adds the integers `x` as `name`, stored in 64 bits, as PyTorch has its counters.
    pub fn tensor_as_i64(mut self, name: impl Into<String>, x: &Tensor) -> SafeTensorsWriter {
        self.tensors.push((name.into(), x.clone(), Stored::I64));
        self
    }

    /// Writes the file at `path`; a crash leaves the old file or the new one whole.
    pub fn save(self, path: impl AsRef<Path>) -> Result<()> {
        let (header, tensors) = self.arranged()?;
        crate::device::realize::realize(tensors.iter().map(|(_, x, _)| x))?;
        write_atomically(path, |out: &mut Output| {
            out.put(&header)?;
            tensors.iter().try_for_each(|(_, x, stored)| out.put(&widened(&host_bytes(x)?, x.dtype(), *stored)))
        })
    }

    /// The file's bytes.
    pub fn to_bytes(self) -> Result<Vec<u8>> {
        let (mut out, tensors) = self.arranged()?;
        crate::device::realize::realize(tensors.iter().map(|(_, x, _)| x))?;
        for (_, x, stored) in &tensors {
            out.extend_from_slice(&widened(&host_bytes(x)?, x.dtype(), *stored));
        }
        Ok(out)
    }

    /// The file's bytes, without blocking a browser.
    pub async fn read(self) -> Result<Vec<u8>> {
        let (mut out, tensors) = self.arranged()?;
        // All in one run; else each read would be one.
        crate::device::realize::realize(tensors.iter().map(|(_, x, _)| x))?;
        for (_, x, stored) in &tensors {
            out.extend_from_slice(&widened(&read_bytes(x).await?, x.dtype(), *stored));
        }
        Ok(out)
    }

    /// The header, and the tensors as they lie: widest elements first, so that each is aligned.
    fn arranged(self) -> Result<(Vec<u8>, Vec<(String, Tensor, Stored)>)> {
        let refuse = |fact: String| Err(Error::new(ErrorKind::Operand, "save_safetensors", fact));
        let mut names = BTreeMap::new();
        for (k, (name, ..)) in self.tensors.iter().enumerate() {
            if names.insert(name.clone(), k).is_some() || name == METADATA {
                return refuse(format!("the name {name:?} is taken"));
            }
        }
        let of_width = |bytes| names.values().map(|&k| &self.tensors[k]).filter(move |(_, _, x)| x.bytes() == bytes);
        let tensors: Vec<_> = [8, 4, 2, 1].into_iter().flat_map(of_width).cloned().collect();
        let (mut fields, mut end) = (Vec::new(), 0u64);
        if !self.metadata.values.is_empty() {
            let pairs: Vec<_> = self.metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
            fields.push(format!("{}:{{{}}}", quoted(METADATA), pairs.join(",")));
        }
        for (name, x, stored) in &tensors {
            x.check()?;
            if *stored == Stored::I64 && !x.dtype().is_int() {
                return refuse(format!("{name:?} is {}, and only integers are stored as i64", x.dtype()));
            }
            let kind = DTYPES.iter().find(|(_, _, kind)| *kind == Some(*stored)).map_or("", |(kind, ..)| kind);
            let start = end;
            end += (x.numel() * stored.bytes()) as u64;
            let dims: Vec<String> = x.dims().iter().map(usize::to_string).collect();
            let (name, dims) = (quoted(name), dims.join(","));
            fields.push(format!("{name}:{{\"dtype\":\"{kind}\",\"shape\":[{dims}],\"data_offsets\":[{start},{end}]}}"));
        }
        let mut header = format!("{{{}}}", fields.join(",")).into_bytes();
        // The elements begin at a multiple of 8.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() as u64 > HEADER_BYTES_MAX {
            return refuse(format!("a header of {} bytes, at most {HEADER_BYTES_MAX} can be", header.len()));
        }
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.append(&mut header);
        Ok((out, tensors))
    }
}

/// The elements as they are stored.
fn widened(bytes: &[u8], dtype: DType, stored: Stored) -> std::borrow::Cow<'_, [u8]> {
    let words = || bytes.as_chunks::<4>().0.iter();
    match (stored, dtype) {
        (Stored::I64, DType::I32) => words().flat_map(|&x| i64::from(i32::from_le_bytes(x)).to_le_bytes()).collect(),
        (Stored::I64, DType::U32) => words().flat_map(|&x| i64::from(u32::from_le_bytes(x)).to_le_bytes()).collect(),
        (Stored::I64, DType::U8) => bytes.iter().flat_map(|&x| i64::from(x).to_le_bytes()).collect(),
        _ => bytes.into(),
    }
}

/// Writes tensors by name, and notes beside them; PyTorch's `safetensors.torch.load_file` reads them.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::io::{SafeTensors, save_safetensors};
/// # let folder = std::env::temp_dir().join("wgrad-doc-safetensors");
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("model.safetensors");
/// let (weight, bias) = (Tensor::ones([2, 3], &Device::cpu()), Tensor::zeros([2], &Device::cpu()));
/// save_safetensors(&path, [("weight", &weight), ("bias", &bias)], [("format", "pt")])?;
/// assert_eq!(SafeTensors::open(&path)?.tensor("bias", &Device::cpu())?.dims(), [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save_safetensors<'a, N: Into<String>, K: Into<String>, V: Into<String>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, &'a Tensor)>,
    metadata: impl IntoIterator<Item = (K, V)>,
) -> Result<()> {
    let writer = metadata.into_iter().fold(SafeTensorsWriter::new(), |writer, (k, v)| writer.metadata(k, v));
    tensors.into_iter().fold(writer, |writer, (name, x)| writer.tensor(name, x)).save(path)
}
