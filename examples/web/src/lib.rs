//! What runs behind the pages: a session for each, in Rust, and its face in JavaScript.
//!
//! The models are those of the desktop examples, the same files. A session knows no page and no
//! JavaScript, so it also runs natively; [`js`] knows nothing else. Nothing in here panics or
//! waits: what goes wrong is an error, in the page a rejected promise with its message.

pub mod digits;
pub mod gpt;
#[cfg(target_arch = "wasm32")]
mod js;
pub mod learner;
pub mod place;
pub mod speed;
