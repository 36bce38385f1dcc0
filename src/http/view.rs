//! What the backend shows, in the words of the API.
//!
//! Knows both vocabularies and no rules.

use serde::Serialize;

use crate::{
    api,
    backend::{
        Counters, Event, EventResult, Happening, HistorySlot, HistoryView, Quantiles, QueueView,
        RejectedView, TaskView, WorkerView,
    },
    task::{Backoff, ExecTime, LeaseKind, Millis, Priority, QueueName, State, WallMillis},
};

/// Writes `value` as JSON behind what `out` holds.
fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    serde_json::to_writer(out, value)
}

/// Writes a task as [`api::Task`] has it, without making one: a payload is long, and is JSON text already.
pub(crate) fn write_task(out: &mut Vec<u8>, view: &TaskView) -> serde_json::Result<()> {
    out.push(b'{');
    write_task_fields(out, view)?;
    out.push(b'}');
    Ok(())
}

/// The members of a task's object, without its braces.
pub(crate) fn write_task_fields(out: &mut Vec<u8>, view: &TaskView) -> serde_json::Result<()> {
    use std::io::Write as _;
    let io = serde_json::Error::io;
    out.reserve(view.payload.len() + 256);
    // Ids, queue names and states need no escapes; numbers are JSON as they are.
    write!(
        out,
        r#""id":"{}","queue":"{}","state":"{}","payload":"#,
        view.id, view.queue, view.state
    )
    .map_err(io)?;
    out.extend_from_slice(view.payload.as_json().as_bytes());
    write!(
        out,
        r#","priority":{},"exectime":{},"attempts":{},"max_attempts":{}"#,
        view.priority, view.exectime, view.attempts, view.max_attempts
    )
    .map_err(io)?;
    if let Some(key) = &view.options.unique_key {
        out.extend_from_slice(br#","unique_key":"#);
        write(out, &**key)?;
    }
    if let Some(lease) = view.options.lease {
        out.extend_from_slice(br#","lease":"#);
        write(out, &lease.as_secs_f64())?;
    }
    if let Some(wait) = view.options.backoff {
        out.extend_from_slice(br#","backoff":"#);
        write(out, &backoff(wait))?;
    }
    if let Some(trace) = &view.options.trace {
        // Hexadecimal digits need no escapes; a state is printable ASCII, and may have quotes.
        write!(out, r#","traceparent":"{}""#, trace.parent()).map_err(io)?;
        if let Some(state) = trace.state() {
            out.extend_from_slice(br#","tracestate":"#);
            write(out, state)?;
        }
    }
    if let Some(lease) = &view.lease {
        if let Some(worker) = &lease.worker {
            out.extend_from_slice(br#","worker":"#);
            write(out, worker.as_str())?;
        }
        out.extend_from_slice(br#","lease_expires":"#);
        write(out, &lease.expires.as_secs_f64())?;
    }
    if let Some(error) = &view.last_error {
        out.extend_from_slice(br#","last_error":"#);
        write(out, &**error)?;
    }
    if let Some(history) = &view.history {
        out.extend_from_slice(br#","history":"#);
        write_array(out, &history.happenings, |out, one| {
            write(out, &happening(one))
        })?;
        if history.left_out > 0 {
            out.extend_from_slice(br#","history_left_out":"#);
            write(out, &history.left_out)?;
        }
    }
    Ok(())
}

fn happening(one: &Happening) -> api::Happening {
    api::Happening {
        kind: one.kind.as_str().to_owned(),
        at: one.at.map(WallMillis::as_secs_f64),
        worker: one.worker.as_ref().map(ToString::to_string),
        attempt: one.attempt,
        error: one.error.as_deref().map(str::to_owned),
        queue: one.queue.as_ref().map(ToString::to_string),
        priority: one.priority.map(Priority::get),
        exectime: one.exectime.map(ExecTime::get),
    }
}

/// Writes an array, its elements by `one`.
pub(crate) fn write_array<T>(
    out: &mut Vec<u8>,
    elements: impl IntoIterator<Item = T>,
    mut one: impl FnMut(&mut Vec<u8>, T) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    out.push(b'[');
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        one(out, element)?;
    }
    out.push(b']');
    Ok(())
}

pub(crate) fn backoff(wait: Backoff) -> api::Backoff {
    api::Backoff {
        base: wait.base.as_secs_f64(),
        max: Some(wait.max.as_secs_f64()),
    }
}

/// Counts since the start.
pub(crate) fn totals(counters: Counters) -> api::Totals {
    api::Totals {
        submitted: counters.submitted,
        claimed: counters.claimed,
        completed: counters.completed,
        failed: counters.failed,
        released: counters.released,
        expired: counters.expired,
        cancelled: counters.cancelled,
        died: counters.died,
        retried: counters.retried,
    }
}

/// A queue.
pub(crate) fn queue(view: &QueueView) -> api::Queue {
    api::Queue {
        queue: view.name.to_string(),
        ready: view.count(State::Ready),
        scheduled: view.count(State::Scheduled),
        leased: view.count(State::Leased),
        dead: view.count(State::Dead),
        paused: view.paused,
        draining: view.draining,
        oldest_due_age: view.oldest_due.map(Millis::as_secs_f64),
        totals: totals(view.counters),
        submitted_per_second: view.submitted_rate,
        completed_per_second: view.completed_rate,
        unasked_seconds: view.unasked.as_secs_f64(),
        died_last_hour: view.died_lately,
    }
}

/// What happened lately.
pub(crate) fn history(queue: Option<&QueueName>, view: &HistoryView) -> api::History {
    let counts = |pick: fn(&HistorySlot) -> u64| view.slots.iter().map(pick).collect();
    // Of one queue no latencies are kept: an array of nothing would look like no work.
    let latency = |pick: fn(&HistorySlot) -> Option<Quantiles>| {
        queue.is_none().then(|| api::Latency {
            p50: quantiles(view, pick, |one| one.p50),
            p99: quantiles(view, pick, |one| one.p99),
        })
    };
    api::History {
        queue: queue.map(ToString::to_string),
        span: view.span.as_str().to_owned(),
        start: view.start.as_secs_f64(),
        step: view.step.as_secs_f64(),
        elapsed: view.elapsed.as_secs_f64(),
        submitted: counts(|slot| slot.submitted),
        completed: counts(|slot| slot.completed),
        failed: counts(|slot| slot.failed),
        dead: counts(|slot| slot.died),
        wait: latency(|slot| slot.wait),
        run: latency(|slot| slot.run),
    }
}

fn quantiles(
    view: &HistoryView,
    pick: fn(&HistorySlot) -> Option<Quantiles>,
    which: fn(Quantiles) -> Millis,
) -> Vec<Option<f64>> {
    let slots = view.slots.iter();
    slots
        .map(|slot| pick(slot).map(|one| which(one).as_secs_f64()))
        .collect()
}

/// A worker.
pub(crate) fn worker(view: &WorkerView) -> api::Worker {
    api::Worker {
        worker: view.name.to_string(),
        holds: view.holds.iter().map(ToString::to_string).collect(),
        waiting: view.waiting,
        last_seen: view.last_seen.as_secs_f64(),
        claimed: view.claimed,
        completed: view.completed,
        failed: view.failed,
    }
}

/// An event.
pub(crate) fn event(number: u64, event: &Event) -> api::Event {
    api::Event {
        number,
        at: event.at.as_secs_f64(),
        kind: event.kind.as_str().to_owned(),
        id: event.id.map(|id| id.to_string()),
        queue: event.queue.as_ref().map(ToString::to_string),
        moved_from: event.moved_from.as_ref().map(ToString::to_string),
        state: event.state.map(|state| state.as_str().to_owned()),
        worker: event.worker.as_ref().map(ToString::to_string),
        attempt: event.attempt,
        error: event.error.as_deref().map(str::to_owned),
        result: match &event.result {
            Some(EventResult::Whole(result)) => Some(result.clone()),
            Some(EventResult::TooLong(_)) | None => None,
        },
        result_bytes: match event.result {
            Some(EventResult::TooLong(bytes)) => Some(bytes as u64),
            Some(EventResult::Whole(_)) | None => None,
        },
    }
}

/// The lease of a leased task; `None` for any other.
pub(crate) fn lease(view: &TaskView) -> Option<api::Lease> {
    let lease = view.lease.as_ref()?;
    Some(api::Lease {
        id: view.id.to_string(),
        queue: view.queue.to_string(),
        worker: lease.worker.as_ref().map(ToString::to_string),
        kind: match lease.kind {
            LeaseKind::Legacy => "legacy",
            LeaseKind::V1 => "v1",
        }
        .to_owned(),
        attempt: view.attempts,
        since: lease.since.as_secs_f64(),
        expires: lease.expires.as_secs_f64(),
    })
}

/// A rejected file.
pub(crate) fn rejected(view: RejectedView) -> api::RejectedFile {
    api::RejectedFile {
        name: view.name,
        reason: view.reason,
        size: view.size,
        modified: view.modified.map(WallMillis::as_secs_f64),
        moved: view.moved,
        beginning: view.beginning,
    }
}
