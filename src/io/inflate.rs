//! Inflating what gzip and zip deflated, with a bound on what may come out.
//!
//! Knows the two wrappers' checks; archives and their names are `npz`'s.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::error::Result;
use crate::io::file::Cursor;

/// A deflated file of ordinary data shrinks less than this; a larger one is refused as a bomb, once
/// it is past [`FREE_BYTES`].
const RATIO_MAX: usize = 256;
/// What any file may inflate to.
const FREE_BYTES: usize = 64 << 20;

/// What a stream gets to begin with: a gzip file may have very many of them.
const FIRST_BYTES: usize = 64 << 10;

/// Most bytes that `n` deflated ones may become.
pub(crate) fn inflated_max(n: usize) -> usize {
    n.saturating_mul(RATIO_MAX).max(FREE_BYTES)
}

/// The deflated stream at the cursor, which stands behind it afterwards; at most `most` bytes.
pub(crate) fn inflate(cursor: &mut Cursor<'_>, most: usize) -> Result<Vec<u8>> {
    let mut state = DecompressorOxide::new();
    let input = cursor.bytes.get(cursor.at..).unwrap_or(&[]);
    let mut out = vec![0; most.clamp(1, FIRST_BYTES)];
    let (mut read, mut written) = (0, 0);
    loop {
        let rest = input.get(read..).unwrap_or(&[]);
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, used, put) = decompress(&mut state, rest, &mut out, written, flags);
        (read, written) = (read + used, written + put);
        cursor.at += used;
        match status {
            TINFLStatus::Done if written <= most => {
                out.truncate(written);
                out.shrink_to_fit();
                return Ok(out);
            }
            TINFLStatus::HasMoreOutput if out.len() < most => out.resize(out.len().saturating_mul(2).min(most), 0),
            TINFLStatus::HasMoreOutput | TINFLStatus::Done => {
                return Err(cursor.fault(format!("the data inflate to more than {most} bytes")));
            }
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                return Err(cursor.fault("the deflated data end too early"));
            }
            TINFLStatus::Adler32Mismatch | TINFLStatus::BadParam | TINFLStatus::Failed => {
                return Err(cursor.fault("the deflated data are broken"));
            }
        }
    }
}

/// The contents of the gzip file at the cursor, all its members; checked by length and CRC.
pub(crate) fn gunzip(op: &'static str, name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut cursor = Cursor::new(op, name, bytes);
    let most = inflated_max(bytes.len());
    let mut out = Vec::new();
    loop {
        let magic = cursor.array::<3>("gzip header")?;
        if magic != [0x1f, 0x8b, 8] {
            cursor.at -= 3;
            return Err(cursor.fault(format!("gzip's 1f 8b 08 was expected, got {magic:02x?}")));
        }
        let flags = cursor.u8("gzip header")?;
        cursor.take(6, "gzip header")?;
        if flags & 4 != 0 {
            let n = cursor.u16("gzip header")?;
            cursor.take(usize::from(n), "gzip header")?;
        }
        // The file's name and a remark end with a 0 each.
        for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
            while cursor.u8("gzip header")? != 0 {}
        }
        if flags & 2 != 0 {
            cursor.u16("gzip header")?;
        }
        let member = inflate(&mut cursor, most.saturating_sub(out.len()))?;
        let (crc, length) = (cursor.u32("gzip trailer")?, cursor.u32("gzip trailer")?);
        // The length is kept modulo 2^32.
        if crc != crc32(&member) || length != member.len() as u32 {
            cursor.at -= 8;
            return Err(cursor.fault("the contents do not have the CRC and the length of gzip's trailer"));
        }
        match out.is_empty() {
            true => out = member,
            false => out.extend_from_slice(&member),
        }
        if cursor.left() == 0 {
            return Ok(out);
        }
    }
}

/// `bytes` themselves, or what they inflate to where they begin as gzip does.
pub(crate) fn plain(op: &'static str, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(op, name, &bytes) } else { Ok(bytes) }
}

/// The CRC of gzip and zip.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut c, mut bit) = (n as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    // A byte is always an index of the table.
    !bytes.iter().fold(!0, |c, &b| TABLE[usize::from(c as u8 ^ b)] ^ (c >> 8))
}
