//! NumPy's `.npy`: a magic, a header that is a Python dictionary, and the elements.
//!
//! Reads versions 1 to 3, row- and column-major; writes version 1. Knows one array; archives of
//! them are `npz`'s.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;
use crate::graph::tensor::Tensor;
use crate::io::element::{Stored, host_bytes};
use crate::io::file::{Cursor, fault_at, read, write_atomically};
use crate::shape::{RANK_MAX, Shape};

const OP: &str = "npy";
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header; NumPy's own are a few dozen bytes.
const HEADER_BYTES_MAX: usize = 1 << 16;
/// NumPy's names of the types, without the byte order.
const KINDS: &[(&str, Stored)] = &[
    ("b1", Stored::Bool),
    ("u1", Stored::U8),
    ("i1", Stored::I8),
    ("u2", Stored::U16),
    ("i2", Stored::I16),
    ("u4", Stored::U32),
    ("i4", Stored::I32),
    ("u8", Stored::U64),
    ("i8", Stored::I64),
    ("f2", Stored::F16),
    ("f4", Stored::F32),
    ("f8", Stored::F64),
];

/// Reads the array of the `.npy` file at `path`.
///
/// 64-bit types become `f32`, `i32` and `u32`, and a value that does not fit is an error; 8- and
/// 16-bit integers become `i32`, except `uint8`.
///
/// ```
/// # use wgrad::prelude::*;
/// # let folder = std::env::temp_dir().join("wgrad-doc-npy");
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("x.npy");
/// wgrad::io::save_npy(&path, &Tensor::new([[1.0, 2.0]], &Device::cpu()))?;
/// assert_eq!(wgrad::io::load_npy(&path, &Device::cpu())?.dims(), [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn load_npy(path: impl AsRef<Path>, device: &Device) -> Result<Tensor> {
    let path = path.as_ref();
    npy_from_bytes(&path.display().to_string(), &read(OP, path)?, device)
}

/// Reads the array of a `.npy` file in memory; errors call it `name`.
#[track_caller]
pub fn npy_from_bytes(name: &str, bytes: &[u8], device: &Device) -> Result<Tensor> {
    let mut cursor = Cursor::new(OP, name, bytes);
    let magic = cursor.take(6, "magic")?;
    if magic != MAGIC {
        return Err(fault_at(OP, name, 0, "the magic \\x93NUMPY was expected"));
    }
    let version = cursor.u8("version")?;
    cursor.u8("version")?;
    let length = match version {
        1 => usize::from(cursor.u16("header length")?),
        2 | 3 => cursor.u32("header length")? as usize,
        _ => return Err(fault_at(OP, name, 6, format!("version 1, 2 or 3 was expected, got {version}"))),
    };
    if length > HEADER_BYTES_MAX {
        return Err(cursor.fault(format!("a header of {length} bytes, at most {HEADER_BYTES_MAX} can be")));
    }
    let start = cursor.at;
    let text = cursor.take(length, "header")?;
    let header = Header::read(text).map_err(|(at, fact)| fault_at(OP, name, start + at, fact))?;
    let Header { stored, fortran, shape } = header;
    // A shape has fewer than 2^32 elements, so this fits in 64 bits.
    let want = shape.numel() as u64 * stored.bytes() as u64;
    if want != cursor.left() as u64 {
        return Err(cursor.fault(format!("{shape} takes {want} bytes, but {} are left", cursor.left())));
    }
    let start = cursor.at;
    let elements = cursor.take(cursor.left(), "elements")?.to_vec();
    let elements = stored.convert(elements).map_err(|(at, fact)| fault_at(OP, name, start + at, fact))?;
    let elements = if fortran { row_major(&elements, &shape, stored.dtype().bytes()) } else { elements };
    Ok(Tensor::host(elements, shape, stored.dtype(), device))
}

/// Writes `x` as the `.npy` file at `path`; a crash leaves the old file or the new one whole.
pub fn save_npy(path: impl AsRef<Path>, x: &Tensor) -> Result<()> {
    let bytes = npy_to_bytes(x)?;
    write_atomically(path, |out| out.put(&bytes))
}

/// `x` as a `.npy` file in memory. NumPy has no `bf16`: cast it first.
pub fn npy_to_bytes(x: &Tensor) -> Result<Vec<u8>> {
    x.check()?;
    let stored = Stored::of(x.dtype());
    let Some((kind, _)) = KINDS.iter().find(|(_, kind)| *kind == stored) else {
        return Err(Error::new(ErrorKind::Operand, "save_npy", format!("NumPy has no {}", x.dtype())));
    };
    let order = if stored.bytes() == 1 { '|' } else { '<' };
    let dims: String = x.dims().iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '{order}{kind}', 'fortran_order': False, 'shape': ({dims}), }}");
    // One number in brackets needs its comma, none and several do not; `(3, 4, )` is a tuple too.
    // The elements begin at a multiple of 64, after 10 bytes and a line break.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    // At most eight dimensions of ten digits: this fits in 16 bits.
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend_from_slice(&host_bytes(x)?);
    Ok(out)
}

