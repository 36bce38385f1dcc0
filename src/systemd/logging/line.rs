//! One event as one line: fields of the journal, text for people, or JSON.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::Format;
use crate::systemd::catalog::Entry;

/// The longest value of a field, in bytes: the journal's socket takes some 200 KiB at once, and nobody reads more of a line.
const LONGEST: usize = 16 << 10;

/// What an event carries: its message, and its other fields in their order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number or a truth: in JSON without quotes.
    Plain(String),
}

impl Value {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Plain(text) => text,
        }
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            value.as_str().clone_into(&mut self.message);
        } else {
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(cut(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(cut(value.to_owned())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Plain(value.to_string()));
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// The event as it is written.
pub(super) fn make(event: &Event<'_>, format: Format, colour: bool) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let meta = event.metadata();
    written(*meta.level(), meta.target(), &fields, format, colour)
}

/// The line that tells of `count` that are missing.
pub(super) fn missing(entry: Entry, count: u64, format: Format, colour: bool) -> Vec<u8> {
    let fields = Fields {
        message: entry.line.to_owned(),
        others: vec![
            ("message_id", Value::Text(entry.id.to_owned())),
            ("count", Value::Plain(count.to_string())),
        ],
    };
    written(Level::WARN, module_path!(), &fields, format, colour)
}

fn written(level: Level, target: &str, fields: &Fields, format: Format, colour: bool) -> Vec<u8> {
    match format {
        Format::Journal => journal(level, target, fields),
        Format::Json => json(&now(), level, target, fields),
        Format::Text | Format::Auto => text(&now(), level, fields, colour),
    }
}

/// The wall clock, as RFC 3339 has it, in microseconds.
fn now() -> String {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    jiff::Timestamp::new(time.tv_sec, time.tv_nsec as i32)
        .map(|stamp| format!("{stamp:.6}"))
        .unwrap_or_default()
}

/// `message key=value …`, without what only machines read.
fn sentence(fields: &Fields) -> String {
    let mut line = fields.message.clone();
    for (name, value) in &fields.others {
        if *name == "message_id" || value.as_str().is_empty() {
            continue;
        }
        let text = value.as_str();
        let written = if matches!(value, Value::Plain(_)) || is_plain(text) {
            write!(line, " {name}={text}")
        } else {
            write!(line, " {name}={text:?}")
        };
        // Writing to a string cannot fail.
        debug_assert!(written.is_ok());
    }
    line
}

/// Whether a value can stand in a line as it is: none of it ends the value or the line, or does anything to a terminal.
fn is_plain(text: &str) -> bool {
    let is_harmless = |letter: char| match letter {
        ' ' | '"' | '=' => false,
        // What is not to be seen is written out by it: controls, marks of direction, separators of lines.
        _ => letter.is_ascii_graphic() || letter.escape_debug().len() == 1,
    };
    text.chars().all(is_harmless)
}

fn text(now: &str, level: Level, fields: &Fields, colour: bool) -> Vec<u8> {
    let sentence = sentence(fields);
    let line = if colour {
        let paint = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        format!("\x1b[2m{now}\x1b[0m \x1b[{paint}m{level:>5}\x1b[0m {sentence}\n")
    } else {
        format!("{now} {level:>5} {sentence}\n")
    };
    line.into_bytes()
}

fn json(now: &str, level: Level, target: &str, fields: &Fields) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    let mut set = |name: &str, value: serde_json::Value| object.insert(name.to_owned(), value);
    for (name, value) in &fields.others {
        let value = match value {
            Value::Text(text) => text.as_str().into(),
            Value::Plain(text) => {
                serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())
            }
        };
        set(name, value);
    }
    set("time", now.into());
    set("level", level.as_str().to_ascii_lowercase().into());
    set("target", target.into());
    set("message", fields.message.as_str().into());
    let mut line = serde_json::Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The journal's own protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
fn journal(level: Level, target: &str, fields: &Fields) -> Vec<u8> {
    let priority = match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut datagram = Vec::with_capacity(512);
    put(&mut datagram, "MESSAGE", &sentence(fields));
    put(&mut datagram, "PRIORITY", priority);
    put(&mut datagram, "TARGET", target);
    for (name, value) in &fields.others {
        if !value.as_str().is_empty() {
            put(&mut datagram, &name.to_ascii_uppercase(), value.as_str());
        }
    }
    datagram
}

/// One field. A value with a line's end is told by its length.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "an attempt failed".to_owned(),
            others: vec![
                ("message_id", Value::Text("0123".to_owned())),
                ("task_id", Value::Text("7".to_owned())),
                ("attempt", Value::Plain("2".to_owned())),
                ("worker", Value::Text(String::new())),
                ("error", Value::Text("two\nlines".to_owned())),
            ],
        }
    }

    #[test]
    fn people_read_a_sentence_with_colours_only_where_they_are_wanted() {
        let plain = String::from_utf8(text("NOW", Level::WARN, &fields(), false)).unwrap();
        assert_eq!(
            plain,
            "NOW  WARN an attempt failed task_id=7 attempt=2 error=\"two\\nlines\"\n"
        );
        let colourful = String::from_utf8(text("NOW", Level::WARN, &fields(), true)).unwrap();
        assert!(colourful.contains("\x1b[33m WARN\x1b[0m"), "{colourful:?}");
    }

    #[test]
    fn what_would_do_something_to_a_terminal_is_written_out() {
        for (value, shown) in [
            ("it's\\é", "it's\\é"),
            ("\u{1b}]0;x\u{7}", "\"\\u{1b}]0;x\\u{7}\""),
            ("a\rb", "\"a\\rb\""),
            ("/a\u{9b}2J", "\"/a\\u{9b}2J\""),
            ("a\u{202e}b", "\"a\\u{202e}b\""),
            ("a\u{2028}b", "\"a\\u{2028}b\""),
            ("", ""),
        ] {
            let mut fields = fields();
            fields.others = vec![("error", Value::Text(value.to_owned()))];
            let line = String::from_utf8(text("NOW", Level::WARN, &fields, false)).unwrap();
            let shown = if shown.is_empty() {
                String::new()
            } else {
                format!(" error={shown}")
            };
            assert_eq!(line, format!("NOW  WARN an attempt failed{shown}\n"));
        }
    }

    #[test]
    fn json_has_numbers_as_numbers_and_is_one_line() {
        let line = String::from_utf8(json("NOW", Level::INFO, "t", &fields())).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["attempt"], &value["level"]),
            (&2.into(), &"info".into())
        );
        assert_eq!(value["error"], "two\nlines");
    }

    #[test]
    fn the_journal_gets_each_field_also_one_of_several_lines() {
        let bytes = journal(Level::ERROR, "workqueue", &fields());
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("MESSAGE=an attempt failed task_id=7"),
            "{text}"
        );
        assert!(
            text.contains("\nPRIORITY=3\n") && text.contains("\nMESSAGE_ID=0123\n"),
            "{text}"
        );
        assert!(
            text.contains("\nERROR\n\u{9}\0\0\0\0\0\0\0two\nlines\n"),
            "{text:?}"
        );
        assert!(!text.contains("WORKER"), "{text}");
    }

    #[test]
    fn a_value_without_end_is_cut_at_a_letter() {
        let long = cut("ä".repeat(LONGEST));
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with('…'));
    }
}
