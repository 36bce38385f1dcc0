//! The HTTP surface: parse, authorise, call [`Backend`], render.
//!
//! [`router`] is all that TCP listeners serve: the original's pages and API, v1, metrics, health, OpenAPI. `admin` builds on
//! the same handlers. [`serve_tcp`] and [`serve_unix`] carry a router to sockets.
//!
//! This floor may not know: rules of the queue (what is due, who may end what), files, the engine. A value is parsed once,
//! by the types of `task`; every refusal becomes a problem document in one table, `problem`.

mod about;
mod answer;
mod audit;
mod body;
mod caller;
mod claim;
mod connection;
mod docs;
mod entry;
mod events;
mod export;
mod exposition;
mod flight;
mod framing;
mod gate;
mod guard;
mod health;
mod import;
mod kept;
mod lease;
mod lines;
mod openapi;
mod original;
mod outlet;
mod packing;
mod pages;
mod pairs;
mod path;
mod patience;
mod problem;
mod process;
mod queues;
mod rates;
mod refused;
mod rules;
mod scrape;
mod serve;
mod sessions;
mod task;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod timing;
mod tls;
mod turns;
mod view;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use about::{About, Facts};
pub use caller::{Certificate, Door, Keys, NoStanding, Peer, Standing, User, Validity};
pub use flight::Flight;
pub use gate::{Bounds, Gate, Tally};
pub use openapi::openapi_json;
pub use rates::Rates;
pub use serve::{Routed, Serving, serve_tcp, serve_unix};
pub use sessions::Sessions;
pub use timing::Times;
pub use tls::{NewTls, Tls, TlsError, TlsFiles};

pub(crate) use answer::{Answer, json as json_answer, nothing_to_tell, ok};
pub(crate) use body::{json, json_or_default};
pub(crate) use docs::content as docs_content;
pub(crate) use guard::with_layers;
pub(crate) use openapi::{Description, of_admin as describe_admin};
pub(crate) use pages::respond as page_answer;
pub(crate) use pairs::{NoQuery, Pairs};
pub(crate) use problem::Problem;
pub(crate) use queues::find_troubles;
pub(crate) use view::{lease as lease_view, rejected as rejected_view, totals};

use crate::{
    backend::Backend,
    task::{Millis, Now, PayloadLimits},
};

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// What the handlers work with.
pub struct Http<B> {
    /// What keeps the tasks.
    pub backend: Arc<B>,
    /// How much, and how long.
    pub limits: HttpLimits,
    /// What time it is: where a `delay` begins.
    pub clock: Clock,
    /// Cancelled when the daemon stops, or when other people may come in than before: streams of events and claims that wait
    /// end.
    pub stop: CancellationToken,
    /// Cancelled when the daemon stops: uploads end.
    pub ending: CancellationToken,
    /// What is asked of those who come in from now on, where that can change: uploads of those end who would not come in again.
    pub doors: Option<watch::Receiver<Door>>,
    /// What is asked of those who come in. `/healthz` and `/readyz` need nothing.
    pub door: Door,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// The names by which the server may be called (`Host`), besides `localhost` and plain addresses; `*` and `None`: any.
    /// A page of another site that points its own name at this machine (DNS rebinding) is refused by it.
    pub hosts: Option<Arc<[Box<str>]>>,
    /// The process, as far as its pages tell of it.
    pub about: Option<Arc<dyn About>>,
    /// How long requests took.
    pub times: Arc<Times>,
    /// What happened to connections.
    pub tally: Arc<Tally>,
    /// What is held of requests and answers.
    pub flight: Arc<Flight>,
}

impl<B> Http<B> {
    /// Open to everybody and with any host name.
    pub fn new(backend: Arc<B>, limits: HttpLimits, clock: Clock, stop: CancellationToken) -> Self {
        Self {
            backend,
            limits,
            clock,
            ending: stop.clone(),
            stop,
            doors: None,
            door: Door::default(),
            sessions: Arc::default(),
            hosts: None,
            about: None,
            times: Arc::default(),
            tally: Arc::default(),
            flight: Arc::default(),
        }
    }

    /// Where a program on this machine finds the daemon, as far as that is known.
    pub(crate) fn url(&self) -> Option<String> {
        self.about.as_ref()?.facts().url()
    }
}

