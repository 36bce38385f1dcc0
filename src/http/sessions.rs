//! [`Sessions`]: who is logged in on the pages.
//!
//! A session is a random number in a cookie that stands for a token, so that the token itself is not left in a browser. It
//! ends with the browser, after [`LENGTH`], at a restart of the daemon, and with its token. Only hashes are kept here too.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::{
    access::{Fingerprint, Secret},
    task::{Millis, Tick},
};

/// How long a session lasts: a working day.
const LENGTH: Millis = Millis::from_secs(12 * 60 * 60);
/// The most sessions; the oldest ends when there is one more.
const MOST: usize = 1000;

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
        if all.len() >= MOST {
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
        let print = Fingerprint::of(cookie);
        self.lock()
            .iter()
            .find(|one| one.print == print && is_on(one, now))
            .map(|one| one.token)
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
        for _ in 0..MOST {
            sessions.begin(token, begun).unwrap();
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert_eq!(sessions.find(second.reveal(), begun), None, "the oldest");
    }
}
