//! [`Payload`], and [`PayloadLimits`] that it is held to.

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;

use super::Refusal;

/// A JSON value as the submitter wrote it, never parsed into a tree on its way through: any JSON text, kept byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<str>);

/// How large and how deep a payload or a result may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// The most bytes of its JSON text.
    pub max_payload: usize,
    /// How many arrays and objects may be in each other; at most [`PayloadLimits::MOST_DEPTH`].
    pub max_depth: usize,
}

impl PayloadLimits {
    /// The depth unless another is set. Most parsers, those of workers too, give up between 100 and 1000, some by a stack that
    /// overflows.
    pub const MAX_DEPTH: usize = 100;
    /// The deepest that may be set: our own parser gives up at 128, and the objects of the API are around a payload.
    pub const MOST_DEPTH: usize = 120;

    /// So many bytes, and the usual depth.
    #[must_use]
    pub const fn bytes(max_payload: usize) -> Self {
        Self {
            max_payload,
            max_depth: Self::MAX_DEPTH,
        }
    }

    /// Those of a file that the daemon wrote itself, of at most `bytes`: what was taken is kept, whatever was set since.
    #[must_use]
    pub const fn own(bytes: usize) -> Self {
        Self {
            max_payload: bytes,
            max_depth: Self::MOST_DEPTH,
        }
    }

    /// Holds the size of what is to be `field` against the limit.
    pub fn check_size(&self, field: &str, size: usize) -> Result<(), Refusal> {
        if size > self.max_payload {
            return Err(Refusal::TooLarge {
                field: field.to_owned(),
                size: size as u64,
                limit: self.max_payload as u64,
            });
        }
        Ok(())
    }

    /// Holds what is to be `field` against the limits.
    pub fn check(&self, field: &str, payload: &Payload) -> Result<(), Refusal> {
        self.check_size(field, payload.len())?;
        if payload.is_deeper_than(self.max_depth) {
            return Err(Refusal::TooDeep {
                field: field.to_owned(),
                limit: self.max_depth,
            });
        }
        Ok(())
    }
}

impl Payload {
    /// A payload that is a JSON string of this text (a dropped `.txt` file, a form's field).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        // A string always has a JSON form, so the fallback is never taken; it keeps this free of a panic.
        Self(
            serde_json::to_string(text)
                .unwrap_or_else(|_| "null".to_owned())
                .into(),
        )
    }

    /// The JSON text of `raw`, which `serde_json` has checked.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }

    /// Checks that `text` is one JSON value.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(Self::from_raw)
    }

    /// Nothing.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Takes text that is known to be JSON: it was checked before it was journalled.
    pub(super) fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The size of the JSON text in bytes: what limits are held against.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true for JSON: the shortest text has one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether more than `limit` arrays and objects are in each other.
    #[must_use]
    pub fn is_deeper_than(&self, limit: usize) -> bool {
        // Each level has two brackets, so a short text needs no look.
        if self.0.len() <= 2 * limit {
            return false;
        }
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for byte in self.0.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => {
                    depth += 1;
                    if depth > limit {
                        return true;
                    }
                }
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        false
    }

    /// The string, where the payload is a JSON string; else its JSON text. What the original's log and pages show.
    #[must_use]
    pub fn to_display(&self) -> String {
        serde_json::from_str::<String>(&self.0).unwrap_or_else(|_| self.0.to_string())
    }

    /// Whether two payloads are the same JSON value, however they are written (spaces, order of keys, escapes).
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        if self.0 == other.0 {
            return true;
        }
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        match (value(&self.0), value(&other.0)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    }
}

impl serde::Serialize for Payload {
    /// The JSON text as it is (`serde_json` only).
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self::from_raw(&raw))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}
