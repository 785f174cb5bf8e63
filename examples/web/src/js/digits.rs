//! The digits page's session.

use js_sys::Object;
use wasm_bindgen::prelude::*;
use wgrad::data::Csv;
use wgrad::prelude::*;

use super::learning::report;
use super::{Outcome, about, set, wrong};
use crate::digits;
use crate::learner::{Learner, Lesson};

/// A network that learns digits.
#[wasm_bindgen]
pub struct Digits(Learner<digits::Digits>);

learning!(Digits);

#[wasm_bindgen]
impl Digits {
    /// A session with the images of `digits.csv`, which the browser unpacked.
    pub async fn open(csv: Vec<u8>, device: String, batch: usize, epochs: u32) -> Outcome<Digits> {
        let table = Csv::from_text("digits.csv", csv, digits::layout()).map_err(wrong)?;
        let lesson = digits::Digits::new(&table, batch, epochs.into()).map_err(wrong)?;
        Ok(Digits(Learner::new(lesson, &device).await.map_err(wrong)?))
    }

    /// What is learnt, where, and why there.
    pub fn about(&self) -> JsValue {
        let (lesson, about) = (self.0.lesson(), about(self.0.place()));
        let object = Object::from(about);
        let [train, test] = lesson.images();
        set(&object, "weights", (self.0.params().count() as f64).into());
        set(&object, "stepsPerEpoch", (lesson.steps_per_epoch() as f64).into());
        set(&object, "steps", (lesson.steps() as f64).into());
        set(&object, "trainImages", (train as f64).into());
        set(&object, "testImages", (test as f64).into());
        object.into()
    }

    /// What every device has in common before the first step.
    pub async fn fingerprints(&self) -> Outcome<JsValue> {
        let found = self.0.fingerprints().await.map_err(wrong)?;
        Ok(object! {
            "bits": format!("{:016x}", found.bits),
            "uniforms": format!("{:016x}", found.uniforms),
            "weights": format!("{:016x}", found.weights),
        })
    }

    /// Reads every test image.
    pub async fn evaluate(&self) -> Outcome<JsValue> {
        let found = self.0.evaluate().await.map_err(wrong)?;
        let bytes = |v: &[u8]| js_sys::Uint8Array::from(v);
        Ok(object! {
            "accuracy": found.accuracy,
            "predictions": bytes(&found.predictions),
            "labels": bytes(&found.labels),
        })
    }

    /// The pixels of the test images, 64 each, from 0 to 16.
    #[wasm_bindgen(js_name = testImages)]
    pub async fn test_images(&self) -> Outcome<Vec<f32>> {
        match self.0.lesson().test(&Device::cpu()) {
            Some(batch) => batch.x.read().await.map_err(wrong),
            None => Ok(Vec::new()),
        }
    }

    /// How likely each digit is.
    pub async fn predict(&self, pixels: Vec<f32>) -> Outcome<Vec<f32>> {
        self.0.predict(&pixels).await.map_err(wrong)
    }
}