impl<B> Clone for Http<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            limits: self.limits.clone(),
            clock: Arc::clone(&self.clock),
            stop: self.stop.clone(),
            ending: self.ending.clone(),
            doors: self.doors.clone(),
            door: self.door.clone(),
            sessions: Arc::clone(&self.sessions),
            hosts: self.hosts.clone(),
            about: self.about.clone(),
            times: Arc::clone(&self.times),
            tally: Arc::clone(&self.tally),
            flight: Arc::clone(&self.flight),
        }
    }
}

impl<B> fmt::Debug for Http<B> {
    /// Tokens are secrets: not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("limits", &self.limits)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Limits of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body, in bytes; a stream of lines has no such limit.
    pub max_body: usize,
    /// Those of payloads and results.
    pub payloads: PayloadLimits,
    /// The longest that a claim may wait.
    pub max_wait: Millis,
    /// The lease that the original's `GET /api/next` gives.
    pub legacy_lease: Millis,
    /// How many may listen to events.
    pub max_listeners: u64,
    /// How long a body may take, or the next 16 KiB of one that is longer; a stream of lines may be silent as long as a claim may
    /// wait, if that is longer.
    pub body_timeout: Millis,
    /// How often a silent stream of events sends a comment, so that both ends know of each other.
    pub heartbeat: Millis,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_body: 16 << 20,
            payloads: PayloadLimits::bytes(1 << 20),
            max_wait: Millis::from_secs(300),
            legacy_lease: Millis::from_secs(60),
            max_listeners: 1000,
            body_timeout: Millis::from_secs(30),
            heartbeat: Millis::from_secs(15),
        }
    }
}

/// The state that handlers share.
pub(crate) type Shared<B> = axum::extract::State<Arc<Http<B>>>;

/// All that is served on TCP.
pub fn router<B: Backend>(http: Http<B>) -> Router {
    let http = Arc::new(http);
    let original = Router::new()
        .route(
            "/api/next",
            get(original::next::<B>).head(original::no_head),
        )
        .route("/api/complete", post(original::complete::<B>))
        .with_state(Arc::clone(&http));
    // What people look at. Answers to programs are small, or too many for it.
    let read = Router::new()
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/docs", get(docs::show))
        .merge(pages::routes(&http));
    let read = packing::packed(read, &http.flight);
    with_layers(routes(&http).merge(original).merge(read), &http)
}

/// What TCP and the admin socket have in common, without the layers of [`with_layers`].
pub(crate) fn routes<B: Backend>(http: &Arc<Http<B>>) -> Router {
    Router::new()
        .route(
            "/api/v1/tasks",
            get(tasks::list::<B>).post(tasks::submit::<B>),
        )
        .route(
            "/api/v1/tasks/{id}",
            get(task::show::<B>)
                .patch(task::reschedule::<B>)
                .delete(task::cancel::<B>),
        )
        .route("/api/v1/tasks/{id}/complete", post(lease::complete::<B>))
        .route("/api/v1/tasks/{id}/fail", post(lease::fail::<B>))
        .route("/api/v1/tasks/{id}/release", post(lease::release::<B>))
        .route("/api/v1/tasks/{id}/extend", post(lease::extend::<B>))
        .route("/api/v1/tasks/{id}/retry", post(task::retry::<B>))
        .route("/api/v1/claim", post(claim::claim::<B>))
        .route("/api/v1/export", get(export::export::<B>))
        .route("/api/v1/import", post(import::import::<B>))
        .route("/api/v1/queues", get(queues::queues::<B>))
        .route("/api/v1/queues/{queue}", get(queues::queue::<B>))
        .route("/api/v1/workers", get(queues::workers::<B>))
        .route("/api/v1/history", get(queues::history::<B>))
        .route(
            "/api/v1/queues/{queue}/history",
            get(queues::queue_history::<B>),
        )
        .route("/api/v1/troubles", get(queues::troubles::<B>))
        .route("/api/v1/events", get(events::events::<B>))
        .route("/metrics", get(scrape::metrics::<B>))
        .route("/healthz", get(health::alive::<B>))
        .route("/readyz", get(health::ready::<B>))
        .route("/problems/{name}", get(pages::problem))
        .with_state(Arc::clone(http))
}
