//! What the examples share: the command line, and a line that says which device it is and why.
#![allow(dead_code, reason = "each example uses its part")]

use wgrad::prelude::*;
use wgrad::{ErrorKind, Result};

/// The command line of an example: `--device gpu|cpu` and the options that it names.
pub struct Options(Vec<(String, Option<String>)>);

impl Options {
    /// Reads the command line; `flags` take nothing, `values` take a word. `--help` prints `help` and
    /// ends the program.
    pub fn read(help: &str, flags: &[&str], values: &[&str]) -> Result<Options> {
        let mut found = Vec::new();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let name = arg.trim_start_matches("--").to_string();
            if arg == "--help" || arg == "-h" {
                println!("{help}\n  --device gpu|cpu  where to run; a real GPU if there is one, else the CPU");
                std::process::exit(0);
            } else if flags.contains(&name.as_str()) {
                found.push((name, None));
            } else if values.contains(&name.as_str()) || name == "device" {
                let value = args.next().ok_or_else(|| wrong(&arg, "needs a word after it; see --help"))?;
                found.push((name, Some(value)));
            } else {
                return Err(wrong(&arg, "is no option; see --help"));
            }
        }
        Ok(Options(found))
    }

    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|(name, _)| name == flag)
    }

    /// The word after an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// The number after an option, or `default`.
    pub fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        self.text(name).map_or(Ok(default), |text| text.parse().map_err(|_| wrong(text, &format!("is no --{name}"))))
    }

    /// The device that was asked for, or the best one; prints which and why.
    pub fn device(&self) -> Result<Device> {
        let (device, why) = match self.text("device") {
            None => best(),
            Some("cpu") => (Device::cpu(), "asked for"),
            Some("gpu") => (gpu()?, "asked for"),
            Some(other) => return Err(wrong(other, "is no device; known are gpu and cpu")),
        };
        println!("device: {device} ({why})\n");
        Ok(device)
    }
}

/// The device that the command line asks for, where an example has no other options.
pub fn device() -> Result<Device> {
    Options::read("options:", &[], &[])?.device()
}

/// An error of the command line: `what` was given, `fact` is wrong with it.
pub fn wrong(what: &str, fact: &str) -> Error {
    Error::new(ErrorKind::Operand, what, fact)
}

fn best() -> (Device, &'static str) {
    let device = Device::best();
    let why = match device == Device::cpu() {
        false => "the best GPU there is",
        true if cfg!(feature = "gpu") => "no GPU was found; --device gpu also takes one made of software",
        true => "built without the feature `gpu`",
    };
    (device, why)
}

/// Any adapter: a real GPU before software that stands in for one.
#[cfg(feature = "gpu")]
pub fn gpu() -> Result<Device> {
    Device::gpu_with(&wgrad::device::GpuOptions { software: true, ..Default::default() })
}

/// There is none without the feature.
#[cfg(not(feature = "gpu"))]
pub fn gpu() -> Result<Device> {
    Err(Error::new(ErrorKind::Device, "--device gpu", "built without the feature `gpu`"))
}
