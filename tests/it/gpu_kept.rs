//! What a device keeps in a folder for the next program, and what happens when the folder is bad.

use std::path::{Path, PathBuf};

use wgrad::device::gpu::Gpu;
use wgrad::prelude::*;

use crate::devices::own_gpu;

/// A folder of this test's own, which goes with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("wgrad-{name}-{}", std::process::id())))
    }

    /// Its files by the ends of their names.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            entries.map(|path| (path.extension().unwrap().to_string_lossy().into_owned(), path)).collect();
        files.sort();
        files
    }

    fn kinds(&self) -> Vec<String> {
        self.files().into_iter().map(|(kind, _)| kind).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0).or_else(|_| std::fs::remove_file(&self.0));
    }
}

/// A product on a new device with `folder`: how many dispatches it took, tests included.
#[track_caller]
fn dispatches(folder: Option<&Path>) -> u64 {
    let device = own_gpu().expect("there was one");
    folder.into_iter().for_each(|folder| device.set_cache_dir(folder));
    let x = Tensor::arange(0.0, 64.0, 1.0, &device).reshape([8, 8]);
    let y = x.matmul(&x).sum(..);
    assert_eq!(y.item::<f32>().unwrap(), 529_536.0);
    Gpu::of(&device).unwrap().counts()[0]
}

#[test]
fn a_device_remembers_its_tests_and_pipelines() {
    if own_gpu().is_none() {
        return println!("not run: there is no adapter");
    }
    let folder = Folder::new("kept");
    let tested = dispatches(None);
    assert_eq!(folder.kinds(), [""; 0], "nothing is kept unless asked for");
    assert_eq!(dispatches(Some(&folder.0)), tested);
    let kinds = folder.kinds();
    println!("{kinds:?}, {tested} dispatches with the test");
    assert!(kinds.iter().any(|kind| kind == "tested") && kinds.iter().all(|kind| kind != "new"), "{kinds:?}");
    let kept = dispatches(Some(&folder.0));
    assert!((1..=2).contains(&(tested - kept)), "a tile is tried with one product or two, not {}", tested - kept);
    assert_eq!(folder.kinds(), kinds);

    // Whatever becomes of the files, it only costs the tests again.
    for spoil in [
        |_: &[u8]| Vec::new(),
        |x: &[u8]| x[..x.len() - 1].to_vec(),
        |x: &[u8]| [x, &[0]].concat(),
        |x: &[u8]| x.iter().enumerate().map(|(k, &b)| if k == x.len() - 20 { b ^ 1 } else { b }).collect(),
    ] {
        for (_, path) in folder.files() {
            std::fs::write(&path, spoil(&std::fs::read(&path).unwrap())).unwrap();
        }
        assert_eq!(dispatches(Some(&folder.0)), tested);
        assert_eq!(dispatches(Some(&folder.0)), kept, "written anew");
    }
}

#[test]
fn programs_with_different_tests_share_a_folder() {
    if own_gpu().is_none() {
        return println!("not run: there is no adapter");
    }
    let narrow = |folder: Option<&Path>| {
        let device = own_gpu().expect("there was one");
        folder.into_iter().for_each(|folder| device.set_cache_dir(folder));
        let x = Tensor::ones([8, 8], &device);
        x.matmul(&x.narrow(1, 0, 1)).realize().unwrap();
        Gpu::of(&device).unwrap().counts()[0]
    };
    let folder = Folder::new("shared");
    let tested = [dispatches(None), narrow(None)];
    let both = || [dispatches(Some(&folder.0)), narrow(Some(&folder.0))];
    assert_eq!(both(), tested);
    let kept = both();
    assert!(kept[0] < tested[0] && kept[1] < tested[1], "{kept:?}, not {tested:?}");
    assert_eq!(both(), kept);
}

#[test]
fn a_folder_that_cannot_be_is_passed_over() {
    if own_gpu().is_none() {
        return println!("not run: there is no adapter");
    }
    let file = Folder::new("no-folder");
    std::fs::write(&file.0, "a file").unwrap();
    let tested = dispatches(None);
    for folder in [file.0.clone(), file.0.join("below"), PathBuf::from("/dev/null/x\0y")] {
        assert_eq!(dispatches(Some(&folder)), tested, "{folder:?}");
    }
    Device::cpu().set_cache_dir(&file.0);
    assert_eq!(std::fs::read_to_string(&file.0).unwrap(), "a file");
}

#[test]
fn a_device_may_be_tested_beforehand() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let count = || Gpu::of(&device).unwrap().counts()[0];
    pollster::block_on(device.self_test()).unwrap();
    let tested = count();
    assert!(tested > 2, "narrow products and those of a tile, not {tested}");
    pollster::block_on(device.self_test()).unwrap();
    assert_eq!(count(), tested);
    let x = Tensor::ones([8, 8], &device);
    x.matmul(&x).realize().unwrap();
    assert_eq!(count(), tested + 1);
    pollster::block_on(Device::cpu().self_test()).unwrap();
}

#[test]
fn a_plan_has_tried_what_it_runs_and_nothing_else() {
    let Some(device) = own_gpu() else { return println!("not run: there is no adapter") };
    let dispatches = |y: Tensor| {
        let before = Gpu::of(&device).unwrap().counts()[0];
        y.realize().unwrap();
        Gpu::of(&device).unwrap().counts()[0] - before
    };
    let square = |n: usize| Tensor::from_slice(&vec![0.5f32; n * n], [n, n], &device);
    let x = square(8);
    assert_eq!(dispatches(&x + 1.0), 1);
    let column = x.narrow(1, 0, 1);
    assert_eq!(dispatches(x.matmul(&column)), 1 + 1, "the product by itself, and in its plan");
    assert_eq!(dispatches(x.matmul(&x)), 1 + 1, "in a tile");
    assert_eq!(dispatches(x.exp().matmul(&column)), 1 + 1, "of an operand that is computed");
    assert_eq!(dispatches(x.matmul(&x).matmul(&column)), 2, "both were tried");
    // Too much for the CPU to say what comes of it.
    let x = square(1100);
    let trials = dispatches(x.matmul(&x)) - 1;
    assert!((1..=2).contains(&trials), "a tile with one product or two, not {trials}");
    assert_eq!(dispatches(x.t().matmul(&x)), 1, "it was tried however its operands lie");
}
