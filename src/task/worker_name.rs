//! [`WorkerName`].

use std::{fmt, sync::Arc};

use super::Refusal;

/// What a worker calls itself in its claims, by convention `host:pid`. For people and logs; it gives no rights.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName(Arc<str>);

impl WorkerName {
    /// The longest name, in bytes: room in a journal record, and in a table's column, is set aside for it.
    pub const MAX_LEN: usize = 128;

    /// 1 to 128 bytes, no control characters.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > Self::MAX_LEN || text.chars().any(char::is_control) {
            return Err(Refusal::invalid(
                "worker",
                "not a worker name: 1 to 128 bytes without control characters",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
