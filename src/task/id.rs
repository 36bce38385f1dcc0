//! [`TaskId`], [`Token`], and the one source of new ids.

use std::fmt;

use uuid::Uuid;

use super::{Refusal, WallMillis};

/// A task's name for life: a UUID, the caller's own or one made by [`IdSource`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Uuid);

impl TaskId {
    /// The id with these bytes, most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The bytes, most significant first. Their order is the order of ids.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the hyphenated form, in either case. Other forms of a UUID are refused: one task has one spelling.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let hyphenated = text.len() == 36;
        match Uuid::try_parse(text) {
            Ok(uuid) if hyphenated => Ok(Self(uuid)),
            _ => Err(Refusal::invalid(
                "id",
                "not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            )),
        }
    }

    /// When the id was made, where it says so (UUIDv7).
    #[must_use]
    pub fn made_at(&self) -> Option<WallMillis> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let bytes = self.0.as_bytes();
        let millis = bytes[..6]
            .iter()
            .fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
        Some(WallMillis(millis))
    }
}

/// How the ids that are asked for begin, as they are written. They are a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    first: TaskId,
    last: TaskId,
}

impl IdPrefix {
    /// Reads the beginning of an id, one letter or more, in either case.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || {
            Refusal::invalid(
                "id_prefix",
                "not the beginning of a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            )
        };
        if text.is_empty() || text.len() > 36 {
            return Err(wrong());
        }
        let (mut value, mut rest) = (0, u128::BITS);
        for (at, letter) in text.chars().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if letter != '-' {
                    return Err(wrong());
                }
                continue;
            }
            let digit = letter.to_digit(16).ok_or_else(wrong)?;
            value = (value << 4) | u128::from(digit);
            rest -= 4;
        }
        let first = value << rest;
        Ok(Self {
            first: TaskId(Uuid::from_u128(first)),
            last: TaskId(Uuid::from_u128(first | ((1 << rest) - 1))),
        })
    }

    /// Whether `id` begins so.
    #[must_use]
    pub fn begins(self, id: TaskId) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// The first id that could begin so.
    #[must_use]
    pub const fn first(self) -> TaskId {
        self.first
    }

    /// The one id that begins so, where all of it was given.
    #[must_use]
    pub fn whole(self) -> Option<TaskId> {
        (self.first == self.last).then_some(self.first)
    }
}

impl fmt::Display for IdPrefix {
    /// What all these ids have in common, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first.to_string(), self.last.to_string());
        let alike = first.bytes().zip(last.bytes());
        f.write_str(&first[..alike.take_while(|(a, b)| a == b).count()])
    }
}

impl fmt::Display for TaskId {
    /// Lower case, hyphenated: 36 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes ids in strictly rising order, whatever the wall clock does: UUIDv7 (RFC 9562, section 5.7) with the method of
/// section 6.2 that keeps the last value and adds to it.
///
/// Submission order is id order because there is one source, and because a restart goes on from the last id made.
#[derive(Debug, Clone, Default)]
pub struct IdSource {
    last: u128,
}

/// The 74 bits that are not time, version or variant.
const RANDOM_BITS: u32 = 74;
/// How far the random part moves between ids of one millisecond: at most 2^40, so that ids can't be guessed one from the
/// other and a millisecond still holds 2^33 of them.
const STEP_BITS: u32 = 40;

impl IdSource {
    /// Never makes an id at or below `id` again.
    pub fn advance_past(&mut self, id: TaskId) {
        if id.made_at().is_some() {
            self.last = self.last.max(plain(id.0.as_u128()));
        }
    }

    /// The next id: of the time `wall`, or of the last id's time where the clock has gone back or stands still.
    pub fn make(&mut self, wall: WallMillis, random: u128) -> TaskId {
        let time = (wall.0.max(0) as u128) & ((1 << 48) - 1);
        // The top random bit stays clear, so that steps within a millisecond hardly ever carry into the time.
        let fresh = (time << RANDOM_BITS) | (random & ((1 << (RANDOM_BITS - 1)) - 1));
        self.last = if time > self.last >> RANDOM_BITS {
            fresh
        } else {
            self.last + 1 + (random & ((1 << STEP_BITS) - 1))
        };
        TaskId(Uuid::from_u128(dressed(self.last)))
    }

