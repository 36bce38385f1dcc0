//! The one table of what a request needs: which scope, and how far it reaches.
//!
//! What is not listed needs most: a route that somebody adds is an admin's to change and a reader's of all queues to see
//! until it stands here.

use axum::http::Method;

use crate::access::Scope;

/// How far a request reaches, for those whose grant is limited to some queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Over all queues: not for them.
    All,
    /// The queue in its path.
    Path,
    /// The queues in its query: at least one.
    Query,
    /// Its handler sees to it.
    Inside,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// The scope; none: nothing is needed.
    pub(super) scope: Option<Scope>,
    /// How far it reaches.
    pub(super) reach: Reach,
}

impl Need {
    const NOTHING: Self = Self {
        scope: None,
        reach: Reach::Inside,
    };

    const fn of(scope: Scope, reach: Reach) -> Self {
        Self {
            scope: Some(scope),
            reach,
        }
    }

    /// What `method` at `route` needs.
    pub(super) fn new(method: &Method, route: &str) -> Self {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match (route, reads) {
            // Whether it is well, how to come in, and what tells nothing of this machine.
            ("/healthz" | "/readyz" | "/login" | "/logout", _)
            | ("/style.css" | "/live.js" | "/icon.svg" | "/problems/{name}", true) => Self::NOTHING,
            ("/api/v1/tasks", false) => Self::of(Scope::Submit, Reach::Inside),
            ("/new", _) => Self::of(Scope::Submit, Reach::All),
            ("/api/v1/claim" | "/api/next" | "/api/complete", _) => {
                Self::of(Scope::Work, Reach::Inside)
            }
            (
                "/api/v1/tasks/{id}/complete"
                | "/api/v1/tasks/{id}/fail"
                | "/api/v1/tasks/{id}/release"
                | "/api/v1/tasks/{id}/extend",
                _,
            ) => Self::of(Scope::Work, Reach::Inside),
            ("/api/v1/tasks/{id}" | "/api/v1/queues" | "/api/openapi.json" | "/api/docs", true) => {
                Self::of(Scope::Read, Reach::Inside)
            }
            ("/api/v1/tasks/{id}" | "/api/v1/tasks/{id}/retry", false) => {
                Self::of(Scope::Admin, Reach::Inside)
            }
            ("/api/v1/tasks" | "/api/v1/events", true) => Self::of(Scope::Read, Reach::Query),
            ("/api/v1/queues/{queue}" | "/api/v1/queues/{queue}/history", true) => {
                Self::of(Scope::Read, Reach::Path)
            }
            (_, true) => Self::of(Scope::Read, Reach::All),
            (_, false) => Self::of(Scope::Admin, Reach::All),
        }
    }
}

/// Whether an answer at `route` says how the daemon is, and must come through whatever else there is.
pub(super) fn is_health(route: &str) -> bool {
    matches!(route, "/healthz" | "/readyz")
}

/// Whether an answer at `route` is about all queues, workers or leases, so that it grows with their number.
pub(super) fn is_about_all(route: &str) -> bool {
    matches!(
        route,
        "/" | "/queues"
            | "/workers"
            | "/rejected"
            | "/leases"
            | "/metrics"
            | "/api/v1/queues"
            | "/api/v1/workers"
            | "/api/v1/troubles"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_needs_most() {
        let need = |method, route| Need::new(&method, route);
        assert_eq!(
            need(Method::POST, "/something/new"),
            Need::of(Scope::Admin, Reach::All)
        );
        assert_eq!(
            need(Method::GET, "/something/new"),
            Need::of(Scope::Read, Reach::All)
        );
        assert_eq!(
            need(Method::POST, "/api/v1/queues/{queue}/history"),
            Need::of(Scope::Admin, Reach::All)
        );
        assert_eq!(need(Method::POST, "/style.css").scope, Some(Scope::Admin));
    }
}
