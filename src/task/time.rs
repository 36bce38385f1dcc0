//! Points in time and lengths of time, each with its clock in its type.

use std::fmt;

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The length as the standard library has it.
    #[must_use]
    pub const fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Seconds, with a fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl fmt::Display for Millis {
    /// `60s` for whole seconds, `250ms` else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}s", self.0 / 1000)
        } else {
            write!(f, "{}ms", self.0)
        }
    }
}

/// A point on the boot clock (`CLOCK_BOOTTIME`), in nanoseconds since the machine booted. Leases and delays count on it: no
/// step of the wall clock moves it, and it goes on while the machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The point `length` later.
    #[must_use]
    pub const fn plus(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0.saturating_mul(1_000_000)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0) / 1_000_000)
    }
}

/// A point on the wall clock, in milliseconds since 1970-01-01T00:00:00Z. Exectimes are held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMillis(pub i64);

impl WallMillis {
    /// Seconds since 1970, with a fraction, as JSON shows it.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// What time it is, on both clocks: an argument of everything that depends on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The wall clock. May jump in either direction.
    pub wall: WallMillis,
    /// The boot clock. Never goes back.
    pub tick: Tick,
}

impl Now {
    /// What the wall clock will show at `tick`, as far as can be told now.
    #[must_use]
    pub const fn wall_at(self, tick: Tick) -> WallMillis {
        let ahead = tick.0 as i128 - self.tick.0 as i128;
        WallMillis(self.wall.0.saturating_add((ahead / 1_000_000) as i64))
    }
}
