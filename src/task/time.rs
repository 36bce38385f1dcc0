//! Points in time and lengths of time, each with its clock in its type.

use std::fmt;

use super::Refusal;

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

    /// Reads a length as settings have it: whole numbers with a unit, `ms`, `s`, `m`, `h` or `d`, one or more of them
    /// without a space (`250ms`, `60s`, `1m30s`). `0` needs no unit. The error says what would be right.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text == "0" {
            return Ok(Self(0));
        }
        let wrong = || {
            Refusal::invalid(
                "length",
                format!(
                    "\"{text}\" is not a length of time like \"250ms\", \"60s\", \"1m30s\", \"2h\" or \"7d\""
                ),
            )
        };
        let (mut rest, mut total) = (text, 0_u64);
        while !rest.is_empty() || text.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, tail) = tail.split_at(letters);
            let unit_ms = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(unit_ms))
                .and_then(|part| total.checked_add(part))
                .ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Self(total))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_their_units() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("60s", 60_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1m30s", 90_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            assert_eq!(Millis::parse(text), Ok(Millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in [
            "",
            "60",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1m 30s",
            "1y",
            "1S",
            "99999999999999999999s",
            "9999999999999999999d",
            "é",
        ] {
            let error = Millis::parse(text).expect_err(text).to_string();
            assert!(error.contains("is not a length of time like"), "{error}");
        }
    }

    #[test]
    fn a_length_that_is_shown_can_be_read() {
        for length in [Millis(0), Millis(250), Millis(60_000), Millis(90_001)] {
            assert_eq!(Millis::parse(&length.to_string()), Ok(length));
        }
    }
}