/// What a header says.
struct Header {
    stored: Stored,
    fortran: bool,
    shape: Shape,
}

impl Header {
    /// The dictionary in `text`; else the byte and what is wrong there.
    fn read(text: &[u8]) -> Result<Header, (usize, String)> {
        let text = std::str::from_utf8(text).map_err(|error| (error.valid_up_to(), "no text".to_string()))?;
        let mut words = Words { text, at: 0 };
        let (mut stored, mut fortran, mut shape) = (None, None, None);
        words.token('{')?;
        while !words.skip('}') {
            let key = words.string()?;
            words.token(':')?;
            let at = words.place();
            let again = match key {
                "descr" => stored.replace(words.kind()?).is_some(),
                "fortran_order" => fortran.replace(words.bool()?).is_some(),
                "shape" => shape.replace(words.shape()?).is_some(),
                _ => return Err((at, format!("{key:?} is no key of a header"))),
            };
            if again {
                return Err((at, format!("{key:?} comes twice")));
            }
            if !words.skip(',') {
                words.token('}')?;
                break;
            }
        }
        if words.peek().is_some() {
            return Err((words.at, "the end of the header was expected".into()));
        }
        match (stored, fortran, shape) {
            (Some(stored), Some(fortran), Some(shape)) => Ok(Header { stored, fortran, shape }),
            _ => Err((words.at, "descr, fortran_order and shape were expected".into())),
        }
    }
}

/// The words of a Python literal.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.at += self.rest().len() - self.rest().trim_ascii_start().len();
        self.rest().chars().next()
    }

    fn place(&mut self) -> usize {
        self.peek();
        self.at
    }

    fn skip(&mut self, token: char) -> bool {
        let found = self.peek() == Some(token);
        self.at += if found { token.len_utf8() } else { 0 };
        found
    }

    fn token(&mut self, token: char) -> Result<(), (usize, String)> {
        if self.skip(token) { Ok(()) } else { Err((self.at, format!("{token:?} was expected"))) }
    }

    fn string(&mut self) -> Result<&'a str, (usize, String)> {
        let quote = if self.peek() == Some('"') { '"' } else { '\'' };
        self.token(quote)?;
        match self.rest().split_once(quote) {
            Some((found, _)) => {
                self.at += found.len() + 1;
                Ok(found)
            }
            None => Err((self.at, "a string does not end".into())),
        }
    }

    fn bool(&mut self) -> Result<bool, (usize, String)> {
        let at = self.place();
        for (word, value) in [("True", true), ("False", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err((at, "True or False was expected".into()))
    }

    fn kind(&mut self) -> Result<Stored, (usize, String)> {
        let at = self.place();
        if self.peek() == Some('[') {
            return Err((at, "an array of records has no dtype here".into()));
        }
        let descr = self.string()?;
        let order = descr.chars().next().filter(|c| "<>|=".contains(*c));
        let kind = descr.get(order.map_or(0, char::len_utf8)..).unwrap_or("");
        match KINDS.iter().find(|(name, _)| *name == kind) {
            Some((_, stored)) if order == Some('>') && stored.bytes() > 1 => {
                Err((at, format!("{descr:?} is big-endian; save the array as little-endian")))
            }
            Some((_, stored)) => Ok(*stored),
            None => Err((at, format!("no dtype holds {descr:?}"))),
        }
    }

    fn shape(&mut self) -> Result<Shape, (usize, String)> {
        let start = self.place();
        let mut dims = Vec::new();
        self.token('(')?;
        while !self.skip(')') {
            let at = self.place();
            let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
            let number = self.rest().get(..digits).and_then(|digits| digits.parse().ok());
            dims.push(number.ok_or_else(|| (at, "a dimension was expected".to_string()))?);
            self.at += digits;
            if dims.len() > RANK_MAX {
                return Err((at, format!("at most {RANK_MAX} dimensions are possible")));
            }
            if !self.skip(',') {
                self.token(')')?;
                break;
            }
        }
        Shape::new(&dims).map_err(|fact| (start, fact))
    }
}

/// The elements of `n` bytes each, which lie first axis fastest, in row-major order.
fn row_major(bytes: &[u8], shape: &Shape, n: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut strides = Vec::new();
    let mut stride = n;
    for dim in shape.dims() {
        strides.push(stride);
        stride *= dim;
    }
    let mut index = vec![0; shape.rank()];
    for _ in 0..shape.numel() {
        let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(bytes.get(at..at + n).unwrap_or(&[]));
        for (i, dim) in index.iter_mut().zip(shape.dims()).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    out
}
