//! The sessions as JavaScript classes: what `engine.js` calls by name.
//!
//! Errors are rejected promises with the message. Only plain objects cross, which the page gets
//! from the worker by copy. Each class has a feature of the package: a page downloads its own only.

/// An object of names and values.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let object = Object::new();
        $(set(&object, $name, JsValue::from($value));)*
        JsValue::from(object)
    }};
}

#[cfg(any(feature = "digits", feature = "gpt"))]
#[macro_use]
mod learning;

#[cfg(feature = "digits")]
mod digits;
#[cfg(feature = "gpt")]
mod gpt;
#[cfg(feature = "speed")]
mod speed;

use js_sys::{Object, Reflect};
use wasm_bindgen::prelude::*;
use wgrad::Error;

use crate::place::Place;

type Outcome<T> = Result<T, JsError>;

fn wrong(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

fn set(object: &Object, name: &str, value: JsValue) {
    // Setting a property of an object made here does not fail.
    let _ = Reflect::set(object, &name.into(), &value);
}

fn about(place: &Place) -> JsValue {
    object! {
        "device": place.device.to_string(),
        "kind": if place.is_gpu { "gpu" } else { "cpu" },
        "why": place.why.as_str(),
    }
}
