//! Runs: what is saved goes on with the same bits, evaluation changes nothing, records tell.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::data::{Array, Batch, Dataset, FileHash, Loader, Position, Sample, TensorDataset};
use wgrad::optim::{AdamW, Optimizer, Schedule};
use wgrad::prelude::*;
use wgrad::train::{
    Accuracy, Checkpoint, Confusion, Curves, MeanAbsoluteError, Metric, Outcome, Perplexity, Record, Report,
    RootMeanSquareError, TopK, Trainer, verify_record,
};

use crate::devices::devices;
use crate::hostile::{Folder, replace, withstands};

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("wgrad-train-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// 22 points of two classes, in batches of 4, the last of which is ragged.
fn data() -> Loader {
    let x: Vec<f32> = (0..44).map(|k| ((k * 37 % 29) as f32 - 14.0) / 10.0).collect();
    let y: Vec<i32> = x.chunks(2).map(|p| i32::from(p[0] > p[1])).collect();
    let data = TensorDataset::of_arrays(Array::new(&x, [22, 2]).unwrap(), Array::new(&y, [22]).unwrap()).unwrap();
    Loader::new(data, 4)
}

struct Model {
    params: Params,
    w: Param,
    seen: Param,
}

impl Model {
    fn new() -> Model {
        Model::on(&Device::cpu())
    }

    fn on(device: &Device) -> Model {
        let params = Params::new(device, 7);
        let w = params.weight("w", [2, 2], Init::XavierNormal { gain: 1.0 });
        let seen = params.buffer("seen", &Tensor::new([0], device));
        Model { params, w, seen }
    }

    fn forward(&self, batch: &Batch, pass: &Pass) -> Outcome {
        let x = match pass.key() {
            Some(key) => batch.x.dropout(0.2, &key),
            None => batch.x.clone(),
        };
        pass.record(&self.seen, &(self.seen.tensor(pass) + 1));
        let outputs = x.matmul(&self.w.tensor(pass));
        let each = outputs.cross_entropy_with(&batch.y, ClassOptions::default().reduce(Reduce::None));
        Outcome { loss: batch.mean(&each), outputs }
    }

    fn adam(&self) -> Optimizer<AdamW> {
        AdamW::new(&self.params, 0.05)
    }

    fn bits(&self) -> (Vec<u32>, Vec<i32>) {
        let w = self.w.value().to_vec::<f32>().unwrap();
        (w.iter().map(|x| x.to_bits()).collect(), self.seen.value().to_vec().unwrap())
    }
}

#[test]
fn a_run_that_was_cut_goes_on_with_the_same_bits() {
    let whole = Model::new();
    let mut trainer = Trainer::new(&whole.params, whole.adam()).epochs(5).metric(Accuracy::default()).quiet();
    let (train, test) = (data().shuffle(3), data());
    let report = trainer.fit(&train, Some(&test), |batch, pass| whole.forward(batch, pass)).unwrap();
    assert!(report.epochs[4].train_loss < report.epochs[0].train_loss, "{report:?}");
    assert_eq!(whole.bits().1, [30], "six batches in five epochs");

    let folder = folder("cut");
    let run = |epochs: u64, cut: Option<u64>| -> (Model, Option<Report>) {
        let model = Model::new();
        let mut trainer = Trainer::new(&model.params, model.adam()).epochs(epochs).metric(Accuracy::default());
        trainer = trainer.folder(&folder).checkpoint_every(1).resume(true).quiet();
        let steps = std::cell::Cell::new(0);
        let (train, test) = (data().shuffle(3), data());
        let report = trainer.fit(&train, Some(&test), |batch, pass| {
            steps.set(steps.get() + u64::from(pass.is_train()));
            match cut {
                // A model that fails ends the run, as a crash would.
                Some(cut) if steps.get() > cut => Outcome { loss: batch.x.clone(), outputs: batch.x.clone() },
                _ => model.forward(batch, pass),
            }
        });
        (model, report.ok())
    };
    for cut in [4, 3, 6, 1] {
        assert!(run(5, Some(cut)).1.is_none());
    }
    let (resumed, again) = run(5, None);
    assert_eq!(resumed.bits(), whole.bits());
    let again = again.unwrap();
    assert_eq!(again.epochs.len(), 5);
    assert_eq!(again.epochs[4].metrics, report.epochs[4].metrics);
    // The record of all its parts is one chain, and the pictures are there.
    let summary = verify_record(folder.join("record.jsonl")).unwrap();
    assert!(summary.lines > 10, "{summary:?}");
    assert!(folder.join("curves.svg").exists() && folder.join("best.safetensors").exists());
}

#[test]
fn evaluation_changes_nothing() {
    for device in devices() {
        let model = Model::on(&device);
        let mut trainer = Trainer::new(&model.params, model.adam()).metric(Accuracy::default()).quiet();
        let before = (model.bits(), model.params.passes());
        let forward = |batch: &Batch, pass: &Pass| model.forward(batch, pass);
        let (loss, metrics) = trainer.evaluate(&data(), &forward).unwrap();
        assert!(loss > 0.0 && metrics[0].0 == "accuracy", "{device}");
        assert_eq!((model.bits(), model.params.passes()), before, "{device}");
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let path = folder("other").join("c.safetensors");
    let model = Model::new();
    Checkpoint::save(&path, &model.params, &mut model.adam(), None, &[]).unwrap();
    let message = |params: &Params, optimizer: &mut Optimizer<AdamW>, loader: Option<&Loader>| {
        Checkpoint::load(&path, params, optimizer, loader).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(message(&model.params, &mut model.adam(), None), "");
    let said = message(&model.params, &mut model.adam(), Some(&data()));
    assert!(said.ends_with("its note has no count \"epoch\""), "{said}");
    let other = Params::new(&Device::cpu(), 8);
    other.weight("w", [2, 2], Init::Ones);
    let said = message(&other, &mut AdamW::new(&other, 0.1), None);
    assert!(said.ends_with("saved with seed 7, but the seed is 8"), "{said}");
    let other = Params::new(&Device::cpu(), 7);
    let w = other.weight("w", [2, 3], Init::Ones);
    let said = message(&other, &mut AdamW::new(&other, 0.1), None);
    assert!(said.contains("w has shape [2, 3], the new value [2, 2]"), "{said}");
    assert_eq!(w.value().to_vec::<f32>().unwrap(), [1.0; 6]);
    model.params.save(&path).unwrap();
    let said = message(&model.params, &mut model.adam(), None);
    assert!(said.ends_with("no checkpoint: weights only"), "{said}");
}

#[test]
fn a_record_that_was_changed_is_found_out() {
    let folder = folder("record");
    let model = Model::new();
    let mut trainer = Trainer::new(&model.params, model.adam()).epochs(3).folder(&folder).setting("lr", 0.05).quiet();
    trainer.fit(&data(), None, |batch, pass| model.forward(batch, pass)).unwrap();
    let path = folder.join("record.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(verify_record(&path).unwrap().lines, 5);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let broken = [
        (text.replacen("\"seed\":7", "\"seed\":8", 1), "line 1: it was changed after it was written"),
        ([lines[0], lines[2], lines[3], lines[4]].concat(), "line 2: it does not follow the line before it"),
        ([lines[0], lines[2], lines[1]].concat(), "line 2: it does not follow the line before it"),
        (text[..text.len() - 9].to_string(), "line 5: cut off in the middle"),
        (text.replacen("\"event\"", "\"Event", 1), "line 1: "),
    ];
    for (text, want) in broken {
        std::fs::write(&path, text).unwrap();
        let said = verify_record(&path).unwrap_err().to_string();
        assert!(said.contains(want), "{said} lacks {want}");
    }
}

#[test]
fn names_that_come_twice_are_read_again() {
    let folder = folder("twice");
    let model = Model::new();
    let trainer = || {
        let metrics = Trainer::new(&model.params, model.adam()).metric(Accuracy::default()).metric(Accuracy::default());
        metrics.epochs(1).folder(&folder).setting("lr", 1).setting("lr", 2).quiet()
    };
    trainer().fit(&data(), Some(&data()), |batch, pass| model.forward(batch, pass)).unwrap();
    let path = folder.join("record.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("{\"lr\":\"2\"}"), "{text}");
    let mut record = Record::begin(&path, &Device::cpu(), 7, &[], &[("a", "1".into()), ("a", "2".into())]).unwrap();
    record.event("own", &[("hash", 1.0), ("x", 1.0), ("x", 2.0)]).unwrap();
    verify_record(&path).unwrap();
    let path = folder.join("c.safetensors");
    let notes = [("k", "a".to_string()), ("k", "b".to_string())];
    Checkpoint::save(&path, &model.params, &mut model.adam(), None, &notes).unwrap();
    Checkpoint::load(&path, &model.params, &mut model.adam(), None).unwrap();
}

#[test]
fn curves_of_any_numbers_are_drawn() {
    for numbers in
        [&[1e17][..], &[-1e308, 1e308], &[f64::MAX], &[f64::MIN, f64::MIN], &[5e-324, 0.0], &[0.0], &[3e16, 3e16 + 4.0]]
    {
        let mut curves = Curves::default();
        numbers.iter().zip(1..).for_each(|(y, x)| curves.add("loss/test", f64::from(x), *y));
        let svg = curves.svg();
        assert!(svg.contains("<line") && !svg.contains("NaN") && !svg.contains("inf"), "{numbers:?}: {svg}");
    }
}

#[test]
fn mutants_of_checkpoints_do_no_harm() {
    let home = Folder::new("checkpoint-mutants");
    let path = home.path("mutant.safetensors");
    let model = Model::new();
    let (mut adam, loader) = (model.adam(), data());
    Checkpoint::save(&path, &model.params, &mut adam, Some(&loader), &[("history", "1.0".into())]).unwrap();
    let good = std::fs::read(&path).unwrap();
    let before = model.bits();
    withstands("mutant.safetensors", &[&good], 60, |bytes| {
        replace(&path, &bytes);
        let found = Checkpoint::load(&path, &model.params, &mut model.adam(), Some(&loader));
        if found.is_err() {
            assert_eq!(model.bits(), before, "a file that is refused changes nothing");
        } else {
            replace(&path, &good);
            Checkpoint::load(&path, &model.params, &mut model.adam(), Some(&loader)).unwrap();
        }
        found
    });
}

#[test]
fn mutants_of_records_do_no_harm() {
    let home = Folder::new("record-mutants");
    let path = home.path("mutant.jsonl");
    let mut record = Record::begin(&path, &Device::cpu(), 7, &[], &[("lr", "0.1".into())]).unwrap();
    record.event("epoch", &[("loss", 0.5)]).unwrap();
    let good = std::fs::read(&path).unwrap();
    withstands("mutant.jsonl", &[&good], 60, |bytes| {
        let changed = bytes != good;
        replace(&path, &bytes);
        let found = verify_record(&path);
        // Only lines that are missing at the end leave the rest in order.
        let whole =
            |lines: usize| good.split_inclusive(|&byte| byte == b'\n').take(lines).map(<[u8]>::len).sum::<usize>();
        if let (Ok(summary), true) = (&found, changed) {
            assert_eq!(std::fs::read(&path).unwrap(), good[..whole(summary.lines)], "a change was not found");
        }
        found
    });
}

#[test]
fn early_stopping_stops() {
    let model = Model::new();
    let mut trainer = Trainer::new(&model.params, AdamW::new(&model.params, 0.0)).epochs(50).early_stopping(2).quiet();
    let report = trainer.fit(&data(), Some(&data()), |batch, pass| model.forward(batch, pass)).unwrap();
    assert!(report.stopped_early && report.epochs.len() == 3, "{}", report.epochs.len());
}

/// A metric that is what it was told to be, one evaluation after the other.
struct Told {
    values: Vec<f64>,
    at: usize,
}

impl Metric for Told {
    fn name(&self) -> String {
        "told\tby\nhand = \"x\"".into()
    }
    fn update(&mut self, _: &Tensor, _: &Tensor, _: usize) -> wgrad::Result<()> {
        Ok(())
    }
    fn value(&self) -> f64 {
        self.values[self.at - 1]
    }
    fn reset(&mut self) {
        self.at += 1;
    }
    fn greater_is_better(&self) -> bool {
        false
    }
}

#[test]
fn a_run_that_stopped_early_stays_so_and_nan_is_never_best() {
    let folder = folder("stopped");
    let run = || {
        let model = Model::new();
        let mut trainer = Trainer::new(&model.params, model.adam()).epochs(6).early_stopping(2).quiet();
        let values = vec![f64::NAN, 2.0, 1.0, -f64::NAN, 3.0, 0.5];
        trainer = trainer.metric(Told { values, at: 0 }).folder(&folder).resume(true);
        let report = trainer.fit(&data(), Some(&data()), |batch, pass| model.forward(batch, pass)).unwrap();
        (report, trainer.optimizer().steps())
    };
    for _ in 0..2 {
        let (report, steps) = run();
        assert!(report.stopped_early && report.epochs.len() == 5 && steps == 30, "{steps} steps, {report:?}");
        assert_eq!(report.epochs[2].metrics, [("told\tby\nhand = \"x\"".to_string(), 1.0)]);
    }
    let model = Model::new();
    let best = Checkpoint::load(folder.join("best.safetensors"), &model.params, &mut model.adam(), None).unwrap();
    assert_eq!(best.note("history").unwrap().lines().count(), 3);
}

#[test]
fn a_history_with_plain_names_is_read() {
    let home = Folder::new("plain-names");
    let model = Model::new();
    let notes = [("history", "0.5\t0.75\ttop-2=0.25\tF1=1.0".to_string())];
    let path = home.path("last.safetensors");
    Checkpoint::save(path, &model.params, &mut model.adam(), Some(&data()), &notes).unwrap();
    let mut trainer = Trainer::new(&model.params, model.adam()).folder(home.path("")).resume(true).quiet();
    let report = trainer.fit(&data(), None, |batch, pass| model.forward(batch, pass)).unwrap();
    let want = [("top-2".to_string(), 0.25), ("F1".to_string(), 1.0)];
    assert_eq!((report.epochs.len(), &report.epochs[0].metrics[..]), (1, &want[..]));
}

#[test]
fn the_best_state_is_written_before_the_last() {
    let home = Folder::new("best-first");
    let path = |name: &str| home.path(name).join("best.safetensors");
    let run = |name: &str| {
        let model = Model::new();
        // Nothing changes, so the first epoch is the best.
        let adam = AdamW::new(&model.params, 0.0);
        let mut trainer = Trainer::new(&model.params, adam).epochs(2).folder(home.path(name)).resume(true).quiet();
        trainer.fit(&data(), Some(&data()), |batch, pass| model.forward(batch, pass))
    };
    run("whole").unwrap();
    // No file goes where a folder is: the run ends there.
    std::fs::create_dir_all(path("cut")).unwrap();
    assert!(run("cut").is_err());
    std::fs::remove_dir(path("cut")).unwrap();
    run("cut").unwrap();
    assert_eq!(std::fs::read(path("cut")).unwrap(), std::fs::read(path("whole")).unwrap());
}

#[test]
fn an_epoch_of_nothing_is_an_error() {
    let home = Folder::new("nothing");
    let model = Model::new();
    let none = || {
        let (x, y) = (Array::new(&[1.0f32, 2.0], [1, 2]).unwrap(), Array::new(&[1], [1]).unwrap());
        Loader::new(TensorDataset::of_arrays(x, y).unwrap(), 2).drop_last(true)
    };
    let said = |train: &Loader, test: Option<&Loader>| {
        let mut trainer = Trainer::new(&model.params, model.adam()).folder(home.path("run")).quiet();
        trainer.fit(train, test, |batch, pass| model.forward(batch, pass)).unwrap_err().to_string()
    };
    assert_eq!(said(&none(), None), "train: there is nothing to learn from");
    assert_eq!(said(&data(), Some(&none())), "evaluate: there is nothing to evaluate on");
    assert!(!home.path("run").join("best.safetensors").exists());
}

#[test]
fn a_checkpoint_with_the_greatest_counts_goes_on() {
    let home = Folder::new("counts");
    let model = Model::new();
    let adam = || model.adam().schedule(Schedule::linear_warmup(10));
    let mut saved = adam();
    let states = saved.state().unwrap();
    let find = |name: &str| states.iter().find(|(known, _)| known == name).map(|(_, x)| x.clone());
    saved.restore(u64::MAX, find).unwrap();
    let loader = data();
    let batch = loader.epoch(&Device::cpu()).next().unwrap();
    let loss = model.forward(&batch, &Pass::train(&model.params)).loss;
    saved.explain(loss.backward(&model.params)).unwrap();
    loader.restore(Position { epoch: u64::MAX, batch: 3 });
    model.params.set_passes(u64::MAX);
    let notes = [("epoch", format!("0.5\t{}", u64::MAX))];
    Checkpoint::save(home.path("last.safetensors"), &model.params, &mut saved, Some(&loader), &notes).unwrap();
    let mut trainer = Trainer::new(&model.params, adam()).folder(home.path("")).resume(true);
    let report = trainer.fit(&data(), None, |batch, pass| model.forward(batch, pass)).unwrap();
    assert_eq!((report.epochs.len(), trainer.optimizer().steps()), (1, u64::MAX));
}

#[test]
fn the_best_epoch_is_that_of_the_least_error() {
    let folder = folder("least");
    let params = Params::new(&Device::cpu(), 7);
    let w = params.weight("w", [1], Init::Zeros);
    let data = || {
        let column = |to: f32| Array::new(&[to, 2.0 * to], [2, 1]).unwrap();
        Loader::new(TensorDataset::of_arrays(column(1.0), column(3.0)).unwrap(), 2)
    };
    let mut trainer = Trainer::new(&params, AdamW::new(&params, 0.5)).epochs(4).early_stopping(3).quiet();
    trainer = trainer.metric(RootMeanSquareError::default()).folder(&folder);
    let report = trainer.fit(&data(), Some(&data()), |batch, pass| {
        let outputs = &batch.x * w.tensor(pass);
        Outcome { loss: outputs.mse_loss(&batch.y, Reduce::Mean), outputs }
    });
    let errors: Vec<f64> = report.unwrap().epochs.iter().map(|epoch| epoch.metrics[0].1).collect();
    assert!(errors.is_sorted_by(|a, b| a > b) && errors.len() == 4, "{errors:?}");
    let best = wgrad::io::SafeTensors::open(folder.join("best.safetensors")).unwrap();
    let best = best.tensor("w", &Device::cpu()).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(best, w.value().to_vec::<f32>().unwrap());
}

#[test]
fn a_batch_takes_the_mean_of_what_counts() {
    let epoch: Vec<Batch> = data().epoch(&Device::cpu()).collect();
    let last = epoch.last().unwrap();
    let losses = Tensor::new([[1.0, 3.0], [5.0, 7.0], [100.0, 100.0], [100.0, 100.0]], &Device::cpu());
    assert_eq!(last.mean(&losses).item::<f32>().unwrap(), 4.0);
    assert_eq!(last.mean(&losses.max(1)).item::<f32>().unwrap(), 5.0);
    for wrong in [losses.sum(..), losses.narrow(0, 0, 3)] {
        let said = last.mean(&wrong).item::<f32>().unwrap_err().to_string();
        assert!(said.starts_with("mean: losses [") && said.contains("of 4 samples at tests/it/train.rs"), "{said}");
    }
}

#[test]
fn metrics_see_only_what_counts() {
    let device = Device::cpu();
    let scores = Tensor::new([[3.0, 2.0, 1.0], [0.0, 1.0, 2.0], [5.0, 5.0, 0.0], [9.0, 9.0, 9.0]], &device);
    let classes = Tensor::new([0, 1, 1, 2], &device);
    let value = |metric: &mut dyn Metric, n: usize| {
        metric.reset();
        metric.update(&scores, &classes, n).unwrap();
        metric.value()
    };
    assert_eq!(value(&mut Accuracy::default(), 2), 0.5);
    assert_eq!(value(&mut Accuracy::default(), 3), 1.0 / 3.0);
    assert_eq!(value(&mut TopK::new(2), 3), 1.0);
    let mut confusion = Confusion::new(3);
    value(&mut confusion, 3);
    assert_eq!(confusion.counts(), [[1, 0, 0], [1, 0, 1], [0, 0, 0]]);
    // The mean of -ln of e^3 / (e^3 + e^2 + e) and e / (1 + e + e^2).
    let first = (3.0f64.exp() + 2.0f64.exp() + 1.0f64.exp()).ln() - 3.0;
    let second = (1.0 + 1.0f64.exp() + 2.0f64.exp()).ln() - 1.0;
    let both = value(&mut Perplexity::default(), 2);
    assert!((both - ((first + second) / 2.0).exp()).abs() < 1e-5, "{both}");
    let ignored = value(&mut Perplexity::default().ignore_index(1), 3);
    assert!((ignored - first.exp()).abs() < 1e-5, "{ignored}");
    let error = Confusion::new(usize::MAX).update(&scores, &classes, 4).unwrap_err().to_string();
    assert_eq!(error, format!("confusion: {} classes, at most 32768", usize::MAX));
    let alike = Tensor::zeros([4, 3], &device);
    let nan = f32::NAN;
    let some = Tensor::new([[nan, 1.0, 0.0], [0.0, 1.0, nan], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], &device);
    for (scores, part) in [(&alike, 0.25), (&(&alike / &alike), 0.0), (&some, 0.25)] {
        for metric in [&mut TopK::new(1) as &mut dyn Metric, &mut Accuracy::default()] {
            metric.update(scores, &classes, 4).unwrap();
            assert_eq!(metric.value(), part, "{}: the first of equals, and no NaN", metric.name());
        }
    }
    assert_eq!(value(&mut TopK::new(3), 4), 1.0);
    // One of class 2 is right; one of each other class is lost, and one of class 1 is taken for 2.
    confusion.reset();
    confusion.update(&some, &Tensor::new([0, 2, 1, 2], &device), 4).unwrap();
    assert_eq!(confusion.counts(), [[0, 0, 0], [0, 0, 1], [0, 0, 1]]);
    assert_eq!(confusion.f1(2), 2.0 / 4.0);
    let error = Perplexity::default().update(&scores, &(&classes + 2), 4).unwrap_err().to_string();
    assert!(error.contains("out of range"), "{error}");
    let error = Accuracy::default().update(&classes, &classes, 1).unwrap_err().to_string();
    assert_eq!(error, "accuracy: scores [4] for classes [4]");
    let texts = Tensor::zeros([3, 2, 5], &device);
    for (labels, fits) in [([3, 2].as_slice(), true), (&[3, 2, 1], true), (&[2, 3], false), (&[6], false)] {
        let labels = Tensor::zeros(labels, &device).cast(DType::I32);
        assert_eq!(Accuracy::default().update(&texts, &labels, 1).is_ok(), fits, "{}", labels.shape());
        let flat = texts.reshape([6, 5]);
        assert!(Accuracy::default().update(&flat, &labels, 1).is_ok(), "{}", labels.shape());
    }
}

#[test]
fn distances_of_small_integers_do_not_wrap() {
    let device = Device::cpu();
    let (outputs, labels) = (Tensor::new([[1u8], [5]], &device), Tensor::new([[4u8], [1]], &device));
    let (mut mean, mut root) = (MeanAbsoluteError::default(), RootMeanSquareError::default());
    let metrics: [(&mut dyn Metric, f64); 2] = [(&mut mean, 3.5), (&mut root, 12.5f64.sqrt())];
    for (metric, value) in metrics {
        metric.update(&outputs, &labels, 2).unwrap();
        assert!((metric.value() - value).abs() < 1e-6, "{}: {}", metric.name(), metric.value());
        let error = metric.update(&outputs, &Tensor::new([1u8], &device), 2).unwrap_err().to_string();
        assert_eq!(error, format!("{}: outputs [2, 1] for labels [1]", metric.name()));
    }
}

/// Four samples, whose files take long to find.
struct Slow(Arc<AtomicUsize>);

impl Dataset for Slow {
    fn len(&self) -> usize {
        4
    }
    fn get(&self, index: usize) -> wgrad::Result<Sample> {
        Ok(Sample { x: Array::new(&[index as f32, 1.0], [2])?, y: Array::new(&[0], [0usize; 0])? })
    }
    fn files(&self) -> Vec<FileHash> {
        self.0.fetch_add(1, Ordering::Relaxed);
        ["a", "b", "c"].map(|name| FileHash::of(name, name.as_bytes())).into()
    }
}

#[test]
fn a_run_looks_at_its_files_once() {
    let model = Model::new();
    let [train, test] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let loader = |asked: &Arc<AtomicUsize>| Loader::new(Slow(asked.clone()), 2);
    let mut trainer = Trainer::new(&model.params, model.adam()).quiet();
    trainer.fit(&loader(&train), Some(&loader(&test)), |batch, pass| model.forward(batch, pass)).unwrap();
    assert_eq!([train, test].map(|asked| asked.load(Ordering::Relaxed)), [1, 1]);
}
