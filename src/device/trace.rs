//! [`Trace`]: which kernels ran on a device, when and for how long.
//!
//! A traced GPU times every dispatch by itself, so nothing overlaps and the sum is somewhat more
//! than an untraced run takes. Knows no graph; names come from the plans.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::device::clock::Clock;
use crate::device::cpu::Cpu;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::device::Device;

/// The kernels that ran while a device was traced; prints as a table, slowest first.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Traced>,
    /// Seconds that passed on the host.
    seconds: f64,
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
    pub fn trace<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, Trace)> {
        let fault = |fact: &str| Err(Error::new(ErrorKind::Device, "trace", format!("{self}: {fact}")));
        #[cfg(feature = "gpu")]
        let gpu = crate::device::gpu::Gpu::of(self);
        #[cfg(feature = "gpu")]
        if let Some(gpu) = gpu
            && !gpu.wgpu().0.features().contains(wgpu::Features::TIMESTAMP_QUERY)
        {
            return fault("it has no timestamp queries");
        }
        let recorder = Cpu::of(self).map(|cpu| &cpu.recorder);
        #[cfg(feature = "gpu")]
        let recorder = recorder.or(gpu.map(|gpu| gpu.recorder()));
        let Some(recorder) = recorder else {
            return fault("kernels of this device cannot be timed");
        };
        if recorder.on.swap(true, Ordering::Relaxed) {
            return fault("it is traced already");
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
        Ok((result, Trace { events, seconds }))
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
            // Writing to a string does not fail.
            let _ = write!(
                json,
                "{comma}\n{{\"name\":\"{name}\",\"ph\":\"X\",\"pid\":0,\"tid\":0,\"ts\":{start:.3},\"dur\":{micros:.3},\
                 \"args\":{{\"bytes\":{bytes},\"flops\":{flops}}}}}"
            );
        }
        json.push_str("\n],\"displayTimeUnit\":\"ms\"}\n");
        json
    }
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
        let all = self.kernel_seconds().max(1e-12);
        writeln!(f, "{:>9} {:>6} {:>5} {:>8} {:>8}  kernel", "ms", "share", "runs", "GB/s", "GFLOP/s")?;
        for (event, runs, seconds) in rows {
            let rate = |n: u64| n as f64 * runs as f64 / seconds.max(1e-12) * 1e-9;
            let (share, giga, name) = (100.0 * seconds / all, rate(event.bytes), &event.name);
            let ms = seconds * 1e3;
            writeln!(f, "{ms:9.3} {share:5.1}% {runs:5} {giga:8.2} {:8.2}  {name}", rate(event.flops))?;
        }
        let (kernels, host) = (self.kernel_seconds() * 1e3, self.seconds * 1e3);
        write!(f, "{kernels:9.3} ms in {} kernels; {host:.3} ms passed", self.events.len())
    }
}
