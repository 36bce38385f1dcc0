//! The two clocks, read in one place.

use rustix::time::{ClockId, clock_gettime};

use crate::task::{Now, Tick, WallMillis};

/// What time it is.
#[must_use]
pub fn now() -> Now {
    let wall = clock_gettime(ClockId::Realtime);
    let boot = clock_gettime(ClockId::Boottime);
    Now {
        wall: WallMillis(
            wall.tv_sec
                .saturating_mul(1000)
                .saturating_add(wall.tv_nsec / 1_000_000),
        ),
        tick: Tick(
            (boot.tv_sec.max(0) as u64)
                .saturating_mul(1_000_000_000)
                .saturating_add(boot.tv_nsec.max(0) as u64),
        ),
    }
}
