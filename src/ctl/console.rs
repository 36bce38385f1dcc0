//! [`Console`]: where a verb reads and writes, as a value, so that a test can look at it.

use std::{
    env,
    io::{self, IsTerminal as _, Read, Write},
    os::fd::{AsFd as _, OwnedFd},
};

use crate::{config::Surroundings, task::is_unsafe_to_show};

/// Input and outputs of one command.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about one of the three streams"
)]
pub struct Console {
    /// What the user asked for.
    pub(super) out: Box<dyn Write + Send>,
    /// What went wrong, and questions.
    pub(super) err: Box<dyn Write + Send>,
    /// Payloads, tasks and answers; taken by the first verb that reads.
    pub(super) input: Option<Box<dyn Read + Send>>,
    /// Whether a person sits at input and output.
    pub(super) interactive: bool,
    /// Whether `out` is a terminal.
    pub(super) terminal: bool,
    /// Whether a person watches `err`.
    pub(super) watched: bool,
    /// Whether colours are wanted.
    pub(super) colour: bool,
    /// How wide the terminal is, where `out` is one.
    pub(super) columns: Option<usize>,
    /// Where `out` goes, where it can be told whether somebody still reads that; taken by the verb that wants to know.
    pub(super) outlet: Option<OwnedFd>,
    /// Environment and user.
    pub(super) surroundings: Surroundings,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let terminal = io::stdout().is_terminal();
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: Some(Box::new(io::stdin())),
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            terminal,
            watched: io::stderr().is_terminal(),
            columns: terminal.then(columns).flatten(),
            colour: terminal && !no_colour,
            outlet: io::stdout().as_fd().try_clone_to_owned().ok(),
            surroundings: Surroundings::of_process(),
        }
    }

    /// Writes `value` as JSON: indented for a person, with nothing in it that could drive the terminal; one line for a program.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        let text = if self.terminal {
            serde_json::to_string_pretty(value).map(|text| safe_json(&text))
        } else {
            serde_json::to_string(value)
        };
        writeln!(self.out, "{}", text.map_err(io::Error::other)?)
    }

    /// Writes one line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes one line about the work, not of the result.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "{text}")
    }

    /// `text` in a colour, where colours are wanted.
    pub(super) fn paint(&self, colour: Colour, text: &str) -> String {
        paint(self.colour, colour, text)
    }
}

/// JSON text that means the same and is safe to show: JSON asks for an escape only below U+0020, and terminals also heed DEL,
/// the controls from U+0080 on and marks of direction.
fn safe_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Space between values, as payloads keep it; in a text these are escaped already. A return would show one line
            // over another.
            '\n' | '\t' => safe.push(c),
            '\r' => safe.push(' '),
            c if is_unsafe_to_show(c) => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                safe.extend(units.map(|unit| format!("\\u{unit:04x}")));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// How many columns the terminal has.
pub(super) fn columns() -> Option<usize> {
    ratatui::crossterm::terminal::size()
        .ok()
        .map(|(columns, _)| usize::from(columns))
        .filter(|columns| *columns > 0)
}

/// `text` in a colour, if `on`.
pub(super) fn paint(on: bool, colour: Colour, text: &str) -> String {
    if on && colour != Colour::Plain {
        format!("\x1b[{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

/// The few colours that are used; each also says itself in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain = 0,
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_on_a_terminal_keeps_its_meaning_and_shows_nothing_that_drives_it() {
        let wild = "a\u{9b}2J\u{7f}\u{202e}\u{2066}\u{200e}\u{2028}\u{2029}\u{1b}\n\té";
        let value = serde_json::json!({ wild: [wild, 1] });
        let text = serde_json::to_string_pretty(&value).unwrap() + "\r\n";
        let safe = safe_json(&text);
        let shown = safe.chars().filter(|c| *c != '\n');
        assert!(!shown.clone().any(is_unsafe_to_show), "{safe}");
        assert!(
            safe.contains(r"a\u009b2J\u007f\u202e") && safe.contains('é'),
            "{safe}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
            value
        );
    }
}
