//! [`State`].

use std::fmt;

use super::Refusal;

/// Where a task is in its life. A finished task (completed or cancelled) has no state: it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Handed out under a lease.
    Leased,
    /// Due, and next in its turn.
    Ready,
    /// Its exectime is in the future.
    Scheduled,
    /// Out of attempts; kept until it is retried or purged.
    Dead,
}

impl State {
    /// All of them, in the order in which lists show them: what is handed out already, then what comes next.
    pub const ALL: [Self; 4] = [Self::Leased, Self::Ready, Self::Scheduled, Self::Dead];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::Dead => "dead",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Refusal::invalid("state", "not one of ready, scheduled, leased, dead"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
