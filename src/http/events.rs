//! `GET /api/v1/events`: what happens, as server-sent events (<https://html.spec.whatwg.org/#server-sent-events>).
//!
//! Knows the format, and who wants to hear what. How long events are kept, and for whom it was too long, is the backend's
//! matter. A listener that does not read at all is dropped by its connection (`patience`).

use std::{convert::Infallible, io::Write as _, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Answer, Pairs, Problem, Shared, answer, caller::Caller, view};
use crate::{
    api::{self, schemas},
    backend::{Backend, Event, EventId, EventKind, EventStream, Lost, TooSlow},
    task::{QueueName, Refusal, State as TaskState},
};

/// How long a client waits before it comes back after a broken connection, in milliseconds.
const RETRY_MILLIS: u32 = 2000;
/// The most values of one filter.
const MOST_VALUES: usize = 100;
/// A piece of the stream is sent when it has so many bytes, or when nothing more is there.
const PIECE_BYTES: usize = 32 << 10;
/// How many events that a listener does not want pass before it is told its place, so that it can come back to it.
const TELL_PLACE_EVERY: u32 = 1024;
/// How many events are looked at before other connections get their turn.
const LOOKS: u32 = 256;

/// What happens, from now on or from a place before.
///
/// A stream of server-sent events (`text/event-stream`): `event` is the kind, `id` the place after the event, `data` an Event
/// as JSON. It begins with its place, sends a comment when nothing happens for 15 seconds, and ends when the daemon stops.
///
/// Whoever comes back with the last `id` (a browser does so by itself) gets what happened in between: up to 16384 events or
/// 8 MiB are kept, for a minute after the last listener has gone. Where that is not enough, or the daemon was started
/// again, the event `reset` comes first, its data a Reset: read the state anew. A listener that is too slow for
/// what is kept is dropped.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "queues", operation_id = "events",
    params(
        ("queue" = Option<Vec<schemas::QueueName>>, Query, explode = true,
            description = "Only events of these queues, and what is of no queue; may be repeated, up to 100 times"),
        ("kind" = Option<Vec<schemas::EventKind>>, Query, explode = true,
            description = "Only events of these kinds; may be repeated"),
        ("state" = Option<Vec<schemas::TaskState>>, Query, explode = true,
            description = "Only events that bring a task to one of these states; may be repeated"),
        ("last_event_id" = Option<schemas::EventId>, Query,
            description = "Begin behind this event. For clients that can't send the header, which goes before it"),
        ("follow" = Option<bool>, Query,
            description = "`false`: tell what is there, then end. Default: true"),
        ("Last-Event-ID" = Option<String>, Header,
            description = "Begin behind this event. What is not the id of an event is answered by a reset"),
    ),
    responses(
        (status = 200, description = "Server-sent events", body = schemas::SentEvent, content_type = "text/event-stream",
            example = ": listening\nretry: 2000\nid: 5f3a9c01-41\n\nid: 5f3a9c01-42\nevent: claimed\ndata: {\"number\":42,\"at\":1800000000.25,\"kind\":\"claimed\",\"id\":\"0198c0de-7c1e-7000-8000-000000000001\",\"queue\":\"default\",\"state\":\"leased\",\"worker\":\"host:4711\",\"attempt\":1}\n\n"),
        (status = 400, description = "invalid-field, malformed-text"),
        (status = 503, description = "stopping"),
    )
)]
pub(crate) async fn events<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Answer {
    let wanted = Wanted::parse(request.uri().query(), request.headers())?;
    // A stream that begins now would end at once, and whoever comes back to it would think that it listens.
    if wanted.follow && http.stop.is_cancelled() {
        return Err(Refusal::Stopping.into());
    }
    let limit = http.limits.max_listeners;
    if http.backend.listeners().now >= limit {
        return Err(Refusal::TooManyAtOnce {
            what: "listeners to events",
            setting: "max_listeners",
            limit,
        }
        .into());
    }
    let events = http.backend.events(wanted.after);
    let listener = Listener {
        greeting: Some(greeting(&events, wanted.is_odd)?),
        filter: wanted.filter,
        caller,
        follow: wanted.follow,
        events,
        stop: http.stop.clone(),
        heartbeat: http.limits.heartbeat.as_duration(),
        unwanted: 0,
        over: false,
    };
    let stream = stream::unfold(listener, Listener::next);
    let mut response = answer::of_type(
        "text/event-stream",
        StatusCode::OK,
        Body::from_stream(stream),
    );
    // nginx and its kin gather answers before they pass them on, unless told.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

/// What a request asks to hear.
struct Wanted {
    filter: Filter,
    after: Option<EventId>,
    /// A `Last-Event-ID` came that is none. A browser that is refused does not come back, so this is told in the stream.
    is_odd: bool,
    follow: bool,
}

impl Wanted {
    fn parse(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        let pairs = Pairs::of_query_repeating(
            query,
            &["queue", "kind", "state", "last_event_id", "follow"],
            &["queue", "kind", "state"],
        )?;
        let follow = match pairs.get("follow") {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(Problem::invalid("follow", "not true or false")),
        };
        let of_query = pairs.get("last_event_id").map(EventId::parse).transpose()?;
        // A browser's stream that was opened with a parameter sends it again each time; the header is newer.
        let of_header = headers
            .get("last-event-id")
            .filter(|value| !value.is_empty())
            .map(|value| value.to_str().ok().and_then(|id| EventId::parse(id).ok()));
        Ok(Self {
            filter: Filter::parse(&pairs)?,
            after: of_header.unwrap_or(of_query),
            is_odd: matches!(of_header, Some(None)),
            follow,
        })
    }
}

/// Which events are wanted; an empty list: all.
struct Filter {
    queues: Vec<QueueName>,
    kinds: Vec<EventKind>,
    states: Vec<TaskState>,
}

impl Filter {
    fn parse(pairs: &Pairs) -> Result<Self, Problem> {
        Ok(Self {
            queues: values(pairs, "queue", QueueName::parse)?,
            kinds: values(pairs, "kind", EventKind::parse)?,
            states: values(pairs, "state", TaskState::parse)?,
        })
    }

    fn takes(&self, event: &Event) -> bool {
        let is_of = |queue: &QueueName| self.queues.contains(queue);
        // What leaves a queue is news there too.
        let of_these =
            event.queue.as_ref().is_none_or(is_of) || event.moved_from.as_ref().is_some_and(is_of);
        (self.queues.is_empty() || of_these)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.states.is_empty()
                || event
                    .state
                    .is_some_and(|state| self.states.contains(&state)))
    }
}

