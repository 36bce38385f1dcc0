//! Where the daemon listens: what the service manager passed on, or what the settings say.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, statat};
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::{
    Addresses, Failure,
    accounts::{Accounts, PATIENCE, System},
    control::tried,
};
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
    /// The admin socket's file, where it was made here.
    pub(super) own_admin: Option<OwnSocket>,
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
    let mut own_admin = None;
    if admin.is_empty() {
        let (listener, own) = unix(settings)?;
        admin.push(listener);
        own_admin = Some(own);
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

/// The file of a socket that was made here. It goes when this is dropped, unless another daemon has put its own in its place: one
/// that starts while this one stops finds a socket that nobody listens on.
#[derive(Debug)]
pub(super) struct OwnSocket {
    path: PathBuf,
    /// The file itself. While it is open the file system gives its number to no other file, so that device and number say which
    /// one it is.
    file: OwnedFd,
}

impl OwnSocket {
    fn at(path: &Path) -> io::Result<Self> {
        // A socket can't be opened but so, as a place (open(2)).
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            file: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// Whether the file at the path is still this one.
    fn is_there(&self) -> io::Result<bool> {
        let there = match statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let own = fstat(&self.file)?;
        Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino))
    }

    fn remove(&self) -> io::Result<()> {
        if self.is_there()? {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "can't remove the admin socket");
        }
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

fn unix(settings: &Settings) -> Result<(UnixListener, OwnSocket), Failure> {
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
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| failure(path, &error))?;
    let own = OwnSocket::at(path).map_err(|error| failure(path, &error))?;
    give_to_group(path, &settings.admin_group);
    let_in(path, settings).map_err(|error| failure(path, &error))?;
    Ok((listener, own))
}

/// Gives the admin socket's file at `path` to the group of admins, if there is one.
pub(super) fn give_to_group(path: &Path, group: &str) {
    let accounts = Accounts::new(group, Arc::new(System), PATIENCE);
    match accounts.ask(|databases, group| databases.group(group)) {
        Some(Ok(Some(found))) => {
            if let Err(error) = std::os::unix::fs::chown(path, None, Some(found.gid)) {
                tracing::debug!(%error, group, "the admin socket stays with our own group");
            }
        }
        Some(Ok(None)) => tracing::debug!(
            group,
            "there is no such group: the admin socket stays with our own"
        ),
        Some(Err(error)) => {
            tracing::warn!(%error, group, "can't look up the group of the admin socket");
        }
        None => tracing::warn!(
            group,
            "nobody told in time of the group of the admin socket, which stays with our own"
        ),
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_goes_with_its_owner_and_what_another_put_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        drop(OwnSocket::at(&path).unwrap());
        assert!(!path.exists());
        // Not there any more, which is as good.
        let listener = UnixListener::bind(&path).unwrap();
        let own = OwnSocket::at(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!own.is_there().unwrap());
        // Its number is not given to the next one, as some file systems do at once, though nobody listens any more.
        drop(listener);
        let _other = UnixListener::bind(&path).unwrap();
        drop(own);
        assert!(path.exists());
    }
}
