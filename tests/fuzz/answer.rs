//! [`Answer`]: what a server said, and what is held of every answer, whatever was asked.

use std::io::Read as _;

use axum::http::{StatusCode, header, response};
use flate2::read::GzDecoder;
use serde_json::{Value, value::RawValue};

use crate::text;

/// What the dictionary of the mutator writes where it tries to get into a page; escaped, it never stands so.
const FOREIGN_MARKUP: &str = "<x-fuzz>";

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    head: response::Parts,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(head: response::Parts, packed: Vec<u8>) -> Self {
        let mut body = packed;
        // HEAD is answered without what it is about.
        if head.headers.contains_key(header::CONTENT_ENCODING) && !body.is_empty() {
            let packed = std::mem::take(&mut body);
            let read = GzDecoder::new(&*packed).read_to_end(&mut body);
            read.expect("it is packed with gzip");
        }
        Self {
            status: head.status,
            head,
            body,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    fn kind(&self) -> &str {
        let kind = self.head.headers.get(header::CONTENT_TYPE);
        kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default()
    }

    /// Holds what an answer must be, and says of which sort it is.
    pub(crate) fn hold(&self) -> String {
        let status = self.status.as_u16();
        assert!(
            !is_defect(status, &self.body),
            "{status}: {}",
            String::from_utf8_lossy(&self.body)
        );
        let kind = self.kind().split(';').next().unwrap_or_default().to_owned();
        match kind.as_str() {
            _ if self.body.is_empty() => format!("{status} {kind} empty"),
            "application/problem+json" => problem(status, &self.json()),
            "application/json" => {
                is_json(self.text());
                format!("{status} {kind}")
            }
            "application/x-ndjson" => {
                self.text().lines().for_each(is_json);
                format!("{status} {kind} {}", self.text().lines().count())
            }
            "text/html" => self.page(),
            "text/plain" if self.text().starts_with("# ") => {
                self.text().lines().for_each(sample);
                format!("{status} samples")
            }
            _ => {
                self.text();
                format!("{status} {kind}")
            }
        }
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("an answer is UTF-8")
    }

    fn page(&self) -> String {
        let text = self.text();
        assert!(!text.contains(FOREIGN_MARKUP), "not escaped: {text}");
        let title = text.split("<title>").nth(1).unwrap_or_default();
        let title = title.split("</title>").next().unwrap_or_default();
        // What a page says of a form that is wrong.
        let says = text.matches("aria-invalid").count();
        format!("{} {title} {says}", self.status)
    }
}

/// Holds that a text is JSON by its grammar. Payloads are handed on as they came, so a number may be too large for most, and
/// half of a surrogate pair may stand alone.
fn is_json(text: &str) {
    let read = serde_json::from_str::<&RawValue>(text);
    assert!(read.is_ok(), "{read:?}: {text:?}");
}

/// Holds a line of Prometheus' text format: a comment, or a name, perhaps labels in braces, and a number.
fn sample(line: &str) {
    if line.is_empty() || line.starts_with("# ") {
        return;
    }
    let (name, value) = line.rsplit_once(' ').expect("a value");
    assert!(value.parse::<f64>().is_ok(), "{line:?}");
    let labels = name.find('{').map(|at| &name[at..]);
    let is_closed =
        |labels: &str| labels.ends_with('}') && labels.matches('"').count().is_multiple_of(2);
    assert!(labels.is_none_or(is_closed), "{line:?}");
}

/// Whether an answer says that the server is at fault. That it drains is the doing of another request.
pub(crate) fn is_defect(status: u16, body: &[u8]) -> bool {
    let says = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
    // Packed, it can't be read here; but of the problems that are a 503 it is the one with this number beside it.
    let drains = says(b"draining") || (says(b"content-encoding: gzip") && says(b"retry-after: 30"));
    // 501 is only said of a coding that is not known.
    status >= 500 && status != 501 && !(status == 503 && drains)
}

/// A problem says what is wrong, in one line, and where.
fn problem(status: u16, document: &Value) -> String {
    let member = |name: &str| document[name].as_str().unwrap_or_default();
    // The original's clients look for a word.
    assert!(
        document["status"] == status || document["status"] == "error",
        "{document}"
    );
    assert!(member("type").starts_with("/problems/"), "{document}");
    text::plain(member("title"));
    text::plain(member("detail"));
    if member("type") == "/problems/invalid-field" {
        // A member may be called nothing at all.
        let field = document["field"].as_str();
        let is_plain = |field: &str| !field.chars().any(char::is_control);
        assert!(field.is_some_and(is_plain), "{document}");
    }
    if member("type") == "/problems/malformed-json" {
        assert!(document["line"].as_u64() >= Some(1), "{document}");
        assert!(document["column"].is_u64(), "{document}");
    }
    format!("{status} {} {}", member("type"), member("field"))
}
