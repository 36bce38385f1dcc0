//! [`Admins`]: which users of this machine may use the admin socket, and for what.
//!
//! Knows settings and users, not how the databases of users are asked.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::net::unix::UCred;

use super::accounts::{Accounts, Databases, Members, PATIENCE, System, Unasked};
use crate::{
    access::{Grant, Scopes},
    config::Settings,
    http::{NoStanding, Standing},
};

/// Who may use the admin socket.
#[derive(Debug)]
pub(super) struct Admins {
    /// Root, and our own user: they come often, nobody else gets their numbers, and no database is asked about them.
    always: [(u32, Arc<Grant>); 2],
    accounts: Arc<Accounts>,
    lately: RwLock<Lately>,
    /// How often the settings were read again: what was found before is looked up again.
    edition: AtomicU64,
}

/// What the settings and the databases said at the start or the last reload.
#[derive(Debug, Default, Clone)]
struct Lately {
    users: Vec<Named>,
    /// The group of admins; none: there was none, or no answer.
    group: Option<Members>,
    /// As it was when there last was one.
    members: Option<Members>,
}

/// A user whom the settings name.
#[derive(Debug, Clone)]
struct Named {
    /// By name or number.
    user: String,
    /// The number of that name, as far as it is known.
    uid: Option<u32>,
    scopes: Scopes,
}

/// Who is at the other end, and the group of admins as the databases told of it.
struct Who<'a> {
    peer: UCred,
    /// The name, or the number where there is none; none: the databases were not asked.
    name: Option<&'a str>,
    group: Option<&'a Members>,
}

impl Admins {
    /// Those of this system.
    pub(super) fn of_system(settings: &Settings) -> Arc<Self> {
        Self::new(settings, Arc::new(System), PATIENCE)
    }

    fn new(settings: &Settings, databases: Arc<dyn Databases>, patience: Duration) -> Arc<Self> {
        let accounts = Accounts::new(&settings.admin_group, databases, patience);
        let numbers = [0, rustix::process::geteuid().as_raw()];
        let names = accounts
            .ask(move |databases, _| numbers.map(|uid| databases.name_of(uid).ok().flatten()));
        let [root, own] = names.unwrap_or_default();
        let grant = |uid: u32, name: Option<String>| {
            let name = name.unwrap_or_else(|| uid.to_string());
            (uid, Arc::new(Grant::all(&name)))
        };
        let (lately, _) = Lately::default().renewed(settings, &accounts);
        Arc::new(Self {
            always: [grant(numbers[0], root), grant(numbers[1], own)],
            accounts,
            lately: RwLock::new(lately),
            edition: AtomicU64::new(0),
        })
    }

    /// Gives whether they are others than before: those in the settings, or the group's members. Blocks its thread, for a bounded
    /// time.
    pub(super) fn renew(&self, settings: &Settings) -> bool {
        // Not under the lock: the databases may be slow.
        let before = self.lately().clone();
        let (next, are_others) = before.renewed(settings, &self.accounts);
        *self.lately.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.accounts.forget_all();
        // After them: who sees the new edition sees the new users.
        self.edition.fetch_add(1, Ordering::Release);
        are_others
    }

    /// The standing of a process with these credentials: everything for root, our own user and the group's members, and what
    /// the settings say for others. The file's mode says a part of it too; this holds also where a socket was passed on with
    /// another mode. Other users and the group are looked up for each connection, and again after each reload: who becomes a member
    /// need not wait for a restart (`tests/packages/installed.rs`), and who is none any more is out on connections that are kept, too.
    /// What was granted is good for further connections of some seconds.
    pub(super) async fn standing(
        self: Arc<Self>,
        peer: UCred,
    ) -> Result<Arc<dyn Standing>, NoStanding> {
        let known = self.look_up(peer).await?;
        Ok(Arc::new(OfPeer {
            peer,
            known: Arc::new(Mutex::new(known)),
            admins: self,
        }))
    }

    async fn look_up(&self, peer: UCred) -> Result<Known, NoStanding> {
        let edition = self.edition.load(Ordering::Acquire);
        let known = |name, grant| Known {
            edition,
            name,
            grant,
        };
        if let Some(grant) = self.always(peer) {
            return Ok(known(None, grant));
        }
        let account = match self.accounts.of(peer.uid()).await {
            Ok(account) => account,
            Err(unasked) => {
                return match self.unasked(peer, &unasked) {
                    Some(grant) => Ok(known(None, grant)),
                    None => Err(NoStanding::NotAsked(unasked.to_string())),
                };
            }
        };
        let name = account.name.clone().unwrap_or_else(|| number(peer));
        let who = Who {
            peer,
            name: Some(&name),
            group: account.group.as_ref(),
        };
        let Some(grant) = self.lately().grant(&who) else {
            // Who is let in a moment later is not to wait for that.
            self.accounts.forget(peer.uid());
            return Err(NoStanding::MayNothing);
        };
        Ok(known(Some(name), grant))
    }

