//! [`QueueName`].

use std::{fmt, sync::Arc};

use super::Refusal;

/// The name of a queue: `[a-z0-9][a-z0-9._-]{0,63}`, so that it is a folder's name, a path segment and a label as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// The queue of tasks that name none.
    pub const DEFAULT: &'static str = "default";
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks the form.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= Self::MAX_LEN
            && text.as_bytes().first().is_some_and(first)
            && text
                .bytes()
                .all(|byte| first(&byte) || matches!(byte, b'.' | b'_' | b'-'));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::invalid(
                "queue",
                "not a queue name: 1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit",
            ))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the queue of tasks that name none, whose files lie right in the task directory.
    #[must_use]
    pub fn is_default(&self) -> bool {
        &*self.0 == Self::DEFAULT
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
