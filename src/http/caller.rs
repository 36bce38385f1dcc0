//! Who asks: [`Peer`], what is known of the other end of a connection, [`Door`], what is asked of one there, and [`Caller`],
//! what a handler is told of it.
//!
//! A connection may last for days, and an answer as long, and what its user, its certificate or its session is good for may change
//! meanwhile: [`Standing`] and [`Validity`] are asked for each request, and again while it is answered.
//!
//! Knows grants, not where tokens are kept or what a request wants.

use std::{convert::Infallible, fmt, net::IpAddr, sync::Arc, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts};
use futures_util::future::BoxFuture;

use super::{
    problem::{self, Problem},
    rates::Rates,
};
use crate::{
    access::{Fingerprint, Grant, Scope, Tokens},
    backend::{self, Backend, Error, Meant, TaskView},
    task::{QueueName, Refusal, TaskId},
};

/// The other end of a connection, among the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// From where; none on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether TLS is spoken.
    pub is_secure: bool,
    /// The certificate that it showed, if it has a name.
    pub certificate: Option<Certificate>,
    /// Whose process it is, on a Unix socket.
    pub user: Option<User>,
}

/// A user of this machine, as the kernel told of it.
#[derive(Debug, Clone)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// What the user may do.
    pub standing: Arc<dyn Standing>,
}

/// What a user may do, which a reload of the settings changes under open connections.
pub trait Standing: fmt::Debug + Send + Sync {
    /// What the user may do as of now; none: nothing any more. Asked for each request, so cheap where nothing has changed.
    fn grant(&self) -> Option<Arc<Grant>>;

    /// Ready when the user was looked up again, as far as that was possible: awaited before a request is judged. None: nothing has changed.
    fn renewed(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// Why one who comes by a Unix socket has no standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoStanding {
    /// The user may do nothing here.
    MayNothing,
    /// The system's users can't be looked up, and why.
    NotAsked(String),
}

/// A certificate that an authority of the settings was found to have signed.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The name in it.
    pub name: Arc<str>,
    /// Whether it is still good.
    pub validity: Arc<dyn Validity>,
}

/// Whether what was shown is still good: a certificate, until it runs out or other authorities are in the settings; a session,
/// until it ends.
pub trait Validity: fmt::Debug + Send + Sync {
    /// As of now. Asked for each request, so cheap where nothing has changed.
    fn holds(&self) -> bool;
}

/// How often what may run out by itself is looked at while a request is answered that came by it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What a user of this machine is told who may do nothing.
pub(super) fn no_admin(uid: u32) -> Problem {
    problem::FORBIDDEN.problem(format!(
        "the user with the number {uid} is neither root, nor the daemon's own, nor in its group, nor named in admin.users"
    ))
}

/// What a user is told of whom it can't be found out.
pub(super) fn not_asked(uid: u32) -> Problem {
    problem::USERS_OUT_OF_REACH.problem(format!(
        "whether the user with the number {uid} is in the daemon's group can't be found out: the system's users can't be looked up"
    ))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.user) {
            (Some(address), _) => address.fmt(f),
            (None, Some(user)) => write!(f, "uid {}", user.uid),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// What is asked of those who come in.
#[derive(Debug, Clone, Default)]
pub enum Door {
    /// Nothing.
    #[default]
    Open,
    /// A token, or what stands for one.
    Tokens(Arc<Keys>),
    /// To be a user who may do something: a Unix socket.
    Users,
}

impl Door {
    /// Whether the token with this hash opens it.
    #[must_use]
    pub fn knows(&self, token: &Fingerprint) -> bool {
        match self {
            Self::Tokens(keys) => keys.tokens.find(token).is_some(),
            Self::Open | Self::Users => false,
        }
    }
}

/// The tokens that open a door, and how often each may be shown.
#[derive(Debug, Default)]
pub struct Keys {
    /// Those that are known.
    pub tokens: Tokens,
    /// Requests a second with one token; zero: any number.
    pub rate: u64,
    /// Requests at once with one token.
    pub burst: u64,
    /// How many were used of that.
    pub used: Arc<Rates>,
}

/// Who asks, for handlers that know only inside a request which queues it is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    grant: Option<Arc<Grant>>,
    by: Shown,
}

/// By what somebody came in, as far as a connection carries it.
#[derive(Debug, Clone, Default)]
pub(super) enum Shown {
    /// By what its request brought: a token, a session's cookie, nothing.
    #[default]
    InRequest,
    /// By the certificate of its connection, or by a session.
    Passing(Arc<dyn Validity>),
    /// By the user whose process it is.
    User(Arc<dyn Standing>),
}

