//! As `tests/it/compare.rs`, for a browser, where nothing waits: cases are noted while a test builds
//! them, then run, read and judged one after the other.

use std::cell::RefCell;

use wgrad::ErrorKind;
use wgrad::prelude::*;

pub use crate::judge::{Case, Tally};
use crate::judge::{judge, read};

/// How a graph is run.
#[derive(Clone)]
pub enum How {
    /// As a user would.
    Realize(Device),
}

impl How {
    /// Whether shaders compute, which may assume that there are no NaNs and no infinities.
    pub fn shades(&self) -> bool {
        let How::Realize(device) = self;
        !crate::devices::is_cpu(device)
    }
}

/// A graph for the oracle, and the same one for a device.
struct Noted {
    what: String,
    shades: bool,
    truth: Case,
    case: Case,
}

thread_local! {
    static NOTED: RefCell<Vec<Noted>> = const { RefCell::new(Vec::new()) };
}

/// Notes a case; what comes of it, [`run`] tells.
pub fn agree(what: &str, how: &How, build: &dyn Fn(&Device) -> Case) {
    let How::Realize(device) = how;
    let (truth, case) = (build(&Device::cpu()), build(device));
    let what = format!("{what} on {device}");
    NOTED.with(|noted| noted.borrow_mut().push(Noted { what, shades: how.shades(), truth, case }));
}

/// Runs a test and then the cases that it noted.
pub async fn run(test: impl FnOnce()) {
    crate::devices::open().await;
    test();
    let mut tally = Tally::default();
    for Noted { what, shades, truth, case } in NOTED.take() {
        if let Some(error) = truth.roots.iter().chain(&case.roots).find_map(|x| x.error()) {
            panic!("{what}: an invalid root: {error}");
        }
        let mut faults = Vec::new();
        // A fault comes out of the realise or of the next read; the elements are there all the same.
        let mut pardon = |error: Error| match error.kind() {
            ErrorKind::Index => faults.push(error),
            _ => panic!("{what}: {error}"),
        };
        wgrad::realize(&case.roots).unwrap_or_else(&mut pardon);
        let mut found = Vec::new();
        for root in &case.roots {
            let elements = match read(root).await {
                Ok(elements) => elements,
                Err(error) => {
                    pardon(error);
                    read(root).await.unwrap_or_else(|error| panic!("{what}: {error}"))
                }
            };
            found.push(elements);
        }
        match judge(&truth.roots, &truth.leaves, shades, &found, &faults) {
            Ok(found) => tally.add(found),
            Err(text) => panic!("{what}: {text}"),
        }
    }
    tally.check("all together");
}
