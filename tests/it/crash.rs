//! A run that is killed again and again ends with the same file as one that never was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wgrad::data::{Array, Batch, FileHash, Loader, TensorDataset};
use wgrad::optim::{AdamW, Schedule};
use wgrad::prelude::*;
use wgrad::train::{Accuracy, Outcome, Trainer, verify_record};

use crate::hostile::Folder;
use crate::support::Rng;

/// Names the folder of the run, for the process that is to be killed.
const FOLDER: &str = "WGRAD_TEST_CRASH_FOLDER";
/// How often a process is killed.
const KILLS: usize = 50;
/// The longest life of one that is to be killed.
const LIFE_MAX: Duration = Duration::from_millis(120);
const EPOCHS: u64 = 40;

/// A run with all that a checkpoint must hold: shuffling, dropout, running statistics, a schedule,
/// momentum, an average; and a ragged last batch.
fn train(folder: &Path) -> Result<(), Error> {
    let x: Vec<f32> = (0..22 * 16).map(|k| ((k * 37 % 29) as f32 - 14.0) / 10.0).collect();
    let y: Vec<i32> = x.chunks(16).map(|p| i32::from(p[0] > p[1])).collect();
    let data = || TensorDataset::of_arrays(Array::new(&x, [22, 16])?, Array::new(&y, [22])?);
    let (train, test) = (Loader::new(data()?, 4).shuffle(3), Loader::new(data()?, 4));
    let params = Params::new(&Device::cpu(), 7);
    let hidden = params.weight("hidden", [16, 64], Init::XavierNormal { gain: 1.0 });
    let output = params.weight("output", [64, 2], Init::XavierNormal { gain: 1.0 });
    let mean = params.buffer("mean", &Tensor::zeros([64], params.device()));
    let adam = AdamW::new(&params, 0.02).schedule(Schedule::one_cycle(EPOCHS * 6)).clip_norm(1.0).average(0.9);
    let mut trainer = Trainer::new(&params, adam).epochs(EPOCHS).metric(Accuracy::default()).quiet();
    trainer = trainer.folder(folder).checkpoint_every(1).resume(true);
    trainer.fit(&train, Some(&test), |batch: &Batch, pass: &Pass| {
        let mut x = batch.x.matmul(&hidden.tensor(pass)).tanh();
        if let Some(key) = pass.key() {
            x = x.dropout(0.2, &key);
            pass.record(&mean, &(mean.tensor(pass) * 0.9 + x.mean(0) * 0.1));
        }
        let outputs = (x - mean.tensor(pass)).matmul(&output.tensor(pass));
        let losses = outputs.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
        Outcome { loss: batch.mean(&losses), outputs }
    })?;
    Ok(())
}

/// What the process that is to be killed does; nothing in an ordinary run of the tests.
#[test]
fn the_process_that_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(Path::new(&folder)).unwrap();
    }
}

/// Starts a process that trains in `folder`, from where the last one was killed.
fn start(folder: &Path) -> Child {
    let own = std::env::current_exe().unwrap();
    let log = std::fs::File::create(folder.with_extension("log")).unwrap();
    let mut command = Command::new(own);
    command.args(["--exact", "crash::the_process_that_is_killed", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The checkpoints that are being written, or were when their writer died.
fn unfinished(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".tmp"))
        .collect()
}

/// The hash of the last state and the best, when `status` is that of a run that came to its end; none when the
/// run was killed.
#[track_caller]
fn hash(folder: &Path, status: ExitStatus) -> Option<String> {
    if status.success() {
        let states =
            ["last", "best"].map(|name| std::fs::read(folder.join(name).with_extension("safetensors")).unwrap());
        verify_record(folder.join("record.jsonl")).unwrap();
        return Some(FileHash::of("states", &states.concat()).sha256);
    }
    let log = std::fs::read_to_string(folder.with_extension("log")).unwrap_or_default();
    assert_eq!(status.code(), None, "a run failed by itself:\n{log}");
    None
}

#[test]
fn a_run_that_is_killed_fifty_times_ends_with_the_same_bits() {
    let started = Instant::now();
    let home = Folder::new("crash");
    let folder = |name: &str| -> PathBuf {
        std::fs::create_dir_all(home.path(name)).unwrap();
        home.path(name)
    };
    let whole = folder("whole");
    let want = hash(&whole, start(&whole).wait().unwrap()).expect("nobody killed it");

    let mut rng = Rng::new(9);
    let (mut kills, mut writing, mut runs) = (0, 0, 0);
    while kills < KILLS || runs == 0 {
        let run = folder(&format!("run{runs}"));
        // Runs go on until one comes to its end; after enough kills it is left in peace.
        let found = loop {
            let before = unfinished(&run);
            let is_writing = || unfinished(&run).difference(&before).next().is_some();
            let mut child = start(&run);
            let life = LIFE_MAX.mul_f64(rng.below(1000) as f64 / 1000.0);
            if kills < KILLS {
                std::thread::sleep(life);
                // Every other one dies while it writes, if it does so soon enough.
                let patience = Instant::now() + LIFE_MAX;
                while kills % 2 == 0 && !is_writing() && Instant::now() < patience {
                    std::hint::spin_loop();
                }
                child.kill().unwrap();
            }
            let status = child.wait().unwrap();
            writing += usize::from(is_writing() && !status.success());
            match hash(&run, status) {
                Some(found) => break found,
                None => kills += 1,
            }
        };
        assert_eq!(found, want, "run {runs}, after {kills} kills");
        runs += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{kills} kills in {runs} runs, {writing} of them while a checkpoint was written, {seconds:.1} s");
}
