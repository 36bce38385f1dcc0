//! [`Accounts`]: what the system's databases say of users and of the group of admins, asked where nobody else waits for it.
//!
//! They may be on another machine (LDAP, sssd) and answer late or never, and a question holds its thread until then. So each has a
//! thread of its own; there is one at a time about each user and few in all, so that nobody can have many threads started; and
//! who comes waits for [`PATIENCE`] at most.
//!
//! Knows users and groups, not what they may do.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;
use nix::{errno::Errno, unistd};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

/// How long an answer is waited for, from when it was first asked for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is good for further connections of the same user.
const GOOD: Duration = Duration::from_secs(5);
/// How many questions about users are asked at once.
const AT_ONCE: usize = 4;

/// The system's databases. An error: they can't be asked.
pub(super) trait Databases: fmt::Debug + Send + Sync {
    /// The name of the user with this number.
    fn name_of(&self, uid: u32) -> io::Result<Option<String>>;
    /// The number of the user with this name.
    fn number_of(&self, name: &str) -> io::Result<Option<u32>>;
    /// A group by its name.
    fn group(&self, name: &str) -> io::Result<Option<Members>>;
}

/// A group of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) gid: u32,
    pub(super) names: Vec<String>,
}

/// Those of this machine, as `/etc/nsswitch.conf` says.
#[derive(Debug)]
pub(super) struct System;

impl Databases for System {
    fn name_of(&self, uid: u32) -> io::Result<Option<String>> {
        let user = found(unistd::User::from_uid(uid.into()))?;
        Ok(user.map(|user| user.name))
    }

    fn number_of(&self, name: &str) -> io::Result<Option<u32>> {
        let user = found(unistd::User::from_name(name))?;
        Ok(user.map(|user| user.uid.as_raw()))
    }

    fn group(&self, name: &str) -> io::Result<Option<Members>> {
        let group = found(unistd::Group::from_name(name))?;
        Ok(group.map(|group| {
            let mut names = group.mem;
            // In whatever order the databases tell of them.
            names.sort();
            Members {
                gid: group.gid.as_raw(),
                names,
            }
        }))
    }
}

/// Some errors say that there is no such user or group (getpwnam(3), "ERRORS").
fn found<T>(answer: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        other => Ok(other?),
    }
}

/// What was found of a user.
#[derive(Debug)]
pub(super) struct Account {
    /// The name; none: no user has this number.
    pub(super) name: Option<Arc<str>>,
    /// The group of admins; none: there is no such group.
    pub(super) group: Option<Members>,
}

/// No answer, or none in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unasked(Arc<str>);

impl Unasked {
    fn late() -> Self {
        Self("no answer came in time".into())
    }
}

impl From<io::Error> for Unasked {
    fn from(error: io::Error) -> Self {
        Self(error.to_string().into())
    }
}

/// What came of a question, and when.
type Answer = (Instant, Result<Arc<Account>, Unasked>);

/// A question about a user.
#[derive(Debug, Clone)]
struct Question {
    begun: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

impl Question {
    /// Whether it needs no other now: it is still being asked, or its answer is good.
    fn stands(&self) -> bool {
        match &*self.answer.borrow() {
            // Closed: the thread that asked has ended without a word.
            None => self.answer.has_changed().is_ok(),
            Some((at, Ok(_))) => at.elapsed() < GOOD,
            Some((_, Err(_))) => false,
        }
    }

    fn is_answered(&self) -> bool {
        self.answer.borrow().is_some()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Accounts {
    databases: Arc<dyn Databases>,
    /// The name of the group of admins.
    group: Arc<str>,
    patience: Duration,
    turns: Arc<Semaphore>,
    asked: Mutex<HashMap<u32, Question>>,
}

impl Accounts {
    pub(super) fn new(group: &str, databases: Arc<dyn Databases>, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            databases,
            group: group.into(),
            patience,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            asked: Mutex::default(),
        })
    }

