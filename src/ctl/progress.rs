//! [`Progress`]: how far a long transfer is, on one line of a terminal that a person watches.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use super::{console, when};

/// Shorter transfers show nothing.
const AFTER: Duration = Duration::from_millis(500);
/// How often the line is drawn at most.
const EVERY: Duration = Duration::from_millis(100);
/// How wide the bar is.
const BAR: usize = 24;

/// Counts what passes and draws it on standard error; silent where nobody watches.
pub(super) struct Progress {
    watched: bool,
    started: Instant,
    drawn: Option<Instant>,
    /// How many bytes there will be, where that is known.
    total: Option<u64>,
    bytes: u64,
    lines: u64,
}

impl Progress {
    #[allow(
        clippy::disallowed_methods,
        reason = "the command line is an edge: how fast something goes is seen on a clock"
    )]
    pub(super) fn new(watched: bool, total: Option<u64>) -> Self {
        Self {
            watched,
            started: Instant::now(),
            drawn: None,
            total: total.filter(|total| *total > 0),
            bytes: 0,
            lines: 0,
        }
    }

    /// Counts a piece of lines.
    #[allow(
        clippy::naive_bytecount,
        reason = "pieces of 64 KiB, each of which takes the network far longer"
    )]
    pub(super) fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.bytes += piece.len() as u64;
        self.lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        let elapsed = self.started.elapsed();
        let due = self
            .drawn
            .map_or(elapsed >= AFTER, |drawn| drawn.elapsed() >= EVERY);
        if !self.watched || !due {
            return Ok(());
        }
        self.drawn = Some(self.started + elapsed);
        let width = console::columns().unwrap_or(80).saturating_sub(1);
        let line: String = self
            .line(elapsed.as_secs_f64())
            .chars()
            .take(width)
            .collect();
        let mut err = io::stderr();
        write!(err, "\r{line}\x1b[K")?;
        err.flush()
    }

    fn line(&self, secs: f64) -> String {
        let rate = self.lines as f64 / secs.max(f64::MIN_POSITIVE);
        let tasks = format!("{} tasks, {}/s", grouped(self.lines), grouped(rate as u64));
        let Some(total) = self.total else {
            return format!("{tasks}, {}", size(self.bytes));
        };
        let part = (self.bytes as f64 / total as f64).min(1.0);
        let full = (part * BAR as f64) as usize;
        let left = when::length((secs / part.max(f64::MIN_POSITIVE) - secs).ceil());
        format!(
            "[{}{}] {:>3.0} %  {tasks}, {} of {}, {left} left",
            "#".repeat(full),
            "-".repeat(BAR - full),
            part * 100.0,
            size(self.bytes),
            size(total),
        )
    }
}

impl Drop for Progress {
    /// Takes the line away: what follows is the outcome.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            // A terminal that has gone has no line to be taken away.
            drop(io::stderr().write_all(b"\r\x1b[K"));
        }
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest unit that leaves a number before the point.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long_still() {
        let mut progress = Progress::new(false, Some(4096));
        progress.add(&b"0123456\n".repeat(128)).unwrap();
        assert_eq!(
            progress.line(1.0),
            "[######------------------]  25 %  128 tasks, 128/s, 1.0 KiB of 4.0 KiB, 3s left"
        );
        let mut progress = Progress::new(false, None);
        progress.add(&b"\n".repeat(2000)).unwrap();
        assert_eq!(progress.line(2.0), "2,000 tasks, 1,000/s, 2.0 KiB");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!((size(0), size(1023)), ("0 B".into(), "1023 B".into()));
        assert_eq!(size(3 << 30), "3.0 GiB");
    }
}
