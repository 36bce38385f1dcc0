//! [`TaskObject`]: a task as its submitter writes it, in a request's body or in a dropped file.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{
    Backoff, ExecTime, Millis, Options, Past, Payload, PayloadLimits, Priority, QueueName, Refusal,
    TaskId, Trace, WallMillis, shown::shown_text, whole::whole_or_null,
};

/// A task as its submitter writes it: only `payload` is required, and a field that is not listed here is refused by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskObject<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
    queue: Option<String>,
    #[serde(default, deserialize_with = "whole_or_null")]
    priority: Option<i32>,
    #[serde(default, deserialize_with = "whole_or_null")]
    exectime: Option<i64>,
    delay: Option<f64>,
    id: Option<String>,
    unique_key: Option<String>,
    #[serde(default, deserialize_with = "whole_or_null")]
    max_attempts: Option<u32>,
    lease: Option<f64>,
    #[serde(default, deserialize_with = "object_or_null")]
    backoff: Option<BackoffObject>,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffObject {
    base: f64,
    max: Option<f64>,
}

/// A task to be submitted: every value checked, the id still open where the submitter named none.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// The submitter's id, if it has one.
    pub id: Option<TaskId>,
    /// In which queue.
    pub queue: QueueName,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub exectime: ExecTime,
    /// What else was asked for.
    pub options: Options,
    /// What is to be done.
    pub payload: Payload,
    /// What it went through elsewhere, where it is imported.
    pub past: Option<Box<Past>>,
}

impl NewTask {
    /// Whether it is to be dead from its beginning.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.dead)
    }

    /// A task with nothing but a payload.
    #[must_use]
    pub fn of(payload: Payload) -> Self {
        Self {
            id: None,
            queue: QueueName::default(),
            priority: Priority::DEFAULT,
            exectime: ExecTime::ASAP,
            options: Options::default(),
            payload,
            past: None,
        }
    }
}

impl<'a> TaskObject<'a> {
    /// Reads one object.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        from_json::<Object<Self>>(text).map(|object| object.0)
    }

    /// Reads an array of objects.
    pub fn parse_array(text: &'a str) -> Result<Vec<Self>, Refusal> {
        let objects = from_json::<Vec<Object<Self>>>(text)?;
        Ok(objects.into_iter().map(|object| object.0).collect())
    }

    /// Checks every field. `wall` is when a `delay` begins.
    pub fn check(self, wall: WallMillis, limits: PayloadLimits) -> Result<NewTask, Refusal> {
        // Not copied before it is known to be small enough.
        limits.check_size("payload", self.payload.get().len())?;
        let payload = Payload::from_raw(self.payload);
        limits.check("payload", &payload)?;
        let exectime = match (self.exectime, self.delay) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "delay",
                    "give exectime or delay, not both",
                ));
            }
            (Some(secs), None) => ExecTime::new(secs)?,
            (None, Some(secs)) => ExecTime::after(wall, seconds("delay", secs)?)?,
            (None, None) => ExecTime::ASAP,
        };
        let backoff = self.backoff.map(BackoffObject::check).transpose()?;
        let options = Options {
            unique_key: self.unique_key.map(Into::into),
            max_attempts: self.max_attempts,
            lease: self.lease.map(|secs| seconds("lease", secs)).transpose()?,
            backoff,
            trace: Trace::of_fields(self.traceparent.as_deref(), self.tracestate.as_deref())?
                .map(Box::new),
        };
        options.check()?;
        Ok(NewTask {
            id: self.id.as_deref().map(TaskId::parse).transpose()?,
            queue: self
                .queue
                .as_deref()
                .map_or_else(|| Ok(QueueName::default()), QueueName::parse)?,
            priority: self.priority.map_or(Priority::DEFAULT, Priority::new),
            exectime,
            options,
            payload,
            past: None,
        })
    }

    /// Whether the object names its queue.
    pub(super) const fn names_queue(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether the object itself says its priority, time and id, for a file whose name speaks where the object is silent.
    pub(super) const fn names(&self) -> (bool, bool, bool) {
        (
            self.priority.is_some(),
            self.exectime.is_some() || self.delay.is_some(),
            self.id.is_some(),
        )
    }
}

impl BackoffObject {
    fn check(self) -> Result<Backoff, Refusal> {
        let base = seconds("backoff.base", self.base)?;
        let max = match self.max {
            Some(secs) => seconds("backoff.max", secs)?,
            None => Backoff::DEFAULT.max.max(base),
        };
        Ok(Backoff { base, max })
    }
}

/// The most seconds that a length of time may have: some 7900 years, so that one that begins now ends within the years of
/// an exectime.
const MOST_SECONDS: f64 = 250_000_000_000.0;

/// Seconds as JSON has them, to milliseconds: zero or more, at most `MOST_SECONDS`.
pub fn seconds(field: &str, secs: f64) -> Result<Millis, Refusal> {
    if secs.is_finite() && (0.0..=MOST_SECONDS).contains(&secs) {
        // Rounded up: a length is never cut short by its unit. A microsecond less is no part of a length, but of how binary
        // fractions hold decimal ones: what was written as 2.031 is 2031 ms when it is read.
        Ok(Millis(((secs * 1e6).round() as u64).div_ceil(1000)))
    } else {
        Err(Refusal::invalid(
            field,
            format!("{secs:e} is not a number of seconds from 0 to {MOST_SECONDS}"),
        ))
    }
}

