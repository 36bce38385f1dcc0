//! Problem documents (RFC 9457): the one table of what can go wrong, its status and its stable name.
//!
//! Knows how a [`Refusal`] is told over HTTP, not when one is due.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{guard, refused};
use crate::{
    api,
    backend::{Error, Fault},
    task::{Refusal, shown_text},
};

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The last part of its `type`.
    pub(crate) name: &'static str,
    /// Its status.
    pub(crate) status: StatusCode,
    /// The kind in words.
    pub(crate) title: &'static str,
    /// What to do about it: one line for its page.
    pub(crate) about: &'static str,
    /// When asking again may help, in seconds.
    pub(crate) retry_after: Option<u16>,
}

macro_rules! kinds {
    ($($constant:ident = $name:literal, $status:ident, $title:literal, $retry:expr, $about:literal;)*) => {
        $(pub(crate) static $constant: Kind = Kind {
            name: $name,
            status: StatusCode::$status,
            title: $title,
            about: $about,
            retry_after: $retry,
        };)*
        /// All of them, by status.
        pub(crate) static ALL: &[&Kind] = &[$(&$constant),*];
    };
}

kinds! {
    INVALID_FIELD = "invalid-field", BAD_REQUEST, "A field is not valid", None,
        "The member `field` names it and `detail` says what would be right. Nothing has changed.";
    MALFORMED_JSON = "malformed-json", BAD_REQUEST, "The body is not JSON", None,
        "The members `line` and `column` point at the first byte that is wrong. Nothing has changed.";
    MALFORMED_TEXT = "malformed-text", BAD_REQUEST, "The request is not UTF-8 text", None,
        "Bodies and addresses are UTF-8.";
    MALFORMED_REQUEST = "malformed-request", BAD_REQUEST, "The request is not HTTP", None,
        "The head of the request is malformed, or says in two ways where its body ends. The connection is closed.";
    UNREADABLE_BODY = "unreadable-body", BAD_REQUEST, "The body could not be read to its end", None,
        "The transfer broke off. Send the request again.";
    UNAUTHORIZED = "unauthorized", UNAUTHORIZED, "A token is needed", None,
        "Send `Authorization: Bearer TOKEN` with a token that `workqueuectl token new` made and the daemon knows.";
    FORBIDDEN = "forbidden", FORBIDDEN, "Not allowed", None,
        "The token or the user is known, and may not do this. The detail says which scope or queue is missing.";
    CROSS_SITE = "cross-site", FORBIDDEN, "Another site sent this request", None,
        "A browser says that the request comes from a page of another site. Use the pages of the daemon itself.";
    NOT_FOUND = "not-found", NOT_FOUND, "There is nothing here", None,
        "The paths are listed in /api/openapi.json.";
    NO_SUCH_TASK = "no-such-task", NOT_FOUND, "No such task", None,
        "The task was completed or cancelled, or never existed.";
    NO_SUCH_QUEUE = "no-such-queue", NOT_FOUND, "No such queue", None,
        "A queue exists from its first task on.";
    NO_SUCH_FILE = "no-such-file", NOT_FOUND, "No such rejected file", None,
        "It was settled already, or never rejected. The list of rejected files has those that are.";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here", None,
        "The header `Allow` lists those that are.";
    REQUEST_TIMEOUT = "request-timeout", REQUEST_TIMEOUT, "The body did not come in time", None,
        "No byte of the body came for too long. Send the request again.";
    HEAD_TIMEOUT = "head-timeout", REQUEST_TIMEOUT, "The head did not come in time", None,
        "The head of the request took longer than the setting `header_timeout` allows. The connection is closed.";
    STALE_TOKEN = "stale-token", CONFLICT, "The lease has ended", None,
        "The token is not that of the task's current lease. Drop this attempt: another one has begun or will begin.";
    LEASED = "leased", CONFLICT, "The task is leased", None,
        "Its worker decides; it can be changed when the lease has ended.";
    WRONG_STATE = "wrong-state", CONFLICT, "The task is in another state", None,
        "The detail says which state it is in and which is needed.";
    ID_IN_USE = "id-in-use", CONFLICT, "The id is in use", None,
        "A task with this id and other content exists. Take a new id for new content.";
    UNIQUE_KEY_IN_USE = "unique-key-in-use", CONFLICT, "The unique key is in use", None,
        "Another unfinished task of the queue holds the key.";
    FILE_IN_USE = "file-in-use", CONFLICT, "A file of this name is there", None,
        "The rejected file can't go back into the task directory, where another has its name. Rename one of them.";
    TOO_LARGE = "too-large", PAYLOAD_TOO_LARGE, "Too large", None,
        "The detail names the part that is too large and its limit. Keep big data elsewhere and submit its address.";
    URL_TOO_LONG = "url-too-long", URI_TOO_LONG, "The address is too long", None,
        "The path and the query are longer than the setting `max_url` allows. Send data in the body.";
    MISDIRECTED = "wrong-host", MISDIRECTED_REQUEST, "Not a name of this server", None,
        "The header `Host` names another server. Use an address, `localhost`, or a configured name.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is of another type", None,
        "The detail lists the content types that are understood here.";
    TOO_MANY_REQUESTS = "too-many-requests", TOO_MANY_REQUESTS, "Too many requests", Some(1),
        "This address sends more requests than the setting `request_rate` allows. The header `Retry-After` says when to go on.";
    TOO_MANY_WITH_TOKEN = "too-many-with-token", TOO_MANY_REQUESTS, "Too many requests with one token", Some(1),
        "More requests come with this token than the setting `token_rate` allows. The header `Retry-After` says when to go on.";
    TOO_MANY_FROM_ADDRESS = "too-many-from-address", TOO_MANY_REQUESTS, "Too many connections from one address", Some(5),
        "This address has as many connections as the setting `max_connections_per_address` allows. Close some, or keep them and send several requests on each.";
    HEAD_TOO_LARGE = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The head is too large", None,
        "The head of the request is longer than the setting `max_head` allows, or has more fields than `max_headers`.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "A defect of the daemon", None,
        "The daemon's log tells more. Whether the request was done is not known.";
    UNKNOWN_CODING = "unknown-coding", NOT_IMPLEMENTED, "The body comes under a coding that is not known", None,
        "A body comes with its length or in chunks, and packed in no other `Transfer-Encoding`. The connection is closed.";
    TOO_MANY_CONNECTIONS = "too-many-connections", SERVICE_UNAVAILABLE, "Too many connections", Some(5),
        "The daemon has as many connections as the setting `max_connections` allows. Nothing has been read of the request. Try again soon.";
    DRAINING = "draining", SERVICE_UNAVAILABLE, "No new tasks are taken", Some(30),
        "The queue or the daemon is draining. Submit again when that is over.";
    BUSY = "busy", SERVICE_UNAVAILABLE, "Too many requests wait", Some(1),
        "Nothing has changed. Try again soon.";
    STOPPING = "stopping", SERVICE_UNAVAILABLE, "The daemon is stopping", Some(5),
        "Nothing has changed. Try again when it has been started again.";
    OUT_OF_REACH = "out-of-reach", SERVICE_UNAVAILABLE, "A file is out of reach", Some(5),
        "The detail names the task or the file, and what is in the way: its directory is not there (moved away, not mounted), or the disk refuses. Nothing has changed, and all else goes on.";
    USERS_OUT_OF_REACH = "users-out-of-reach", SERVICE_UNAVAILABLE, "The system's users can't be looked up", Some(5),
        "The databases of users and groups that `/etc/nsswitch.conf` names (LDAP, sssd) gave no answer in time, and who is in the daemon's group is asked there. Root and the daemon's own user come in without.";
    FAULT = "fault", SERVICE_UNAVAILABLE, "The daemon takes no writes", None,
        "A write to the disk failed. The log tells why; the daemon must be restarted when the cause is gone.";
    TOO_MANY = "too-many", INSUFFICIENT_STORAGE, "A configured limit is reached", None,
        "The detail says what there are too many of.";
    NO_MEMORY = "no-memory", INSUFFICIENT_STORAGE, "There is not enough memory", Some(10),
        "The daemon uses as much memory as it may (setting max_memory). No new task is taken until there is less. Tasks already taken can still be completed.";
    NO_ROOM = "no-room", INSUFFICIENT_STORAGE, "There is no room", Some(30),
        "The disk is full, or the directory of a queue that the detail names, or the daemon may open no more files. No new task is taken until there is room. Tasks already taken can still be completed.";
}

