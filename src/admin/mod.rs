//! The admin surface on the Unix socket: all of v1, and what only the machine's own people may do.
//!
//! Who is let in is decided by the socket's mode and the peer's credentials, before a request is read. This floor may not
//! know the queue's rules, nor the process that it controls: that stands behind [`Control`].

mod control;
mod numbers;
mod switches;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use utoipa::OpenApi;

pub use control::Control;

use crate::{
    backend::Backend,
    http::{
        Description, Http, describe_admin, docs_content, json_answer, page_answer, routes,
        with_layers,
    },
};

#[derive(OpenApi)]
#[openapi(
    paths(
        numbers::status, numbers::config, numbers::leases, numbers::rejected,
        switches::pause, switches::resume, switches::drain, switches::undrain, switches::retry_dead, switches::purge,
        switches::retry_rejected, switches::discard_rejected,
        switches::rescan, switches::checkpoint, control::reload, control::log_level, control::shutdown,
    ),
    tags((name = "admin", description = "What only the machine's own people may do, on the admin socket")),
)]
struct Own;

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| describe_admin(Own::openapi()));

/// The description of what the admin socket serves, as JSON with a newline at its end.
#[must_use]
pub fn openapi_json() -> String {
    DESCRIPTION.json.clone()
}

async fn document() -> Response {
    json_answer(StatusCode::OK, openapi_json().into_bytes())
}

async fn docs() -> Response {
    page_answer("API", &docs_content(&DESCRIPTION.value))
}

/// The state that admin handlers share.
struct Admin<B, C> {
    http: Arc<Http<B>>,
    control: Arc<C>,
}

impl<B, C> Clone for Admin<B, C> {
    fn clone(&self) -> Self {
        Self {
            http: Arc::clone(&self.http),
            control: Arc::clone(&self.control),
        }
    }
}

type Shared<B, C> = axum::extract::State<Admin<B, C>>;

/// All that is served on the admin socket.
pub fn router<B: Backend, C: Control>(http: Http<B>, control: Arc<C>) -> Router {
    let http = Arc::new(http);
    let admin = Router::new()
        .route("/api/openapi.json", get(document))
        .route("/api/docs", get(docs))
        .route("/status", get(numbers::status::<B, C>))
        .route("/config", get(numbers::config::<B, C>))
        .route("/leases", get(numbers::leases::<B, C>))
        .route("/rejected", get(numbers::rejected::<B, C>))
        .route("/rejected/retry", post(switches::retry_rejected::<B, C>))
        .route(
            "/rejected/discard",
            post(switches::discard_rejected::<B, C>),
        )
        .route("/pause", post(switches::pause::<B, C>))
        .route("/resume", post(switches::resume::<B, C>))
        .route("/drain", post(switches::drain::<B, C>))
        .route("/undrain", post(switches::undrain::<B, C>))
        .route("/retry-dead", post(switches::retry_dead::<B, C>))
        .route("/purge", post(switches::purge::<B, C>))
        .route("/rescan", post(switches::rescan::<B, C>))
        .route("/checkpoint", post(switches::checkpoint::<B, C>))
        .route("/reload", post(control::reload::<B, C>))
        .route("/log-level", post(control::log_level::<B, C>))
        .route("/shutdown", post(control::shutdown::<B, C>))
        .with_state(Admin {
            http: Arc::clone(&http),
            control,
        });
    with_layers(routes(&http).merge(admin), &http)
}