    /// What the databases say of a user as of now, or as of some seconds ago.
    pub(super) async fn of(&self, uid: u32) -> Result<Arc<Account>, Unasked> {
        let mut question = self.question(uid);
        let answer = question.answer.wait_for(Option::is_some);
        match timeout_at(question.begun + self.patience, answer).await {
            Ok(Ok(answer)) => match &*answer {
                Some((_, found)) => found.clone(),
                None => Err(Unasked::late()),
            },
            // Whoever was to ask is gone, or late.
            Ok(Err(_)) | Err(_) => Err(Unasked::late()),
        }
    }

    /// Has the next one who comes as this user ask again. A question that is still asked stands.
    pub(super) fn forget(&self, uid: u32) {
        let mut asked = self.lock();
        if asked.get(&uid).is_some_and(Question::is_answered) {
            asked.remove(&uid);
        }
    }

    /// The same of all users, also of those about whom a question is being asked: something has changed since.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    /// Asks something, and waits on this thread. None: no answer came in time.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Databases, &str) -> T + Send + 'static,
    ) -> Option<T> {
        let (databases, group) = (Arc::clone(&self.databases), Arc::clone(&self.group));
        let (tell, told) = bounded(1);
        let started = start(move || {
            // Whoever asked may have gone by now.
            tell.send(what(&*databases, &group)).unwrap_or_default();
        });
        match started {
            Ok(()) => told.recv_timeout(self.patience).ok(),
            Err(error) => {
                tracing::warn!(%error, "no thread to look up users on");
                None
            }
        }
    }

    /// The question about this user that stands, or a new one.
    fn question(&self, uid: u32) -> Question {
        let mut asked = self.lock();
        asked.retain(|_, question| question.stands());
        let begin = || {
            let (tell, answer) = watch::channel(None);
            let begun = Instant::now();
            tokio::spawn(in_turn(
                Arc::clone(&self.turns),
                begun + self.patience,
                tell,
                self.look_up(uid),
            ));
            Question { begun, answer }
        };
        asked.entry(uid).or_insert_with(begin).clone()
    }

