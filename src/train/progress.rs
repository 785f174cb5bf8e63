//! [`Progress`]: how far a run is, for a person: a bar in a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::device::clock::Clock;

/// Seconds between plain lines.
const PAUSE: f64 = 5.0;

/// The progress of one epoch.
pub struct Progress {
    bar: Option<ProgressBar>,
    title: String,
    total: u64,
    first: u64,
    clock: Clock,
    told: f64,
}

impl Progress {
    /// `total` steps, of which `done` are behind us, under `title`.
    pub fn new(title: &str, total: u64, done: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(done).with_prefix(title.to_string());
            let form = "{prefix} {bar:28.cyan/dim} {pos}/{len} {msg} {eta} left";
            bar.set_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { bar, title: title.into(), total, first: done, clock: Clock::start(), told: 0.0 }
    }

    /// Step `done` is over; `numbers` are what to show beside it.
    pub fn set(&mut self, done: u64, numbers: &[(&str, f64)]) {
        let seconds = self.clock.seconds();
        let rate = (done - self.first.min(done)) as f64 / seconds.max(1e-9);
        let mut text: String = numbers.iter().map(|(name, x)| format!("{name} {x:.4}  ")).collect();
        text.push_str(&format!("{rate:.1} steps/s"));
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(text);
            }
            None if seconds - self.told >= PAUSE => {
                self.told = seconds;
                let left = (self.total.saturating_sub(done)) as f64 / rate.max(1e-9);
                eprintln!("{} {done}/{} {text}, {left:.0} s left", self.title, self.total);
            }
            None => {}
        }
    }

    /// The epoch is over: the bar goes, `line` stays.
    pub fn finish(self, line: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{line}");
    }
}
