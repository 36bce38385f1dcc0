//! [`Reader`]: takes settings out of a layer one by one, checks each against its range, and keeps what it found for
//! `workqueuectl config`.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

use super::{
    ConfigError, Origin,
    layer::{Layer, Value},
    size,
};
use crate::{
    api,
    task::{Millis, shown_text},
};

pub(super) struct Reader {
    layer: Layer,
    shown: Vec<api::Setting>,
}

/// A value and where it came from.
pub(super) type Found<T> = (T, Origin);

impl Reader {
    pub(super) const fn new(layer: Layer) -> Self {
        Self {
            layer,
            shown: Vec::new(),
        }
    }

    /// All that was read, by key.
    pub(super) fn finish(mut self) -> Vec<api::Setting> {
        self.shown.sort_by(|a, b| a.key.cmp(&b.key));
        self.shown
    }

    /// Text that `check` accepts.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: Found<String>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Found<T>, ConfigError> {
        let (text, origin) = match self.layer.take(key) {
            Some((Value::Text(text), origin)) => (text, origin),
            Some((_, origin)) => return Err(invalid(key, origin, "must be text")),
            None => default,
        };
        let value = check(&text).map_err(|reason| invalid(key, origin.clone(), reason))?;
        self.show(key, &text, &origin);
        Ok((value, origin))
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, ConfigError> {
        let (on, origin) = match self.layer.take(key) {
            Some((Value::Bool(on), origin)) => (on, origin),
            Some((_, origin)) => return Err(invalid(key, origin, "must be true or false")),
            None => (false, Origin::Default),
        };
        self.show(key, &on, &origin);
        Ok(on)
    }

    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<String>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Found<Vec<T>>, ConfigError> {
        let (texts, origin) = match self.layer.take(key) {
            Some((Value::List(texts), origin)) => (texts, origin),
            Some((_, origin)) => return Err(invalid(key, origin, "must be a list")),
            None => (default, Origin::Default),
        };
        // `none` is how a flag or a variable says `[]`.
        let texts = if texts == ["none"] { Vec::new() } else { texts };
        let values = texts
            .iter()
            .map(|text| check(text).map_err(|reason| invalid(key, origin.clone(), reason)))
            .collect::<Result<_, _>>()?;
        self.show(
            key,
            &if texts.is_empty() {
                "none".to_owned()
            } else {
                texts.join(", ")
            },
            &origin,
        );
        Ok((values, origin))
    }

    pub(super) fn length(
        &mut self,
        key: &'static str,
        default: Millis,
        range: RangeInclusive<Millis>,
    ) -> Result<Found<Millis>, ConfigError> {
        let (value, origin) = match self.layer.take(key) {
            None => (default, Origin::Default),
            Some((Value::Text(text), origin)) => match Millis::parse(&text) {
                None => {
                    let reason = format!(
                        "{text:?} is no length of time; write it like \"90s\" or \"1m30s\""
                    );
                    return Err(invalid(key, origin, reason));
                }
                Some(value) => {
                    within(key, &origin, &format!("{text:?}"), value, &range)?;
                    (value, origin)
                }
            },
            Some((_, origin)) => return Err(invalid(key, origin, "must be text with a unit")),
        };
        self.show(key, &value, &origin);
        Ok((value, origin))
    }

    /// A length of which zero means never, whatever the range says.
    pub(super) fn length_or_never(
        &mut self,
        key: &'static str,
        default: Millis,
        range: RangeInclusive<Millis>,
    ) -> Result<Millis, ConfigError> {
        let zero = matches!(self.layer.peek(key), Some(Value::Text(text)) if Millis::parse(text) == Some(Millis(0)));
        let range = if zero {
            Millis(0)..=*range.end()
        } else {
            range
        };
        Ok(self.length(key, default, range)?.0)
    }

    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Found<u64>, ConfigError> {
        let (bytes, origin) = match self.layer.take(key) {
            None => (default, Origin::Default),
            Some((value, origin)) => {
                let (bytes, text) = match value {
                    Value::Integer(number) => (u64::try_from(number).ok(), number.to_string()),
                    Value::Text(text) => (size::parse(&text), format!("{text:?}")),
                    Value::Bool(_) | Value::List(_) => (None, "this".to_owned()),
                };
                let Some(bytes) = bytes else {
                    let reason = format!("{text} is no size; write bytes, or a unit like \"1MiB\"");
                    return Err(invalid(key, origin, reason));
                };
                if !range.contains(&bytes) {
                    let (side, limit) = beyond(bytes, &range);
                    let reason = format!("{text} is {side} than {}", size::show(limit));
                    return Err(invalid(key, origin, reason));
                }
                (bytes, origin)
            }
        };
        self.show(key, &size::show(bytes), &origin);
        Ok((bytes, origin))
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let (number, origin) = match self.layer.take(key) {
            None => (default, Origin::Default),
            Some((Value::Integer(number), origin)) => {
                let range = i128::from(*range.start())..=i128::from(*range.end());
                within(key, &origin, &number.to_string(), number, &range)?;
                (number as u64, origin)
            }
            Some((_, origin)) => return Err(invalid(key, origin, "must be a whole number")),
        };
        self.show(key, &number, &origin);
        Ok(number)
    }

    fn show(&mut self, key: &str, value: &dyn fmt::Display, origin: &Origin) {
        self.shown.push(api::Setting {
            key: key.to_owned(),
            value: shown_text(&value.to_string()),
            source: origin.to_string(),
            in_effect: None,
        });
    }
}

/// A setting that can't be used.
pub(super) fn invalid(key: &'static str, origin: Origin, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        origin,
        key,
        reason: shown_text(&reason.into()),
    }
}

fn within<T: Ord + Copy + fmt::Display>(
    key: &'static str,
    origin: &Origin,
    text: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (side, limit) = beyond(value, range);
    Err(invalid(
        key,
        origin.clone(),
        format!("{text} is {side} than {limit}"),
    ))
}

fn beyond<T: Ord + Copy>(value: T, range: &RangeInclusive<T>) -> (&'static str, T) {
    if value < *range.start() {
        ("less", *range.start())
    } else {
        ("more", *range.end())
    }
}

impl Reader {
    /// An absolute path; `default` is asked only when none was said.
    pub(super) fn path_or(
        &mut self,
        key: &'static str,
        default: impl FnOnce() -> Result<Found<PathBuf>, ConfigError>,
    ) -> Result<Found<PathBuf>, ConfigError> {
        if self.layer.peek(key).is_none() {
            let (path, origin) = default()?;
            self.show(key, &path.display(), &origin);
            return Ok((path, origin));
        }
        let unused = (String::new(), Origin::Default);
        let (path, origin) = self.text(key, unused, |text| Ok(PathBuf::from(text)))?;
        if path.as_os_str().is_empty() {
            return Err(invalid(key, origin, "must not be empty"));
        }
        // A path in a file is the same wherever the daemon is started; one on the command line is meant from here.
        match (&origin, path.is_relative()) {
            (Origin::File { .. }, true) => Err(invalid(
                key,
                origin,
                format!("{} must begin with /", path.display()),
            )),
            (_, true) => match std::path::absolute(&path) {
                Ok(path) => Ok((path, origin)),
                Err(cause) => Err(invalid(key, origin, cause.to_string())),
            },
            (_, false) => Ok((path, origin)),
        }
    }

    /// Text with a fixed default; where it came from does not matter afterwards.
    pub(super) fn word<T>(
        &mut self,
        key: &'static str,
        default: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let default = (default.to_owned(), Origin::Default);
        Ok(self.text(key, default, check)?.0)
    }
}
