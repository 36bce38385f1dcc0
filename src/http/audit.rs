//! What the log keeps of those who change things and of those who may not: who, from where, and what.
//!
//! Knows requests, not what they did.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{Method, StatusCode, Uri},
    response::Response,
};

use super::{
    caller::{Caller, Peer},
    guard,
    problem::{NotAllowed, Problem},
    rules::Need,
};
use crate::{
    access::{Grant, Scope},
    systemd::catalog,
};

/// Who is meant where nobody is asked.
const ANYBODY: &str = "anybody";

/// A change by an admin, before it is known how it ended.
pub(super) struct Seen {
    by: String,
    peer: Peer,
    method: Method,
    path: String,
}

impl Seen {
    /// Keeps what is to be told of `request`; none if it is no admin's change.
    pub(super) fn of_change(request: &Request, need: Need, caller: &Caller) -> Option<Self> {
        let changes = *request.method() != Method::GET && *request.method() != Method::HEAD;
        if need.scope != Some(Scope::Admin) || !changes {
            return None;
        }
        Some(Self {
            by: caller.name().unwrap_or(ANYBODY).to_owned(),
            peer: guard::peer(request).cloned().unwrap_or_default(),
            method: request.method().clone(),
            path: request.uri().to_string(),
        })
    }

    /// Tells how it ended.
    pub(super) fn tell(self, status: StatusCode) {
        tracing::info!(
            message_id = catalog::ADMIN_ACTION.id,
            by = self.by,
            peer = %self.peer,
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            "{}",
            catalog::ADMIN_ACTION.line
        );
    }
}

/// A request of somebody with a name, before it is known whether its handler refuses it for what only that can see: its queues.
pub(super) struct Asked {
    grant: Arc<Grant>,
    peer: Option<Arc<Peer>>,
    method: Method,
    uri: Uri,
}

impl Asked {
    pub(super) fn of(request: &Request, caller: &Caller) -> Option<Self> {
        let grant = caller.0.clone().filter(|grant| grant.queues.is_some())?;
        Some(Self {
            grant,
            peer: request.extensions().get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
        })
    }

    /// Tells of it if it was refused.
    pub(super) fn tell(&self, response: &Response) {
        if let Some(NotAllowed(reason)) = response.extensions().get() {
            let unknown = Peer::default();
            let peer = self.peer.as_deref().unwrap_or(&unknown);
            tell_refusal(
                &self.grant.name,
                peer,
                &self.method,
                self.uri.path(),
                reason,
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
