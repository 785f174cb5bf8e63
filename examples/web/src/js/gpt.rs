//! The GPT page's session.

use js_sys::{Function, Object};
use wasm_bindgen::prelude::*;

use super::learning::report;
use super::{Outcome, about, set, wrong};
use crate::gpt;
use crate::learner::{Learner, Lesson};

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
