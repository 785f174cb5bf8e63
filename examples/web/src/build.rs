//! The site's files: wasm from this crate, JavaScript glue from `wasm-bindgen`, the pages as they are.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this package lies.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds everything into `folder`, which is made anew.
pub fn build(folder: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new(PACKAGE).join("../..").canonicalize()?;
    let wasm = compile(&root)?;
    let bindgen = bindgen(&root)?;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    run(Command::new(bindgen)
        .args(["--target", "web", "--no-typescript", "--remove-name-section", "--remove-producers-section"])
        .args([OsStr::new("--out-dir"), folder.as_os_str(), wasm.as_os_str()]))?;
    for entry in fs::read_dir(Path::new(PACKAGE).join("site"))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    fs::copy(root.join("data/digits.csv.gz"), folder.join("digits.csv.gz"))?;
    let bytes = fs::metadata(folder.join("wgrad_web_bg.wasm"))?.len();
    println!("{}: {} kB of wasm", folder.display(), bytes.div_ceil(1000));
    Ok(())
}

/// The crate as wasm. `WASM_CARGO` may name a stand-in for `cargo` that knows the target by itself.
fn compile(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = root.join("target/wasm");
    let mut cargo = match std::env::var_os("WASM_CARGO") {
        Some(stand_in) => Command::new(stand_in),
        None => Command::new("cargo"),
    };
    cargo.current_dir(root).env("CARGO_TARGET_DIR", &target);
    // What `cargo run` tells its child is not meant for a build of another target.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--profile", "web", "--package", "wgrad-web", "--lib"]);
    if std::env::var_os("WASM_CARGO").is_none() {
        cargo.args(["--target", TARGET]);
    }
    run(&mut cargo).map_err(|error| format!("{error}; is the target there? `rustup target add {TARGET}`"))?;
    Ok(target.join(TARGET).join("web/wgrad_web.wasm"))
}

/// The `wasm-bindgen` of the version that the crate is locked to: the one on the path, or one that
/// is installed for this project alone.
fn bindgen(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let version = lock
        .split("name = \"wasm-bindgen\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .ok_or("Cargo.lock names no wasm-bindgen")?;
    let tools = root.join("target/tools");
    let fits = |path: &Path| {
        let said = Command::new(path).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).split_whitespace().nth(1) == Some(version)
    };
    let own = tools.join("bin/wasm-bindgen");
    if let Some(found) = [PathBuf::from("wasm-bindgen"), own.clone()].into_iter().find(|path| fits(path)) {
        return Ok(found);
    }
    println!("installing wasm-bindgen {version} into target/tools, once");
    let version = format!("={version}");
    run(Command::new("cargo")
        .args(["install", "--quiet", "wasm-bindgen-cli", "--version", &version, "--root"])
        .arg(tools))?;
    Ok(own)
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", command.get_program().display()).into()),
        Err(error) => Err(format!("{}: {error}", command.get_program().display()).into()),
    }
}
