//! What happened, in numbers: the history of the last minute, hour and day, and distributions of lengths of time.

use super::{Millis, Refusal, WallMillis};

/// How far back a history goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Span {
    /// By seconds.
    Minute,
    /// By minutes.
    #[default]
    Hour,
    /// By quarters of an hour.
    Day,
}

impl Span {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Reads what [`Span::as_str`] gives.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        [Self::Minute, Self::Hour, Self::Day]
            .into_iter()
            .find(|span| span.as_str() == text)
            .ok_or_else(|| Refusal::invalid("span", "not one of minute, hour, day"))
    }

    /// How long a slot is, and how many there are.
    #[must_use]
    pub const fn steps(self) -> (Millis, usize) {
        match self {
            Self::Minute => (Millis::from_secs(1), 60),
            Self::Hour => (Millis::from_secs(60), 60),
            Self::Day => (Millis::from_secs(15 * 60), 96),
        }
    }
}

/// What happened lately, of one queue or of all together.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryView {
    /// How far back it goes.
    pub span: Span,
    /// How long a slot is.
    pub step: Millis,
    /// When the first slot begins, by the wall clock of now.
    pub start: WallMillis,
    /// How much of the last slot has passed: it is still being filled.
    pub elapsed: Millis,
    /// Oldest first; the last is that of now.
    pub slots: Vec<HistorySlot>,
}

/// What happened within one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistorySlot {
    /// Tasks taken.
    pub submitted: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Attempts that failed, expired leases included.
    pub failed: u64,
    /// Tasks that ran out of attempts.
    pub died: u64,
    /// How long the tasks handed out had been due. Only kept over all queues.
    pub wait: Option<Quantiles>,
    /// How long the tasks completed had been held. Only kept over all queues.
    pub run: Option<Quantiles>,
}

/// Lengths of time in two numbers, at most an eighth off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// How many there were.
    pub count: u64,
    /// Half of them were at most so long.
    pub p50: Millis,
    /// 99 of 100 were at most so long.
    pub p99: Millis,
}

/// How lengths of time are distributed since the daemon started: a histogram as Prometheus has it, with fixed bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    bounds: &'static [u64],
    counts: [u64; Self::MOST + 1],
    sum: u64,
}

impl Distribution {
    /// The most bounds that a distribution can have.
    pub const MOST: usize = 15;

    /// Bounds for waits and runs of tasks, in microseconds: from five milliseconds to a day.
    pub const LONG: &'static [u64] = &[
        5_000,
        10_000,
        25_000,
        100_000,
        250_000,
        1_000_000,
        2_500_000,
        10_000_000,
        30_000_000,
        60_000_000,
        300_000_000,
        900_000_000,
        3_600_000_000,
        21_600_000_000,
        86_400_000_000,
    ];
    /// Bounds for writes to the disk and for requests, in microseconds: from a tenth of a millisecond to ten seconds.
    pub const SHORT: &'static [u64] = &[
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 10_000_000,
    ];

    /// Nothing yet.
    #[must_use]
    pub const fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() <= Self::MOST, "a bound has a place");
        Self {
            bounds,
            counts: [0; Self::MOST + 1],
            sum: 0,
        }
    }

    /// What others have counted: `counts` holds the number at most each bound and above the one before, then those above
    /// all; `sum` is in microseconds.
    #[must_use]
    pub fn of(
        bounds: &'static [u64],
        counts: impl IntoIterator<Item = u64>,
        sum_micros: u64,
    ) -> Self {
        let mut made = Self::new(bounds);
        for (slot, count) in made.counts.iter_mut().zip(counts) {
            *slot = count;
        }
        made.sum = sum_micros;
        made
    }

    /// Counts one length.
    pub fn note(&mut self, micros: u64) {
        self.counts[Self::class(self.bounds, micros)] += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// The place in `counts` of a length.
    #[must_use]
    pub fn class(bounds: &[u64], micros: u64) -> usize {
        bounds.partition_point(|bound| *bound < micros)
    }

    /// For each bound, in seconds, how many were at most so long.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .zip(counts)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_for_every_bound_that_it_does_not_exceed() {
        let mut made = Distribution::new(&[1_000, 10_000]);
        for micros in [1, 1_000, 1_001, 10_000, 20_000] {
            made.note(micros);
        }
        let up_to: Vec<_> = made.up_to().collect();
        assert_eq!(up_to, [(0.001, 2), (0.01, 4)]);
        assert_eq!(made.count(), 5);
        assert!((made.sum() - 0.032_002).abs() < 1e-9);
    }

    #[test]
    fn the_bounds_rise_and_have_their_places() {
        for bounds in [Distribution::LONG, Distribution::SHORT] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
            assert_eq!(Distribution::new(bounds).up_to().count(), bounds.len());
        }
    }

    #[test]
    fn spans_are_read_as_they_are_written() {
        for span in [Span::Minute, Span::Hour, Span::Day] {
            assert_eq!(Span::parse(span.as_str()).unwrap(), span);
        }
        assert!(Span::parse("week").is_err());
    }
}
