//! [`Access`]: who comes in, put together from the settings, the file of tokens and the system's users, and what outlives a
//! reload of them.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use tokio::sync::watch;

use super::{Addresses, Failure, admins::Admins};
use crate::{
    access::Tokens,
    config::{Settings, exit, text::MAX_TOKENS},
    http::{Door, Http, Keys, Rates, Sessions},
    systemd::catalog,
};

/// Who comes in.
#[derive(Debug)]
pub(super) struct Access {
    door: watch::Sender<Door>,
    sessions: Arc<Sessions>,
    used: Arc<Rates>,
    admins: Arc<Admins>,
}

impl Access {
    /// Reads the tokens.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let used = Arc::default();
        let door = door(settings, &used).map_err(|text| Failure::new(exit::CONFIG, text))?;
        Ok(Self {
            door: watch::Sender::new(door),
            sessions: Arc::default(),
            used,
            admins: Admins::of_system(settings),
        })
    }

    /// Reads the tokens again. An error says why the old ones stay.
    pub(super) fn read_again(
        &self,
        settings: &Settings,
        addresses: &Addresses,
    ) -> Result<Door, String> {
        let door = door(settings, &self.used)?;
        let reachable = addresses.http.iter().find(|one| one.is_reachable());
        if let Some(one) = reachable.filter(|_| !settings.may_be_reached()) {
            return Err(format!(
                "tokens: can't be taken away while the daemon listens on {one}, which can be reached from other machines"
            ));
        }
        Ok(door)
    }

    /// Has `door` and what else the settings say hold from now on.
    pub(super) fn renew(&self, door: Door, settings: &Settings) -> Changed {
        let tokens = match (&*self.door.borrow(), &door) {
            (Door::Tokens(old), Door::Tokens(new)) => old.tokens != new.tokens,
            (Door::Open, Door::Open) => false,
            _ => true,
        };
        let users = self.admins.renew(settings);
        // After the users: who waits for it asks then who may still do what.
        drop(self.door.send_replace(door));
        // After the door: who logs in meanwhile asks it last.
        let door = self.door.borrow();
        self.sessions.keep(|token| door.knows(token));
        Changed { tokens, users }
    }

    /// Sets what is asked of those who come by TCP.
    pub(super) fn guard<B>(&self, http: &mut Http<B>, settings: &Settings) {
        let doors = self.door.subscribe();
        http.door = doors.borrow().clone();
        http.doors = Some(doors);
        http.sessions = Arc::clone(&self.sessions);
        http.hosts = Some(hosts(settings));
    }

    /// Sets the same of those who come by the admin socket.
    pub(super) fn guard_admin<B>(&self, http: &mut Http<B>) {
        http.door = Door::Users;
        http.doors = Some(self.door.subscribe());
    }

    pub(super) fn admins(&self) -> Arc<Admins> {
        Arc::clone(&self.admins)
    }

    /// Says what it means that there are no tokens, or that they can be read on the way.
    pub(super) fn tell(&self, addresses: &Addresses) {
        let door = self.door.borrow();
        if matches!(&*door, Door::Open) {
            let reachable = addresses.http.iter().filter(|one| one.is_reachable());
            let reachable: Vec<_> = reachable.map(ToString::to_string).collect();
            if !reachable.is_empty() {
                tracing::warn!(
                    message_id = catalog::OPEN_TO_ALL.id,
                    addresses = reachable.join(" "),
                    "{}",
                    catalog::OPEN_TO_ALL.line
                );
            } else if !addresses.http.is_empty() {
                tracing::info!(
                    message_id = catalog::NO_TOKENS.id,
                    "{}",
                    catalog::NO_TOKENS.line
                );
            }
            return;
        }
        for one in &addresses.http {
            if !one.tls && one.is_reachable() {
                tracing::warn!(
                    address = %one,
                    "tokens go over the network as they are: use https:// here, or a proxy that does"
                );
            }
        }
    }
}

/// Of whom a reload may have changed what they may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed {
    /// Those who show a token: one was revoked, added or changed.
    pub(super) tokens: bool,
    /// Users of this machine.
    pub(super) users: bool,
}

/// Whether the tokens can be used, without using them.
pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    door(settings, &Arc::default())
        .map(drop)
        .map_err(|text| Failure::new(exit::CONFIG, text))
}

fn door(settings: &Settings, used: &Arc<Rates>) -> Result<Door, String> {
    let access = &settings.access;
    let Some(path) = &access.tokens else {
        return Ok(Door::Open);
    };
    let tokens = read(path).map_err(|reason| format!("tokens: {}: {reason}", path.display()))?;
    Ok(Door::Tokens(Arc::new(Keys {
        tokens,
        rate: access.token_rate,
        burst: access.token_burst,
        used: Arc::clone(used),
    })))
}

/// The tokens in a file that nobody but root and the daemon's user can change.
fn read(path: &Path) -> Result<Tokens, String> {
    // A FIFO would be waited for.
    let file = fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|cause| cause.to_string())?;
    let about = file.metadata().map_err(|cause| cause.to_string())?;
    if !about.is_file() {
        return Err("is no file".to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if about.mode() & 0o022 != 0 {
        return Err("can be written by others than its owner: chmod go-w".to_owned());
    }
    if about.uid() != 0 && about.uid() != own {
        return Err(format!(
            "belongs to the user {}: it must be root's or the daemon's",
            about.uid()
        ));
    }
    let mut text = String::new();
    file.take(MAX_TOKENS + 1)
        .read_to_string(&mut text)
        .map_err(|cause| cause.to_string())?;
    if text.len() as u64 > MAX_TOKENS {
        return Err(format!("is larger than {MAX_TOKENS} bytes"));
    }
    Tokens::parse(&text).map_err(|error| error.to_string())
}

/// The configured names, and the machine's own.
fn hosts(settings: &Settings) -> Arc<[Box<str>]> {
    let own = rustix::system::uname();
    let own = own.nodename().to_string_lossy().into_owned();
    settings
        .access
        .hosts
        .iter()
        .map(String::as_str)
        .chain([own.as_str()])
        .map(Box::from)
        .collect()
}
