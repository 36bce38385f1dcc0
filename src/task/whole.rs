//! Whole numbers as JSON has them: `345`, and `345.0` too, which JSON Schema and many a client's language hold for the same.

use std::{fmt, marker::PhantomData};

use serde::{Deserializer, de};

/// Reads a whole number; for `#[serde(deserialize_with)]`.
pub fn whole<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<i64> + Bounds,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Visitor(PhantomData))
}

/// Reads a whole number or null; for `#[serde(default, deserialize_with)]`.
pub fn whole_or_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64> + Bounds,
    D: Deserializer<'de>,
{
    struct OrNull<T>(PhantomData<T>);
    impl<'de, T: TryFrom<i64> + Bounds> de::Visitor<'de> for OrNull<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Visitor::<T>(PhantomData).expecting(f)
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            whole(inner).map(Some)
        }
    }
    deserializer.deserialize_option(OrNull(PhantomData))
}

/// The range of a type, for the text of an error.
pub trait Bounds {
    /// The least and the greatest value.
    const BOUNDS: (i64, i64);
}

impl Bounds for i32 {
    const BOUNDS: (i64, i64) = (Self::MIN as i64, Self::MAX as i64);
}

impl Bounds for u32 {
    const BOUNDS: (i64, i64) = (0, Self::MAX as i64);
}

impl Bounds for i64 {
    const BOUNDS: (i64, i64) = (Self::MIN, Self::MAX);
}

struct Visitor<T>(PhantomData<T>);

impl<T: TryFrom<i64> + Bounds> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match T::BOUNDS {
            (i64::MIN, _) => f.write_str("a whole number"),
            (least, most) => write!(f, "a whole number from {least} to {most}"),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        i64::try_from(value)
            .ok()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        // Both powers of two are exact as floating point numbers.
        let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
        (in_range && value.fract() == 0.0)
            .then_some(value as i64)
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(default, deserialize_with = "super::whole_or_null")]
        a: Option<i32>,
        #[serde(default, deserialize_with = "super::whole")]
        b: u32,
    }

    fn read(text: &str) -> Result<Numbers, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_nothing() {
        let numbers = |a, b| Ok(Numbers { a, b });
        assert_eq!(read(r#"{"a":-3.0,"b":4e2}"#), numbers(Some(-3), 400));
        assert_eq!(read(r#"{"a":null}"#), numbers(None, 0));
        assert_eq!(
            read(r#"{"a":-2147483648,"b":4294967295}"#),
            numbers(Some(i32::MIN), u32::MAX)
        );
    }

    #[test]
    fn what_is_no_whole_number_or_too_large_is_refused_with_the_range() {
        for text in [
            r#"{"a":1.5}"#,
            r#"{"a":"1"}"#,
            r#"{"a":true}"#,
            r#"{"a":2147483648}"#,
            r#"{"a":1e300}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":[1]}"#,
        ] {
            let error = read(text).unwrap_err();
            let range = "expected a whole number from -2147483648 to 2147483647";
            assert!(error.contains(range), "{text}: {error}");
        }
        assert!(read(r#"{"b":null}"#).is_err());
        assert!(read(r#"{"b":-1}"#).is_err());
    }
}
