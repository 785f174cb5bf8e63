//! Builds the site into a folder and serves it on this machine only, for a developer to look at.
//!
//! `cargo run -p wgrad-web [-- OPTIONS]`
//!
//! Any static host can serve the folder. `--reference` and `--check` compute natively what the
//! digits page computes: tests hold the browser to it.

mod build;
mod names;
mod serve;

use std::path::PathBuf;

use wgrad::data::Csv;
use wgrad_web::digits;

/// The images that the page fetches.
const DIGITS: &[u8] = include_bytes!("../../../data/digits.csv.gz");

const HELP: &str = "Builds wgrad's web examples and serves them on 127.0.0.1.

  --build        only build
  --serve        only serve what was built
  --folder PATH  where to, a folder for nothing else; target/site
  --port N       where to serve; 8000
  --reference    print the fingerprints and first losses of the digits page, computed natively
  --check FILE   print the test accuracy of weights that the digits page saved";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wgrad-web: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut folder, mut port) = (PathBuf::from("target/site"), 8000u16);
    let (mut builds, mut serves) = (true, true);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a word after it; see --help"));
        match word.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            "--reference" => {
                println!("{}", pollster::block_on(digits::reference(&table()?))?);
                return Ok(());
            }
            "--check" => {
                let table = table()?;
                let accuracy = digits::accuracy(&table, std::fs::read(value()?)?);
                println!("{:.4}", pollster::block_on(accuracy)?);
                return Ok(());
            }
            "--build" => serves = false,
            "--serve" => builds = false,
            "--folder" => folder = value()?.into(),
            "--port" => port = value()?.parse()?,
            _ => return Err(format!("{word} is no option; see --help").into()),
        }
    }
    if builds {
        build::build(&folder)?;
    }
    if serves { serve::serve(&folder, port) } else { Ok(()) }
}

fn table() -> wgrad::Result<Csv> {
    Csv::from_bytes("digits.csv.gz", DIGITS.to_vec(), digits::layout())
}
