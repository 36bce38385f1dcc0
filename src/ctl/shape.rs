//! [`Shape`]: for whom an answer is written: people, a program that reads JSON, or a script with a [`Template`] of its own.

use std::{collections::BTreeMap, io};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema,
    openapi::{RefOr, Schema},
};

use super::{console::Console, guess, table::escaped, when};

/// In which shape an answer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Aligned text.
    People,
    /// What the API answers.
    Json,
    /// A line for each task, queue, worker...
    Template(Template),
}

impl Shape {
    /// Shows `value` to a program, if a program reads; false: a person is still to be told.
    pub(super) fn tell(&self, value: &impl Serialize, console: &mut Console) -> io::Result<bool> {
        match self {
            Self::People => return Ok(false),
            Self::Json => console.json(value)?,
            Self::Template(template) => {
                let line = template.fill(value, console.terminal)?;
                console.line(&line)?;
            }
        }
        Ok(true)
    }
}

/// What `--format` was given: text with fields in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, form: Form },
}

/// How a field's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A text as it is, anything else as JSON.
    Plain,
    /// Always as JSON: a text in quotes, on one line.
    Json,
    /// Unix seconds as a time in the local zone.
    Time,
    /// Unix seconds as RFC 3339.
    Rfc3339,
}

impl Template {
    /// Reads `{id} {payload.name} {exectime:time}`; `{{` and `}}` are braces, `\t` and `\n` as in other templates.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' if rest.next_if_eq(&'{').is_some() => plain.push('{'),
                '}' if rest.next_if_eq(&'}').is_some() => plain.push('}'),
                '{' => {
                    let inner: String = rest.by_ref().take_while(|c| *c != '}').collect();
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(field(&inner)?);
                }
                '}' => return Err("a } without its {; write }} for the brace itself".to_owned()),
                '\\' => plain.push(match rest.next() {
                    Some('t') => '\t',
                    Some('n') => '\n',
                    Some('0') => '\0',
                    Some('\\') => '\\',
                    _ => return Err("after \\ comes t, n, 0 or \\".to_owned()),
                }),
                c => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// Refuses a field that none of `known` is, naming those that there are.
    pub(super) fn check(&self, known: &[String]) -> Result<(), String> {
        for part in &self.0 {
            if let Part::Field { path, .. } = part
                && let Some(name) = path.first()
                && !known.contains(name)
            {
                let meant = guess::nearest(name, known.iter().map(String::as_str))
                    .map_or_else(String::new, |near| format!("; did you mean {{{near}}}?"));
                return Err(format!(
                    "no field {{{name}}} here{meant} There are: {}",
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// The line for `value`. What is absent is empty; on a terminal, control characters in values are written out.
    pub(super) fn fill(&self, value: &impl Serialize, terminal: bool) -> io::Result<String> {
        let whole = serde_json::value::to_raw_value(value)?;
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { path, form } => {
                    let text = found(&whole, path)
                        .map_or_else(String::new, |value| written(&value, *form));
                    line.push_str(&if terminal { escaped(&text) } else { text });
                }
            }
        }
        Ok(line)
    }
}

fn field(inner: &str) -> Result<Part, String> {
    let (path, form) = inner.split_once(':').unwrap_or((inner, ""));
    let form = match form {
        "" => Form::Plain,
        "json" => Form::Json,
        "time" => Form::Time,
        "rfc3339" => Form::Rfc3339,
        other => {
            return Err(format!(
                "{{{inner}}}: after the colon comes json, time or rfc3339, not {other:?}"
            ));
        }
    };
    let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!("{{{inner}}} names no field; like this: {{id}}"));
    }
    Ok(Part::Field { path, form })
}

/// The value at `path`; read piece by piece, so that a payload's text stays as it was submitted.
fn found(value: &RawValue, path: &[String]) -> Option<Box<RawValue>> {
    let Some((name, rest)) = path.split_first() else {
        return Some(value.to_owned());
    };
    if let Ok(index) = name.parse::<usize>()
        && let Ok(values) = serde_json::from_str::<Vec<Box<RawValue>>>(value.get())
    {
        return found(values.get(index)?, rest);
    }
    let object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(value.get()).ok()?;
    found(object.get(name)?, rest)
}

fn written(value: &RawValue, form: Form) -> String {
    let text = value.get();
    let seconds = || text.parse::<f64>().ok();
    match form {
        Form::Json => text.to_owned(),
        _ if text == "null" => String::new(),
        // As soon as possible: there is no time to be shown.
        Form::Time | Form::Rfc3339 if text == "0" => String::new(),
        Form::Time => seconds().map_or_else(
            || text.to_owned(),
            |secs| when::show(secs, &TimeZone::system()),
        ),
        Form::Rfc3339 => seconds()
            .and_then(|secs| Timestamp::from_second(secs as i64).ok())
            .map_or_else(|| text.to_owned(), |at| at.to_string()),
        Form::Plain => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

/// The names of the fields of `T`, as the API's description has them.
pub(super) fn fields<T: PartialSchema>() -> Vec<String> {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api;

    fn filled(template: &str, value: &serde_json::Value) -> String {
        Template::parse(template)
            .unwrap()
            .fill(value, false)
            .unwrap()
    }

    #[test]
    fn fields_are_put_in_and_braces_stay() {
        let value = json!({"id": "a", "n": 7, "payload": {"to": ["ada", "bob"]}, "nothing": null});
        assert_eq!(filled("{id}\\t{n} {{x}}", &value), "a\t7 {x}");
        assert_eq!(filled("{payload}", &value), r#"{"to":["ada","bob"]}"#);
        assert_eq!(filled("{payload.to.1}", &value), "bob");
        assert_eq!(filled("{id:json}", &value), "\"a\"");
        assert_eq!(filled("<{nothing}{absent}{payload.x.y}>", &value), "<>");
        assert_eq!(filled("", &value), "");
    }

    #[test]
    fn times_are_written_for_programs() {
        let value = json!({"exectime": 1_795_551_048});
        assert_eq!(filled("{exectime:rfc3339}", &value), "2026-11-24T20:10:48Z");
        assert!(filled("{exectime:time}", &value).starts_with("2026-11-2"));
    }

    #[test]
    fn a_payload_keeps_its_text_and_drives_no_terminal() {
        let task = crate::ctl::tests::task_of(r#"{"b": 1.0,  "a":1e400}"#);
        let template = Template::parse("{payload}").unwrap();
        assert_eq!(
            template.fill(&task, false).unwrap(),
            r#"{"b": 1.0,  "a":1e400}"#
        );
        let task = crate::ctl::tests::task_of(r#""\u001b[2J""#);
        assert_eq!(template.fill(&task, false).unwrap(), "\u{1b}[2J");
        assert_eq!(template.fill(&task, true).unwrap(), "\\u{1b}[2J");
    }

    #[test]
    fn a_wrong_template_says_what_would_be_right() {
        for (text, wanted) in [
            ("{", "names no field"),
            ("}", "}}"),
            ("{id:x}", "json, time or rfc3339"),
            ("{a..b}", "names no field"),
            ("\\q", "after \\"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let known = fields::<api::Task>();
        let error = Template::parse("{payloda}")
            .unwrap()
            .check(&known)
            .unwrap_err();
        assert!(error.contains("did you mean {payload}?"), "{error}");
        assert!(error.contains("max_attempts"), "{error}");
        assert_eq!(
            Template::parse("{payload.x}").unwrap().check(&known),
            Ok(())
        );
    }
}