    fn look_up(&self, uid: u32) -> impl FnOnce() -> io::Result<Account> + Send + use<> {
        let (databases, group) = (Arc::clone(&self.databases), Arc::clone(&self.group));
        move || {
            Ok(Account {
                name: databases.name_of(uid)?.map(Arc::from),
                group: databases.group(&group)?,
            })
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Question>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a thread look up an account, when it is this question's turn.
async fn in_turn(
    turns: Arc<Semaphore>,
    deadline: Instant,
    tell: watch::Sender<Option<Answer>>,
    look_up: impl FnOnce() -> io::Result<Account> + Send + 'static,
) {
    let tell = Arc::new(tell);
    let answer = |found| Some((Instant::now(), found));
    let Ok(Ok(turn)) = timeout_at(deadline, turns.acquire_owned()).await else {
        tell.send_replace(answer(Err(Unasked::late())));
        return;
    };
    let of_thread = Arc::clone(&tell);
    let started = start(move || {
        let found = look_up().map(Arc::new).map_err(Unasked::from);
        drop(turn);
        of_thread.send_replace(answer(found));
    });
    if let Err(error) = started {
        tell.send_replace(answer(Err(error.into())));
    }
}

fn start(what: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("accounts".to_owned())
        .spawn(what)
        .map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Databases that answer when they may. User 7 is `user7`.
    #[derive(Debug)]
    pub(in crate::daemon) struct Fake {
        pub(in crate::daemon) group: Mutex<Option<Members>>,
        /// Taken by whoever has the databases stand still.
        pace: Mutex<()>,
        questions: AtomicUsize,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
    }

    impl Fake {
        pub(in crate::daemon) fn new(members: &[&str]) -> Arc<Self> {
            Arc::new(Self {
                group: Mutex::new(Some(Members {
                    gid: u32::MAX - 1,
                    names: members.iter().map(ToString::to_string).collect(),
                })),
                pace: Mutex::default(),
                questions: AtomicUsize::new(0),
                at_once: AtomicUsize::new(0),
                most_at_once: AtomicUsize::new(0),
            })
        }

        /// Has nobody get an answer.
        pub(in crate::daemon) fn stand_still(self: &Arc<Self>) -> Still {
            let (let_go, going) = bounded::<()>(0);
            let (held, holds) = bounded(1);
            let fake = Arc::clone(self);
            // A thread's own guard, as none may be held where something is awaited.
            let holder = thread::Builder::new().spawn(move || {
                let _still = fake.pace.lock().unwrap();
                held.send(()).unwrap();
                going.recv().unwrap_err();
            });
            holds.recv().unwrap();
            Still {
                let_go,
                holder: holder.unwrap(),
            }
        }

        fn in_pace(&self) {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            drop(self.pace.lock().unwrap());
            self.at_once.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// As long as nobody gets an answer.
    pub(in crate::daemon) struct Still {
        let_go: crossbeam_channel::Sender<()>,
        holder: thread::JoinHandle<()>,
    }

    impl Still {
        pub(in crate::daemon) fn go_on(self) {
            drop(self.let_go);
            self.holder.join().unwrap();
        }
    }

    impl Databases for Fake {
        fn name_of(&self, uid: u32) -> io::Result<Option<String>> {
            self.questions.fetch_add(1, Ordering::SeqCst);
            self.in_pace();
            Ok(Some(format!("user{uid}")))
        }

        fn number_of(&self, name: &str) -> io::Result<Option<u32>> {
            self.in_pace();
            Ok(name.strip_prefix("user").and_then(|uid| uid.parse().ok()))
        }

        fn group(&self, _: &str) -> io::Result<Option<Members>> {
            self.in_pace();
            Ok(self.group.lock().unwrap().clone())
        }
    }

    #[tokio::test]
    async fn one_answer_is_for_all_who_come_as_a_user_at_a_time() {
        let fake = Fake::new(&["user7"]);
        let accounts = Accounts::new("workqueue", fake.clone(), PATIENCE);
        let still = fake.stand_still();
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let accounts = Arc::clone(&accounts);
                tokio::spawn(async move { accounts.of(7).await.unwrap() })
            })
            .collect();
        still.go_on();
        for one in waiting {
            assert_eq!(one.await.unwrap().name.as_deref(), Some("user7"));
        }
        assert_eq!(fake.questions.load(Ordering::SeqCst), 1);
        accounts.forget(7);
        accounts.of(7).await.unwrap();
        assert_eq!(fake.questions.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn who_is_asked_about_in_vain_waits_for_a_bounded_time_and_starts_a_bounded_number_of_threads()
     {
        let fake = Fake::new(&[]);
        let patience = Duration::from_secs(1);
        let accounts = Accounts::new("workqueue", fake.clone(), patience);
        let still = fake.stand_still();
        let begun = Instant::now();
        let waiting: Vec<_> = (0..3 * AT_ONCE as u32)
            .map(|uid| {
                let accounts = Arc::clone(&accounts);
                tokio::spawn(async move { accounts.of(uid).await.map(drop) })
            })
            .collect();
        for one in waiting {
            let refused = one.await.unwrap().unwrap_err();
            assert_eq!(refused.to_string(), "no answer came in time");
        }
        assert!(begun.elapsed() < 2 * AT_ONCE as u32 * patience);
        assert_eq!(fake.most_at_once.load(Ordering::SeqCst), AT_ONCE);
        // What is still being asked is not asked a second time.
        let begun = Instant::now();
        accounts.of(0).await.unwrap_err();
        accounts.forget(0);
        accounts.of(0).await.unwrap_err();
        assert!(begun.elapsed() < patience, "nobody waits anew");
        assert_eq!(fake.most_at_once.load(Ordering::SeqCst), AT_ONCE);
        still.go_on();
        while accounts.of(1000).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn the_systems_databases_know_root() {
        assert_eq!(System.name_of(0).unwrap().as_deref(), Some("root"));
        assert_eq!(System.number_of("root").unwrap(), Some(0));
        assert_eq!(System.number_of("no-such-user-here").unwrap(), None);
        assert_eq!(System.group("no-such-group-here").unwrap(), None);
    }
}
