//! [`Checkpoint`]: everything a run needs to go on as if it had never stopped, in one file.
//!
//! A safetensors file: weights under their paths, the optimizer's states after them, and what is no
//! tensor in the notes. It is replaced whole or not at all.

use std::cell::RefCell;
use std::path::Path;

use crate::data::{Loader, Position};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::source::ALL_KERNELS;
use crate::io::json::Value;
use crate::io::{SafeTensors, SafeTensorsWriter};
use crate::optim::{Optimizer, Rule};
use crate::params::{Param, Params};

/// What the names of the optimizer's states begin with.
const STATES: &str = "optimizer:";
/// The note that holds the rest.
const NOTE: &str = "wgrad";

/// Saving a run and going on with it.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::optim::Sgd;
/// use wgrad::train::Checkpoint;
/// # let path = std::env::temp_dir().join("wgrad-doc-checkpoint.safetensors");
/// let params = Params::new(&Device::cpu(), 42);
/// let w = params.weight("w", [2], Init::Ones);
/// let mut sgd = Sgd::new(&params, 0.1).momentum(0.9);
/// Checkpoint::save(&path, &params, &mut sgd, None, &[("note", "best so far".into())])?;
/// let saved = Checkpoint::load(&path, &params, &mut sgd, None)?;
/// assert_eq!(saved.note("note"), Some("best so far"));
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct Checkpoint {
    notes: Vec<(String, String)>,
}

impl Checkpoint {
    /// Writes weights, the optimizer's states and steps, the state of the random numbers, the
    /// loader's position and `notes` to `path`: a crash leaves the old file or the new one.
    pub fn save<R: Rule>(
        path: impl AsRef<Path>,
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
        notes: &[(&str, String)],
    ) -> Result<()> {
        Checkpoint::writer(params, optimizer, loader, notes)?.save(path)
    }

    /// As [`Checkpoint::save`], but gives the file's bytes, without blocking a browser: a snapshot to
    /// go on from on another device when this one is lost.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// use wgrad::optim::Sgd;
    /// use wgrad::train::Checkpoint;
    /// # async fn example(device: Device) -> Result<(), Error> {
    /// let make = |device| {
    ///     let params = Params::new(device, 42);
    ///     params.weight("w", [2], Init::Ones);
    ///     let sgd = Sgd::new(&params, 0.1).momentum(0.9);
    ///     (params, sgd)
    /// };
    /// let (params, mut sgd) = make(&device);
    /// let bytes = Checkpoint::read(&params, &mut sgd, None, &[]).await?;
    /// let (params, mut sgd) = make(&Device::cpu());
    /// Checkpoint::load_bytes("snapshot", bytes, &params, &mut sgd, None)?;
    /// # Ok(()) }
    /// ```
    pub async fn read<R: Rule>(
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
        notes: &[(&str, String)],
    ) -> Result<Vec<u8>> {
        Checkpoint::writer(params, optimizer, loader, notes)?.read().await
    }

    fn writer<R: Rule>(
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
        notes: &[(&str, String)],
    ) -> Result<SafeTensorsWriter> {
        let position = loader.map(Loader::position);
        let count = |n: u64| Value::Int(i128::from(n));
        let mut fields = vec![
            ("version".to_string(), Value::Text(env!("CARGO_PKG_VERSION").into())),
            ("seed".into(), count(params.seed())),
            ("passes".into(), count(params.passes())),
            ("rule".into(), Value::Text(optimizer.rule().name().into())),
            ("steps".into(), count(optimizer.steps())),
            ("factor".into(), Value::Float(optimizer.factor())),
        ];
        #[cfg(not(target_arch = "wasm32"))]
        fields.extend(super::record::tuning(params.device()).map(|hash| ("tuning".into(), Value::Text(hash))));
        if let Some(position) = position {
            fields.push(("epoch".into(), count(position.epoch)));
            fields.push(("batch".into(), count(position.batch)));
        }
        let notes = notes.iter().map(|(key, text)| (key.to_string(), Value::Text(text.clone())));
        fields.push(("notes".into(), Value::object(notes)));
        let writer =
            SafeTensorsWriter::new().metadata("format", "pt").metadata(NOTE, Value::Object(fields).to_string());
        let states = optimizer.state()?;
        let writer = params.write(writer);
        Ok(states.iter().fold(writer, |writer, (name, x)| writer.tensor(format!("{STATES}{name}"), x)))
    }