    /// What one may do by the numbers that the databases told of when they last answered at a start or a reload.
    fn unasked(&self, peer: UCred, cause: &Unasked) -> Option<Arc<Grant>> {
        let lately = self.lately();
        let grant = lately.grant(&Who {
            peer,
            name: None,
            group: lately.group.as_ref(),
        })?;
        tracing::debug!(%cause, uid = peer.uid(), "a user is let in by number: no name can be looked up");
        Some(grant)
    }

    fn always(&self, peer: UCred) -> Option<Arc<Grant>> {
        let mut always = self.always.iter();
        let (_, grant) = always.find(|(one, _)| *one == peer.uid())?;
        Some(Arc::clone(grant))
    }

    fn lately(&self) -> RwLockReadGuard<'_, Lately> {
        self.lately.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lately {
    /// What the settings say now, and what the databases say to it; and whether others may come in than before.
    fn renewed(self, settings: &Settings, accounts: &Accounts) -> (Self, bool) {
        let before = self.users;
        let users = settings.access.users.clone();
        let names: Vec<String> = users.iter().map(|(user, _)| user.clone()).collect();
        // By itself: the group may be one of the machine's own, and a user's name hang.
        let group = accounts.ask(|databases, group| databases.group(group).ok());
        let found = accounts.ask(move |databases, _| {
            let number = |user: &String| databases.number_of(user).ok();
            names
                .iter()
                .map(number)
                .collect::<Vec<Option<Option<u32>>>>()
        });
        if group.is_none() || found.is_none() {
            tracing::warn!("the system's users can't be looked up in time");
        }
        // Databases that are out of reach for a moment tell of no change.
        let group = group.flatten().unwrap_or(self.group);
        let mut numbers = found.unwrap_or_default().into_iter();
        let named = |(user, scopes): (String, Scopes)| {
            // One that can't be looked up just now has the number that it had.
            let old = || before.iter().find(|one| one.user == user)?.uid;
            let uid = numbers.next().flatten().unwrap_or_else(old);
            Named { user, uid, scopes }
        };
        let users: Vec<Named> = users.into_iter().map(named).collect();
        let said = |users: &[Named]| -> Vec<(String, Scopes)> {
            let said = users.iter().map(|one| (one.user.clone(), one.scopes));
            said.collect()
        };
        let has_changed = group.is_some() && self.members != group;
        let are_others = has_changed || said(&before) != said(&users);
        let members = group.clone().or(self.members);
        let lately = Self {
            users,
            group,
            members,
        };
        (lately, are_others)
    }

    fn grant(&self, who: &Who<'_>) -> Option<Arc<Grant>> {
        let number = number(who.peer);
        if who.is_member() {
            return Some(Arc::new(Grant::all(who.name.unwrap_or(&number))));
        }
        let is_meant = |one: &&Named| match who.name {
            _ if *one.user == *number => true,
            Some(name) => one.user == name,
            None => one.uid == Some(who.peer.uid()),
        };
        let named = self.users.iter().find(is_meant)?;
        Some(Arc::new(Grant {
            name: who.name.unwrap_or(&named.user).into(),
            scopes: named.scopes,
            queues: None,
        }))
    }
}

impl Who<'_> {
    fn is_member(&self) -> bool {
        self.group.is_some_and(|group| {
            let has_name = |name: &str| group.names.iter().any(|member| member == name);
            self.peer.gid() == group.gid || self.name.is_some_and(has_name)
        })
    }
}

/// What the process at the other end of a connection may do.
#[derive(Debug)]
struct OfPeer {
    admins: Arc<Admins>,
    peer: UCred,
    known: Arc<Mutex<Known>>,
}

/// What one was found to be granted, under which name, and after which reload.
#[derive(Debug)]
struct Known {
    edition: u64,
    name: Option<Arc<str>>,
    grant: Arc<Grant>,
}

