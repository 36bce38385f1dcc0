//! What the log keeps of those who change things and of those who may not: who, from where, and what.
//!
//! Knows requests, not what they did.

use std::{io, sync::Arc};

use axum::{
    extract::Request,
    http::{Method, Uri},
    response::Response,
};

use super::{
    caller::{Caller, Peer},
    guard,
    problem::{NotAllowed, Problem},
    rules::Need,
};
use crate::{access::Scope, systemd::catalog};

/// Who is meant where nobody is asked.
const ANYBODY: &str = "anybody";

/// A request of which there may be something to tell, before it is known how it ends.
pub(super) struct Seen {
    by: Caller,
    peer: Option<Arc<Peer>>,
    method: Method,
    uri: Uri,
    /// Whether it is a change by an admin.
    changes: bool,
}

impl Seen {
    /// Keeps what is to be told of `request`: of an admin's change that it was made, and of one who is limited to some queues
    /// that it was refused, for what only its handler can see. None of others.
    pub(super) fn of(request: &Request, need: Need, caller: &Caller) -> Option<Self> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let changes = need.scope == Some(Scope::Admin) && !reads;
        (changes || caller.is_limited()).then(|| Self {
            by: caller.clone(),
            peer: request.extensions().get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            changes,
        })
    }

    /// Tells how it ended. `is_there`: there was something to do it with.
    pub(super) fn tell(&self, response: &Response, is_there: bool) {
        let unknown = Peer::default();
        let peer = self.peer.as_deref().unwrap_or(&unknown);
        let by = self.by.name().unwrap_or(ANYBODY);
        if let Some(NotAllowed(reason)) = response.extensions().get()
            && self.by.is_limited()
        {
            tell_refusal(by, peer, &self.method, self.uri.path(), reason);
        }
        if self.changes && is_there {
            tracing::info!(
                message_id = catalog::ADMIN_ACTION.id,
                by,
                %peer,
                method = %self.method,
                path = %self.uri,
                status = response.status().as_u16(),
                "{}",
                catalog::ADMIN_ACTION.line
            );
        }
    }
}

/// Tells of a credential that was not enough, or not known.
pub(super) fn refused(request: &Request, by: Option<&str>, problem: &Problem) {
    let unknown = Peer::default();
    let peer = guard::peer(request).unwrap_or(&unknown);
    let (method, path) = (request.method(), request.uri().path());
    tell_refusal(
        by.unwrap_or("unknown"),
        peer,
        method,
        path,
        &problem.document().detail,
    );
}

fn tell_refusal(by: &str, peer: &Peer, method: &Method, path: &str, reason: &str) {
    tracing::warn!(
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

/// Tells of a credential that was revoked while its request was read.
pub(super) fn lapsed(by: &str) {
    tracing::warn!(
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by,
        reason = "it was revoked or changed while its request was read",
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
    tell_refusal("unknown", peer, &Method::POST, "/login", reason);
}

/// Tells of a certificate that no authority stands for which is trusted here.
pub(super) fn certificate_refused(peer: &Peer, error: &io::Error) {
    tracing::warn!(
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by = "unknown",
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
    tracing::warn!(
        message_id = catalog::CREDENTIAL_REFUSED.id,
        by = "unknown",
        peer = format!("uid {uid}"),
        gid,
        method = "-",
        path = "the admin socket",
        reason = "neither root, nor the daemon's user, nor in its group, nor named in admin.users",
        "{}",
        catalog::CREDENTIAL_REFUSED.line
    );
}
