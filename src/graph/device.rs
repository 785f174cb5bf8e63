//! Handles on devices and on what lies in their memory.
//!
//! The graph passes them on without looking inside: the device layer makes them, and is the only
//! one to open them.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Error;

/// A place where tensors live and plans run; cheap to clone.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<dyn Backend>);

/// What the graph asks of a device.
pub trait Backend: Any + Send + Sync {
    /// What a person calls it, as `cpu` or `NVIDIA GeForce RTX 4070 (Vulkan)`.
    fn name(&self) -> String;
    /// The device layer's way back to its own type.
    fn as_any(&self) -> &dyn Any;
}

/// Elements in some memory, packed little-endian and padded to whole 32-bit words.
pub trait Storage: Any + Send + Sync {
    /// The device layer's way back to its own type.
    fn as_any(&self) -> &dyn Any;
    /// A blocking copy to the host, where that can be had, of those of `bytes` that there are; they
    /// are whole words.
    fn to_host(&self, bytes: Range<usize>) -> Result<Arc<Vec<u8>>, Error>;
}

/// All bytes of a storage.
pub const WHOLE: Range<usize> = 0..usize::MAX;

/// Elements in the host's memory, on their way to a device.
pub struct HostData(pub Arc<Vec<u8>>);

impl Storage for HostData {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn to_host(&self, bytes: Range<usize>) -> Result<Arc<Vec<u8>>, Error> {
        let end = bytes.end.min(self.0.len());
        match (bytes.start, end) {
            (0, end) if end == self.0.len() => Ok(self.0.clone()),
            (start, end) => Ok(Arc::new(self.0.get(start..end).unwrap_or_default().to_vec())),
        }
    }
}

impl Device {
    /// What a person calls it.
    pub fn name(&self) -> String {
        self.0.name()
    }
}

impl PartialEq for Device {
    /// Two handles are equal when they are the same device.
    fn eq(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

/// The device of tensors that stand for errors raised before there was a device.
struct Nowhere;

impl Backend for Nowhere {
    fn name(&self) -> String {
        "nowhere".into()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Device {
    /// A device that holds nothing but invalid tensors.
    pub(crate) fn nowhere() -> Device {
        Device(Arc::new(Nowhere))
    }
}
