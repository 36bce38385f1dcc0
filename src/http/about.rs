//! [`About`]: the process, as pages and the admin API tell of it.
//!
//! Knows what is told, not how it is found out.

use std::net::SocketAddr;

use crate::{api, task::WallMillis};

/// What the process tells of itself.
pub trait About: Send + Sync + 'static {
    /// The process in a few facts.
    fn facts(&self) -> Facts;
    /// All settings, secrets hidden, by key.
    fn settings(&self) -> Vec<api::Setting>;
}

/// The process in a few facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: WallMillis,
    /// Its data directory.
    pub data_dir: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Its admin socket.
    pub admin_socket: Option<String>,
    /// `sync`, `interval` or `none`.
    pub durability: String,
}

impl Facts {
    /// Where a program on this machine finds the daemon: its first address, else its socket; `None`: nowhere.
    pub(crate) fn url(&self) -> Option<String> {
        let Some(listen) = self.listen.first() else {
            return self
                .admin_socket
                .as_ref()
                .map(|path| format!("unix:{path}"));
        };
        let (scheme, address) = match listen.strip_prefix("https://") {
            Some(address) => ("https", address),
            None => ("http", listen.as_str()),
        };
        Some(match address.parse::<SocketAddr>() {
            // Any address of the machine is one to listen on, not one to call.
            Ok(any) if any.ip().is_unspecified() => format!("{scheme}://localhost:{}", any.port()),
            _ => format!("{scheme}://{address}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_found_where_it_listens() {
        for (listen, socket, url) in [
            (
                &["127.0.0.1:8000", "[::1]:1"][..],
                None,
                Some("http://127.0.0.1:8000"),
            ),
            (&["https://[::]:5443"], None, Some("https://localhost:5443")),
            (&["0.0.0.0:80"], Some("/a"), Some("http://localhost:80")),
            (&[], Some("/run/a.sock"), Some("unix:/run/a.sock")),
            (&[], None, None),
        ] {
            let facts = Facts {
                version: String::new(),
                pid: 1,
                started: WallMillis(0),
                data_dir: String::new(),
                listen: listen.iter().map(ToString::to_string).collect(),
                admin_socket: socket.map(str::to_owned),
                durability: String::new(),
            };
            assert_eq!(facts.url().as_deref(), url);
        }
    }
}
