//! The speed page's session.

use js_sys::{Array, Object};
use wasm_bindgen::prelude::*;

use super::{Outcome, about, set, wrong};
use crate::place::Place;
use crate::speed;

/// The clock of the page, in seconds.
fn now() -> f64 {
    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = performance, js_name = now)]
        fn milliseconds() -> f64;
    }
    milliseconds() / 1e3
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
