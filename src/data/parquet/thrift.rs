//! Thrift's compact protocol, as much of it as Parquet's footers and page headers need.
//!
//! Knows fields by their numbers and how to skip those that nobody asks for; errors are facts, and
//! the reader's place says where.

/// Structures inside structures.
const DEPTH_MAX: usize = 32;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// A walk over bytes.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    /// How many were read.
    pub at: usize,
    depth: usize,
}

impl<'a> Thrift<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Thrift<'a> {
        Thrift { bytes, at, depth: 0 }
    }

    /// Calls `f` with each field of a structure; those that it does not read, by `false`, are skipped.
    pub fn fields(
        &mut self,
        mut f: impl FnMut(&mut Thrift<'a>, i64, Kind) -> Result<bool, String>,
    ) -> Result<(), String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("structures nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let mut id = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                break;
            }
            id = match head >> 4 {
                0 => self.zigzag()?,
                step => id.saturating_add(step.into()),
            };
            let kind = Kind(head & 15);
            if !f(self, id, kind)? {
                self.skip(kind)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Calls `f` for each item of a list.
    pub fn list(
        &mut self,
        kind: Kind,
        mut f: impl FnMut(&mut Thrift<'a>, Kind) -> Result<(), String>,
    ) -> Result<(), String> {
        expected(kind.0 == LIST || kind.0 == SET, "a list")?;
        let (kind, n) = self.list_head()?;
        (0..n).try_for_each(|_| f(self, kind))
    }

    /// A whole number.
    pub fn int(&mut self, kind: Kind) -> Result<i64, String> {
        match kind.0 {
            BYTE => Ok(i64::from(self.byte()? as i8)),
            kind => {
                expected((BYTE..=I64).contains(&kind), "a whole number")?;
                self.zigzag()
            }
        }
    }

    /// A size or an offset.
    pub fn size(&mut self, kind: Kind) -> Result<usize, String> {
        let n = self.int(kind)?;
        usize::try_from(n).map_err(|_| format!("a size of {n}"))
    }

    /// A bool, whose value stands in its kind.
    pub fn bool(&mut self, kind: Kind) -> Result<bool, String> {
        expected(matches!(kind.0, TRUE | FALSE), "a bool")?;
        Ok(kind.0 == TRUE)
    }

    /// Bytes, as text.
    pub fn text(&mut self, kind: Kind) -> Result<String, String> {
        expected(kind.0 == BINARY, "a text")?;
        let n = self.length()?;
        Ok(String::from_utf8_lossy(self.take(n)?).into_owned())
    }

    /// Whether a field is a structure.
    pub fn is_struct(kind: Kind) -> bool {
        kind.0 == STRUCT
    }

    fn skip(&mut self, kind: Kind) -> Result<(), String> {
        match kind.0 {
            TRUE | FALSE => Ok(()),
            BYTE => self.byte().map(drop),
            4..=I64 => self.zigzag().map(drop),
            DOUBLE => self.take(8).map(drop),
            BINARY => {
                let n = self.length()?;
                self.take(n).map(drop)
            }
            LIST | SET => {
                let (kind, n) = self.list_head()?;
                self.skip_all(&[kind], n)
            }
            MAP => {
                let n = self.length()?;
                if n == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.skip_all(&[Kind(kinds >> 4), Kind(kinds & 15)], n)
            }
            STRUCT => self.fields(|_, _, _| Ok(false)),
            other => Err(format!("there is no kind {other} of field")),
        }
    }

    fn skip_all(&mut self, kinds: &[Kind], n: usize) -> Result<(), String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("lists nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        for _ in 0..n {
            for kind in kinds {
                match kind.0 {
                    // In a list a bool takes a byte.
                    TRUE | FALSE => drop(self.byte()?),
                    _ => self.skip(*kind)?,
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn list_head(&mut self) -> Result<(Kind, usize), String> {
        let head = self.byte()?;
        let n = match head >> 4 {
            15 => self.length()?,
            n => n.into(),
        };
        Ok((Kind(head & 15), n))
    }

    /// A number of items or bytes, each of which takes a byte at least.
    fn length(&mut self) -> Result<usize, String> {
        let n = self.varint()?;
        let left = self.bytes.len().saturating_sub(self.at);
        usize::try_from(n).ok().filter(|n| *n <= left).ok_or_else(|| format!("{n} items, but {left} bytes are left"))
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let before = rest.len();
        let found = varint(&mut rest);
        self.at += before - rest.len();
        found
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let mut rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let found = take(&mut rest, n)?;
        self.at += n;
        Ok(found)
    }
}

fn expected(is: bool, what: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("{what} was expected")) }
}

/// The first `n` bytes, which `bytes` loses.
pub(super) fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    match bytes.split_at_checked(n) {
        Some((found, rest)) => {
            *bytes = rest;
            Ok(found)
        }
        None => Err(format!("{n} bytes were expected, but {} are left", bytes.len())),
    }
}

/// A number in groups of seven bits, the lowest first.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut found = 0;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        found |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(found);
        }
    }
    Err("a number of more than 64 bits".into())
}
