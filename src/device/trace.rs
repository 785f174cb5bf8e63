//! [`Trace`]: which kernels ran on a device, when and for how long.
//!
//! A traced GPU times every dispatch by itself, so nothing overlaps and the sum is somewhat more
//! than an untraced run takes. Knows no graph; names come from the plans.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::device::clock::Clock;
use crate::device::cpu::Cpu;
use crate::device::roofline::Roofline;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;

/// The kernels that ran while a device was traced; prints as a table, slowest first.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Traced>,
    /// Seconds that passed on the host.
    seconds: f64,
    roofline: Option<Roofline>,
}

/// One run of a kernel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Traced {
    /// The kernel's name: the ops it came from.
    pub name: String,
    /// When it began, in seconds after the first one.
    pub start: f64,
    /// How many seconds it took.
    pub seconds: f64,
    /// Bytes it reads and writes, by prediction.
    pub bytes: u64,
    /// Floating point operations, by prediction.
    pub flops: u64,
}

/// Where a device's kernels are noted while somebody traces it.
#[derive(Default)]
pub struct Recorder {
    on: AtomicBool,
    events: Mutex<(Option<Clock>, Vec<Traced>)>,
    /// What the device can do at its best, once somebody measured it.
    pub(super) roofline: OnceLock<Roofline>,
}

impl Recorder {
    /// Whether kernels are to be noted.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Seconds since tracing began.
    pub fn now(&self) -> f64 {
        self.lock().0.map_or(0.0, |clock| clock.seconds())
    }

    /// Notes a kernel.
    pub fn note(&self, event: Traced) {
        self.lock().1.push(event);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<Clock>, Vec<Traced>)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a recorder however its traced work ends.
struct Running<'a>(&'a Recorder);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.on.store(false, Ordering::Relaxed);
    }
}

impl Device {
    /// Runs `work` and tells which kernels ran on this device meanwhile, and for how long.
    ///
    /// Results that are only built inside and read later are not in the trace: realise them. On a
    /// GPU each kernel waits for the one before, as its time would mean little otherwise; GPUs
    /// without timestamp queries are an error, and so is tracing twice at once.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::ones([64, 64], &device);
    /// let (_, trace) = device.trace(|| x.matmul(&x).softmax(-1).realize())?;
    /// println!("{trace}");
    /// assert_eq!(trace.kernels().len(), 2);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// [`Trace::against`] adds how near each kernel came to what the device can do.
    pub fn trace<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, Trace)> {
        let recorder = self.recorder("trace")?;
        if recorder.on.swap(true, Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Device, "trace", format!("{self}: it is traced already")));
        }
        let running = Running(recorder);
        let clock = Clock::start();
        *recorder.lock() = (Some(clock), Vec::new());
        let result = work()?;
        drop(running);
        let seconds = clock.seconds();
        let mut events = std::mem::take(&mut recorder.lock().1);
        let first = events.iter().map(|event| event.start).fold(f64::INFINITY, f64::min);
        events.iter_mut().for_each(|event| event.start -= first);
        Ok((result, Trace { events, seconds, roofline: None }))
    }

    /// Where kernels of this device are noted, if they can be timed.
    pub(super) fn recorder(&self, word: &str) -> Result<&Recorder> {
        let fault = |fact: &str| Err(Error::new(ErrorKind::Device, word, format!("{self}: {fact}")));
        #[cfg(feature = "gpu")]
        if let Some(gpu) = crate::device::gpu::Gpu::of(self) {
            return match gpu.wgpu().0.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
                true => Ok(gpu.recorder()),
                false => fault("it has no timestamp queries"),
            };
        }
        match Cpu::of(self) {
            Some(cpu) => Ok(&cpu.recorder),
            None => fault("kernels of this device cannot be timed"),
        }
    }
}

impl Trace {
    /// Every kernel that ran, in order.
    pub fn kernels(&self) -> &[Traced] {
        &self.events
    }

    /// Seconds that kernels took together.
    pub fn kernel_seconds(&self) -> f64 {
        self.events.iter().map(|event| event.seconds).sum()
    }

