//! [`Tracker`]: what is told of a run while it goes on, to programs that people follow runs with.
//!
//! Knows no such program. A tracker that fails is told of once and never ends a run.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use crate::error::{Error, Result};

/// Who is told of a run: its settings, numbers and files.
///
/// [`TensorBoard`](crate::train::TensorBoard) is one, and so is `Mlflow` (feature `mlflow`). An error
/// is shown once and noted in the [`Report`](crate::train::Report); the run goes on, and the tracker
/// is told of what follows.
///
/// ```
/// use std::path::Path;
/// use wgrad::train::Tracker;
///
/// /// Prints what the trainer tells.
/// struct Printer;
///
/// impl Tracker for Printer {
///     fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> wgrad::Result<()> {
///         println!("step {step}: {numbers:?}");
///         Ok(())
///     }
/// }
/// ```
pub trait Tracker {
    /// A run begins, or goes on.
    fn begin(&mut self, run: &RunStart) -> Result<()> {
        let _ = run;
        Ok(())
    }
    /// Numbers by name, as they were after `step` steps.
    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> Result<()>;
    /// A file that the run wrote.
    fn file(&mut self, path: &Path) -> Result<()> {
        let _ = path;
        Ok(())
    }
    /// The run is over; `finished` unless an error ended it.
    fn end(&mut self, finished: bool) -> Result<()> {
        let _ = finished;
        Ok(())
    }
}

/// What a tracker is told when a run begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStart<'a> {
    /// The run's folder, where it has one.
    pub folder: Option<&'a Path>,
    /// The steps that lie behind a run that goes on; 0 for a new one.
    pub steps: u64,
    /// What the program noted by [`Trainer::setting`](crate::train::Trainer::setting).
    pub settings: &'a [(String, String)],
    /// Version, commit, device, driver, seed and the hashes of the data.
    pub facts: &'a [(String, String)],
}

/// A tracker that the program looks at, too, while a trainer has it.
impl<T: Tracker> Tracker for Rc<RefCell<T>> {
    fn begin(&mut self, run: &RunStart) -> Result<()> {
        self.borrow_mut().begin(run)
    }
    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> Result<()> {
        self.borrow_mut().numbers(step, numbers)
    }
    fn file(&mut self, path: &Path) -> Result<()> {
        self.borrow_mut().file(path)
    }
    fn end(&mut self, finished: bool) -> Result<()> {
        self.borrow_mut().end(finished)
    }
}

/// The trackers of a run, none of which may end it.
#[derive(Default)]
pub(super) struct Trackers {
    all: Vec<Tracked>,
    quiet: bool,
    /// The first error of each.
    faults: Vec<Error>,
}

struct Tracked {
    tracker: Box<dyn Tracker>,
    failed: bool,
}

impl Trackers {
    /// Shows no errors; they are still in the report.
    pub fn quiet(&mut self) {
        self.quiet = true;
    }

    pub fn add(&mut self, tracker: Box<dyn Tracker>) {
        self.all.push(Tracked { tracker, failed: false });
    }

    /// Takes away the one that was added last.
    pub fn pop(&mut self) {
        self.all.pop();
    }

    /// Tells every one; what it answers ends nothing.
    pub fn tell(&mut self, mut what: impl FnMut(&mut dyn Tracker) -> Result<()>) {
        for tracked in &mut self.all {
            if let Err(error) = what(&mut *tracked.tracker)
                && !std::mem::replace(&mut tracked.failed, true)
            {
                if !self.quiet {
                    eprintln!("{error}; training goes on");
                }
                self.faults.push(error);
            }
        }
    }

    /// The first error of each that failed; forgets them.
    pub fn take_faults(&mut self) -> Vec<Error> {
        self.all.iter_mut().for_each(|tracked| tracked.failed = false);
        std::mem::take(&mut self.faults)
    }
}
