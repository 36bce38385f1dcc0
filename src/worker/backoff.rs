//! [`Backoff`]: how long to wait before the daemon is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(10);

/// Waits that double from 0.1 s to 10 s, each shortened by up to a half at random, so that the workers of a daemon that comes
/// back do not all arrive at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        // Chance only spreads the load: without it the full wait is right, too.
        let part = getrandom::u32().map_or(1.0, |chance| f64::from(chance) / f64::from(u32::MAX));
        whole.mul_f64(0.5 + part / 2.0)
    }

    /// The daemon has answered.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the next wait is the first since the daemon has answered.
    pub(super) fn is_fresh(&self) -> bool {
        self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_ten_seconds_and_begin_again() {
        let mut backoff = Backoff::default();
        for whole_ms in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let wait = backoff.next().as_millis();
            assert!(
                (whole_ms / 2..=whole_ms).contains(&wait),
                "{wait} of {whole_ms}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
