//! Builds the site into a folder and serves it on this machine only, for a developer to look at.
//!
//! `cargo run -p wgrad-web [-- --build] [-- --port N] [-- --folder PATH] [-- --reference]`
//!
//! Any static host can serve the folder. `--reference` prints what the digits page must compute:
//! tests hold the browser to it.

mod build;
mod serve;

use std::path::PathBuf;

const HELP: &str = "Builds wgrad's web examples and serves them on 127.0.0.1.

  --build        only build
  --folder PATH  where to; target/site
  --port N       where to serve; 8000
  --reference    print the fingerprints and first losses of the digits page, computed natively";

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
    let (mut folder, mut port, mut only_build) = (PathBuf::from("target/site"), 8000u16, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a word after it; see --help"));
        match word.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            "--reference" => {
                println!("{}", wgrad_web::digits::reference(include_bytes!("../../../data/digits.csv.gz").to_vec())?);
                return Ok(());
            }
            "--build" => only_build = true,
            "--folder" => folder = value()?.into(),
            "--port" => port = value()?.parse()?,
            _ => return Err(format!("{word} is no option; see --help").into()),
        }
    }
    build::build(&folder)?;
    if only_build { Ok(()) } else { serve::serve(&folder, port) }
}