impl Kind {
    /// A problem of this kind.
    pub(crate) fn problem(&self, detail: impl Into<String>) -> Problem {
        Problem {
            document: Box::new(api::Problem {
                kind: format!("/problems/{}", self.name),
                title: self.title.to_owned(),
                status: self.status.as_u16(),
                // It may repeat what was asked, and stands in terminals and logs.
                detail: shown_text(&detail.into()),
                field: None,
                line: None,
                column: None,
                accepted: None,
            }),
            retry_after: self.retry_after,
        }
    }
}

/// Why a credential was not enough, beside an answer that says so.
#[derive(Debug, Clone)]
pub(super) struct NotAllowed(pub(super) Arc<str>);

/// What a handler answers when the request was not done.
#[derive(Debug)]
pub(crate) struct Problem {
    document: Box<api::Problem>,
    retry_after: Option<u16>,
}

impl Problem {
    /// A field that only a transport knows (a query parameter, a header).
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal::invalid(field, reason).into()
    }

    /// The document.
    pub(crate) fn document(&self) -> &api::Problem {
        &self.document
    }

    /// The document, for one outcome among several.
    pub(crate) fn into_document(self) -> api::Problem {
        *self.document
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The same problem in a stream: on which line, and how many tasks before it are durable.
    pub(crate) fn in_stream(mut self, line: usize, accepted: u64) -> Self {
        let detail = &self.document.detail;
        self.document.detail = match without_place(detail) {
            Some((reason, column)) => format!("line {line}, column {column}: {reason}"),
            None => format!("line {line}: {detail}"),
        };
        self.document.line = Some(line);
        self.document.accepted = Some(accepted);
        self
    }

    /// `body` as the answer with this problem's status and headers.
    pub(crate) fn respond(&self, content_type: &'static str, body: impl Into<Body>) -> Response {
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(secs) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(challenge) = self.challenge() {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
            let reason = self.document.detail.as_str().into();
            response.extensions_mut().insert(NotAllowed(reason));
        }
        response
    }

    /// What would be let in (RFC 6750, 3).
    fn challenge(&self) -> Option<&'static str> {
        match self.document.kind.strip_prefix("/problems/")? {
            "unauthorized" => Some("Bearer realm=\"workqueue\""),
            "forbidden" => Some("Bearer realm=\"workqueue\", error=\"insufficient_scope\""),
            _ => None,
        }
    }

    /// The same with another time after which to ask again, in seconds.
    pub(crate) fn after(mut self, secs: u64) -> Self {
        self.retry_after = Some(u16::try_from(secs).unwrap_or(u16::MAX));
        self
    }

    /// The whole answer as it goes over a connection on which HTTP/1.1 has not begun or is at its end.
    pub(crate) fn on_the_wire(&self) -> Vec<u8> {
        // A document of strings and numbers always has a JSON form.
        let body = serde_json::to_vec(&*self.document).unwrap_or_default();
        let retry = self
            .retry_after
            .map_or_else(String::new, |secs| format!("retry-after: {secs}\r\n"));
        let headers = guard::HEADERS
            .iter()
            .fold(String::new(), |all, (name, value)| {
                all + name.as_str() + ": " + value + "\r\n"
            });
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n{headers}{retry}connection: close\r\n\r\n",
            self.status(),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    /// The document as the original's clients expect it: the member `status` is the word `error`.
    pub(crate) fn into_original(self) -> Response {
        // A document of strings and numbers always has a JSON form.
        let body = serde_json::to_vec(&self.original()).unwrap_or_default();
        self.respond(MEDIA_TYPE, body)
    }

    /// The same as a document.
    pub(crate) fn original(&self) -> api::OriginalProblem {
        let document = &*self.document;
        api::OriginalProblem {
            status: api::OriginalStatus::Error,
            kind: document.kind.clone(),
            title: document.title.clone(),
            detail: document.detail.clone(),
            field: document.field.clone(),
            line: document.line,
            column: document.column,
        }
    }
}

