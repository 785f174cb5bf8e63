//! IDX, the files of MNIST and its family: a magic, dimensions, and big-endian elements.
//!
//! Also reads them gzipped. Knows which files MNIST consists of and that labels go with images.

use std::path::{Path, PathBuf};

use crate::data::array::Array;
use crate::data::dataset::TensorDataset;
use crate::data::hash::read_hashed;
use crate::dtype::DType;
use crate::error::Result;
use crate::io::element::Stored;
use crate::io::file::{Cursor, fault, fault_at};
use crate::io::inflate::plain;
use crate::shape::{RANK_MAX, Shape};

const OP: &str = "idx";
/// The codes of the element types.
const KINDS: [(u8, Stored); 6] = [
    (0x08, Stored::U8),
    (0x09, Stored::I8),
    (0x0b, Stored::I16),
    (0x0c, Stored::I32),
    (0x0d, Stored::F32),
    (0x0e, Stored::F64),
];

/// Reads an IDX file, gzipped or not.
///
/// Bytes stay `u8`; other integers become `i32` and floats `f32`.
pub fn read_idx(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    let (bytes, _) = read_hashed(OP, path)?;
    idx_from_bytes(&path.display().to_string(), bytes)
}

/// Reads an IDX file in memory, gzipped or not; errors call it `name`.
///
/// ```
/// let bytes = vec![0, 0, 0x08, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9];
/// let x = wgrad::data::idx_from_bytes("x.idx", bytes)?;
/// assert_eq!((x.dims(), x.to_vec::<u8>()?), (&[1, 3][..], vec![7, 8, 9]));
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn idx_from_bytes(name: &str, bytes: Vec<u8>) -> Result<Array> {
    let bytes = plain(OP, name, bytes)?;
    let mut cursor = Cursor::new(OP, name, &bytes);
    let [zero, zero_too, kind, rank] = cursor.array("magic")?;
    let stored = KINDS.iter().find(|(code, _)| *code == kind);
    let Some((_, stored)) = stored.filter(|_| zero == 0 && zero_too == 0) else {
        let magic = [zero, zero_too, kind, rank];
        return Err(fault_at(
            OP,
            name,
            0,
            format!("a magic of 00 00, a type and a rank was expected, got {magic:02x?}"),
        ));
    };
    if usize::from(rank) > RANK_MAX {
        return Err(fault_at(OP, name, 3, format!("at most {RANK_MAX} dimensions are possible, got {rank}")));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        dims.push(cursor.u32_be("dimensions")? as usize);
    }
    let shape = Shape::new(&dims).map_err(|fact| fault_at(OP, name, 4, fact))?;
    // A shape has fewer than 2^32 elements, so this fits in 64 bits.
    let want = shape.numel() as u64 * stored.bytes() as u64;
    if want != cursor.left() as u64 {
        return Err(cursor.fault(format!("{shape} takes {want} bytes, but {} are left", cursor.left())));
    }
    let start = cursor.at;
    let mut elements = cursor.take(cursor.left(), "elements")?.to_vec();
    elements.chunks_exact_mut(stored.bytes()).for_each(<[u8]>::reverse);
    let elements = stored.convert(elements).map_err(|(at, fact)| fault_at(OP, name, start + at, fact))?;
    Array::of_bytes(elements, shape, stored.dtype()).map_err(|fact| fault_at(OP, name, start, fact))
}

/// MNIST, Fashion-MNIST or KMNIST from the folder of its four files, gzipped or not: the training
/// images, or those to test on.
///
/// `x` is `u8 [n, 1, 28, 28]`, `y` is `i32 [n]`.
///
/// ```no_run
/// # use wgrad::data::{Loader, mnist};
/// let train = Loader::new(mnist("data/mnist", true)?, 128).shuffle(42);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub fn mnist(folder: impl AsRef<Path>, train: bool) -> Result<TensorDataset> {
    let folder = folder.as_ref();
    let part = if train { "train" } else { "t10k" };
    let (images_path, labels_path) = (find(folder, part, "images", "idx3")?, find(folder, part, "labels", "idx1")?);
    let (images_name, labels_name) = (images_path.display().to_string(), labels_path.display().to_string());
    let (images, images_hash) = read_hashed(OP, &images_path)?;
    let (labels, labels_hash) = read_hashed(OP, &labels_path)?;
    let (x, y) = (idx_from_bytes(&images_name, images)?, idx_from_bytes(&labels_name, labels)?);
    let (&[n, height, width], DType::U8) = (x.dims(), x.dtype()) else {
        let fact = format!("images u8 [n, height, width] were expected, got {} {}", x.dtype(), x.shape());
        return Err(fault_at(OP, images_name, 0, fact));
    };
    if y.dtype() != DType::U8 || y.dims() != [n] {
        let fact = format!("labels u8 [{n}] were expected, got {} {}", y.dtype(), y.shape());
        return Err(fault_at(OP, labels_name, 0, fact));
    }
    let labels: Vec<i32> = y.to_vec::<u8>()?.into_iter().map(i32::from).collect();
    if let Some(at) = labels.iter().position(|&label| label > 9) {
        return Err(fault_at(OP, labels_name, 8 + at, "a label of 0 to 9 was expected"));
    }
    let data = TensorDataset::of_arrays(x.reshape([n, 1, height, width])?, Array::new(&labels, [n])?)?;
    Ok(data.with_files(vec![images_hash, labels_hash]))
}

/// The file of MNIST in `folder`, under any of the names it goes by.
fn find(folder: &Path, part: &str, what: &str, kind: &str) -> Result<PathBuf> {
    let name = format!("{part}-{what}-{kind}-ubyte");
    let dotted = format!("{part}-{what}.{kind}-ubyte");
    let names = [name.clone(), dotted.clone(), format!("{name}.gz"), format!("{dotted}.gz")];
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| fault(OP, folder.display(), format!("{name} or {name}.gz was expected in this folder")))
}
