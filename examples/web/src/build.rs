//! The site's files: wasm from this crate for each page, JavaScript glue from `wasm-bindgen`, the pages as they are.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::names;

/// Where this package lies.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const TARGET: &str = "wasm32-unknown-unknown";
/// The pages that compute; each is a feature of this package.
const PAGES: [&str; 3] = ["digits", "gpt", "speed"];
/// The first file that a build makes, and by which it knows the folder again.
const FIRST: &str = "wgrad_digits.js";

/// Builds everything into `folder`, which is made anew where it holds a site or nothing.
pub fn build(folder: &Path) -> Result<(), Box<dyn Error>> {
    if !may_replace(folder)? {
        return Err(format!("{}: holds something else than a site that this command built", folder.display()).into());
    }
    let root = Path::new(PACKAGE).join("../..").canonicalize()?;
    let bindgen = bindgen(&root)?;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for page in PAGES {
        let wasm = compile(&root, page)?;
        run(Command::new(&bindgen)
            .args(["--target", "web", "--no-typescript", "--remove-name-section", "--remove-producers-section"])
            .args(["--out-name", &format!("wgrad_{page}")])
            .args([OsStr::new("--out-dir"), folder.as_os_str(), wasm.as_os_str()]))?;
        let (wasm, glue) = (folder.join(format!("wgrad_{page}_bg.wasm")), folder.join(format!("wgrad_{page}.js")));
        let short = names::shorten(&fs::read(&wasm)?, &fs::read_to_string(&glue)?);
        let (bytes, text) = short.ok_or("wasm-bindgen made something that is not understood here")?;
        fs::write(&wasm, bytes)?;
        fs::write(&glue, text)?;
        let (bytes, compressed) = compress(&wasm)?;
        println!("{page}: {bytes} bytes of wasm, {compressed} to download");
    }
    for entry in fs::read_dir(Path::new(PACKAGE).join("site"))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    fs::copy(root.join("data/digits.csv.gz"), folder.join("digits.csv.gz"))?;
    println!("{}: built", folder.display());
    Ok(())
}

/// Whether nothing is lost with the folder: it is not there, empty, or a site, which has no folders in it.
fn may_replace(folder: &Path) -> std::io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        entries => entries?.collect::<std::io::Result<Vec<_>>>()?,
    };
    let [flat, site] = [entries.iter().all(|entry| entry.path().is_file()), folder.join(FIRST).is_file()];
    Ok(entries.is_empty() || flat && site)
}

/// Lays a gzip of the file beside it; how many bytes they have.
fn compress(path: &Path) -> Result<(usize, usize), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let mut out = Vec::new();
    // In as many blocks as pay: code, names and shaders differ from one another.
    let iteration_count = NonZeroU64::new(60).unwrap_or(NonZeroU64::MIN);
    let options = zopfli::Options { maximum_block_splits: 60, iteration_count, ..zopfli::Options::default() };
    zopfli::compress(options, zopfli::Format::Gzip, &bytes[..], &mut out)?;
    fs::write(path.with_added_extension("gz"), &out)?;
    Ok((bytes.len(), out.len()))
}

/// The wasm of a page. `WASM_CARGO` may name a stand-in for `cargo` that knows the target by itself.
fn compile(root: &Path, page: &str) -> Result<PathBuf, Box<dyn Error>> {
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
    cargo.args(["--no-default-features", "--features", page]);
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