/// The detail of what is wrong in a text of one line, without the place at its end, and the column of that place.
fn without_place(detail: &str) -> Option<(&str, &str)> {
    let (reason, column) = match detail.strip_suffix(')') {
        Some(detail) => detail.rsplit_once(" (line 1, column ")?,
        None => detail.rsplit_once(" at line 1, column ")?,
    };
    let is_number = column.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((reason, column))
}

/// The content type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A document of strings and numbers always has a JSON form.
        let body = serde_json::to_vec(&*self.document).unwrap_or_default();
        self.respond(MEDIA_TYPE, body)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        refused::count(&refusal);
        let detail = refusal.to_string();
        let kind = match &refusal {
            Refusal::Invalid { .. } | Refusal::TooDeep { .. } => &INVALID_FIELD,
            Refusal::Malformed { .. } => &MALFORMED_JSON,
            Refusal::NoSuchTask(_) => &NO_SUCH_TASK,
            Refusal::NoSuchQueue(_) => &NO_SUCH_QUEUE,
            Refusal::NoSuchFile(_) => &NO_SUCH_FILE,
            Refusal::FileInUse(_) => &FILE_IN_USE,
            Refusal::OutOfReach { .. } => &OUT_OF_REACH,
            Refusal::StaleToken(_) => &STALE_TOKEN,
            Refusal::Leased(_) => &LEASED,
            // Asked again, it is judged by the queue that it is in then.
            Refusal::Moved(_) => &FORBIDDEN,
            Refusal::WrongState { .. } => &WRONG_STATE,
            Refusal::IdInUse(_) => &ID_IN_USE,
            Refusal::UniqueKeyInUse(_) => &UNIQUE_KEY_IN_USE,
            Refusal::TooLarge { .. } => &TOO_LARGE,
            Refusal::TooMany { .. } | Refusal::QueueTooLong { .. } => &TOO_MANY,
            Refusal::NoMemory { .. } => &NO_MEMORY,
            Refusal::Draining(_) => &DRAINING,
            Refusal::NoRoom | Refusal::QueueFull(_) => &NO_ROOM,
            Refusal::Busy
            | Refusal::FilesLag
            | Refusal::ExportRuns
            | Refusal::TooManyAtOnce { .. } => &BUSY,
            Refusal::Stopping => &STOPPING,
        };
        let mut problem = kind.problem(detail);
        match refusal {
            Refusal::Invalid { field, .. }
            | Refusal::TooLarge { field, .. }
            | Refusal::TooDeep { field, .. } => {
                problem.document.field = Some(shown_text(&field));
            }
            Refusal::TooMany { .. } | Refusal::QueueTooLong { .. } => {
                problem.retry_after = Some(30);
            }
            Refusal::Malformed { line, column, .. } => {
                problem.document.line = Some(line);
                problem.document.column = Some(column);
            }
            _ => {}
        }
        problem
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        FAULT.problem(fault.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Fault(fault) => fault.into(),
        }
    }
}

impl Problem {
    /// What was asked for has ended by a defect, which the log tells of.
    pub(crate) fn of_defect(cause: &dyn std::error::Error) -> Self {
        tracing::error!(%cause, "a request met a defect");
        INTERNAL.problem("the request met a defect of the daemon")
    }
}

impl From<serde_json::Error> for Problem {
    /// An answer that could not be written as JSON: a defect, since all of them can.
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "an answer has no JSON form");
        INTERNAL.problem("the answer could not be written")
    }
}
