//! [`Trace`]: the last things that happened, to be read when something was missed.

use std::collections::VecDeque;

/// How much is kept.
const LINES: usize = 60;

/// What the oracle missed, and how it came to that.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) what: String,
    pub(super) trace: String,
}

/// What everything here gives.
pub(super) type Held<T = ()> = Result<T, String>;

#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    number: u64,
    /// All of it goes to the standard error, too.
    pub(super) loud: bool,
}

impl Trace {
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.number += 1;
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        let line = format!("{:6} {}", self.number, line());
        if self.loud {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
    }

    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
