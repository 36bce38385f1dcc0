//! What the log keeps of those who change things and of those who may not: who, from where, and what.
//!
//! Knows requests, not what they did.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::Request,
    http::{Method, Uri, request::Parts},
    response::Response,
};

use super::{
    caller::{Caller, Peer},
    problem::{NotAllowed, Problem},
    rules::Need,
};
use crate::{
    access::Scope,
    systemd::{catalog, logging::REFUSED},
    task::shown_text,
};

/// Who is meant where nobody is asked.
const ANYBODY: &str = "anybody";
/// The longest path of a refused request that is told, in bytes.
const MOST_OF_PATH: usize = 512;
/// Who is meant where the credential is not known.
const UNKNOWN: &str = "unknown";

/// Whose request it is, and which.
pub(super) struct Sent {
    by: String,
    peer: Option<Arc<Peer>>,
    method: Method,
    uri: Uri,
}

impl Sent {
    fn of(request: &Request, by: &str) -> Self {
        Self {
            by: by.to_owned(),
            peer: request.extensions().get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    /// That of a caller who was let in.
    pub(super) fn from(request: &Request, caller: &Caller) -> Self {
        Self::of(request, caller.name().unwrap_or(ANYBODY))
    }

    /// The same, of a request whose body was taken.
    pub(super) fn of_head(head: &Parts, caller: &Caller) -> Self {
        Self {
            by: caller.name().unwrap_or(ANYBODY).to_owned(),
            peer: head.extensions.get().cloned(),
            method: head.method.clone(),
            uri: head.uri.clone(),
        }
    }

    fn peer(&self) -> Peer {
        self.peer.as_deref().cloned().unwrap_or_default()
    }

    fn tell_refusal(&self, reason: &str) {
        tell_refusal(
            &self.by,
            &self.peer(),
            &self.method,
            self.uri.path(),
            reason,
        );
    }

    /// Tells that its credential was revoked while it was read.
    pub(super) fn tell_lapsed(&self) {
        self.tell_refusal(
            "it ended, was revoked or changed while its request was read or answered",
        );
    }
}

/// A request of which there may be something to tell, before it is known how it ends.
pub(super) struct Seen {
    sent: Sent,
    is_limited: bool,
    /// What was asked for, of a change by an admin.
    asked: Option<Asked>,
}

impl Seen {
    /// Keeps what is to be told of `request`: of an admin's change that it was made, and of one who is limited to some queues
    /// that it was refused, for what only its handler can see. None of others.
    pub(super) fn of(request: &mut Request, need: Need, caller: &Caller) -> Option<Self> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let changes = need.scope == Some(Scope::Admin) && !reads;
        let is_limited = caller.is_limited();
        (changes || is_limited).then(|| Self {
            sent: Sent::from(request, caller),
            is_limited,
            asked: changes.then(|| {
                let asked = Asked::default();
                request.extensions_mut().insert(asked.clone());
                asked
            }),
        })
    }

    /// Tells how it ended. `is_there`: there was something to do it with.
    pub(super) fn tell(&self, response: &Response, is_there: bool) {
        if let Some(NotAllowed(reason)) = response.extensions().get()
            && self.is_limited
        {
            self.sent.tell_refusal(reason);
        }
        if let Some(asked) = &self.asked
            && is_there
        {
            tracing::info!(
                message_id = catalog::ADMIN_ACTION.id,
                by = self.sent.by,
                peer = %self.sent.peer(),
                method = %self.sent.method,
                path = %self.sent.uri,
                asked = asked.0.get().map(String::as_str),
                status = response.status().as_u16(),
                "{}",
                catalog::ADMIN_ACTION.line
            );
        }
    }
}

/// The beginning of the body of an admin's change, which says what is to be changed and how; filled in where it is read. Bodies
/// that are streams of tasks are not read as a whole and stay out of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<OnceLock<String>>);

impl Asked {
    /// The longest that is kept, in bytes.
    const MOST: usize = 512;

    pub(super) fn note(&self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let start = &body[..body.len().min(Self::MOST)];
        // A body is read once.
        self.0
            .get_or_init(|| shown_text(&String::from_utf8_lossy(start)));
    }
}

/// Tells of a credential that was not enough, or not known.
pub(super) fn refused(request: &Request, by: Option<&str>, problem: &Problem) {
    Sent::of(request, by.unwrap_or(UNKNOWN)).tell_refusal(&problem.document().detail);
}

fn tell_refusal(by: &str, peer: &Peer, method: &Method, path: &str, reason: &str) {
    let path = &path[..path.floor_char_boundary(MOST_OF_PATH)];
    tracing::warn!(
        target: REFUSED,
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by,
        %peer,
        %method,
        path,
        reason,
        "{}",
        catalog::CREDENTIAL_REFUSED.line
    );
}

/// Tells of a login.
pub(super) fn login(peer: &Peer, by: &str) {
    tracing::info!(
        message_id = catalog::LOGIN.id,
        by,
        peer = %peer,
        "{}",
        catalog::LOGIN.line
    );
}

/// Tells of a login with a token that is not known.
pub(super) fn login_refused(peer: &Peer) {
    let reason = "the token is not known here";
    tell_refusal(UNKNOWN, peer, &Method::POST, "/login", reason);
}

/// Tells of a certificate that no authority stands for which is trusted here.
pub(super) fn certificate_refused(peer: &Peer, error: &io::Error) {
    tracing::warn!(
        target: REFUSED,
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by = UNKNOWN,
        %peer,
        method = "-",
        path = "the handshake of TLS",
        reason = %error,
        "{}",
        catalog::CREDENTIAL_REFUSED.line
    );
}

/// Tells of a user of this machine who may not use the admin socket.
pub(super) fn peer_refused(uid: u32, gid: u32) {
    let reason = "neither root, nor the daemon's user, nor in its group, nor named in admin.users";
    tell_peer_refused(uid, gid, reason);
}

/// Tells of a user of this machine who was turned away since nobody can say who may use the admin socket.
pub(super) fn peer_not_asked(uid: u32, gid: u32, cause: &str) {
    let reason = format!("the system's users can't be looked up: {cause}");
    tell_peer_refused(uid, gid, &reason);
}

fn tell_peer_refused(uid: u32, gid: u32, reason: &str) {
    tracing::warn!(
        target: REFUSED,
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by = UNKNOWN,
        peer = format!("uid {uid}"),
        gid,
        method = "-",
        path = "the admin socket",
        reason,
        "{}",
        catalog::CREDENTIAL_REFUSED.line
    );
}
