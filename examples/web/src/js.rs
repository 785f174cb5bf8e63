//! The sessions as JavaScript classes: what `engine.js` calls by name.
//!
//! Errors are rejected promises with the message. Only plain objects cross, which the page gets
//! from the worker by copy.

use js_sys::{Array, Function, Object, Reflect};
use wasm_bindgen::prelude::*;
use wgrad::Error;
use wgrad::prelude::*;

use crate::learner::{Learner, Lesson, Report};
use crate::place::Place;
use crate::{digits, gpt, speed};

type Outcome<T> = Result<T, JsError>;

fn wrong(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

/// An object of names and values.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let object = Object::new();
        $(set(&object, $name, JsValue::from($value));)*
        JsValue::from(object)
    }};
}

fn set(object: &Object, name: &str, value: JsValue) {
    // Setting a property of an object made here does not fail.
    let _ = Reflect::set(object, &name.into(), &value);
}

/// The clock of the page, in seconds.
fn now() -> f64 {
    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = performance, js_name = now)]
        fn milliseconds() -> f64;
    }
    milliseconds() / 1e3
}

fn about(place: &Place) -> JsValue {
    object! {
        "device": place.device.to_string(),
        "kind": if place.is_gpu { "gpu" } else { "cpu" },
        "why": place.why.as_str(),
    }
}

fn report(report: Report, device: &Device) -> JsValue {
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

/// A network that learns digits.
#[wasm_bindgen]
pub struct Digits(Learner<digits::Digits>);

learning!(Digits);

#[wasm_bindgen]
impl Digits {
    /// A session with the images of `digits.csv.gz`.
    pub async fn open(gzip: Vec<u8>, device: String, batch: usize, epochs: u32) -> Outcome<Digits> {
        let lesson = digits::Digits::new(gzip, batch, epochs.into()).map_err(wrong)?;
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

/// A small GPT that learns a text.
#[wasm_bindgen]
pub struct Gpt(Learner<gpt::Text>);

learning!(Gpt);

#[wasm_bindgen]
impl Gpt {
    /// A session with a text.
    pub async fn open(text: String, device: String, steps: u32) -> Outcome<Gpt> {
        let lesson = gpt::Text::new(&text, steps.into()).map_err(wrong)?;
        Ok(Gpt(Learner::new(lesson, &device).await.map_err(wrong)?))
    }

    /// What is learnt, where, and why there.
    pub fn about(&self) -> JsValue {
        let (lesson, about) = (self.0.lesson(), about(self.0.place()));
        let object = Object::from(about);
        set(&object, "weights", (self.0.params().count() as f64).into());
        set(&object, "bytes", (lesson.bytes as f64).into());
        set(&object, "context", (gpt::CONTEXT as f64).into());
        set(&object, "batch", (gpt::BATCH as f64).into());
        set(&object, "steps", (lesson.steps() as f64).into());
        object.into()
    }

    /// What follows a prompt; `tell` is called with the text so far.
    pub async fn write(
        &self,
        prompt: String,
        length: usize,
        temperature: f64,
        seed: u32,
        tell: Option<Function>,
    ) -> Outcome<String> {
        let tell = |text: &str| {
            // What the page does with it is its own affair.
            let _ = tell.as_ref().map(|tell| tell.call1(&JsValue::NULL, &text.into()));
        };
        self.0.write(&prompt, length, temperature, seed.into(), tell).await.map_err(wrong)
    }
}

/// A device that is measured.
#[wasm_bindgen]
pub struct Speed(Place);

#[wasm_bindgen]
impl Speed {
    /// A session on a device.
    pub async fn open(device: String) -> Outcome<Speed> {
        Ok(Speed(Place::find(&device).await.map_err(wrong)?))
    }

    /// Where it runs, and why there.
    pub fn about(&self) -> JsValue {
        about(&self.0)
    }

    /// What can be measured.
    pub fn cases(&self) -> Array {
        let case = |case: &speed::Case| object! { "id": case.id, "name": case.name, "what": case.what };
        speed::CASES.iter().map(case).collect()
    }

    /// Measures a case.
    pub async fn run(&self, id: String) -> Outcome<JsValue> {
        let Some(case) = speed::CASES.iter().find(|case| case.id == id) else {
            return Err(JsError::new(&format!("speed: {id:?} is no case")));
        };
        let figure = case.measure(&self.0, now).await.map_err(wrong)?;
        Ok(object! {
            "seconds": figure.seconds,
            "runs": figure.runs,
            "gflops": figure.gflops,
            "gbs": figure.gbs,
            "perSecond": 1.0 / figure.seconds,
        })
    }
}
