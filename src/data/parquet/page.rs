//! The values of a page: unpacked, and decoded by what its header says.
//!
//! Knows codecs and encodings; knows no file. Nothing here takes more memory than its caller allows.

use std::io::Read;
use std::sync::Arc;

use ruzstd::decoding::StreamingDecoder;

use crate::data::parquet::thrift::{take, varint};
use crate::io::inflate::{gunzip, inflated_max};

/// What decoders of zstd keep at most, as its specification asks of them.
const WINDOW_MAX: u64 = 8 << 20;

/// How values lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Physical {
    Bool,
    I32,
    I64,
    F32,
    F64,
    Text,
    F16,
}

/// The values of a column.
#[derive(Clone, Debug)]
pub(super) enum Cells {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<Arc<str>>),
}

impl Cells {
    pub fn new(physical: Physical) -> Cells {
        match physical {
            Physical::Bool | Physical::I32 | Physical::I64 => Cells::Ints(Vec::new()),
            Physical::F16 | Physical::F32 | Physical::F64 => Cells::Floats(Vec::new()),
            Physical::Text => Cells::Texts(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Cells::Ints(found) => found.len(),
            Cells::Floats(found) => found.len(),
            Cells::Texts(found) => found.len(),
        }
    }

    /// Adds value `index` of a dictionary.
    fn push(&mut self, from: &Cells, index: usize) -> Option<()> {
        match (self, from) {
            (Cells::Ints(to), Cells::Ints(from)) => to.push(*from.get(index)?),
            (Cells::Floats(to), Cells::Floats(from)) => to.push(*from.get(index)?),
            (Cells::Texts(to), Cells::Texts(from)) => to.push(from.get(index)?.clone()),
            _ => return None,
        }
        Some(())
    }
}

/// `bytes` unpacked to exactly `size`.
pub(super) fn unpacked(codec: i64, bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    if size > inflated_max(bytes.len()) {
        return Err(format!("a page of {} bytes that becomes {size}", bytes.len()));
    }
    let found = match codec {
        0 => bytes.to_vec(),
        1 => snappy(bytes, size)?,
        2 => gunzip("parquet", "page", bytes).map_err(|_| "broken gzip data")?,
        6 => {
            let broken = |_| "broken zstd data".to_string();
            let stream =
                StreamingDecoder::new_with_max_window_size(bytes, WINDOW_MAX).map_err(|_| "broken zstd data")?;
            let mut found = Vec::new();
            stream.take(size as u64 + 1).read_to_end(&mut found).map_err(broken)?;
            found
        }
        3 => return Err("packed by LZO, which is not read".into()),
        4 => return Err("packed by Brotli, which is not read".into()),
        5 | 7 => return Err("packed by LZ4, which is not read".into()),
        other => return Err(format!("there is no codec {other}")),
    };
    match found.len() == size {
        true => Ok(found),
        false => Err(format!("a page of {size} bytes was expected, but there are {}", found.len())),
    }
}

/// Snappy's raw format: pieces as they are, and copies of what came before.
fn snappy(mut bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let bytes = &mut bytes;
    let mut out = Vec::new();
    let told = varint(bytes)?;
    if told != size as u64 {
        return Err(format!("a page of {size} bytes was expected, but Snappy's data have {told}"));
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    while !bytes.is_empty() {
        let tag = take(bytes, 1)?[0];
        let high = usize::from(tag >> 2);
        let (n, back) = match tag & 3 {
            0 => {
                let n = if high < 60 { high } else { number(take(bytes, high - 59)?) };
                let n = n.saturating_add(1);
                out.extend_from_slice(take(bytes, n)?);
                continue;
            }
            1 => (4 + (high & 7), (high >> 3) << 8 | number(take(bytes, 1)?)),
            2 => (high + 1, number(take(bytes, 2)?)),
            _ => (high + 1, number(take(bytes, 4)?)),
        };
        let start =
            out.len().checked_sub(back).filter(|_| back > 0).ok_or("Snappy's data copy from before the page")?;
        if out.len() + n > size {
            return Err("Snappy's data are longer than they say".into());
        }
        // What is copied may be what the copy itself wrote.
        for k in start..start + n {
            out.push(out[k]);
        }
    }
    Ok(out)
}

/// Runs and packed groups of numbers of `width` bits: `n` of them, given to `f`.
pub(super) fn hybrid(
    bytes: &mut &[u8],
    width: u32,
    n: usize,
    mut f: impl FnMut(u32) -> Result<(), String>,
) -> Result<(), String> {
    if width > 32 {
        return Err(format!("numbers of {width} bits"));
    }
    let mut left = n;
    while left > 0 {
        let head = varint(bytes)?;
        let count = usize::try_from(head >> 1).map_err(|_| "a run that never ends")?;
        if count == 0 {
            return Err("a run of nothing".into());
        }
        if head & 1 == 0 {
            let value = take(bytes, width.div_ceil(8) as usize)?;
            let value = value.iter().rev().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
            let run = count.min(left);
            (0..run).try_for_each(|_| f(value))?;
            left -= run;
        } else {
            let packed = take(bytes, count.saturating_mul(width as usize))?;
            let run = count.saturating_mul(8).min(left);
            (0..run).try_for_each(|k| f(bits(packed, k * width as usize, width) as u32))?;
            left -= run;
        }
    }
    Ok(())
}

/// The number of `width` bits, 64 at most, that begins at bit `at`, the lowest bit first.
fn bits(packed: &[u8], at: usize, width: u32) -> u64 {
    let mut found = 0u128;
    for (k, &byte) in packed.iter().skip(at / 8).take(9).enumerate() {
        found |= u128::from(byte) << (8 * k);
    }
    let mask = (1u128 << width) - 1;
    (found >> (at % 8) & mask) as u64
}

/// Decodes `n` values into `out`.
pub(super) fn decode(
    mut bytes: &[u8],
    encoding: i64,
    physical: Physical,
    n: usize,
    dictionary: Option<&Cells>,
    out: &mut Cells,
) -> Result<(), String> {
    let bytes = &mut bytes;
    match (encoding, physical, &mut *out) {
        (0, ..) => plain(bytes, physical, n, out),
        (2 | 8, ..) => {
            let dictionary = dictionary.ok_or("a dictionary's page was expected first")?;
            let width = take(bytes, 1)?[0].into();
            let lost = |index: u32| format!("entry {index} of a dictionary of {}", dictionary.len());
            hybrid(bytes, width, n, |index| out.push(dictionary, index as usize).ok_or_else(|| lost(index)))
        }
        (3, Physical::Bool, Cells::Ints(out)) => {
            take(bytes, 4)?;
            hybrid(bytes, 1, n, |bit| {
                out.push(bit.into());
                Ok(())
            })
        }
        (5, Physical::I32 | Physical::I64, Cells::Ints(out)) => delta(bytes, n, physical == Physical::I32, out),
        (9, Physical::I32 | Physical::I64 | Physical::F16 | Physical::F32 | Physical::F64, _) => {
            let width = width_of(physical);
            let all = n.checked_mul(width).ok_or("too many values")?;
            let split = take(bytes, all)?;
            // Byte `k` of each value lies in stream `k`.
            let whole: Vec<u8> = (0..n).flat_map(|k| (0..width).map(move |byte| split[byte * n + k])).collect();
            plain(&mut &whole[..], physical, n, out)
        }
        (6 | 7, ..) => Err("texts in deltas, which are not read".into()),
        (other, ..) => Err(format!("encoding {other} of {physical:?} is not read")),
    }
}

/// Bytes of a value of fixed width.
fn width_of(physical: Physical) -> usize {
    match physical {
        Physical::F16 => 2,
        Physical::I32 | Physical::F32 => 4,
        Physical::I64 | Physical::F64 => 8,
        Physical::Bool | Physical::Text => 0,
    }
}

/// Values as they are.
fn plain(bytes: &mut &[u8], physical: Physical, n: usize, out: &mut Cells) -> Result<(), String> {
    let mut fixed = || take(bytes, n.checked_mul(width_of(physical)).ok_or("too many values")?);
    match (physical, out) {
        (Physical::I32, Cells::Ints(out)) => {
            out.extend(fixed()?.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))));
        }
        (Physical::I64, Cells::Ints(out)) => out.extend(fixed()?.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b))),
        (Physical::F16, Cells::Floats(out)) => {
            out.extend(fixed()?.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64()));
        }
        (Physical::F32, Cells::Floats(out)) => {
            out.extend(fixed()?.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
        }
        (Physical::F64, Cells::Floats(out)) => {
            out.extend(fixed()?.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)))
        }
        (Physical::Bool, Cells::Ints(out)) => {
            let packed = take(bytes, n.div_ceil(8))?;
            out.extend((0..n).map(|k| i64::from(packed[k / 8] >> (k % 8) & 1)));
        }
        (Physical::Text, Cells::Texts(out)) => {
            for _ in 0..n {
                let length = take(bytes, 4)?.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
                let text = take(bytes, length)?;
                out.push(std::str::from_utf8(text).map_err(|_| "a text that is not UTF-8")?.into());
            }
        }
        _ => return Err("values of another type than the column's".into()),
    }
    Ok(())
}

