//! Weights of a store in safetensors files, under PyTorch's names.
//!
//! Knows paths and shapes; not which modules they are of.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;
use crate::io::{SafeTensors, SafeTensorsWriter};
use crate::params::{Kind, Param, Params};

/// The end of the paths that PyTorch keeps as 64-bit integers.
const COUNTER: &str = "num_batches_tracked";

impl Params {
    /// Writes every weight and running statistic below here to a safetensors file; PyTorch's
    /// `safetensors.torch.load_file` reads it as a state dict.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # let path = std::env::temp_dir().join("wgrad-doc-params.safetensors");
    /// let params = Params::new(&Device::cpu(), 42);
    /// let w = params.weight("w", [2], Init::Ones);
    /// params.save(&path)?;
    /// params.assign([(&w, Tensor::zeros([2], &Device::cpu()))])?;
    /// params.load(&path)?;
    /// assert_eq!(w.value().to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(SafeTensorsWriter::new().metadata("format", "pt")).save(path)
    }

    /// Adds the cells below here to a file that is being written.
    pub fn write(&self, writer: SafeTensorsWriter) -> SafeTensorsWriter {
        self.paths().into_iter().fold(writer, |writer, (path, param)| {
            let value = param.value();
            match path.ends_with(COUNTER) && value.dtype().is_int() {
                true => writer.tensor_as_i64(path, &value),
                false => writer.tensor(path, &value),
            }
        })
    }

    /// Gives every cell below here its value in a safetensors file; an error, and no change, when one
    /// is missing there, has another shape, or is in the file only.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        self.load_all(&SafeTensors::open(path)?)
    }

    /// As [`Params::load`], from the bytes of a file; messages call it `name`.
    pub fn load_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.load_all(&SafeTensors::from_bytes(name, bytes)?)
    }

    fn load_all(&self, file: &SafeTensors) -> Result<()> {
        self.knows(&mut file.names())?;
        self.load_from(file, |path| Some(path.to_string()))
    }

    /// An error with those of the `names` in a file that are no path below here.
    pub(crate) fn knows(&self, names: &mut dyn Iterator<Item = &str>) -> Result<()> {
        let paths = self.paths();
        let is_known = |name: &str| paths.binary_search_by(|(path, _)| path.as_str().cmp(name)).is_ok();
        let unknown: Vec<String> = names.filter(|name| !is_known(name)).map(str::to_string).collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(wrong(format!("the file has {}, which the model has not", list(&unknown)))),
        }
    }

    /// Gives cells their values in `file`, under the names that `name` gives for their paths; those
    /// for which it gives none keep their values.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// # use wgrad::io::SafeTensors;
    /// # let file = std::env::temp_dir().join("wgrad-doc-load-from.safetensors");
    /// let params = Params::new(&Device::cpu(), 42);
    /// params.weight("trunk.w", [2], Init::Ones);
    /// params.save(&file)?;
    /// let model = Params::new(&Device::cpu(), 7);
    /// let w = model.weight("body.w", [2], Init::Zeros);
    /// model.weight("head.w", [3], Init::Zeros);
    /// model.load_from(&SafeTensors::open(&file)?, |path| Some(path.strip_prefix("body.")?.to_string()).map(|rest| format!("trunk.{rest}")))?;
    /// assert_eq!(w.value().to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn load_from(&self, file: &SafeTensors, name: impl Fn(&str) -> Option<String>) -> Result<()> {
        self.load_named(file, &name)
    }

    fn load_named(&self, file: &SafeTensors, name: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let mut found: Vec<(Param, Tensor)> = Vec::new();
        let mut missing = Vec::new();
        for param in self.iter() {
            let own = param.path();
            // A tied weight may be in the file under any of its paths.
            let mut names = self.paths().into_iter().filter(|(_, p)| *p == param).filter_map(|(path, _)| name(&path));
            let Some(first) = names.next() else { continue };
            match std::iter::once(first.clone()).chain(names).find(|name| file.info(name).is_some()) {
                Some(name) => found.push((param, file.tensor(&name, self.device())?)),
                // A counter counts from 0 where a file has none.
                None if param.kind() == Kind::Buffer && own.ends_with(COUNTER) => {}
                None => missing.push(first),
            }
        }
        if !missing.is_empty() {
            return Err(wrong(format!("the file has no {}", list(&missing))));
        }
        self.assign(found.iter().map(|(param, value)| (param, value.clone())))
    }
}

/// The first few names.
fn list(names: &[String]) -> String {
    let (first, rest) = names.split_at(names.len().min(5));
    let text = first.join(", ");
    if rest.is_empty() { text } else { format!("{text} and {} more", rest.len()) }
}

fn wrong(fact: String) -> Error {
    Error::new(ErrorKind::File, "load", fact)
}
