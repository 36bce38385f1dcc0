//! [`Access`]: who comes in, put together from the settings, the file of tokens and the system's users, and what outlives a
//! reload of them.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::unistd::{Group, User};
use tokio::{net::unix::UCred, sync::watch};

use super::{Addresses, Failure};
use crate::{
    access::{Grant, Scopes, Tokens},
    config::{Settings, exit, text::MAX_TOKENS},
    http::{Door, Http, Keys, Rates, Sessions, Standing},
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
            admins: Arc::new(Admins::new(settings, members_of)),
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

/// Who may use the admin socket.
#[derive(Debug)]
pub(super) struct Admins {
    /// Root, and our own user: they come often, and nobody else gets their numbers.
    always: [(u32, Arc<Grant>); 2],
    group: String,
    look_up: LookUp,
    users: RwLock<Vec<(String, Scopes)>>,
    /// The group as the last reload found it.
    members: Mutex<Option<Members>>,
    /// How often they were read: what was found before is looked up again.
    edition: AtomicU64,
}

/// Asks the system's databases for a group by its name.
type LookUp = fn(&str) -> Option<Members>;

/// A group of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Members {
    gid: u32,
    names: Vec<String>,
}

fn members_of(group: &str) -> Option<Members> {
    let group = Group::from_name(group).ok().flatten()?;
    let mut names = group.mem;
    // In whatever order the databases tell of them.
    names.sort();
    Some(Members {
        gid: group.gid.as_raw(),
        names,
    })
}

impl Admins {
    fn new(settings: &Settings, look_up: LookUp) -> Self {
        Self {
            always: [0, rustix::process::geteuid().as_raw()]
                .map(|uid| (uid, Arc::new(Grant::all(&name_of(uid))))),
            members: Mutex::new(look_up(&settings.admin_group)),
            group: settings.admin_group.clone(),
            look_up,
            users: RwLock::new(settings.access.users.clone()),
            edition: AtomicU64::new(0),
        }
    }

    /// Gives whether they are others than before: those in the settings, or the group's members.
    fn renew(&self, settings: &Settings) -> bool {
        let found = (self.look_up)(&self.group);
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        // Databases that are out of reach for a moment tell of no change.
        let has_changed = found.is_some() && *members != found;
        let are_others = *users != settings.access.users || has_changed;
        users.clone_from(&settings.access.users);
        *members = found.or_else(|| members.take());
        // After them: who sees the new edition sees the new users.
        self.edition.fetch_add(1, Ordering::Release);
        are_others
    }

    /// The standing of a process with these credentials; none where it may do nothing.
    pub(super) fn standing(self: &Arc<Self>, peer: UCred) -> Option<Arc<dyn Standing>> {
        let edition = self.edition.load(Ordering::Acquire);
        let known = Mutex::new((edition, self.grant(peer)?));
        Some(Arc::new(OfPeer {
            admins: Arc::clone(self),
            peer,
            known,
        }))
    }

    /// What a process with these credentials may do: everything for root, our own user and the group's members, and what
    /// the settings say for others. The file's mode says a part of it too; this holds also where a socket was passed on with
    /// another mode. Other users and the group are looked up for each connection, and again after each reload: who becomes a member
    /// need not wait for a restart (`tests/packages/installed.rs`), and who is none any more is out on connections that are kept, too.
    fn grant(&self, peer: UCred) -> Option<Arc<Grant>> {
        let uid = peer.uid();
        if let Some((_, grant)) = self.always.iter().find(|(one, _)| *one == uid) {
            return Some(Arc::clone(grant));
        }
        let (name, number) = (name_of(uid), uid.to_string());
        if self.is_member(peer, &name) {
            return Some(Arc::new(Grant::all(&name)));
        }
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let (_, scopes) = users
            .iter()
            .find(|(one, _)| *one == name || *one == number)?;
        Some(Arc::new(Grant {
            name: name.into(),
            scopes: *scopes,
            queues: None,
        }))
    }

    fn is_member(&self, peer: UCred, name: &str) -> bool {
        let Some(group) = (self.look_up)(&self.group) else {
            return false;
        };
        peer.gid() == group.gid || group.names.iter().any(|member| member == name)
    }
}

/// What the process at the other end of a connection may do.
#[derive(Debug)]
struct OfPeer {
    admins: Arc<Admins>,
    peer: UCred,
    /// What it was found to be granted, and after which reload.
    known: Mutex<(u64, Arc<Grant>)>,
}

impl Standing for OfPeer {
    /// Looks the user up again only after a reload: that asks the system's databases. What was not granted is not kept: these may
    /// have been out of reach.
    fn grant(&self) -> Option<Arc<Grant>> {
        let edition = self.admins.edition.load(Ordering::Acquire);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != edition {
            *known = (edition, self.admins.grant(self.peer)?);
        }
        Some(Arc::clone(&known.1))
    }
}

/// The name of a user, or the number where there is none.
fn name_of(uid: u32) -> String {
    let user = User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::config::{Flags, Surroundings};

    static MEMBERS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn look_up(group: &str) -> Option<Members> {
        let names = MEMBERS.lock().unwrap().clone();
        let gid = u32::MAX - 1;
        (group == "workqueue").then_some(Members { gid, names })
    }

    #[tokio::test]
    async fn who_leaves_the_group_is_out_after_a_reload_on_connections_that_are_kept_too() {
        let surroundings = Surroundings::of_test(1000, &[("HOME", "/home/ada")]);
        let settings = Settings::load(&Flags::default(), &surroundings).unwrap();
        let (_near, far) = UnixStream::pair().unwrap();
        let peer = far.peer_cred().unwrap();
        MEMBERS.lock().unwrap().push(name_of(peer.uid()));
        let mut admins = Admins::new(&settings, look_up);
        // Whoever runs this test comes in by the group only.
        let nobody = (u32::MAX - 1, Arc::new(Grant::all("nobody")));
        admins.always = [nobody.clone(), nobody];
        let admins = Arc::new(admins);
        let standing = admins.standing(peer).unwrap();
        assert!(!admins.renew(&settings), "nothing has changed");
        assert!(standing.grant().is_some());
        MEMBERS.lock().unwrap().clear();
        assert!(standing.grant().is_some(), "nobody has looked");
        assert!(admins.renew(&settings), "others may come in");
        assert_eq!(standing.grant(), None);
        assert!(admins.standing(peer).is_none());
    }
}