    /// Takes everything from the file at `path`; an error, and weights as they were, when the file
    /// is of another model or optimizer.
    pub fn load<R: Rule>(
        path: impl AsRef<Path>,
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
    ) -> Result<Checkpoint> {
        let path = path.as_ref();
        Checkpoint::take(&path.display().to_string(), SafeTensors::open(path)?, params, optimizer, loader)
    }

    /// As [`Checkpoint::load`], from the bytes of a file; messages call it `name`.
    pub fn load_bytes<R: Rule>(
        name: &str,
        bytes: Vec<u8>,
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
    ) -> Result<Checkpoint> {
        Checkpoint::take(name, SafeTensors::from_bytes(name, bytes)?, params, optimizer, loader)
    }

    fn take<R: Rule>(
        name: &str,
        file: SafeTensors,
        params: &Params,
        optimizer: &mut Optimizer<R>,
        loader: Option<&Loader>,
    ) -> Result<Checkpoint> {
        let wrong = |fact: String| Error::new(ErrorKind::File, "checkpoint", format!("{name}: {fact}"));
        let note = file.note(NOTE).ok_or_else(|| wrong("no checkpoint: weights only".into()))?;
        let note = Value::parse(note.as_bytes()).map_err(|fault| wrong(format!("its note: {}", fault.fact)))?;
        let count = |key: &str| match note.get(key) {
            Some(value @ Value::Int(n)) => u64::try_from(*n).map_err(|_| wrong(format!("{key} is {value}"))),
            _ => Err(wrong(format!("its note has no count {key:?}"))),
        };
        let rule = match note.get("rule") {
            Some(Value::Text(rule)) => rule.clone(),
            _ => return Err(wrong("its note names no optimizer".into())),
        };
        if rule != optimizer.rule().name() {
            return Err(wrong(format!("saved with {rule}, but the optimizer is {}", optimizer.rule().name())));
        }
        if count("seed")? != params.seed() {
            return Err(wrong(format!("saved with seed {}, but the seed is {}", count("seed")?, params.seed())));
        }
        let position = match loader {
            Some(_) => Some(Position { epoch: count("epoch")?, batch: count("batch")? }),
            None => None,
        };
        let (passes, steps) = (count("passes")?, count("steps")?);
        // States first: weights change only when all else is right.
        let (asked, unread) = (RefCell::new(Vec::new()), RefCell::new(None));
        let find = |name: &str| {
            let name = format!("{STATES}{name}");
            let found = file.tensor(&name, params.device());
            if ALL_KERNELS {
                asked.borrow_mut().push(name);
            }
            // The first error is the one to tell.
            found.map_err(|error| _ = unread.borrow_mut().get_or_insert(error)).ok()
        };
        let is_state = |name: &str| {
            // Nobody asks for the states of a weight that was frozen since.
            let path = name.strip_prefix(STATES).and_then(|name| Some(name.split_once('.')?.1));
            let is_of = |param: Param| path == Some(&param.path());
            let of_frozen = || params.iter().filter(Param::is_frozen).any(is_of);
            name.starts_with(STATES) && (asked.borrow().iter().any(|asked| asked == name) || of_frozen())
        };
        // A page has no room to ask.
        let unknown = || params.knows(&mut file.names().filter(|name| !is_state(name)));
        let known = || if ALL_KERNELS { unknown() } else { Ok(()) };
        let before: Vec<_> = params.iter().map(|param| (param.clone(), param.value())).collect();
        let weights = params.load_from(&file, |path| Some(path.to_string()));
        let outcome = weights.and_then(|()| optimizer.restore_if(steps, find, known));
        if let Err(error) = outcome {
            params.assign(before.iter().map(|(param, value)| (param, value.clone())))?;
            return Err(wrong(unread.take().unwrap_or(error).to_string()));
        }
        if let Some(Value::Float(factor)) = note.get("factor") {
            optimizer.set_factor(*factor);
        }
        params.set_passes(passes);
        if let (Some(loader), Some(position)) = (loader, position) {
            loader.restore(position);
        }
        let notes = match note.get("notes") {
            Some(Value::Object(fields)) => fields.clone(),
            _ => Vec::new(),
        };
        let text = |(key, value)| if let Value::Text(text) = value { Some((key, text)) } else { None };
        Ok(Checkpoint { notes: notes.into_iter().filter_map(text).collect() })
    }

    /// A note that was saved under `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.iter().find(|(known, _)| known == key).map(|(_, text)| text.as_str())
    }
}
