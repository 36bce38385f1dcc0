//! Where the daemon listens: what the service manager passed on, or what the settings say.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::Group;
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::{Addresses, Failure, control::tried};
use crate::{
    config::{Listen, Settings, exit},
    systemd::listen,
};

/// Bytes of an answer that the kernel takes beyond what it has sent: a client that reads is kept busy by them.
const UNSENT: u32 = 128 << 10;

/// Open sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Each with whether TLS is spoken on it.
    pub(super) http: Vec<(TcpListener, bool)>,
    pub(super) admin: Vec<UnixListener>,
    /// Whether the admin socket's file was made here.
    pub(super) own_admin: bool,
    path: Option<PathBuf>,
}

impl Sockets {
    pub(super) fn addresses(&self) -> Addresses {
        let http = self
            .http
            .iter()
            .filter_map(|(listener, tls)| {
                let address = listener.local_addr().ok()?;
                Some(Listen { address, tls: *tls })
            })
            .collect();
        Addresses {
            http,
            admin: self.path.clone(),
        }
    }
}

/// Opens what is to be listened on.
pub(super) fn open(settings: &Settings) -> Result<Sockets, Failure> {
    let passed = listen::take().map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    let odd = |error: io::Error| {
        Failure::new(exit::OSERR, tried("a socket that was passed on", &error)).because(&error)
    };
    let mut http = Vec::new();
    let mut admin = Vec::new();
    if !passed.https.is_empty() && settings.tls.is_none() {
        let text =
            "the socket unit passes a descriptor named \"https\", and there is no tls.certificate";
        return Err(Failure::new(exit::CONFIG, text));
    }
    let plain = passed.http.into_iter().map(|listener| (listener, false));
    let secure = passed.https.into_iter().map(|listener| (listener, true));
    for (listener, tls) in plain.chain(secure) {
        let address = listener.local_addr().map_err(odd)?;
        if !address.ip().is_loopback() && !settings.may_be_reached() {
            let text = format!(
                "the socket unit listens on {address}, which can be reached from other machines, and there are no tokens; \
                 listen on 127.0.0.1, set tokens, or set insecure = true if everybody may do everything"
            );
            return Err(Failure::new(exit::CONFIG, text));
        }
        http.push((TcpListener::from_std(listener).map_err(odd)?, tls));
    }
    for listener in passed.admin {
        admin.push(UnixListener::from_std(listener).map_err(odd)?);
    }
    if http.is_empty() {
        for one in &settings.listen {
            http.push((tcp(one.address)?, one.tls));
        }
    }
    for (listener, _) in &http {
        keep_unsent_here(listener);
    }
    let own_admin = admin.is_empty();
    if own_admin {
        admin.push(unix(settings)?);
    }
    Ok(Sockets {
        http,
        admin,
        own_admin,
        path: Some(settings.admin_socket.clone()),
    })
}

/// Has the kernel take no more of an answer than it can soon send: what waits for a client that does not read is counted and
/// bounded here, and megabytes for each connection in the kernel's buffers would be neither. Connections inherit it.
fn keep_unsent_here(listener: &TcpListener) {
    if let Err(error) = SockRef::from(listener).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "the kernel keeps as much unsent as it likes");
    }
}

fn tcp(address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    let bind = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // As many as the kernel allows: a burst of connections waits, it is not refused.
        socket.listen(4096)
    };
    bind().map_err(|error| refused(address, &error).because(&error))
}

fn refused(address: std::net::SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(
            exit::UNAVAILABLE,
            format!("{address} is in use: stop what listens there, or give another --listen"),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            exit::NOPERM,
            format!("{address}: not permitted to listen there"),
        ),
        _ => Failure::new(exit::UNAVAILABLE, tried(&address.to_string(), error)),
    }
}

/// Opens the admin socket's file at `path` to those who may use it. Users who are named may be anybody: then their credentials are looked
/// at, not the file's mode.
pub(super) fn let_in(path: &Path, settings: &Settings) -> io::Result<()> {
    let mode = if settings.access.users.is_empty() {
        0o660
    } else {
        0o666
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn unix(settings: &Settings) -> Result<UnixListener, Failure> {
    let path = settings.admin_socket.as_path();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failure(parent, &error))?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failure(path, &error)),
        Ok(there) if !there.file_type().is_socket() => {
            let text = format!(
                "{} is there and is no socket: move it away, or give another --admin-socket",
                path.display()
            );
            return Err(Failure::new(exit::CANTCREAT, text));
        }
        // A socket that nobody listens on is what a daemon left that was killed.
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                let text = format!(
                    "{} is in use by another daemon: give another --admin-socket",
                    path.display()
                );
                return Err(Failure::new(exit::UNAVAILABLE, text));
            }
            Err(_) => std::fs::remove_file(path).map_err(|error| failure(path, &error))?,
        },
    }
    // Nobody may connect before mode and group are right: the file is made closed, and opened when they are.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| failure(path, &error))?;
    give_to_group(path, &settings.admin_group);
    let_in(path, settings).map_err(|error| failure(path, &error))?;
    Ok(listener)
}

fn give_to_group(path: &Path, group: &str) {
    match Group::from_name(group) {
        Ok(Some(found)) => {
            if let Err(error) = std::os::unix::fs::chown(path, None, Some(found.gid.as_raw())) {
                tracing::debug!(%error, group, "the admin socket stays with our own group");
            }
        }
        Ok(None) => tracing::debug!(
            group,
            "there is no such group: the admin socket stays with our own"
        ),
        Err(error) => tracing::warn!(%error, group, "can't look up the group of the admin socket"),
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::PermissionDenied {
        exit::NOPERM
    } else {
        exit::CANTCREAT
    };
    Failure::new(code, tried(&path.display().to_string(), error)).because(error)
}

/// Removes the admin socket's file when the daemon has stopped.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "can't remove the admin socket");
    }
}
