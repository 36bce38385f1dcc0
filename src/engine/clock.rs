//! The two clocks, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::task::{Now, Tick, WallMillis};

/// What time it is.
#[must_use]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    Now {
        wall: wall(),
        tick: Tick(
            (boot.tv_sec.max(0) as u64)
                .saturating_mul(1_000_000_000)
                .saturating_add(boot.tv_nsec.max(0) as u64),
        ),
    }
}

/// Asked of the C library, and not of the kernel as the boot clock is: so libfaketime can set it for one process, as the
/// tests of clocks that jump do (`tests/abuse/clocks.rs`). The cost is the same.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that the others are sent to"
)]
fn wall() -> WallMillis {
    let millis = |since: std::time::Duration| i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    WallMillis(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        // A clock before 1970, as a machine with an empty battery may have.
        Err(before) => -millis(before.duration()),
    })
}
