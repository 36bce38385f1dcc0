//! [`Pairs`]: names and values as a query string or a form's body has them.
//!
//! Knows `application/x-www-form-urlencoded` (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>), not what
//! the names mean.

use std::collections::BTreeSet;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::problem::{self, Problem};

/// Names and values, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads `name=value&name=value`, percent-encoded.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        text.split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The parameters of a query string. Only `known` names are taken, each at most once.
    pub(crate) fn of_query(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        Self::of_query_repeating(query, known, &[])
    }

    /// The same, but those in `repeatable` as often as one likes.
    pub(crate) fn of_query_repeating(
        query: Option<&str>,
        known: &[&str],
        repeatable: &[&str],
    ) -> Result<Self, Problem> {
        let pairs = Self::parse(query.unwrap_or_default())?;
        for (name, _) in &pairs.0 {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() {
                    "none is".to_owned()
                } else {
                    format!("known are {}", known.join(", "))
                };
                return Err(Problem::invalid(
                    name.clone(),
                    format!("not a query parameter that is known here; {known}"),
                ));
            }
        }
        pairs.once_each(repeatable)
    }

    /// The fields of a form, each at most once. Others than those that are looked at may be among them, as pages send them.
    pub(crate) fn of_form(text: &str) -> Result<Self, Problem> {
        Self::parse(text)?.once_each(&[])
    }

    /// Refuses what is given twice and not in `repeatable`: which of the two is meant is not known.
    fn once_each(self, repeatable: &[&str]) -> Result<Self, Problem> {
        let mut given = BTreeSet::new();
        for (name, _) in &self.0 {
            if !repeatable.contains(&name.as_str()) && !given.insert(name) {
                return Err(Problem::invalid(name.clone(), "given twice"));
            }
        }
        Ok(self)
    }

    /// The value of `name`, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|(one, value)| (one == name).then_some(value.as_str()))
    }

    /// All values of `name`, in their order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses what [`Pairs::filled`] would pass over or trim: a form sends such, a program has made a mistake.
    pub(crate) fn none_blank(&self) -> Result<(), Problem> {
        match self
            .0
            .iter()
            .find(|(_, value)| value.is_empty() || value.trim() != value)
        {
            None => Ok(()),
            Some((name, _)) => Err(Problem::invalid(
                name.clone(),
                "empty, or with space around it: give a value, or leave the parameter out",
            )),
        }
    }

    /// The value of `name`, if it was given and is not blank: a form sends what was left empty as nothing between.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name)
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }
}

/// That a request has no query string that asks for something, where none is looked at.
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Pairs::of_query(parts.uri.query(), &[]).map(|_| Self)
    }
}

fn decode(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match tail {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    bytes.push(hex(*high) << 4 | hex(*low));
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| {
        problem::MALFORMED_TEXT.problem(format!("{text} does not decode to UTF-8 text"))
    })
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// `text` as a value in a query string.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b',') {
            out.push(byte as char);
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(
                    char::from_digit(digit.into(), 16)
                        .unwrap_or('0')
                        .to_ascii_uppercase(),
                );
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_are_decoded_and_a_stray_percent_stays() {
        let pairs = Pairs::parse("a=x+y%20z&b=100%&c=%F0%9F%8C%8D&&d").unwrap();
        assert_eq!(pairs.get("a"), Some("x y z"));
        assert_eq!(pairs.get("b"), Some("100%"));
        assert_eq!(pairs.get("c"), Some("🌍"));
        assert_eq!(pairs.get("d"), Some(""));
        assert_eq!(pairs.filled("d"), None);
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "ready,-5,0,%&=+ é";
        assert_eq!(decode(&encode(text)).unwrap(), text);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert!(Pairs::parse("a=%ff").is_err());
    }
}
