//! [`Trace`]: where a task stands in a distributed trace, in the words of W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/>).
//!
//! A task carries what its submitter said, to whoever does it. Nothing here begins or ends a span.

use std::fmt;

use super::Refusal;

/// The most bytes of a `tracestate`. The recommendation asks to pass on at least 512.
const MOST_STATE: usize = 512;
/// The most members of a `tracestate`, by the recommendation.
const MOST_MEMBERS: usize = 32;
/// `version-traceid-parentid-flags`.
const LEN: usize = 55;

/// The trace that a task belongs to, and the span that submitted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    id: [u8; 16],
    parent: [u8; 8],
    flags: u8,
    state: Option<Box<str>>,
}

impl Trace {
    /// Reads a `traceparent`. One of a later version is read as far as it is known, as the recommendation wants it.
    ///
    /// # Errors
    ///
    /// Names the field `traceparent`.
    pub fn parse(parent: &str) -> Result<Self, Refusal> {
        parse_parent(parent).ok_or_else(|| {
            Refusal::invalid(
                "traceparent",
                "not VERSION-TRACEID-PARENTID-FLAGS: 2, 32, 16 and 2 hexadecimal digits, in lower case, ids not all zeros",
            )
        })
    }

    /// The same with a `tracestate`; an empty one is none.
    ///
    /// # Errors
    ///
    /// Names the field `tracestate`.
    pub fn with_state(mut self, state: &str) -> Result<Self, Refusal> {
        if state.len() > MOST_STATE || !is_state(state) {
            return Err(Refusal::invalid(
                "tracestate",
                "not a list of at most 32 KEY=VALUE, separated by commas, in at most 512 bytes",
            ));
        }
        let empty = state.split(',').all(|member| trim(member).is_empty());
        self.state = (!empty).then(|| state.into());
        Ok(self)
    }

    /// What two fields say together.
    ///
    /// # Errors
    ///
    /// Names the field that is wrong; also a state without a parent.
    pub fn of_fields(parent: Option<&str>, state: Option<&str>) -> Result<Option<Self>, Refusal> {
        match (parent, state) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Refusal::invalid("tracestate", "needs a traceparent")),
            (Some(parent), None) => Self::parse(parent).map(Some),
            (Some(parent), Some(state)) => Self::parse(parent)?.with_state(state).map(Some),
        }
    }

    /// The trace's id as logs have it: 32 hexadecimal digits.
    #[must_use]
    pub const fn id(&self) -> impl fmt::Display + use<> {
        Hex(u128::from_be_bytes(self.id))
    }

    /// The `traceparent`, in the version that is spoken here (00).
    #[must_use]
    pub fn parent(&self) -> String {
        let (id, parent) = (
            u128::from_be_bytes(self.id),
            u64::from_be_bytes(self.parent),
        );
        format!("00-{id:032x}-{parent:016x}-{:02x}", self.flags)
    }

    /// The `tracestate`, as it was given.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The ids and flags as bytes: trace, parent, flags.
    pub(super) fn to_bytes(&self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..24].copy_from_slice(&self.parent);
        bytes[24] = self.flags;
        bytes
    }

    /// Reads what [`Trace::to_bytes`] and [`Trace::state`] gave.
    pub(super) fn from_bytes(bytes: [u8; 25], state: Option<&str>) -> Option<Self> {
        let (ids, [flags]) = bytes.split_last_chunk::<1>()?;
        let (id, parent) = ids.split_first_chunk::<16>()?;
        let trace = known(*id, parent.try_into().ok()?, *flags)?;
        match state {
            None => Some(trace),
            Some(state) => trace
                .with_state(state)
                .ok()
                .filter(|trace| trace.state.is_some()),
        }
    }
}