fn values<T, E: Into<Problem>>(
    pairs: &Pairs,
    name: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Problem> {
    let values = pairs
        .all(name)
        .map(parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(Into::into)?;
    if values.len() > MOST_VALUES {
        return Err(Problem::invalid(name, "given more than 100 times"));
    }
    Ok(values)
}

/// The beginning of a stream: its place, and a reset where it is not the one that was asked for.
fn greeting(events: &EventStream, is_odd: bool) -> Result<Bytes, Problem> {
    let place = events.position();
    let mut out = format!(": listening\nretry: {RETRY_MILLIS}\nid: {place}\n\n").into_bytes();
    let (reason, detail) = match events.lost() {
        _ if is_odd => ("unknown", "the last event's id is not one of this daemon"),
        None => return Ok(out.into()),
        Some(Lost::Restarted) => ("restarted", "the daemon was started again since"),
        Some(Lost::Forgotten) => ("forgotten", "what happened since is not kept any more"),
    };
    let reset = api::Reset {
        kind: "reset".to_owned(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
    };
    write_event(&mut out, &place, "reset", &reset)?;
    Ok(out.into())
}

fn write_event<T: serde::Serialize>(
    out: &mut Vec<u8>,
    id: &EventId,
    kind: &str,
    data: &T,
) -> serde_json::Result<()> {
    // JSON text has no line breaks, so the data is one line.
    write!(out, "id: {id}\nevent: {kind}\ndata: ").map_err(serde_json::Error::io)?;
    serde_json::to_writer(&mut *out, data)?;
    out.extend_from_slice(b"\n\n");
    Ok(())
}

struct Listener {
    greeting: Option<Bytes>,
    filter: Filter,
    caller: Caller,
    follow: bool,
    events: EventStream,
    stop: CancellationToken,
    heartbeat: Duration,
    /// How many events have passed that it did not want since it was last told its place.
    unwanted: u32,
    over: bool,
}

/// What a look at the log gives.
enum Look {
    /// Something to send.
    Piece(Vec<u8>),
    /// Nothing that is wanted, but there may be more.
    Unwanted,
    /// Nothing.
    Nothing,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(greeting) = self.greeting.take() {
            return Some((Ok(greeting), self));
        }
        if self.over {
            return None;
        }
        let piece = self.piece().await?;
        Some((Ok(piece), self))
    }

    /// The next piece of the stream; `None` at its end.
    async fn piece(&mut self) -> Option<Bytes> {
        let heartbeat = Instant::now() + self.heartbeat;
        loop {
            match self.look() {
                Ok(Look::Piece(piece)) => return Some(piece.into()),
                Ok(Look::Unwanted) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(Look::Nothing) => {}
                Err(TooSlow) => {
                    self.over = true;
                    return Some(Bytes::from_static(b": too slow, dropped\n\n"));
                }
            }
            if !self.follow {
                return None;
            }
            tokio::select! {
                () = self.events.news() => {}
                () = self.stop.cancelled() => return None,
                () = self.caller.ended() => return None,
                () = sleep_until(heartbeat) => return Some(self.place().into()),
            }
        }
    }

    fn look(&mut self) -> Result<Look, TooSlow> {
        let mut out = Vec::new();
        for _ in 0..LOOKS {
            let Some(event) = self.events.try_next()? else {
                return Ok(if out.is_empty() {
                    Look::Nothing
                } else {
                    Look::Piece(out)
                });
            };
            if !self.filter.takes(&event) || !self.may_hear(&event) {
                self.unwanted += 1;
                continue;
            }
            self.unwanted = 0;
            let id = self.events.position();
            let mut data = view::event(id.number, &event);
            // That a task came or left is this caller's business, but not from where or to where.
            let sees = |queue: &Option<QueueName>| {
                queue.as_ref().is_none_or(|queue| self.caller.sees(queue))
            };
            if !sees(&event.queue) {
                data.queue = None;
            }
            if !sees(&event.moved_from) {
                data.moved_from = None;
            }
            if let Err(error) = write_event(&mut out, &id, event.kind.as_str(), &data) {
                // Strings and numbers always have a JSON form.
                tracing::error!(%error, "an event has no JSON form");
            }
            if out.len() >= PIECE_BYTES {
                break;
            }
        }
        if !out.is_empty() {
            return Ok(Look::Piece(out));
        }
        Ok(if self.unwanted >= TELL_PLACE_EVERY {
            Look::Piece(self.place())
        } else {
            Look::Unwanted
        })
    }

    /// Whether the caller reaches what an event is about. What is done to all queues is everybody's to hear; a rejected file that
    /// is of no queue is not.
    fn may_hear(&self, event: &Event) -> bool {
        event.queue.is_some() || event.kind != EventKind::Rejected || !self.caller.is_limited()
    }

    /// A comment, and the place after all that has passed: no event for the listener, but where it comes back to.
    fn place(&mut self) -> Vec<u8> {
        self.unwanted = 0;
        format!(": listening\nid: {}\n\n", self.events.position()).into_bytes()
    }
}
