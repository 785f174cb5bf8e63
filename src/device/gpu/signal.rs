//! [`Signal`]: what a callback of wgpu said, and who waits for it.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::device::gpu::lock;

/// What a callback of wgpu said, once it has.
///
/// A submission that was waited for is not enough: when several threads wait, the callback of one
/// may be called by another, a moment later.
#[derive(Default)]
pub struct Signal(Mutex<(Option<bool>, Vec<Waker>)>);

impl Signal {
    /// A signal and the end of it that answers.
    pub fn new() -> (Arc<Signal>, Answer) {
        let signal = Arc::new(Signal::default());
        (Arc::clone(&signal), Answer(signal))
    }

    /// The answer, if it is there.
    pub fn now(&self) -> Option<bool> {
        lock(&self.0).0
    }

    /// The answer, waited for.
    pub async fn get(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.0);
            if let Some(answer) = state.0 {
                return Poll::Ready(answer);
            }
            if !state.1.iter().any(|known| known.will_wake(context.waker())) {
                state.1.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The first answer stays.
    fn set(&self, ok: bool) {
        let wakers = {
            let mut state = lock(&self.0);
            state.0.get_or_insert(ok);
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The callback's end of a signal: dropped unheard, it says no.
pub struct Answer(Arc<Signal>);

impl Answer {
    /// Answers.
    pub fn say(&self, ok: bool) {
        self.0.set(ok);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.say(false);
    }
}