struct Hex(u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn known(id: [u8; 16], parent: [u8; 8], flags: u8) -> Option<Trace> {
    (id != [0; 16] && parent != [0; 8]).then_some(Trace {
        id,
        parent,
        flags,
        state: None,
    })
}

fn parse_parent(text: &str) -> Option<Trace> {
    let (head, rest) = text.split_at_checked(LEN)?;
    let mut fields = head.split('-');
    let version: [u8; 1] = hex(fields.next()?)?;
    let id = hex(fields.next()?)?;
    let parent = hex(fields.next()?)?;
    let [flags] = hex(fields.next()?)?;
    let more = fields.next().is_some();
    // Version ff is none; a later version may have more fields behind those of this one.
    let whole = rest.is_empty() || (version != [0] && rest.starts_with('-'));
    if more || !whole || version == [0xff] {
        return None;
    }
    known(id, parent, flags)
}

/// `N` bytes as twice as many lower-case hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Space and tab may stand around members.
fn trim(member: &str) -> &str {
    member.trim_matches([' ', '\t'])
}

fn is_state(text: &str) -> bool {
    let mut keys = Vec::new();
    let all_good = text.split(',').map(trim).all(|member| {
        if member.is_empty() {
            return true;
        }
        let Some((key, value)) = member.split_once('=') else {
            return false;
        };
        let first = !keys.contains(&key);
        keys.push(key);
        first && is_key(key) && is_value(value)
    });
    all_good && keys.len() <= MOST_MEMBERS
}

/// `simple-key` or `tenant@system`: lower-case letters, digits and `_-*/`.
fn is_key(key: &str) -> bool {
    let is_part = |part: &str, longest: usize, digit_first: bool| {
        part.len() <= longest
            && part.bytes().enumerate().all(|(at, byte)| match byte {
                b'a'..=b'z' => true,
                b'0'..=b'9' => at > 0 || digit_first,
                b'_' | b'-' | b'*' | b'/' => at > 0,
                _ => false,
            })
            && !part.is_empty()
    };
    match key.split_once('@') {
        None => is_part(key, 256, true),
        Some((tenant, system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
    }
}

/// Printable ASCII without `,` and `=`; blanks inside, not at the end.
fn is_value(value: &str) -> bool {
    value.len() <= 256
        && !value.is_empty()
        && !value.ends_with(' ')
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        let trace = Trace::parse(PARENT).unwrap();
        assert_eq!(trace.parent(), PARENT);
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            Trace::from_bytes(trace.to_bytes(), None),
            Some(trace.clone())
        );
        let later = format!("cc{}-what-the-future-says", &PARENT[2..]);
        assert_eq!(Trace::parse(&later).unwrap(), trace);
    }

    #[test]
    fn what_is_no_parent_is_refused() {
        for text in [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-"),
            format!("{PARENT}0"),
            format!("cc{}.", &PARENT[2..]),
            format!("ff{}", &PARENT[2..]),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            "00-4bf92f3577b34da6-a3ce929d0e0e4736-00f067aa0ba902b7-1".to_owned(),
            "é".repeat(40),
        ] {
            let refusal = Trace::parse(&text).unwrap_err();
            assert!(refusal.to_string().starts_with("traceparent: "), "{text}");
        }
    }

    #[test]
    fn a_state_is_kept_as_it_came_and_held_to_the_recommendation() {
        let state = |text: &str| Trace::parse(PARENT).and_then(|trace| trace.with_state(text));
        let good = "rojo=00f067aa0ba902b7,\tcongo=t61rcWkgMzE , ,a@b= x";
        assert_eq!(state(good).unwrap().state(), Some(good));
        for empty in ["", " ", ",", " ,\t"] {
            assert_eq!(state(empty).unwrap().state(), None);
        }
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!("k{number}=1")).collect();
            members.join(",")
        };
        assert!(state(&members(32)).is_ok());
        for text in [
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1,a=2",
            "a=1=2",
            "a=\u{e9}",
            "a=1\n",
            "a@b@c=1",
            "a@1=1",
            &members(33),
            &format!("a={}", "x".repeat(257)),
        ] {
            let refusal = state(text).unwrap_err();
            assert!(refusal.to_string().starts_with("tracestate: "), "{text}");
        }
    }

    #[test]
    fn a_state_needs_a_parent() {
        assert!(Trace::of_fields(None, Some("a=1")).is_err());
        assert_eq!(Trace::of_fields(None, None).unwrap(), None);
        let both = Trace::of_fields(Some(PARENT), Some("a=1")).unwrap();
        assert_eq!(both.unwrap().state(), Some("a=1"));
    }
}