    /// Seconds that passed on the host meanwhile.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The same with the column "of roof": the time that the device needs for a kernel's bytes and
    /// operations at its best, of the time it took.
    ///
    /// A kernel whose operands are still in a cache can come to more than 100 %, and one whose
    /// bytes and operations nobody can predict (a sort, a shader of the user's) to less than it is worth.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let x = Tensor::ones([256, 256], &device);
    /// let (_, trace) = device.trace(|| x.matmul(&x).realize())?;
    /// println!("{}", trace.against(device.roofline()?));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn against(self, roofline: Roofline) -> Trace {
        Trace { roofline: Some(roofline), ..self }
    }

    /// What the trace is held [`against`](Trace::against).
    pub fn roofline(&self) -> Option<Roofline> {
        self.roofline
    }

    /// The trace in the JSON form that Chrome's `about:tracing` and Perfetto open.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let device = Device::cpu();
    /// let (_, trace) = device.trace(|| Tensor::ones([8], &device).exp().sum(..).realize())?;
    /// assert!(trace.to_json().starts_with(r#"{"traceEvents":["#));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"traceEvents\":[");
        for (n, event) in self.events.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            // Names are of ops and of the user's kernels; what JSON could not hold as it is goes.
            let name: String = event.name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
            let (start, micros, bytes, flops) = (event.start * 1e6, event.seconds * 1e6, event.bytes, event.flops);
            let share = self.roofline.map(|roofline| percent(roofline.seconds(bytes, flops), event.seconds));
            let share = share.map_or_else(String::new, |share| format!(",\"percent_of_roofline\":{share:.2}"));
            // Writing to a string does not fail.
            let _ = write!(
                json,
                "{comma}\n{{\"name\":\"{name}\",\"ph\":\"X\",\"pid\":0,\"tid\":0,\"ts\":{start:.3},\"dur\":{micros:.3},\
                 \"args\":{{\"bytes\":{bytes},\"flops\":{flops}{share}}}}}"
            );
        }
        json.push_str("\n],\"displayTimeUnit\":\"ms\"}\n");
        json
    }
}

/// `part` of `whole` in percent, also where the clock saw nothing pass.
fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole.max(1e-12)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Runs of one kernel: the same name and the same work.
        let mut rows: Vec<(&Traced, usize, f64)> = Vec::new();
        for event in &self.events {
            let same = |row: &&mut (&Traced, usize, f64)| {
                (&row.0.name, row.0.bytes, row.0.flops) == (&event.name, event.bytes, event.flops)
            };
            match rows.iter_mut().find(same) {
                Some((_, runs, seconds)) => {
                    *runs += 1;
                    *seconds += event.seconds;
                }
                None => rows.push((event, 1, event.seconds)),
            }
        }
        rows.sort_by(|a, b| b.2.total_cmp(&a.2));
        let (all, roofline) = (self.kernel_seconds(), self.roofline);
        let title = if roofline.is_some() { " of roof" } else { "" };
        writeln!(f, "{:>9} {:>6} {:>5} {:>8} {:>8}{title}  kernel", "ms", "share", "runs", "GB/s", "GFLOP/s")?;
        for (event, runs, seconds) in rows {
            let rate = |n: u64| n as f64 * runs as f64 / seconds.max(1e-12) * 1e-9;
            let (ms, share, giga, flops) = (seconds * 1e3, percent(seconds, all), rate(event.bytes), rate(event.flops));
            write!(f, "{ms:9.3} {share:5.1}% {runs:5} {giga:8.2} {flops:8.2}")?;
            if let Some(roofline) = roofline {
                let least = roofline.seconds(event.bytes, event.flops) * runs as f64;
                write!(f, " {:6.1}%", percent(least, seconds))?;
            }
            writeln!(f, "  {}", event.name)?;
        }
        let (kernels, host) = (all * 1e3, self.seconds * 1e3);
        write!(f, "{kernels:9.3} ms in {} kernels; {host:.3} ms passed", self.events.len())?;
        match roofline {
            Some(roofline) => {
                let least = self.events.iter().map(|event| roofline.seconds(event.bytes, event.flops)).sum();
                write!(f, "; {:.1} % of the roofline: {roofline}", percent(least, all))
            }
            None => Ok(()),
        }
    }
}
