//! Short texts that name or measure something: file names, queues, workers, ids, cursors, times, lengths, traces, URLs. What
//! one of them reads, it writes the same, or writes something that it reads the same.

use std::fmt::{Debug, Display};

use workqueue::{
    access::Scope,
    backend::{Cursor, EventId, EventKind, Span},
    client::Endpoint,
    task::{
        ExecTime, FileName, IdPrefix, Millis, Payload, PayloadLimits, Priority, QueueName, Refusal,
        State, TaskId, Token, Trace, WorkerName,
    },
};

use crate::{
    corpus,
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    text,
};

const WORDS: [&str; 20] = [
    "_", ".json", "-", ":", "T", "00000100", "0198c0de", "ms", "s", "m", "h", "d", "http://",
    "https://", "unix:", "/api", "@", "00-", "ready,", "[::1]",
];

struct Names;

impl Subject for Names {
    fn seeds(&self) -> Vec<Vec<u8>> {
        corpus::of("names")
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        mutator.change(&mut bytes, pool, &WORDS);
        bytes
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let Ok(text) = str::from_utf8(input) else {
            return "not text".to_owned();
        };
        let read = [
            FileName::parse(text).is_some_and(|name| canonical(&name, text)),
            refused(QueueName::parse(text), |name| canonical(&name, text)),
            refused(WorkerName::parse(text), |name| canonical(&name, text)),
            refused(TaskId::parse(text), |id| stable(&id, TaskId::parse)),
            refused(IdPrefix::parse(text), prefix),
            refused(Token::parse(text), |token| stable(&token, Token::parse)),
            refused(Cursor::parse(text), |place| stable(&place, Cursor::parse)),
            refused(EventId::parse(text), |id| stable(&id, EventId::parse)),
            refused(Priority::parse(text), |it| {
                stable(&it.get(), |text| Priority::parse(text).map(Priority::get))
            }),
            refused(State::parse(text), |it| canonical(&it, text)),
            refused(EventKind::parse(text), |it| canonical(&it.as_str(), text)),
            refused(Span::parse(text), |it| canonical(&it.as_str(), text)),
            refused(Trace::parse(text), trace),
            refused(tracestate(text), trace),
            exectime(text),
            length(text),
            scope(text),
            endpoint(text),
            payload(text),
        ];
        let letters = ('a'..).zip(read).filter(|(_, read)| *read);
        letters.map(|(letter, _)| letter).collect()
    }
}

/// What is only read in one spelling.
fn canonical<T: Display>(read: &T, text: &str) -> bool {
    assert_eq!(read.to_string(), text, "it is written as it was read");
    true
}

/// What is read in several spellings, and written in one.
fn stable<T, E>(value: &T, parse: impl Fn(&str) -> Result<T, E>) -> bool
where
    T: Display + Debug + PartialEq,
    E: Debug,
{
    let again = parse(&value.to_string());
    assert_eq!(again.as_ref().ok(), Some(value), "{again:?}");
    true
}

fn refused<T>(read: Result<T, Refusal>, hold: impl FnOnce(T) -> bool) -> bool {
    match read {
        Ok(value) => hold(value),
        Err(refusal) => {
            text::plain(&refusal.to_string());
            assert!(
                matches!(refusal, Refusal::Invalid { .. }),
                "it names its field"
            );
            false
        }
    }
}

fn prefix(prefix: IdPrefix) -> bool {
    assert!(prefix.begins(prefix.first()));
    assert!(prefix.whole().is_none_or(|id| prefix.begins(id)));
    stable(&prefix, IdPrefix::parse)
}

fn tracestate(text: &str) -> Result<Trace, Refusal> {
    Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")?.with_state(text)
}

fn trace(trace: Trace) -> bool {
    let again = Trace::of_fields(Some(&trace.parent()), trace.state());
    assert_eq!(again, Ok(Some(trace)));
    true
}

fn exectime(text: &str) -> bool {
    let Some(read) = ExecTime::from_civil(text) else {
        return false;
    };
    assert_eq!(read.to_civil(), text);
    assert_eq!(ExecTime::new(read.get()), Ok(read));
    true
}

fn length(text: &str) -> bool {
    let Some(read) = Millis::parse(text) else {
        return false;
    };
    assert_eq!(Millis::parse(&read.to_string()), Some(read));
    true
}

fn scope(text: &str) -> bool {
    match Scope::parse(text) {
        Ok(scope) => canonical(&scope.as_str(), text),
        Err(error) => {
            text::plain(&error);
            false
        }
    }
}

fn endpoint(text: &str) -> bool {
    match Endpoint::parse(text) {
        Ok(endpoint) => {
            // Of several of these the last one is left out, and the next when it is read again.
            let again = Endpoint::parse(&endpoint.to_string());
            let differs = text.matches("/api").count() > 1;
            assert!(
                differs || again.ok().as_ref() == Some(&endpoint),
                "{endpoint}"
            );
            true
        }
        Err(error) => {
            text::plain(&error.to_string());
            false
        }
    }
}

fn payload(text: &str) -> bool {
    let made = Payload::from_text(text);
    assert_eq!(made.to_display(), text);
    let Ok(payload) = Payload::from_json(text) else {
        return false;
    };
    assert!(payload.same_value(&payload.clone()));
    drop(payload.to_display());
    let deep = payload.is_deeper_than(PayloadLimits::MAX_DEPTH);
    let again = Payload::from_json(payload.as_json()).expect("it was JSON");
    assert_eq!(again, payload);
    assert_eq!(again.is_deeper_than(PayloadLimits::MAX_DEPTH), deep);
    true
}

#[test]
fn names_and_measures_are_written_as_they_are_read() {
    let target = Target {
        name: "names",
        inputs: 30_000,
        per_byte: 48,
        besides: 8 << 10,
        longest: 4 << 10,
    };
    fuzz(&target, Names);
}
