//! A small run that tells TensorBoard and MLflow of itself, and writes down what it told.
//!
//! `check.py` beside this file starts it, and asks the real programs what came. The arguments: the
//! URI of an MLflow server, a folder with a table `data.csv`, and how many epochs there are in all.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use wgrad::data::{Csv, CsvOptions, Dataset, Loader};
use wgrad::optim::{Schedule, Sgd};
use wgrad::prelude::*;
use wgrad::train::{MeanAbsoluteError, Mlflow, Outcome, RunStart, Tracker, Trainer};

/// Writes all it is told to a file, one fact a line, with every bit of the numbers.
struct Diary(File);

impl Diary {
    fn line(&mut self, fields: &[&str]) -> Result<(), Error> {
        writeln!(self.0, "{}", fields.join("\t"))
            .map_err(|error| Error::new(wgrad::ErrorKind::File, "diary", error.to_string()))
    }
}

impl Tracker for Diary {
    fn begin(&mut self, run: &RunStart) -> Result<(), Error> {
        self.line(&["begin", &run.steps.to_string()])?;
        run.settings.iter().try_for_each(|(name, text)| self.line(&["setting", name, text]))?;
        run.facts.iter().try_for_each(|(name, text)| self.line(&["fact", name, text]))
    }
    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> Result<(), Error> {
        numbers.iter().try_for_each(|(name, x)| self.line(&["number", name, &step.to_string(), &format!("{x:?}")]))
    }
    fn file(&mut self, path: &Path) -> Result<(), Error> {
        self.line(&["file", &path.display().to_string()])
    }
    fn end(&mut self, finished: bool) -> Result<(), Error> {
        self.line(&["end", &finished.to_string()])
    }
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, folder, epochs] = &arguments[..] else {
        eprintln!("tracked_run URI FOLDER EPOCHS");
        std::process::exit(2);
    };
    let folder = PathBuf::from(folder);
    let table = Csv::open(folder.join("data.csv"), CsvOptions::default())?;
    let data = table.regression(["x", "z"], ["y"])?;
    println!("data: {:?}", data.files());
    let (train, test) = (Loader::new(data.clone(), 8).shuffle(1), Loader::new(data, 8));

    let params = Params::new(&Device::cpu(), 42);
    let (w, b) = (params.weight("w", [2, 1], Init::Zeros), params.weight("b", [1], Init::Zeros));
    let sgd = Sgd::new(&params, 0.05).schedule(Schedule::cosine(100, 0.1));
    let diary = File::options().append(true).create(true).open(folder.join("diary.tsv"));
    let diary = diary.map_err(|error| Error::new(wgrad::ErrorKind::File, "diary", error.to_string()))?;
    let mlflow = Mlflow::new(uri, "checks & balances")?.run_name("a run").tag("who", "check.py");
    let mut trainer = Trainer::new(&params, sgd)
        .epochs(epochs.parse().unwrap_or(1))
        .metric(MeanAbsoluteError::default())
        .setting("lr", 0.05)
        .setting("text with \"quotes\"", "ä\n\u{1}")
        .folder(folder.join("run"))
        .resume(true)
        .track(Diary(diary))
        .track(mlflow);
    let report = trainer.fit(&train, Some(&test), |batch, pass| {
        let outputs = batch.x.matmul(&w.tensor(pass)) + b.tensor(pass);
        Outcome { loss: batch.mean(&outputs.mse_loss(&batch.y, Reduce::None)), outputs }
    })?;
    println!("{} epochs, tracker errors: {:?}", report.epochs.len(), report.tracker_errors);
    Ok(())
}
