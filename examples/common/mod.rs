//! What the examples share: `--device gpu|cpu`, and a line that says which device it is and why.

use wgrad::prelude::*;
use wgrad::{ErrorKind, Result};

/// The device that the command line asks for, or the best one; prints which and why.
pub fn device() -> Result<Device> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (device, why) = match args[..] {
        [] => best(),
        ["--device", "cpu"] => (Device::cpu(), "asked for"),
        ["--device", "gpu"] => (gpu()?, "asked for"),
        _ => return Err(Error::new(ErrorKind::Device, args.join(" "), "known is only --device gpu|cpu")),
    };
    println!("device: {device} ({why})\n");
    Ok(device)
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
fn gpu() -> Result<Device> {
    Device::gpu_with(&wgrad::device::GpuOptions { software: true, ..Default::default() })
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<Device> {
    Err(Error::new(ErrorKind::Device, "--device gpu", "built without the feature `gpu`"))
}
