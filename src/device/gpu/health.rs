//! What went wrong on a device, and whom it concerns.
//!
//! Natively an error is known when the call that caused it returns. In a browser it comes later,
//! so every write has a serial number, and an error that arrives late condemns what was written
//! from the failed call until it became known: reading that gives the error, never stale numbers.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use crate::device::gpu::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::fresh_id;

/// Late failures that are remembered; more of them condemn everything written since the first.
const FAILURES_MAX: usize = 16;
/// How many open error scopes are kept before they are looked through.
const SWEEP_EVERY: usize = 128;

/// The state of a device's health.
#[derive(Default)]
pub struct Health {
    lost: OnceLock<String>,
    serial: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    pending: Mutex<Vec<Pending>>,
    waiters: Arc<Waiters>,
    late: AtomicBool,
    spoilt: AtomicU64,
}

/// Everyone who waits for an error scope.
#[derive(Default)]
struct Waiters(Mutex<Vec<Waker>>);

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        let waiting = std::mem::take(&mut *lock(&self.0));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A late error and the serial numbers it condemns.
struct Failure {
    serials: RangeInclusive<u64>,
    error: Error,
}

/// An error scope whose result has not arrived.
struct Pending {
    serial: u64,
    kind: ErrorKind,
    op: String,
    /// Who else is told.
    verdict: Option<Verdict>,
    scope: Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>,
}

/// What is known against something that is used again and again; empty while nothing is.
pub type Verdict = Arc<OnceLock<Error>>;