impl Caller {
    /// Who may do that, by that.
    pub(super) fn new(grant: Arc<Grant>, by: Shown) -> Self {
        Self {
            grant: Some(grant),
            by,
        }
    }

    /// What it may do; none where nobody is asked.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.grant.as_deref()
    }

    /// The name, where there is one.
    pub(super) fn name(&self) -> Option<&str> {
        self.grant().map(|grant| &*grant.name)
    }

    /// Whether it may do that, in the queues that it reaches.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.grant().is_none_or(|grant| grant.scopes.allow(scope))
    }

    /// Refuses what is about a queue that this caller does not reach.
    pub(crate) fn reach(&self, queue: &QueueName) -> Result<(), Problem> {
        self.reach_all([queue])
    }

    /// The same of several.
    pub(crate) fn reach_all<'a>(
        &self,
        queues: impl IntoIterator<Item = &'a QueueName>,
    ) -> Result<(), Problem> {
        let Some(grant) = self.limited() else {
            return Ok(());
        };
        match queues
            .into_iter()
            .find(|queue| !grant.reaches(queue.as_str()))
        {
            None => Ok(()),
            Some(queue) => {
                Err(problem::FORBIDDEN
                    .problem(format!("{} may not use the queue {queue}", grant.name)))
            }
        }
    }

    /// Changes a task, if it is in a queue that this caller reaches: looked at first, and held against by the change itself, as the
    /// task may have gone to another queue in between.
    pub(crate) async fn change<B: Backend, T, F>(
        &self,
        backend: &B,
        id: TaskId,
        change: impl Fn(Meant) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = backend::Answer<T>>,
    {
        loop {
            let queue = match self.limited() {
                None => None,
                Some(grant) => {
                    let queue = backend.task(id).await?.queue;
                    not_another(grant, &queue)?;
                    Some(queue)
                }
            };
            match change(Meant { id, queue }).await {
                // That somebody has moved it is judged anew.
                Err(Error::Refused(Refusal::Moved(_))) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Refuses to show a task of such a queue.
    pub(crate) fn may_see(&self, task: &TaskView) -> Result<(), Problem> {
        match self.limited() {
            None => Ok(()),
            Some(grant) => not_another(grant, &task.queue),
        }
    }

    /// Refuses what is about a task of such a queue that its worker holds by a lease's token. One that is not there is not refused here: it may have ended by
    /// the same words, said before.
    pub(crate) async fn reach_held<B: Backend>(
        &self,
        backend: &B,
        id: TaskId,
    ) -> Result<(), Problem> {
        match self.limited() {
            None => Ok(()),
            Some(grant) => match backend.task(id).await {
                Ok(task) => not_another(grant, &task.queue),
                Err(Error::Refused(Refusal::NoSuchTask(_))) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Whether one who came in by `before` comes in by `now` as well, by the same credential.
    pub(super) fn comes_in_again(&self, before: &Door, now: &Door) -> bool {
        match &self.by {
            Shown::User(standing) => return standing.grant() == self.grant,
            Shown::Passing(validity) if !validity.holds() => return false,
            Shown::Passing(_) | Shown::InRequest => {}
        }
        match (before, now) {
            (_, Door::Open) | (Door::Users, _) => true,
            (Door::Tokens(before), Door::Tokens(now)) => self
                .name()
                .is_some_and(|name| now.tokens.keeps(&before.tokens, name)),
            (Door::Open | Door::Tokens(_), _) => false,
        }
    }

    /// Ready when it has ended by itself by what this caller came in: never, for most. Looks at once, so that one who is asked for
    /// this again and again is told, too.
    pub(crate) async fn ended(&self) {
        let Shown::Passing(validity) = &self.by else {
            return std::future::pending().await;
        };
        while validity.holds() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether a list may show `queue` to it.
    pub(crate) fn sees(&self, queue: &QueueName) -> bool {
        self.limited()
            .is_none_or(|grant| grant.reaches(queue.as_str()))
    }

    /// Whether it reaches some queues only.
    pub(super) fn is_limited(&self) -> bool {
        self.limited().is_some()
    }

    fn limited(&self) -> Option<&Grant> {
        self.grant().filter(|grant| grant.queues.is_some())
    }
}

/// Refuses what is about a task of this queue, if it is another's. Which queue it is is not the caller's business.
fn not_another(grant: &Grant, queue: &QueueName) -> Result<(), Problem> {
    if grant.reaches(queue.as_str()) {
        return Ok(());
    }
    Err(problem::FORBIDDEN.problem(format!("{} may not use the queue of this task", grant.name)))
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    /// The guard leaves out what an open door has to say: nothing.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
