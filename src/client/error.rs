//! [`ClientError`].

use std::{error::Error, fmt::Write as _, io, time::Duration};

use crate::{api, pem::PemError, task::shown_text};

/// Why a request has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke before the answer was whole: then whether the daemon did what was asked is not known.
    #[error("cannot reach the daemon at {endpoint}: {reason}; {hint}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What went wrong, with its causes.
        reason: String,
        /// What to do next.
        hint: &'static str,
        /// Whether nothing was sent: there was no connection.
        unsent: bool,
    },
    /// The daemon refused.
    #[error("{}", problem_text(.0))]
    Problem(Box<api::Problem>),
    /// An answer that is not of this API: something else listens there, or it is of another version.
    #[error("unexpected answer, status {status}: {body}; is this the address of workqueued?")]
    Unexpected {
        /// Its status.
        status: u16,
        /// The start of its body, control characters escaped.
        body: String,
    },
    /// No answer in time.
    #[error("no answer from {endpoint} within {}s; see: journalctl -u workqueued", .after.as_secs_f64())]
    Timeout {
        /// Who was asked.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
    /// A URL or path that can't be used.
    #[error("{0}")]
    BadUrl(String),
    /// A value that has no JSON form.
    #[error("cannot be written as JSON: {0}")]
    NotJson(String),
    /// TLS can't be set up on this machine.
    #[error("cannot use https: {0}; install the ca-certificates package, or use http")]
    Tls(String),
    /// A file of [`TlsFiles`](super::TlsFiles) can't be used.
    #[error(transparent)]
    File(#[from] PemError),
}

impl ClientError {
    /// The HTTP status of a refusal or of an unexpected answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Unexpected { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon may have done what was asked, although there is no good answer.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Unreachable { unsent, .. } => !unsent,
            // A request that is refused has changed nothing.
            Self::Problem(problem) => problem.status >= 500,
            Self::Unexpected { .. } | Self::Timeout { .. } => true,
            Self::BadUrl(_) | Self::NotJson(_) | Self::Tls(_) | Self::File(_) => false,
        }
    }

    /// Whether the daemon said that the request itself is wrong, so that sending it again would end the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Problem(problem) => {
                (400..500).contains(&problem.status)
                    && !matches!(problem.status, 401 | 403 | 408 | 425 | 429)
            }
            Self::BadUrl(_) | Self::NotJson(_) => true,
            _ => false,
        }
    }
}

fn problem_text(problem: &api::Problem) -> String {
    let text = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    // Whatever answers there, it is to do nothing to a terminal.
    let text = shown_text(text);
    match problem.accepted {
        Some(accepted) => format!("{text} ({accepted} tasks before it were taken)"),
        None => text,
    }
}

/// The kind of the system's error among the causes of `error`, if there is one.
pub(super) fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref::<io::Error>() {
            return Some(cause.kind());
        }
        next = error.source();
    }
    None
}

/// Whether `error` is that of a request for which there was no connection.
pub(super) fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

/// An error and its causes in one line, without those that a cause repeats.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            // Writing to a string has no error.
            write!(text, ": {words}").unwrap_or_default();
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_does_nothing_to_a_terminal() {
        let problem = api::Problem {
            kind: "/problems/x".to_owned(),
            title: "x".to_owned(),
            status: 400,
            detail: "no\u{1b}]0;x\u{7}\r\n\u{202e}\u{9b}2J".to_owned(),
            field: None,
            line: None,
            column: None,
            accepted: None,
        };
        let text = ClientError::Problem(Box::new(problem)).to_string();
        assert_eq!(text, "no\\u{1b}]0;x\\u{7}\\r\\n\\u{202e}\\u{9b}2J");
    }
}
