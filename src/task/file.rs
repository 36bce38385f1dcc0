//! What stands in a task's file: written for people and for the original's tools, read with patience.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Backoff, ExecTime, FileName, NewTask, Options, Payload, PayloadLimits, Priority, QueueName,
    Refusal, TaskId, TaskObject, WallMillis,
    object::{Object, from_json},
};

/// The content of a task's file: a JSON object of the original's four fields and what else the task carries.
///
/// Default values are left out, except the four.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskFile {
    /// What is to be done.
    pub payload: Payload,
    /// How urgent.
    #[serde(serialize_with = "number")]
    pub priority: Priority,
    /// Not before.
    #[serde(serialize_with = "number")]
    pub exectime: ExecTime,
    /// Which task.
    #[serde(serialize_with = "text")]
    pub id: TaskId,
    /// What else was asked for.
    #[serde(flatten, serialize_with = "options")]
    pub options: Options,
    /// Attempts that counted, in the file of a dead or done task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Why the last attempt failed, in the file of a dead task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What the worker had to say, in the file of a done task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
    /// When it was completed, in seconds since 1970, in the file of a done task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<f64>,
}

fn number<S: serde::Serializer, T: std::fmt::Display>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // Both kinds of number here print as what they are.
    value
        .to_string()
        .parse::<i64>()
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

fn text<S: serde::Serializer, T: std::fmt::Display>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn options<S: serde::Serializer>(options: &Options, serializer: S) -> Result<S::Ok, S::Error> {
    OptionsObject::from(options).serialize(serializer)
}

/// [`Options`] as JSON has them: lengths in seconds.
#[derive(Debug, Serialize)]
struct OptionsObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<BackoffObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct BackoffObject {
    base: f64,
    max: f64,
}

impl<'a> From<&'a Options> for OptionsObject<'a> {
    fn from(options: &'a Options) -> Self {
        let backoff = |backoff: Backoff| BackoffObject {
            base: backoff.base.as_secs_f64(),
            max: backoff.max.as_secs_f64(),
        };
        Self {
            unique_key: options.unique_key.as_deref(),
            max_attempts: options.max_attempts,
            lease: options.lease.map(super::Millis::as_secs_f64),
            backoff: options.backoff.map(backoff),
            traceparent: options.trace.as_ref().map(|trace| trace.parent()),
            tracestate: options.trace.as_ref().and_then(|trace| trace.state()),
        }
    }
}