impl Health {
    /// Notes what the device reports by itself; only for devices that have no other owner.
    pub fn listen(self: &Arc<Self>, device: &wgpu::Device) {
        let health = Arc::clone(self);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            health.fail(health.now(), describe(ErrorKind::Device, "gpu", error));
        }));
        let health = Arc::clone(self);
        device.set_device_lost_callback(move |reason, message| {
            // The first report stays.
            let _ = health.lost.set(format!("{reason:?} {message}"));
        });
    }

    /// The number of a new write.
    pub fn begin(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the last write.
    pub fn now(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// An error when the device was lost; `op` is what was about to be done.
    pub fn check(&self, op: &str) -> Result<()> {
        self.lost.get().map_or(Ok(()), |why| Err(self.lost(op, why)))
    }

    /// Marks the device as lost while `op` was done.
    pub fn lost(&self, op: &str, why: &str) -> Error {
        match self.lost.get_or_init(|| why.to_string()).trim() {
            "" => Error::new(ErrorKind::Lost, op, "the device was lost"),
            why => Error::new(ErrorKind::Lost, op, format!("the device was lost: {why}")),
        }
    }

    /// The error that condemns what was written under `serial`, if any.
    pub fn condemned(&self, serial: u64) -> Result<()> {
        let failures = lock(&self.failures);
        failures.iter().find(|failure| failure.serials.contains(&serial)).map_or(Ok(()), |f| Err(f.error.clone()))
    }

    /// Runs `f` and returns the first error the driver found in it; one that is not known yet is
    /// kept for [`Health::settle`].
    pub fn scoped<R>(&self, device: &wgpu::Device, kind: ErrorKind, op: &str, f: impl FnOnce() -> R) -> Result<R> {
        self.judged(device, kind, op, None, f)
    }

    /// As [`Health::scoped`], for what is made now and used later: an error that comes late is
    /// also left in `verdict`, and condemns no write from before.
    pub fn judged<R>(
        &self,
        device: &wgpu::Device,
        kind: ErrorKind,
        op: &str,
        verdict: Option<&Verdict>,
        f: impl FnOnce() -> R,
    ) -> Result<R> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let serial = self.now() + u64::from(verdict.is_some());
        let scopes = [Validation, OutOfMemory, Internal].map(|filter| device.push_error_scope(filter));
        let result = f();
        self.close(scopes, device, serial, kind, op, verdict)?;
        Ok(result)
    }

    /// The first error that `scopes` caught, innermost last.
    fn close(
        &self,
        scopes: [wgpu::ErrorScopeGuard; 3],
        device: &wgpu::Device,
        serial: u64,
        kind: ErrorKind,
        op: &str,
        verdict: Option<&Verdict>,
    ) -> Result<()> {
        let mut found = None;
        for scope in scopes.into_iter().rev() {
            let mut scope: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(scope.pop());
            let known = match self.late.load(Ordering::Relaxed) {
                true => Poll::Pending,
                false => scope.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            };
            match known {
                Poll::Ready(error) => found = found.or(error),
                Poll::Pending => self.keep(Pending { serial, kind, op: op.into(), verdict: verdict.cloned(), scope }),
            }
        }
        match found {
            Some(_) if is_lost(device) => Err(self.lost(op, "")),
            Some(error) => Err(describe(kind, op, error)),
            None => self.check(op),
        }
    }

    /// Keeps an open error scope; now and then, lets go of those whose result has arrived, so that
    /// a loop that never reads does not pile them up.
    fn keep(&self, new: Pending) {
        let full = {
            let mut pending = lock(&self.pending);
            pending.push(new);
            pending.len().is_multiple_of(SWEEP_EVERY)
        };
        if full {
            self.sweep();
        }
    }

    /// Lets go of the error scopes whose result has arrived and condemns what they say failed;
    /// gives the serial number of the oldest one that is still open.
    fn sweep(&self) -> Option<u64> {
        let waker = Waker::from(Arc::clone(&self.waiters));
        let mut context = Context::from_waker(&waker);
        let mut pending = lock(&self.pending);
        pending.retain_mut(|Pending { serial, kind, op, verdict, scope }| match scope.as_mut().poll(&mut context) {
            Poll::Ready(error) => {
                if let Some(error) = error.map(|error| describe(*kind, op, error)) {
                    // The first one stays.
                    verdict.iter().for_each(|verdict| drop(verdict.set(error.clone())));
                    self.fail(*serial, error);
                }
                false
            }
            Poll::Pending => true,
        });
        pending.iter().map(|pending| pending.serial).min()
    }

    /// Whether all is known of what was done up to the write `serial`.
    pub fn settled(&self, serial: u64) -> bool {
        self.sweep().is_none_or(|oldest| oldest > serial)
    }

    /// Waits until all is known of what was done up to the write `serial`.
    pub async fn settle(&self, serial: u64) {
        std::future::poll_fn(|context| {
            if !self.settled(serial) {
                lock(&self.waiters.0).push(context.waker().clone());
                // A result may have arrived before the waker stood in the list.
                if !self.settled(serial) {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await
    }

    /// Has errors arrive as late as in a browser, for tests.
    pub fn set_late(&self, late: bool) {
        self.late.store(late, Ordering::Relaxed);
    }

    /// An id from when memory was last found to be short: any buffer with a lower one may be invalid.
    pub fn spoilt(&self) -> u64 {
        self.spoilt.load(Ordering::Relaxed)
    }

    fn fail(&self, serial: u64, error: Error) {
        if error.kind() == ErrorKind::Memory {
            self.spoilt.store(fresh_id(), Ordering::Relaxed);
        }
        let now = self.now().max(serial);
        let mut failures = lock(&self.failures);
        let full = failures.len() >= FAILURES_MAX;
        match failures.last_mut() {
            Some(last) if full || last.serials.contains(&serial) => {
                last.serials = *last.serials.start()..=now.max(*last.serials.end());
            }
            _ => failures.push(Failure { serials: serial..=now, error }),
        }
    }
}

/// Whether a device is gone, asked where its loss is not reported: when something failed.
///
/// What is made on a lost device is invalid without an error, and everything after that fails with
/// an error that hides the reason.
#[cfg(not(target_arch = "wasm32"))]
fn is_lost(device: &wgpu::Device) -> bool {
    let usage = wgpu::BufferUsages::COPY_SRC;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: true };
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = device.create_buffer(&descriptor);
    let refused = std::pin::pin!(memory.pop()).poll(&mut Context::from_waker(Waker::noop()));
    let mapped = buffer.get_mapped_range(..).is_ok();
    !mapped && matches!(refused, Poll::Ready(None))
}

/// A browser tells the loss of a device by itself.
#[cfg(target_arch = "wasm32")]
fn is_lost(_: &wgpu::Device) -> bool {
    false
}

/// The driver's error as one of ours.
fn describe(kind: ErrorKind, op: &str, error: wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::new(ErrorKind::Memory, op, "the device is out of memory"),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::new(kind, op, description.trim())
        }
    }
}
