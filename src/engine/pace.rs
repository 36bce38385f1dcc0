//! [`Pace`]: whether requests come so fast that changes of task files should wait for a quieter moment.
//!
//! Pure: time comes in as an argument, and a window that has passed is seen when somebody looks.

use crate::task::{Millis, Now, Tick};

/// How long requests are counted until they are judged.
const WINDOW: Millis = Millis(100);
/// So many requests in a window, 5000 a second, keep a small machine busy: making or removing a file then costs as much of
/// it as a request does.
const BUSY: u32 = 500;

/// How fast requests come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Tick,
    count: u32,
    busy: bool,
}

impl Pace {
    /// A request has come.
    pub(super) fn count(&mut self, now: Now) {
        self.look(now);
        self.count = self.count.saturating_add(1);
    }

    /// Lets time pass.
    pub(super) fn look(&mut self, now: Now) {
        let passed = now.tick.since(self.since);
        if passed >= WINDOW {
            // A window that nobody looked at for as long again was not busy to its end.
            self.busy = self.count >= BUSY && passed < Millis(2 * WINDOW.0);
            self.since = now.tick;
            self.count = 0;
        }
    }

    /// Until when requests count as coming fast, if they do.
    pub(super) fn busy_until(&self) -> Option<Tick> {
        self.busy.then(|| self.since.plus(WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now {
            tick: Tick(millis * 1_000_000),
            ..Now::default()
        }
    }

    #[test]
    fn many_requests_in_a_window_are_fast_until_the_next_window_says_otherwise() {
        let mut pace = Pace::default();
        pace.look(at(1000));
        for _ in 0..BUSY {
            pace.count(at(1050));
        }
        assert_eq!(pace.busy_until(), None, "the window is not over");
        pace.look(at(1100));
        assert_eq!(pace.busy_until(), Some(at(1200).tick));
        for _ in 1..BUSY {
            pace.count(at(1150));
        }
        pace.look(at(1200));
        assert_eq!(pace.busy_until(), None);
    }

    #[test]
    fn a_burst_before_a_long_silence_is_over() {
        let mut pace = Pace::default();
        pace.look(at(1000));
        for _ in 0..BUSY {
            pace.count(at(1050));
        }
        pace.look(at(1200));
        assert_eq!(pace.busy_until(), None);
    }
}
