//! [`Options`]: what a task may ask for beyond its place in the order.

use super::{Millis, Refusal, Trace};

/// How attempts, leases and retries of one task go. Most tasks leave all of it alone; then it takes no memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// At most one unfinished task per key and queue; 1 to 256 bytes.
    pub unique_key: Option<Box<str>>,
    /// Attempts until the task is dead; 1 to 1 000 000. `None`: the configured default (5).
    pub max_attempts: Option<u32>,
    /// The lease of a claim that names none. `None`: the configured default (60 s).
    pub lease: Option<Millis>,
    /// How long to wait before an attempt after a failed one. `None`: the configured default.
    pub backoff: Option<Backoff>,
    /// The trace that the submitter was in. Whoever submits again from another span asks for the same.
    pub trace: Option<Box<Trace>>,
}

impl Options {
    /// The longest unique key, in bytes.
    pub const MAX_KEY_LEN: usize = 256;
    /// The most attempts that a task may ask for.
    pub const MAX_ATTEMPTS: u32 = 1_000_000;
    /// The shortest lease.
    pub const MIN_LEASE: Millis = Millis(100);
    /// The longest lease: a week.
    pub const MAX_LEASE: Millis = Millis::from_secs(7 * 24 * 3600);
    /// The longest wait between attempts: a year.
    pub const MAX_BACKOFF: Millis = Millis::from_secs(366 * 24 * 3600);

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both ask for the same: all but where they came from.
    #[must_use]
    pub fn ask_the_same(&self, other: &Self) -> bool {
        let Self {
            unique_key,
            max_attempts,
            lease,
            backoff,
            trace: _,
        } = self;
        *unique_key == other.unique_key
            && *max_attempts == other.max_attempts
            && *lease == other.lease
            && *backoff == other.backoff
    }

    /// Checks every range.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(key) = &self.unique_key
            && (key.is_empty()
                || key.len() > Self::MAX_KEY_LEN
                || key.chars().any(char::is_control))
        {
            return Err(Refusal::invalid(
                "unique_key",
                "must be 1 to 256 bytes without control characters",
            ));
        }
        if self
            .max_attempts
            .is_some_and(|count| count == 0 || count > Self::MAX_ATTEMPTS)
        {
            return Err(Refusal::invalid("max_attempts", "must be 1 to 1000000"));
        }
        if let Some(lease) = self.lease {
            check_lease(lease)?;
        }
        self.backoff.map_or(Ok(()), Backoff::check)
    }
}

/// Checks a lease's length: 0.1 s to a week.
pub(crate) fn check_lease(lease: Millis) -> Result<(), Refusal> {
    if (Options::MIN_LEASE..=Options::MAX_LEASE).contains(&lease) {
        Ok(())
    } else {
        Err(Refusal::invalid(
            "lease",
            "must be 0.1 to 604800 seconds (a week)",
        ))
    }
}

/// Exponential backoff: `base`, twice that, four times that, … up to `max`, each with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failed attempt. Zero: no wait, ever.
    pub base: Millis,
    /// The longest wait.
    pub max: Millis,
}

impl Backoff {
    /// 10 s, doubling up to an hour.
    pub const DEFAULT: Self = Self {
        base: Millis::from_secs(10),
        max: Millis::from_secs(3600),
    };

    fn check(self) -> Result<(), Refusal> {
        if self.base > self.max || self.max > Options::MAX_BACKOFF {
            return Err(Refusal::invalid(
                "backoff",
                "base must be at most max, and max at most 31622400 seconds (a year)",
            ));
        }
        Ok(())
    }

    /// The wait after failed attempt number `attempt` (1 is the first), with "equal jitter": half of it is sure, and the
    /// other half is scaled by `random`, so that tasks that failed together do not come back together.
    /// Source: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    #[must_use]
    pub fn wait(self, attempt: u32, random: u64) -> Millis {
        let doubled = self.base.0.saturating_mul(
            1_u64
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u64::MAX),
        );
        let full = doubled.min(self.max.0);
        let half = full / 2;
        let spread = ((u128::from(full - half) * (u128::from(random) + 1)) >> 64) as u64;
        Millis(half + spread)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_maximum_and_jitter_takes_at_most_half() {
        let backoff = Backoff {
            base: Millis(1000),
            max: Millis(6000),
        };
        let full: Vec<u64> = (1..=5)
            .map(|attempt| backoff.wait(attempt, u64::MAX).0)
            .collect();
        assert_eq!(full, [1000, 2000, 4000, 6000, 6000]);
        let least: Vec<u64> = (1..=5).map(|attempt| backoff.wait(attempt, 0).0).collect();
        assert_eq!(least, [500, 1000, 2000, 3000, 3000]);
        assert_eq!(backoff.wait(u32::MAX, u64::MAX), Millis(6000));
    }

    #[test]
    fn no_base_is_no_wait() {
        assert_eq!(
            Backoff {
                base: Millis(0),
                max: Millis(9)
            }
            .wait(40, u64::MAX),
            Millis(0)
        );
    }

    #[test]
    fn options_out_of_range_name_their_field() {
        let field = |options: Options| match options.check() {
            Err(Refusal::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            field(Options {
                unique_key: Some("".into()),
                ..Options::default()
            }),
            "unique_key"
        );
        assert_eq!(
            field(Options {
                max_attempts: Some(0),
                ..Options::default()
            }),
            "max_attempts"
        );
        assert_eq!(
            field(Options {
                lease: Some(Millis(1)),
                ..Options::default()
            }),
            "lease"
        );
        let backoff = Some(Backoff {
            base: Millis(2),
            max: Millis(1),
        });
        assert_eq!(
            field(Options {
                backoff,
                ..Options::default()
            }),
            "backoff"
        );
    }
}