/// Reads JSON text into `T`, with an error that says where: line and column for what is not JSON, the field for the rest.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    // The plain reader is the fast one; the one that knows the path to a field runs only to explain a failure.
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// A `T` written as a JSON object. Without it, serde would also take an array of a struct's fields in their order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// Reads an object or null, like [`Object`]; for `#[serde(default, deserialize_with)]`.
pub fn object_or_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|object| object.0))
}

/// Reads an array of objects, each like [`Object`]; for `#[serde(deserialize_with)]`.
pub fn objects<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

fn explain<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        return Refusal::Malformed {
            line,
            column,
            reason: bare(error),
        };
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error.path().to_string(),
        Ok(_) => ".".to_owned(),
    };
    let reason = bare(error);
    // Errors about a field that is missing or unknown carry the parent's path; the field stands in the text.
    let named = reason
        .strip_prefix("missing field `")
        .or_else(|| reason.strip_prefix("unknown field `"))
        .or_else(|| reason.strip_prefix("duplicate field `"))
        .and_then(|rest| rest.split('`').next());
    let path = if path == "." { "" } else { &path };
    let field = match named {
        Some(name) if path.is_empty() => name.to_owned(),
        // The reader may or may not have put the unknown field into the path already.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => "body".to_owned(),
        None => path.to_owned(),
    };
    // What a member is called is the caller's: it may be anything.
    Refusal::Invalid {
        field: shown_text(&field),
        reason: shown_text(&format!("{reason} (line {line}, column {column})")),
    }
}

/// The error without the position that `serde_json` puts at its end.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut bare = text
        .rfind(" at line ")
        .map_or(text.as_str(), |end| &text[..end])
        .to_owned();
    // The names of Rust's types say nothing to who writes JSON.
    let (rust, words) = ("expected f64", "expected a number");
    if bare.ends_with(rust) {
        bare.truncate(bare.len() - rust.len());
        bare.push_str(words);
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: WallMillis = WallMillis(1_000_500);

    fn check(text: &str) -> Result<NewTask, Refusal> {
        TaskObject::parse(text)?.check(WALL, PayloadLimits::bytes(64))
    }

    fn field(text: &str) -> String {
        match check(text) {
            Err(Refusal::Invalid { field, .. } | Refusal::TooLarge { field, .. }) => field,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_payload_is_enough_and_null_is_one() {
        assert_eq!(
            check(r#"{"payload":null}"#).unwrap(),
            NewTask::of(Payload::from_json("null").unwrap())
        );
    }

    #[test]
    fn null_asks_for_no_backoff_of_its_own() {
        let task = check(r#"{"payload":1,"backoff":null}"#).unwrap();
        assert_eq!(task.options.backoff, None);
    }

    #[test]
    fn every_field_is_read() {
        let text = r#"{"payload":{"a": 1},"queue":"emails","priority":-3,"delay":1.2,"id":"0198c0de-0000-7000-8000-000000000001",
            "unique_key":"k","max_attempts":7,"lease":2.5,"backoff":{"base":1,"max":4}}"#;
        let task = check(text).unwrap();
        assert_eq!(task.payload.as_json(), r#"{"a": 1}"#);
        assert_eq!((task.queue.as_str(), task.priority.get()), ("emails", -3));
        assert_eq!(
            task.exectime.get(),
            1002,
            "1000.5 s and 1.2 s, rounded up to whole seconds"
        );
        assert_eq!(task.options.lease, Some(Millis(2500)));
        assert_eq!(
            task.options.backoff,
            Some(Backoff {
                base: Millis(1000),
                max: Millis(4000)
            })
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, wrong) in [
            ("{}", "payload"),
            ("[]", "body"),
            ("[1]", "body"),
            (r#"{"payload":1,"prio":2}"#, "prio"),
            (r#"{"payload":1,"payload":2}"#, "payload"),
            (r#"{"payload":1,"priority":"high"}"#, "priority"),
            (r#"{"payload":1,"priority":3000000000}"#, "priority"),
            (r#"{"payload":1,"exectime":1.5}"#, "exectime"),
            (r#"{"payload":1,"exectime":999999999999}"#, "exectime"),
            (r#"{"payload":1,"exectime":1,"delay":1}"#, "delay"),
            (r#"{"payload":1,"delay":-1}"#, "delay"),
            (r#"{"payload":1,"queue":"Emails"}"#, "queue"),
            (r#"{"payload":1,"queue":"../x"}"#, "queue"),
            (r#"{"payload":1,"id":"7"}"#, "id"),
            (r#"{"payload":1,"lease":0}"#, "lease"),
            (r#"{"payload":1,"max_attempts":0}"#, "max_attempts"),
            (
                r#"{"payload":1,"backoff":{"base":1,"factor":2}}"#,
                "backoff.factor",
            ),
            (r#"{"payload":1,"backoff":{"base":"x"}}"#, "backoff.base"),
            (r#"{"payload":1,"backoff":[1,2]}"#, "backoff"),
            (r#"{"payload":1,"backoff":1}"#, "backoff"),
            (
                r#"{"payload":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#,
                "payload",
            ),
            ("7", "body"),
        ] {
            assert_eq!(field(text), wrong, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_placed() {
        match check("{\n  \"payload\": tru }") {
            Err(Refusal::Malformed { line: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_array_names_the_place_of_the_wrong_one() {
        match TaskObject::parse_array(r#"[{"payload":1},{"payload":1,"priority":"x"}]"#) {
            Err(Refusal::Invalid { field, .. }) => assert_eq!(field, "[1].priority"),
            other => panic!("{other:?}"),
        }
    }
}