/// Blocks of differences, packed with as many bits as they need.
fn delta(bytes: &mut &[u8], n: usize, narrow: bool, out: &mut Vec<i64>) -> Result<(), String> {
    let zigzag = |bytes: &mut &[u8]| varint(bytes).map(|n| (n >> 1) as i64 ^ -((n & 1) as i64));
    let (block, parts, total, mut value) = (varint(bytes)?, varint(bytes)?, varint(bytes)?, zigzag(bytes)?);
    let each = block.checked_div(parts).unwrap_or(0);
    if each == 0 || each % 8 != 0 || block > 1 << 20 || total != n as u64 {
        return Err(format!(
            "{total} differences in blocks of {block} in {parts} parts, where {n} values were expected"
        ));
    }
    let put = |value: i64| if narrow { i64::from(value as i32) } else { value };
    let mut left = n;
    if left > 0 {
        out.push(put(value));
        left -= 1;
    }
    while left > 0 {
        let least = zigzag(bytes)?;
        let widths = take(bytes, parts as usize)?;
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 64 {
                return Err(format!("differences of {width} bits"));
            }
            let packed = take(bytes, (each as usize / 8).saturating_mul(width.into()))?;
            let count = left.min(each as usize);
            for k in 0..count {
                let step = bits(packed, k * usize::from(width), width.into()) as i64;
                value = value.wrapping_add(least).wrapping_add(step);
                out.push(put(value));
            }
            left -= count;
        }
    }
    Ok(())
}
