//! The one error type: what was asked, what is wrong with it, and the user's line.
//!
//! An op with bad operands does not fail where it is written; it yields an invalid tensor that
//! carries one of these (law 7). Knows nothing of graphs or devices.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// What [`Error`] is about, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An op was given operands it cannot take: shapes, dtypes, axes, devices, arguments.
    Operand,
    /// An index in device data was out of range; the op read 0 or wrote nothing there.
    Index,
    /// A gradient cannot be formed: its path was released, or an op on it has none.
    Gradient,
    /// There is no such device, or it cannot do what was asked.
    Device,
    /// The device's memory, or the limit set for it, is not enough.
    Memory,
    /// The device was lost; make it anew and restore a snapshot.
    Lost,
    /// A shader does not validate or the driver refused it.
    Shader,
    /// A result disagrees with its definition.
    Verify,
    /// A file cannot be read or written, or its bytes are not what they should be.
    File,
    /// A server cannot be reached, or refuses what it is asked.
    Network,
}

/// An error: `op: fact, values at file:line:column`.
///
/// Cheap to clone, because every tensor built on an invalid one carries it on.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    op: String,
    fact: String,
    at: Option<&'static Location<'static>>,
}

/// `Result` with wgrad's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`: `op` is what was asked, `fact` what is wrong with it.
    pub fn new(kind: ErrorKind, op: impl Into<String>, fact: impl Into<String>) -> Error {
        Error(Arc::new(Inner { kind, op: op.into(), fact: fact.into(), at: None }))
    }

    /// The same error, pointing at `at`; the first location given stays.
    pub fn at(self, at: &'static Location<'static>) -> Error {
        if self.0.at.is_some() {
            return self;
        }
        let Inner { kind, op, fact, .. } = &*self.0;
        Error(Arc::new(Inner { kind: *kind, op: op.clone(), fact: fact.clone(), at: Some(at) }))
    }

    /// What the error is about.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The op or call that failed.
    pub fn op(&self) -> &str {
        &self.0.op
    }

    /// The user's line that built the failing op, where it is known.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.at
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.op, self.0.fact)?;
        match self.0.at {
            Some(at) => write!(f, " at {}:{}:{}", at.file(), at.line(), at.column()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {}
