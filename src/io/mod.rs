//! Files of tensors: safetensors, `.npy`, `.npz` and pictures, and writing that survives a crash.
//!
//! | I want to | |
//! |---|---|
//! | save weights for PyTorch | [`save_safetensors`] |
//! | load a checkpoint of PyTorch | [`SafeTensors::open`], then [`tensor`](SafeTensors::tensor) by name |
//! | do so in a browser, from what was fetched | [`SafeTensors::from_bytes`] |
//! | exchange arrays with NumPy | [`load_npy`], [`save_npy`], [`Npz`], [`save_npz`] |
//! | look at a tensor as a picture | [`save_png`] |
//! | replace a file of my own safely | [`write_atomically`] |
//!
//! A file is untrusted: whatever its bytes are, reading it gives tensors or an
//! [`Error`](crate::Error) that names file and byte, and takes no more memory than the file's size
//! justifies. Knows no modules, optimizers or datasets.

pub(crate) mod digest;
pub(crate) mod element;
pub(crate) mod file;
pub(crate) mod float;
pub(crate) mod inflate;
#[allow(dead_code, reason = "the run record uses the rest")]
pub(crate) mod json;
mod npy;
mod npz;
mod params;
mod png;
mod safetensors;

pub use file::{Output, write_atomically};
pub use npy::{load_npy, npy_from_bytes, npy_to_bytes, save_npy};
pub use npz::{Npz, save_npz};
pub use png::{png_to_bytes, save_png};
pub use safetensors::{SafeTensors, SafeTensorsWriter, TensorInfo, save_safetensors};
