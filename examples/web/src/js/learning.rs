//! What every session that learns tells and can do. Knows no lesson.

use js_sys::{Array, Object};
use wasm_bindgen::prelude::*;
use wgrad::prelude::*;

use super::set;
use crate::learner::Report;

/// What the page hears of a step.
pub(super) fn report(report: Report, device: &Device) -> JsValue {
    let losses: Array =
        report.losses.iter().map(|&(step, loss)| Array::of2(&(step as f64).into(), &loss.into())).collect();
    let memory = device.memory_use();
    object! {
        "step": report.step as f64,
        "epoch": report.epoch as f64,
        "losses": losses,
        "done": report.done,
        "notice": report.notice,
        "liveBytes": memory.live_bytes as f64,
        "peakBytes": memory.peak_bytes as f64,
        "pooledBytes": memory.pooled_bytes as f64,
    }
}

/// What every session that learns can do.
macro_rules! learning {
    ($class:ident) => {
        #[wasm_bindgen]
        impl $class {
            /// Learns from the next batch.
            pub async fn step(&mut self) -> Outcome<JsValue> {
                let found = self.0.step().await.map_err(wrong)?;
                Ok(report(found, &self.0.place().device))
            }

            /// Waits for the losses that are on their way.
            pub async fn flush(&mut self) -> Outcome<JsValue> {
                let found = self.0.flush().await.map_err(wrong)?;
                Ok(report(found, &self.0.place().device))
            }

            /// The weights as a safetensors file.
            pub async fn save(&self) -> Outcome<Vec<u8>> {
                self.0.save().await.map_err(wrong)
            }

            /// Takes the weights of a safetensors file.
            pub fn load(&mut self, bytes: Vec<u8>) -> Outcome<()> {
                self.0.load(bytes).map_err(wrong)
            }

            /// Destroys the GPU under the session.
            #[wasm_bindgen(js_name = loseDevice)]
            pub fn lose_device(&self) {
                self.0.lose_device();
            }
        }
    };
}
