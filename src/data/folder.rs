//! Folders of images, one folder a class: PNG and JPEG, read when they are asked for.
//!
//! Knows classes by their folders' names; decoding is the `image` crate's, within limits.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{ImageReader, Limits};

use crate::data::array::Array;
use crate::data::dataset::{Dataset, Sample};
use crate::data::hash::FileHash;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::io::digest::{hex, sha256};
use crate::io::file::{fault, list, read};
use crate::io::inflate::inflated_max;
use crate::shape::Shape;

const OP: &str = "image";
/// The names' endings, of which case does not matter.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Most pixels along a side.
const SIDE_MAX: u32 = 1 << 14;
/// No format packs more bytes into one; what says otherwise is no image.
const RATIO_MAX: u64 = 1032;

/// Images in a folder for each class: `x` is `u8 [3, height, width]`, `y` the class as `i32`.
///
/// Classes are numbered in the order of their folders' names. Other files are passed over. DVC's
/// notes are checked for single files only, not for folders.
///
/// ```no_run
/// # use wgrad::prelude::*;
/// use wgrad::data::{ImageFolder, Loader};
/// let images = ImageFolder::open("pets/train", [224, 224])?;
/// println!("{:?}", images.classes());
/// let loader = Loader::new(images, 32).shuffle(42).workers(4);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFolder {
    name: String,
    classes: Vec<String>,
    images: Vec<(PathBuf, i32)>,
    size: [usize; 2],
}

impl ImageFolder {
    /// The images below `folder`, brought to `[height, width]` when they are read.
    pub fn open(folder: impl AsRef<Path>, size: [usize; 2]) -> Result<ImageFolder> {
        let folder = folder.as_ref();
        let (mut classes, mut images) = (Vec::new(), Vec::new());
        for path in list(OP, folder)?.into_iter().filter(|path| path.is_dir()) {
            let class = classes.len() as i32;
            classes.push(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
            images.extend(list(OP, &path)?.into_iter().filter(|path| is_image(path)).map(|path| (path, class)));
        }
        match images.is_empty() {
            true => Err(fault(OP, folder.display(), "folders of PNG or JPEG images were expected")),
            false => Ok(ImageFolder { name: folder.display().to_string(), classes, images, size }),
        }
    }

    /// The classes' names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let Some((path, class)) = self.images.get(index) else {
            let fact = format!("sample {index} of {}", self.images.len());
            return Err(Error::new(ErrorKind::Operand, "dataset", fact));
        };
        let x = decode_image(&path.display().to_string(), &read(OP, path)?, self.size)?;
        Ok(Sample { x, y: Array::new(&[*class], Shape::SCALAR)? })
    }

    /// One hash for the folder: that of a list of the images' classes, names and hashes.
    fn files(&self) -> Vec<FileHash> {
        let (mut listed, mut size) = (String::new(), 0);
        for (path, class) in &self.images {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let content = match read(OP, path) {
                Ok(bytes) => {
                    size += bytes.len() as u64;
                    hex(&sha256(&bytes))
                }
                Err(error) => error.to_string(),
            };
            let class = usize::try_from(*class).ok().and_then(|class| self.classes.get(class));
            listed.push_str(&format!("{}/{name} {content}\n", class.map_or("", String::as_str)));
        }
        vec![FileHash { bytes: size, ..FileHash::of(&self.name, listed.as_bytes()) }]
    }
}

/// Decodes a PNG or JPEG file in memory to `u8 [3, height, width]`; errors call it `name`.
pub fn decode_image(name: &str, bytes: &[u8], size: [usize; 2]) -> Result<Array> {
    let [height, width] = size;
    let (Ok(to_height @ 1..=SIDE_MAX), Ok(to_width @ 1..=SIDE_MAX)) = (u32::try_from(height), u32::try_from(width))
    else {
        let fact = format!("images of {height} by {width} pixels, but a side has 1 to {SIDE_MAX}");
        return Err(Error::new(ErrorKind::Operand, OP, fact));
    };
    let broken = |error: &dyn std::fmt::Display| fault(OP, name, format!("a PNG or JPEG image was expected: {error}"));
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| broken(&error))?;
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    // A few rows' worth of buffers besides what may come out.
    let most = (bytes.len() as u64).saturating_mul(RATIO_MAX).min(inflated_max(bytes.len()) as u64) + (256 << 10);
    limits.max_alloc = Some(most);
    reader.limits(limits);
    let mut image = reader.decode().map_err(|error| broken(&error))?.into_rgb8();
    if image.dimensions() != (to_width, to_height) {
        image = image::imageops::resize(&image, to_width, to_height, FilterType::Triangle);
    }
    let pixels = image.into_raw();
    let mut planes = Vec::with_capacity(pixels.len());
    for channel in 0..3 {
        planes.extend(pixels.iter().skip(channel).step_by(3));
    }
    let shape = Shape::new(&[3, height, width]).map_err(|fact| fault(OP, name, fact))?;
    Array::of_bytes(planes, shape, DType::U8).map_err(|fact| fault(OP, name, fact))
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    ENDINGS.contains(&ending.as_str())
}