fn number(peer: UCred) -> Arc<str> {
    peer.uid().to_string().into()
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admins {
    fn is_current(&self, known: &Known) -> bool {
        known.edition == self.edition.load(Ordering::Acquire)
    }
}

impl Standing for OfPeer {
    /// After a reload, and until the user was looked up again: by the name of before, and the group as the reload found it.
    fn grant(&self) -> Option<Arc<Grant>> {
        let known = lock(&self.known);
        if self.admins.is_current(&known) {
            return Some(Arc::clone(&known.grant));
        }
        if let Some(grant) = self.admins.always(self.peer) {
            return Some(grant);
        }
        let lately = self.admins.lately();
        lately.grant(&Who {
            peer: self.peer,
            name: known.name.as_deref(),
            group: lately.group.as_ref(),
        })
    }

    /// Looks the user up again only after a reload: that asks the system's databases. What was not granted is not kept: these may
    /// have been out of reach.
    fn renewed(&self) -> Option<BoxFuture<'static, ()>> {
        if self.admins.is_current(&lock(&self.known)) {
            return None;
        }
        let (admins, peer) = (Arc::clone(&self.admins), self.peer);
        let known = Arc::clone(&self.known);
        Some(
            async move {
                let found = admins.look_up(peer).await;
                let mut known = lock(&known);
                match found {
                    Ok(found) => *known = found,
                    // The name may be another's by now.
                    Err(NoStanding::MayNothing) => known.name = Some(number(peer)),
                    Err(NoStanding::NotAsked(_)) => {}
                }
            }
            .boxed(),
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::{
        access::Scope,
        config::{Flags, Surroundings},
        daemon::accounts::tests::Fake,
    };

    fn settings(users: &[(&str, Scopes)]) -> Settings {
        let surroundings = Surroundings::of_test(1000, &[("HOME", "/home/ada")]);
        let mut settings = Settings::load(&Flags::default(), &surroundings).unwrap();
        let users = users
            .iter()
            .map(|(user, scopes)| ((*user).to_owned(), *scopes));
        settings.access.users = users.collect();
        settings
    }

    /// To whom whoever runs this test comes by what the databases say only.
    fn admins(settings: &Settings, fake: &Arc<Fake>) -> Arc<Admins> {
        let patience = Duration::from_secs(1);
        let mut admins = Admins::new(settings, Arc::clone(fake) as Arc<dyn Databases>, patience);
        let nobody = (u32::MAX - 1, Arc::new(Grant::all("nobody")));
        Arc::get_mut(&mut admins).unwrap().always = [nobody.clone(), nobody];
        admins
    }

    fn peer() -> UCred {
        let (_near, far) = UnixStream::pair().unwrap();
        far.peer_cred().unwrap()
    }

    fn own_name() -> String {
        format!("user{}", peer().uid())
    }

    async fn renewed(standing: &Arc<dyn Standing>) -> Option<Arc<Grant>> {
        if let Some(renewed) = standing.renewed() {
            renewed.await;
        }
        standing.grant()
    }

    #[tokio::test]
    async fn who_leaves_the_group_is_out_after_a_reload_on_connections_that_are_kept_too() {
        let fake = Fake::new(&[&own_name()]);
        let settings = settings(&[]);
        let admins = admins(&settings, &fake);
        let standing = Arc::clone(&admins).standing(peer()).await.unwrap();
        assert!(!admins.renew(&settings), "nothing has changed");
        assert!(renewed(&standing).await.is_some());
        fake.group.lock().unwrap().as_mut().unwrap().names.clear();
        assert!(renewed(&standing).await.is_some(), "nobody has looked");
        assert!(admins.renew(&settings), "others may come in");
        assert_eq!(standing.grant(), None);
        assert_eq!(renewed(&standing).await, None);
        let refused = Arc::clone(&admins).standing(peer()).await.unwrap_err();
        assert_eq!(refused, NoStanding::MayNothing);
    }

    #[tokio::test]
    async fn who_joins_the_group_is_let_in_at_once() {
        let fake = Fake::new(&[]);
        let admins = admins(&settings(&[]), &fake);
        let refused = Arc::clone(&admins).standing(peer()).await.unwrap_err();
        assert_eq!(refused, NoStanding::MayNothing);
        let mut group = fake.group.lock().unwrap().clone().unwrap();
        group.names.push(own_name());
        *fake.group.lock().unwrap() = Some(group);
        Arc::clone(&admins).standing(peer()).await.unwrap();
    }

    #[tokio::test]
    async fn where_the_databases_stand_still_root_and_those_whose_numbers_are_known_come_in_and_others_are_told()
     {
        let fake = Fake::new(&[&own_name()]);
        let scopes: Scopes = [Scope::Read].into_iter().collect();
        let named = settings(&[(&own_name(), scopes)]);
        let unnamed = settings(&[]);
        let mut with_root = admins(&unnamed, &fake);
        let own = (peer().uid(), Arc::new(Grant::all("root")));
        Arc::get_mut(&mut with_root).unwrap().always[0] = own;
        let (by_name, by_number) = (admins(&unnamed, &fake), admins(&named, &fake));
        let still = fake.stand_still();
        let not_asked = by_name.standing(peer()).await.unwrap_err();
        assert_eq!(
            not_asked,
            NoStanding::NotAsked("no answer came in time".to_owned())
        );
        let standing = Arc::clone(&by_number).standing(peer()).await.unwrap();
        assert_eq!(standing.grant().unwrap().scopes, scopes);
        assert!(!by_number.renew(&named), "no answer tells of no change");
        assert_eq!(renewed(&standing).await.unwrap().scopes, scopes);
        let root = with_root.standing(peer());
        assert!(root.now_or_never().unwrap().is_ok());
        still.go_on();
        // Until the question that was asked before has its answer.
        loop {
            let standing = Arc::clone(&by_number).standing(peer()).await.unwrap();
            if standing.grant().unwrap().scopes.allow(Scope::Admin) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
