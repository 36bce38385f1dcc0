//! Sockets that systemd passed on: `sd_listen_fds(3)`, by their `FileDescriptorName=` in the socket unit.

use std::{
    env, io,
    net::TcpListener,
    os::{fd::AsFd, unix::net::UnixListener},
};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

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
    /// There are more descriptors than names.
    #[error(
        "LISTEN_FDS passes {count} descriptors and LISTEN_FDNAMES names {names}: each has to have a name (FileDescriptorName=)"
    )]
    Nameless {
        /// How many descriptors.
        count: usize,
        /// How many names.
        names: usize,
    },
    /// A descriptor is a socket of the right kind, and nobody can connect to it.
    #[error(
        "the descriptor {0:?} of the socket unit does not listen: it has to be passed on after listen(2) (Accept=no)"
    )]
    Deaf(String),
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
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    let for_whom = env::var("LISTEN_PID").unwrap_or_default();
    // What was meant for another process is not taken, whatever it is.
    if for_whom.is_empty() || for_whom == std::process::id().to_string() {
        are_named(&count, &names)?;
    }
    sort(&mut ListenFd::from_env(), &names)
}

/// Refuses more descriptors than there are names, before a list is made of them: for a number of two billion that took 8 GiB.
fn are_named(count: &str, names: &str) -> Result<(), ListenError> {
    // What is no number passes on nothing.
    let count: usize = count.parse().unwrap_or(0);
    let names = names.split(':').count();
    if count > names {
        return Err(ListenError::Nameless { count, names });
    }
    Ok(())
}

fn sort(fds: &mut ListenFd, names: &str) -> Result<Passed, ListenError> {
    let mut names = names.split(':');
    let mut passed = Passed::default();
    for index in 0..fds.len() {
        let name = names.next().unwrap_or_default();
        match name {
            HTTP => passed
                .http
                .extend(ready(name, fds.take_tcp_listener(index))?),
            HTTPS => passed
                .https
                .extend(ready(name, fds.take_tcp_listener(index))?),
            ADMIN => passed
                .admin
                .extend(ready(name, fds.take_unix_listener(index))?),
            other => return Err(ListenError::UnknownName(other.to_owned())),
        }
    }
    Ok(passed)
}

/// A socket that one can accept on.
fn ready<L: AsFd>(name: &str, taken: io::Result<Option<L>>) -> Result<Option<L>, ListenError> {
    let wrong = |cause| ListenError::WrongKind {
        name: name.to_owned(),
        cause,
    };
    let Some(listener) = taken.map_err(wrong)? else {
        return Ok(None);
    };
    let is_listening = socket_acceptconn(&listener).map_err(|errno| wrong(errno.into()))?;
    if !is_listening {
        return Err(ListenError::Deaf(name.to_owned()));
    }
    // One that blocks would stop the runtime's thread on accept.
    rustix::io::ioctl_fionbio(&listener, true).map_err(|errno| wrong(errno.into()))?;
    Ok(Some(listener))
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

    #[test]
    fn each_descriptor_has_a_name() {
        for (count, names) in [
            ("", ""),
            ("0", ""),
            ("1", ""),
            ("2", "http:admin"),
            ("-1", "http"),
        ] {
            assert!(are_named(count, names).is_ok(), "{count} {names}");
        }
        for (count, names) in [("2", ""), ("2147483647", "http:admin"), ("3", "http:admin")] {
            assert!(matches!(
                are_named(count, names),
                Err(ListenError::Nameless { .. })
            ));
        }
    }
}
