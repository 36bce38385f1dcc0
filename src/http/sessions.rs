//! [`Sessions`]: who is logged in on the pages.
//!
//! A session is a random number in a cookie that stands for a token, so that the token itself is not left in a browser. It
//! ends with the browser, after [`LENGTH`], at a restart of the daemon, and with its token, for good. Only hashes are kept here too.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Clock, caller::Validity};

use crate::{
    access::{Fingerprint, Secret},
    task::{Millis, Tick},
};

/// How long a session lasts: a working day.
const LENGTH: Millis = Millis::from_secs(12 * 60 * 60);
/// The most sessions; the oldest ends when there is one more.
const MOST: usize = 1000;
/// The most of one token, so that its holder ends nobody else's.
const MOST_OF_ONE: usize = 20;

/// Who is logged in.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<VecDeque<Session>>);

#[derive(Debug)]
struct Session {
    print: Fingerprint,
    /// The hash of the token that it stands for.
    token: Fingerprint,
    since: Tick,
}

impl Sessions {
    /// Begins one for the token with this hash.
    ///
    /// # Errors
    ///
    /// The kernel has no random bits to give.
    pub(super) fn begin(&self, token: Fingerprint, now: Tick) -> Result<Secret, String> {
        let secret = Secret::new()?;
        let mut all = self.lock();
        all.retain(|one| is_on(one, now));
        let of_token = all.iter().filter(|one| one.token == token).count();
        if of_token >= MOST_OF_ONE {
            let oldest = all.iter().position(|one| one.token == token);
            oldest.map(|oldest| all.remove(oldest));
        } else if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(Session {
            print: secret.fingerprint(),
            token,
            since: now,
        });
        Ok(secret)
    }

    /// The hash of the token that the session with this cookie stands for.
    pub(super) fn find(&self, cookie: &str, now: Tick) -> Option<Fingerprint> {
        self.token_of(&Fingerprint::of(cookie), now)
    }

    fn token_of(&self, print: &Fingerprint, now: Tick) -> Option<Fingerprint> {
        self.lock()
            .iter()
            .find(|one| one.print == *print && is_on(one, now))
            .map(|one| one.token)
    }

    /// Ends those whose token is not known any more: it may be put back, and they are not to come back with it.
    pub fn keep(&self, is_known: impl Fn(&Fingerprint) -> bool) {
        self.lock().retain(|one| is_known(&one.token));
    }

    /// Ends the session with this cookie.
    pub(super) fn end(&self, cookie: &str) {
        let print = Fingerprint::of(cookie);
        self.lock().retain(|one| one.print != print);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that came by a session.
pub(super) struct OnSession {
    sessions: Arc<Sessions>,
    print: Fingerprint,
    clock: Clock,
}

impl OnSession {
    pub(super) fn new(sessions: Arc<Sessions>, cookie: &str, clock: Clock) -> Self {
        Self {
            sessions,
            print: Fingerprint::of(cookie),
            clock,
        }
    }
}

impl fmt::Debug for OnSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnSession").finish_non_exhaustive()
    }
}

impl Validity for OnSession {
    fn holds(&self) -> bool {
        self.sessions
            .token_of(&self.print, (self.clock)().tick)
            .is_some()
    }
}

fn is_on(session: &Session, now: Tick) -> bool {
    now.since(session.since) < LENGTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stands_for_its_token_until_it_ends() {
        let sessions = Sessions::default();
        let token = Fingerprint::of("token");
        let begun = Tick(7);
        let first = sessions.begin(token, begun).unwrap();
        let second = sessions.begin(token, begun).unwrap();
        assert_eq!(sessions.find(first.reveal(), begun), Some(token));
        assert_eq!(sessions.find("wq_", begun), None);
        sessions.end(first.reveal());
        assert_eq!(sessions.find(first.reveal(), begun), None);
        let late = Tick(begun.0 + LENGTH.0 * 1_000_000);
        assert_eq!(sessions.find(second.reveal(), late), None);
    }

    #[test]
    fn sessions_of_a_token_that_is_gone_end_for_good() {
        let sessions = Sessions::default();
        let (token, other) = (Fingerprint::of("token"), Fingerprint::of("other"));
        let begun = Tick(7);
        let ended = sessions.begin(token, begun).unwrap();
        let kept = sessions.begin(other, begun).unwrap();
        sessions.keep(|one| *one == other);
        sessions.keep(|_| true);
        assert_eq!(sessions.find(ended.reveal(), begun), None);
        assert_eq!(sessions.find(kept.reveal(), begun), Some(other));
    }

    #[test]
    fn the_oldest_session_ends_and_of_one_with_many_its_own() {
        let sessions = Sessions::default();
        let begun = Tick(7);
        let token = |number: usize| Fingerprint::of(&number.to_string());
        let first = sessions.begin(token(0), begun).unwrap();
        let mut of_one = Vec::new();
        for _ in 0..MOST {
            of_one.push(sessions.begin(token(1), begun).unwrap());
        }
        assert_eq!(sessions.find(first.reveal(), begun), Some(token(0)));
        let on = |one: &&Secret| sessions.find(one.reveal(), begun).is_some();
        assert_eq!(of_one.iter().filter(on).count(), MOST_OF_ONE);
        assert!(of_one.last().is_some_and(|last| on(&last)), "the newest");
        for number in 2..2 + MOST {
            sessions.begin(token(number), begun).unwrap();
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert_eq!(sessions.find(first.reveal(), begun), None, "the oldest");
    }
}