    /// The last id made, if any was.
    #[must_use]
    pub fn last(&self) -> Option<TaskId> {
        (self.last != 0).then(|| TaskId(Uuid::from_u128(dressed(self.last))))
    }
}

/// The 122 bits of a UUIDv7 that are not version or variant, in order.
const fn plain(uuid: u128) -> u128 {
    let time = uuid >> 80;
    let high = (uuid >> 64) & 0xfff;
    let low = uuid & ((1 << 62) - 1);
    (time << RANDOM_BITS) | (high << 62) | low
}

/// The UUIDv7 with these 122 bits.
const fn dressed(plain: u128) -> u128 {
    let time = plain >> RANDOM_BITS;
    let high = (plain >> 62) & 0xfff;
    let low = plain & ((1 << 62) - 1);
    (time << 80) | (7 << 76) | (high << 64) | (0b10 << 62) | low
}

/// What a worker shows to end or extend its lease: unguessable, new for each claim. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u128);

impl Token {
    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(value) if hex => Ok(Self(value)),
            _ => Err(Refusal::invalid(
                "token",
                "not the token of a claim (32 hexadecimal digits)",
            )),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Token {
    /// A token is a secret: logs and panics do not show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_strictly_even_when_the_clock_goes_back() {
        let mut source = IdSource::default();
        let mut last = None;
        for step in 0..10_000_i64 {
            let wall = WallMillis(1_700_000_000_000 - step * 7 + (step % 13) * 50);
            let id = source.make(wall, (u128::MAX / 3).wrapping_mul(step as u128 + 1));
            assert_eq!(id.0.get_version_num(), 7);
            assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
            assert!(last < Some(id), "{last:?} then {id:?}");
            last = Some(id);
        }
    }

    #[test]
    fn a_source_goes_on_from_the_last_id_of_before() {
        let mut before = IdSource::default();
        let old = before.make(WallMillis(1_800_000_000_000), 5);
        let mut after = IdSource::default();
        after.advance_past(old);
        assert!(after.make(WallMillis(1_700_000_000_000), 0) > old);
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let id = IdSource::default().make(WallMillis(1_764_000_000_123), 42);
        assert_eq!(id.made_at(), Some(WallMillis(1_764_000_000_123)));
        assert_eq!(
            TaskId::parse("00000000-0000-4000-8000-000000000000")
                .unwrap()
                .made_at(),
            None
        );
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = TaskId::parse("0198C0DE-0000-7000-8000-000000000001").unwrap();
        assert_eq!(id.to_string(), "0198c0de-0000-7000-8000-000000000001");
        for wrong in [
            "",
            "0198c0de000070008000000000000001",
            "{0198c0de-0000-7000-8000-000000000001}",
            "x198c0de-0000-7000-8000-000000000001",
        ] {
            assert!(TaskId::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_reads_what_it_writes_and_hides_in_debug() {
        let token = Token(0xabc);
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!(Token::parse("+0000000000000000000000000000abc").is_err());
    }

    #[test]
    fn a_prefix_begins_what_is_written_so() {
        let id = TaskId::parse("0198c0de-7c1e-7000-8000-00000000000f").unwrap();
        let text = id.to_string();
        for end in 1..=text.len() {
            let prefix = IdPrefix::parse(&text[..end].to_uppercase()).unwrap();
            assert!(prefix.begins(id), "{end}");
            assert_eq!(prefix.whole().is_some(), end == 36, "{end}");
            assert!(prefix.begins(prefix.first()));
            assert_eq!(IdPrefix::parse(&prefix.to_string()).unwrap(), prefix);
        }
        for other in ["1", "0198c0df", "0198c0de-7c1e-7000-8000-00000000000e"] {
            assert!(!IdPrefix::parse(other).unwrap().begins(id), "{other}");
        }
        let long = format!("{text}0");
        for wrong in ["", "-", "0198c0de7", "0198c0de_", "g", "é", " 0", &long] {
            assert!(IdPrefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