impl TaskFile {
    /// The text of the file, one line.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Reads the content of a dropped `.json` file. `name` is its name's meaning where that is canonical; it speaks where the
/// object is silent, and its folder's queue where the object names none.
///
/// A file whose name is canonical is read with patience (fields that are not known are passed over, numbers may stand in
/// strings), because the original and later versions write such files; under any other name a field that is not known is
/// refused like in a request, because it is most likely a slip.
pub fn read_dropped(
    bytes: &[u8],
    folder: &QueueName,
    name: Option<FileName>,
    wall: WallMillis,
    limits: PayloadLimits,
) -> Result<NewTask, Refusal> {
    let text = utf8(bytes)?;
    let Some(name) = name else {
        let object = TaskObject::parse(text)?;
        let names_queue = object.names_queue();
        let mut task = object.check(wall, limits)?;
        if !names_queue {
            task.queue = folder.clone();
        }
        return Ok(task);
    };
    let known = patient(text)?;
    let object = TaskObject::parse(&known)?;
    let (priority, exectime, id) = object.names();
    let names_queue = object.names_queue();
    let mut task = object.check(wall, limits)?;
    if !priority {
        task.priority = name.priority;
    }
    if !exectime {
        task.exectime = name.exectime;
    }
    if !id {
        task.id = Some(name.id);
    }
    if !names_queue {
        task.queue = folder.clone();
    }
    Ok(task)
}

/// Reads the content of a dropped `.txt` file: the whole text is the payload.
pub fn read_dropped_text(
    bytes: &[u8],
    folder: &QueueName,
    limits: PayloadLimits,
) -> Result<NewTask, Refusal> {
    let payload = Payload::from_text(utf8(bytes)?);
    limits.check("payload", &payload)?;
    Ok(NewTask {
        queue: folder.clone(),
        ..NewTask::of(payload)
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    // A byte order mark is what some editors put first; JSON readers may pass over it (RFC 8259, section 8.1).
    let text = str::from_utf8(bytes).map_err(|error| {
        Refusal::invalid(
            "file",
            format!(
                "not UTF-8 (byte {} is the first that is wrong)",
                error.valid_up_to()
            ),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Only the fields that a submitted task has, numbers taken out of strings.
fn patient(text: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        payload: &'a RawValue,
        #[serde(borrow, default)]
        queue: Option<&'a RawValue>,
        #[serde(borrow, default)]
        priority: Option<&'a RawValue>,
        #[serde(borrow, default)]
        exectime: Option<&'a RawValue>,
        #[serde(borrow, default)]
        delay: Option<&'a RawValue>,
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(borrow, default)]
        unique_key: Option<&'a RawValue>,
        #[serde(borrow, default)]
        max_attempts: Option<&'a RawValue>,
        #[serde(borrow, default)]
        lease: Option<&'a RawValue>,
        #[serde(borrow, default)]
        backoff: Option<&'a RawValue>,
        #[serde(borrow, default)]
        traceparent: Option<&'a RawValue>,
        #[serde(borrow, default)]
        tracestate: Option<&'a RawValue>,
    }
    let Object(known): Object<Known<'_>> = from_json(text)?;
    let fields = [
        ("payload", Some(known.payload)),
        ("queue", known.queue),
        ("priority", known.priority),
        ("exectime", known.exectime),
        ("delay", known.delay),
        ("id", known.id),
        ("unique_key", known.unique_key),
        ("max_attempts", known.max_attempts),
        ("lease", known.lease),
        ("backoff", known.backoff),
        ("traceparent", known.traceparent),
        ("tracestate", known.tracestate),
    ];
    let mut out = String::with_capacity(text.len());
    for (field, value) in fields {
        let Some(value) = value else { continue };
        let value = match field {
            "priority" | "exectime" | "max_attempts" => whole(value.get()),
            _ => value.get().to_owned(),
        };
        out.push(if out.is_empty() { '{' } else { ',' });
        out.extend(["\"", field, "\":", &value]);
    }
    out.push('}');
    Ok(out)
}

/// `"5"`, `5.0` and `5` all as `5`; anything else as it is, for the strict reader to refuse.
fn whole(value: &str) -> String {
    let bare = value.trim_matches('"').trim();
    if bare.parse::<i64>().is_ok() {
        return bare.to_owned();
    }
    match bare.parse::<f64>() {
        Ok(number) if number.is_finite() && number.abs() < 1e15 => {
            (number.floor() as i64).to_string()
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Millis, Trace};

    const NAME: &str = "2026-11-24T20:10:48_00000005_b3f0c0de-1111-4222-8333-444455556666.json";

    fn named(text: &str) -> Result<NewTask, Refusal> {
        read_dropped(
            text.as_bytes(),
            &QueueName::default(),
            FileName::parse(NAME),
            WallMillis(0),
            PayloadLimits::bytes(1000),
        )
    }

    fn plain(text: &str) -> Result<NewTask, Refusal> {
        read_dropped(
            text.as_bytes(),
            &QueueName::parse("emails").unwrap(),
            None,
            WallMillis(0),
            PayloadLimits::bytes(1000),
        )
    }

    #[test]
    fn a_file_holds_the_originals_fields_and_only_what_differs() {
        let name = FileName::parse(NAME).unwrap();
        let mut file = TaskFile {
            payload: Payload::from_json(r#"{"a":1}"#).unwrap(),
            priority: name.priority,
            exectime: name.exectime,
            id: name.id,
            options: Options::default(),
            attempts: None,
            last_error: None,
            result: None,
            completed_at: None,
        };
        let text = |file: &TaskFile| String::from_utf8(file.to_json().unwrap()).unwrap();
        assert_eq!(
            text(&file),
            "{\"payload\":{\"a\":1},\"priority\":5,\"exectime\":1795551048,\"id\":\"b3f0c0de-1111-4222-8333-444455556666\"}\n"
        );
        file.options = Options {
            lease: Some(Millis(1500)),
            unique_key: Some("k".into()),
            trace: Some(Box::new(
                Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
                    .and_then(|trace| trace.with_state("a=1"))
                    .unwrap(),
            )),
            ..Options::default()
        };
        assert!(
            text(&file).ends_with(
                ",\"unique_key\":\"k\",\"lease\":1.5,\"traceparent\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\",\"tracestate\":\"a=1\"}\n"
            ),
            "{}",
            text(&file)
        );
        let back = named(&text(&file)).unwrap();
        assert_eq!((back.options, back.id), (file.options, Some(name.id)));
    }

    #[test]
    fn a_canonical_name_speaks_where_the_object_is_silent() {
        let name = FileName::parse(NAME).unwrap();
        let task = named(r#"{"payload":"x"}"#).unwrap();
        assert_eq!(
            (task.priority, task.exectime, task.id),
            (name.priority, name.exectime, Some(name.id))
        );
        let task =
            named(r#"{"payload":"x","priority":"7","exectime":9.0,"attempts":3,"comment":"?"}"#)
                .unwrap();
        assert_eq!((task.priority.get(), task.exectime.get()), (7, 9));
    }

    #[test]
    fn under_another_name_a_slip_is_refused_and_the_folder_is_the_queue() {
        assert_eq!(
            plain("\u{feff}{\"payload\":1}").unwrap().queue.as_str(),
            "emails"
        );
        assert_eq!(
            plain(r#"{"payload":1,"queue":"other"}"#)
                .unwrap()
                .queue
                .as_str(),
            "other"
        );
        assert!(
            matches!(plain(r#"{"payload":1,"prioritty":2}"#), Err(Refusal::Invalid { field, .. }) if field == "prioritty")
        );
        assert!(matches!(
            plain("nonsense"),
            Err(Refusal::Malformed { line: 1, .. })
        ));
    }

    #[test]
    fn a_text_file_is_a_payload_as_it_is() {
        let queue = QueueName::default();
        let task =
            read_dropped_text(b"two\nlines \"quoted\"", &queue, PayloadLimits::bytes(100)).unwrap();
        assert_eq!(task.payload.as_json(), r#""two\nlines \"quoted\"""#);
        assert!(matches!(
            read_dropped_text(b"\xff", &queue, PayloadLimits::bytes(100)),
            Err(Refusal::Invalid { .. })
        ));
        assert!(matches!(
            read_dropped_text(&[b'x'; 200], &queue, PayloadLimits::bytes(100)),
            Err(Refusal::TooLarge { .. })
        ));
    }
}
