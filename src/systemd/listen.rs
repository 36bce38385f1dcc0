//! Sockets that systemd passed on: `sd_listen_fds(3)`, by their `FileDescriptorName=` in the socket unit.

use std::{io, net::TcpListener, os::unix::net::UnixListener};

use listenfd::ListenFd;

/// The name of descriptors on which HTTP is served.
pub const HTTP: &str = "http";
/// The name of descriptors on which HTTP is served over TLS.
pub const HTTPS: &str = "https";
/// The name of the descriptor of the admin socket.
pub const ADMIN: &str = "admin";

/// What was passed on.
#[derive(Debug, Default)]
pub struct Passed {
    /// For HTTP. All of them: a socket unit may name several addresses.
    pub http: Vec<TcpListener>,
    /// For HTTP over TLS.
    pub https: Vec<TcpListener>,
    /// For the admin API.
    pub admin: Vec<UnixListener>,
}

impl Passed {
    /// Whether nothing was passed on: the daemon was not started by a socket unit.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.http.is_empty() && self.https.is_empty() && self.admin.is_empty()
    }
}

/// Why what was passed on can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A descriptor has a name that nothing is served on.
    #[error(
        "the socket unit passes a descriptor named {0:?}; the names are \"http\", \"https\" and \"admin\" (FileDescriptorName=)"
    )]
    UnknownName(String),
    /// A descriptor is not a socket of the kind that its name asks for.
    #[error("the descriptor {name:?} of the socket unit: {cause}")]
    WrongKind {
        /// Its name.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// Takes what was passed on, once; a second call finds nothing. The sockets are non-blocking.
pub fn take() -> Result<Passed, ListenError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    sort(&mut ListenFd::from_env(), &names)
}

fn sort(fds: &mut ListenFd, names: &str) -> Result<Passed, ListenError> {
    let mut names = names.split(':');
    let mut passed = Passed::default();
    for index in 0..fds.len() {
        let name = names.next().unwrap_or_default();
        let wrong = |cause| ListenError::WrongKind {
            name: name.to_owned(),
            cause,
        };
        match name {
            HTTP => passed.http.extend(
                fds.take_tcp_listener(index)
                    .and_then(unblocked_tcp)
                    .map_err(wrong)?,
            ),
            HTTPS => passed.https.extend(
                fds.take_tcp_listener(index)
                    .and_then(unblocked_tcp)
                    .map_err(wrong)?,
            ),
            ADMIN => passed.admin.extend(
                fds.take_unix_listener(index)
                    .and_then(unblocked_unix)
                    .map_err(wrong)?,
            ),
            other => return Err(ListenError::UnknownName(other.to_owned())),
        }
    }
    Ok(passed)
}

/// A socket that blocks would stop the runtime's thread on accept.
fn unblocked_tcp(listener: Option<TcpListener>) -> io::Result<Option<TcpListener>> {
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

fn unblocked_unix(listener: Option<UnixListener>) -> io::Result<Option<UnixListener>> {
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passed_on_is_nothing() {
        assert!(
            sort(&mut ListenFd::empty(), "http:admin")
                .unwrap()
                .is_empty()
        );
    }
}
