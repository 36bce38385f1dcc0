//! [`ExecTime`].

use std::fmt;

use jiff::{SignedDuration, civil::DateTime};

use super::{Millis, Refusal, WallMillis};

/// Where Unix time begins. Civil arithmetic, not `jiff::Timestamp`, whose range ends a day before ours.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The time before which a task is never handed out: whole Unix seconds on the wall clock. 0 means as soon as possible.
///
/// The range is that of four-digit years, 0001-01-01T00:00:00 to 9999-12-31T23:59:59 UTC, because the time stands in file
/// names with a year of four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ExecTime(i64);

impl ExecTime {
    /// As soon as possible.
    pub const ASAP: Self = Self(0);
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800);
    /// 9999-12-31T23:59:59Z.
    pub const MAX: Self = Self(253_402_300_799);

    /// Checks the range.
    pub fn new(secs: i64) -> Result<Self, Refusal> {
        if (Self::MIN.0..=Self::MAX.0).contains(&secs) {
            Ok(Self(secs))
        } else {
            Err(Refusal::invalid(
                "exectime",
                format!(
                    "{secs} is outside {} to {} (the years 1 to 9999)",
                    Self::MIN.0,
                    Self::MAX.0
                ),
            ))
        }
    }

    /// Unix seconds.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The first whole second that is `delay` or more after `wall`; never before it, so that a delay is never cut short.
    pub fn after(wall: WallMillis, delay: Millis) -> Result<Self, Refusal> {
        let millis = i128::from(wall.0) + i128::from(delay.0);
        let secs = millis.div_euclid(1000) + i128::from(millis.rem_euclid(1000) != 0);
        i64::try_from(secs).map_or_else(
            |_| Err(Refusal::invalid("delay", "ends after the year 9999")),
            |secs| {
                Self::new(secs).map_err(|_| Refusal::invalid("delay", "ends after the year 9999"))
            },
        )
    }

    /// Whether a task with this exectime may be handed out at `wall`.
    #[must_use]
    pub const fn is_due(self, wall: WallMillis) -> bool {
        self.0.saturating_mul(1000) <= wall.0
    }

    /// The point on the wall clock.
    #[must_use]
    pub const fn as_wall(self) -> WallMillis {
        WallMillis(self.0.saturating_mul(1000))
    }

    /// `%Y-%m-%dT%H:%M:%S` in UTC, as file names have it: always 19 characters.
    #[must_use]
    pub fn to_civil(self) -> String {
        let civil = EPOCH.saturating_add(SignedDuration::from_secs(self.0));
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        )
    }

    /// Reads what [`ExecTime::to_civil`] writes; `None` for anything else.
    #[must_use]
    pub fn from_civil(text: &str) -> Option<Self> {
        let shape = b"dddd-dd-ddTdd:dd:dd";
        let fits = text.len() == shape.len()
            && text.bytes().zip(shape).all(|(byte, want)| {
                if *want == b'd' {
                    byte.is_ascii_digit()
                } else {
                    byte == *want
                }
            });
        if !fits {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
        let small = |from: usize| text[from..from + 2].parse::<i8>().ok();
        let civil = DateTime::new(
            number(0, 4)?,
            small(5)?,
            small(8)?,
            small(11)?,
            small(14)?,
            small(17)?,
            0,
        )
        .ok()?;
        let secs = civil.duration_since(EPOCH).as_secs();
        Self::new(secs).ok()
    }
}

impl fmt::Display for ExecTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
