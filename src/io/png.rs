//! Tensors as PNG pictures.
//!
//! Writes grey, RGB and RGBA in 8 bits; reading pictures is the feature `image`'s.

use std::path::Path;

use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;
use crate::io::element::host_bytes;
use crate::io::file::write_atomically;
use crate::io::inflate::crc32;

/// How hard zlib tries, from 0 to 10.
const LEVEL: u8 = 6;

/// Writes `image: [height, width]` or `[channels, height, width]` as a PNG: grey, RGB or RGBA by its
/// channels; floats from 0 to 1, or bytes. A crash leaves the old file or the new one whole.
///
/// ```
/// # use wgrad::prelude::*;
/// # let path = std::env::temp_dir().join("wgrad-doc.png");
/// let ramp = Tensor::linspace(0.0, 1.0, 256, &Device::cpu()).expand([64, 256]);
/// wgrad::io::save_png(&path, &ramp)?;
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn save_png(path: impl AsRef<Path>, image: &Tensor) -> Result<()> {
    let bytes = png_to_bytes(image)?;
    write_atomically(path, |out| out.put(&bytes))
}

/// `image` as a PNG in memory; see [`save_png`].
pub fn png_to_bytes(image: &Tensor) -> Result<Vec<u8>> {
    image.check()?;
    let refuse = |fact: String| Err(Error::new(ErrorKind::Operand, "png", fact));
    let (channels, height, width) = match *image.dims() {
        [height, width] => (1, height, width),
        [channels, height, width] => (channels, height, width),
        _ => (0, 0, 0),
    };
    let colour = match channels {
        1 => 0,
        3 => 2,
        4 => 6,
        _ => return refuse(format!("[height, width] or [1, 3 or 4, height, width] is needed, got {}", image.shape())),
    };
    let (Ok(columns @ 1..), Ok(rows @ 1..)) = (i32::try_from(width), i32::try_from(height)) else {
        return refuse(format!("no picture has {height} by {width} pixels"));
    };
    let bytes = match image.dtype() {
        DType::U8 => image.clone(),
        // What is no number is black.
        dtype if dtype.is_float() => {
            let x = image.cast(DType::F32);
            (x.isnan().where_(0.0, x).clamp(0.0, 1.0) * 255.0).round().cast(DType::U8)
        }
        dtype => return refuse(format!("floats from 0 to 1 or bytes are needed, got {dtype}")),
    };
    let bytes = bytes.reshape([channels, height, width]).permute([1, 2, 0]);
    // Not `to_vec`, which a browser has not.
    let bytes = host_bytes(&bytes)?;
    // Each row begins with the number of its filter; 0 is none.
    let rows_of = bytes.chunks(width.saturating_mul(channels));
    let raw: Vec<u8> = rows_of.flat_map(|row| std::iter::once(0).chain(row.iter().copied())).collect();
    let header = [&columns.to_be_bytes()[..], &rows.to_be_bytes(), &[8, colour, 0, 0, 0]].concat();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", compress_to_vec_zlib(&raw, LEVEL)), (b"IEND", Vec::new())] {
        let Ok(length) = u32::try_from(data.len()) else {
            return refuse(format!("{height} by {width} pixels are too many"));
        };
        let named = [&kind[..], &data].concat();
        out.extend([&length.to_be_bytes()[..], &named, &crc32(&named).to_be_bytes()].concat());
    }
    Ok(out)
}
