//! [`Priority`].

use std::fmt;

use super::Refusal;

/// How urgent a task is: a higher number is handed out first. Default 100, the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i32);

impl Priority {
    /// What a task has that names none.
    pub const DEFAULT: Self = Self(100);

    /// Any `i32` is a priority.
    #[must_use]
    pub const fn new(value: i32) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Reads a decimal number, with sign or without.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        text.trim().parse().map(Self).map_err(|_| {
            Refusal::invalid(
                "priority",
                format!("not a whole number from {} to {}", i32::MIN, i32::MAX),
            )
        })
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
