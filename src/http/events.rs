//! `GET /api/v1/events`: what happens, as server-sent events (<https://html.spec.whatwg.org/#server-sent-events>).
//!
//! Knows the format. A listener that is too slow loses its stream, not the daemon's memory: that is the backend's matter.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{
        IntoResponse as _, Sse,
        sse::{Event as Sent, KeepAlive},
    },
};
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::{Answer, Pairs, Shared, view};
use crate::{
    api,
    backend::{Backend, Event, EventStream},
    task::QueueName,
};

/// What happens from now on; the stream begins with a comment, and ends when the daemon stops.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "queues", operation_id = "events",
    params(("queue" = Option<String>, Query, description = "Only events of one queue")),
    responses(
        (status = 200, description = "Server-sent events: `event` is the kind, `id` the number, `data` the event",
            body = api::Event, content_type = "text/event-stream"),
        (status = 400, description = "invalid-field"),
    )
)]
pub(crate) async fn events<B: Backend>(State(http): Shared<B>, request: Request) -> Answer {
    let pairs = Pairs::of_query(request.uri().query(), &["queue"])?;
    let listener = Listener {
        queue: pairs.filled("queue").map(QueueName::parse).transpose()?,
        events: http.backend.events(),
        stop: http.stop.clone(),
        greeted: false,
    };
    let heartbeat = KeepAlive::new().interval(http.limits.heartbeat.as_duration());
    let stream = stream::unfold(listener, Listener::next);
    Ok(Sse::new(stream).keep_alive(heartbeat).into_response())
}

struct Listener {
    queue: Option<QueueName>,
    events: EventStream,
    stop: CancellationToken,
    greeted: bool,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Sent, axum::Error>, Self)> {
        if !self.greeted {
            // So that the client knows that it listens before anything happens.
            self.greeted = true;
            return Some((Ok(Sent::default().comment("listening")), self));
        }
        let stop = self.stop.clone();
        let event = tokio::select! {
            event = self.wanted() => event?,
            () = stop.cancelled() => return None,
        };
        let sent = Sent::default()
            .id(event.number.to_string())
            .event(event.kind.as_str())
            .json_data(view::event(&event));
        Some((sent, self))
    }

    /// The next event of the queue, or of all.
    async fn wanted(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = self.events.next().await?;
            if self.queue.is_none() || self.queue == event.queue {
                return Some(event);
            }
        }
    }
}
