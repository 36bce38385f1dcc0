//! [`Entry`]: by what somebody came in whose request or answer takes a while, and may not be let in any more meanwhile.
//!
//! Knows who asks, not what.

use axum::{extract::Request, http::request::Parts};
use tokio::sync::watch;

use super::{
    Http,
    audit::Sent,
    caller::{Caller, Door},
    problem::{self, Problem},
};

/// See the [module](self).
pub(super) struct Entry {
    sent: Sent,
    caller: Caller,
    by: Door,
    doors: Option<watch::Receiver<Door>>,
}

impl Entry {
    /// That of `caller`, whose request this is.
    pub(super) fn of<B>(http: &Http<B>, caller: Caller, request: &Request) -> Self {
        Self::new(http, Sent::from(request, &caller), caller)
    }

    /// That of the request with this head; none where nobody is asked, as at a login.
    pub(super) fn of_head<B>(http: &Http<B>, head: &Parts) -> Option<Self> {
        let caller = head.extensions.get::<Caller>().cloned();
        if caller.is_none() && !matches!(http.door, Door::Open) {
            return None;
        }
        let caller = caller.unwrap_or_default();
        Some(Self::new(http, Sent::of_head(head, &caller), caller))
    }

    fn new<B>(http: &Http<B>, sent: Sent, caller: Caller) -> Self {
        Self {
            sent,
            caller,
            by: http.door.clone(),
            doors: http.doors.clone(),
        }
    }

    /// Refuses who would not be let in now.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match &self.doors {
            Some(doors) if !self.caller.comes_in_again(&self.by, &doors.borrow()) => {
                self.sent.tell_lapsed();
                Err(problem::UNAUTHORIZED.problem(
                    "the credential that the request came with has ended, was revoked or changed meanwhile",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Ready when its credential is not good any more.
    pub(super) async fn lapsed(&mut self) -> Problem {
        while let Some(doors) = &mut self.doors {
            tokio::select! {
                changed = doors.changed() => if changed.is_err() {
                    break;
                },
                () = self.caller.ended() => {}
            }
            if let Err(problem) = self.check() {
                return problem;
            }
        }
        std::future::pending().await
    }
}
