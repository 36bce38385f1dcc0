//! [`Endpoint`]: where a daemon is.

use std::{fmt, io, path::PathBuf, str::FromStr};

use http::Uri;

use super::ClientError;
use crate::task::shown_text;

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://` or `https://`, a host and perhaps a port and a path before the API's own: without a slash at the end.
    Http(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `http://HOST[:PORT]`, `https://…` or `unix:PATH`. An `/api` at the end, as the original's `--url` has it, and a
    /// slash at the end are left out.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| {
            ClientError::BadUrl(format!(
                "\"{}\" is not a URL of a daemon ({why}); use http://HOST:PORT, https://HOST or unix:PATH",
                shown_text(text)
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/…` is how other programs write it.
            let path = path.strip_prefix("//").unwrap_or(path);
            // Further slashes in a row mean no more than one, and would be read as those of a URL when it is shown.
            let root = path.len() - path.trim_start_matches('/').len();
            let path = &path[root.saturating_sub(1)..];
            return if path.is_empty() {
                Err(wrong("it names no socket"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it can't be read"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins with neither http://, https:// nor unix:"));
        }
        let authority = uri.authority().filter(|all| !all.host().is_empty());
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), authority) else {
            return Err(wrong("it names no host"));
        };
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        // Of the path alone: a host may be called `api`.
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/api").unwrap_or(path);
        let path = path.trim_end_matches('/');
        Ok(Self::Http(format!("{scheme}://{authority}{path}")))
    }

    /// The address of `path` (which begins with a slash and may have a query) at this daemon.
    pub(super) fn uri(&self, path: &str) -> Result<Uri, ClientError> {
        match self {
            Self::Http(base) => format!("{base}{path}")
                .parse()
                .map_err(|error| ClientError::BadUrl(format!("{base}{path}: {error}"))),
            Self::Unix(socket) => Ok(hyperlocal::Uri::new(socket, path).into()),
        }
    }

    /// What to try when it can't be reached for a reason of this kind.
    pub(super) fn hint(&self, kind: Option<io::ErrorKind>) -> &'static str {
        match (self, kind) {
            (Self::Unix(_), Some(io::ErrorKind::PermissionDenied)) => {
                "join the group that may use it, and log in again: usermod -aG workqueue $USER"
            }
            (Self::Unix(_), _) => {
                "is workqueued running? Try: systemctl status workqueued, or --url http://HOST:PORT"
            }
            (Self::Http(_), _) => {
                "is workqueued running, and does it listen there? Try: systemctl status workqueued"
            }
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Http(base) if base.starts_with("https:"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(base) => f.write_str(base),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        Self::parse(text)
    }
}
