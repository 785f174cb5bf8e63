//! What runs keep: checkpoints of other models, records that cannot be written, commits.

use wgrad::io::SafeTensors;
use wgrad::optim::{LossScale, Optimizer, Sgd};
use wgrad::prelude::*;
use wgrad::train::Checkpoint;

use crate::hostile::{Folder, refuses};

/// A store with weights of two elements.
fn store(names: &[&str]) -> Params {
    let params = Params::new(&Device::cpu(), 7);
    names.iter().for_each(|name| drop(params.weight(name, [2], Init::Ones)));
    params
}

/// A step with momentum, so that there are states.
fn stepped(params: &Params) -> Optimizer<Sgd> {
    let mut sgd = Sgd::new(params, 0.5).momentum(0.9);
    let pass = Pass::train(params);
    let loss = params.iter().fold(Tensor::new(0.0, &Device::cpu()), |sum, w| sum + w.tensor(&pass).sum(..));
    sgd.step(loss.backward(params)).unwrap();
    sgd
}

#[test]
fn a_checkpoint_of_a_larger_model_is_refused() {
    let folder = Folder::new("larger");
    let path = folder.path("c.safetensors");
    let larger = store(&["a", "b"]);
    Checkpoint::save(&path, &larger, &mut stepped(&larger), None, &[]).unwrap();
    let load = |params: &Params, sgd: &mut Optimizer<Sgd>| Checkpoint::load(&path, params, sgd, None).map(drop);
    let smaller = store(&["a"]);
    let mut sgd = Sgd::new(&smaller, 0.5).momentum(0.9);
    refuses(load(&smaller, &mut sgd), &["c.safetensors: ", "the file has b", "which the model has not"]);
    assert_eq!((smaller.get("a").unwrap().value().to_vec::<f32>().unwrap(), sgd.steps()), (vec![1.0; 2], 0));

    let same = store(&["a", "b"]);
    let mut plain = Sgd::new(&same, 0.5);
    refuses(load(&same, &mut plain), &["optimizer:", ".a, optimizer:", ".b, which the model has not"]);
    assert_eq!((same.get("a").unwrap().value().to_vec::<f32>().unwrap(), plain.steps()), (vec![1.0; 2], 0));
    let scaled = || Sgd::new(&same, 0.5).momentum(0.9).loss_scale(LossScale::constant(2.0));
    refuses(load(&same, &mut scaled()), &["no tensor \"optimizer:loss_scale.factor\""]);
    Checkpoint::save(&path, &same, &mut scaled(), None, &[]).unwrap();
    refuses(load(&same, &mut Sgd::new(&same, 0.5).momentum(0.9)), &["the file has optimizer:loss_scale.count"]);
    load(&same, &mut scaled()).unwrap();

    // A weight that was frozen since has states that nobody needs.
    Checkpoint::save(&path, &larger, &mut stepped(&larger), None, &[]).unwrap();
    same.freeze("b");
    let mut sgd = Sgd::new(&same, 0.5).momentum(0.9);
    load(&same, &mut sgd).unwrap();
    assert_eq!((same.get("b").unwrap().value().to_vec::<f32>().unwrap(), sgd.steps()), (vec![0.0; 2], 1));
}

#[test]
fn a_state_that_cannot_be_read_is_told() {
    let folder = Folder::new("unreadable");
    let path = folder.path("c.safetensors");
    let params = store(&["a"]);
    Checkpoint::save(&path, &params, &mut stepped(&params), None, &[]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let name =
        SafeTensors::open(&path).unwrap().names().find(|name| name.starts_with("optimizer:")).unwrap().to_string();
    let find = |bytes: &[u8], from: usize, what: &str| {
        from + bytes[from..].windows(what.len()).position(|part| part == what.as_bytes()).unwrap()
    };
    let entry = find(&bytes, 0, &format!("{name:?}"));
    for (old, new) in [("F32", "I64"), ("[2]", "[1]")] {
        let at = find(&bytes, entry, old);
        bytes[at..at + 3].copy_from_slice(new.as_bytes());
    }
    let mut sgd = Sgd::new(&params, 0.5).momentum(0.9);
    let found = Checkpoint::load_bytes("c.safetensors", bytes, &params, &mut sgd, None);
    refuses(found.map(drop), &["c.safetensors", &name, "does not fit"]);
}

#[cfg(unix)]
#[test]
fn a_record_goes_on_after_a_line_that_could_not_be_written() {
    use wgrad::train::{Record, verify_record};
    let name = "kept::a_record_goes_on_after_a_line_that_could_not_be_written";
    // Files that would grow too large are errors instead of a signal.
    crate::support::after("trap '' XFSZ; ulimit -f 16", name, || {
        let folder = Folder::new("full");
        let path = folder.path("record.jsonl");
        let mut record = Record::begin(&path, &Device::cpu(), 7, &[], &[]).unwrap();
        record.event("before", &[]).unwrap();
        refuses(record.event(&"long".repeat(10_000), &[]), &["record: ", "record.jsonl: "]);
        assert_eq!(verify_record(&path).unwrap().lines, 2);
        record.event("after", &[("x", 1.0)]).unwrap();
        assert_eq!(verify_record(&path).unwrap().lines, 3);
    });
}

#[cfg(unix)]
#[test]
fn a_record_names_the_commit_of_a_worktree() {
    use wgrad::train::Record;
    let home = Folder::new("worktree");
    let write = |name: &str, text: &str| {
        let path = home.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(".git/HEAD", "outer\n");
    write("tree/.git", "gitdir: ../main/.git/worktrees/tree\n");
    write("main/.git/worktrees/tree/HEAD", "ref: refs/heads/own\n");
    write("main/.git/worktrees/tree/commondir", "../..\n");
    write("main/.git/packed-refs", "# pack-refs\nother refs/old/refs/heads/own\ninner refs/heads/own\n");
    write("tree/src/empty", "");
    write("broken/.git", "nothing\n");
    let folders = [("tree/src", "\"inner\""), ("broken", "null"), (".", "\"outer\"")];
    let name = "kept::a_record_names_the_commit_of_a_worktree";
    for (folder, commit) in folders {
        let commands = format!("cd '{}'; export COMMIT='{commit}'", home.path(folder).display());
        crate::support::after(&commands, name, || {
            Record::begin("record.jsonl", &Device::cpu(), 7, &[], &[]).unwrap();
            let text = std::fs::read_to_string("record.jsonl").unwrap();
            let want = format!("\"commit\":{}", std::env::var("COMMIT").unwrap());
            assert!(text.contains(&want), "{want} is not in {text}");
        });
        if std::env::var("COMMIT").is_ok() {
            return;
        }
    }
}
