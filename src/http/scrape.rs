//! `GET /metrics`: the backend's numbers for Prometheus.
//!
//! Written anew for each scrape from absolute values, so nothing is counted twice, and a queue that is gone leaves nothing
//! behind. Names: <https://prometheus.io/docs/practices/naming/>. Labels are bounded: queues by the setting `max_queues`,
//! states, outcomes, routes, methods and classes of statuses by the code.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
};

use super::{
    Answer, Http, Shared, answer,
    exposition::{Exposition, Family, Format, labels},
    gate::Tally,
    process, refused,
    timing::Times,
};
use crate::{
    backend::{Backend, Counters, Error, Health, Listeners, QueueView, StatusView},
    systemd::logging,
    task::{Millis, State as TaskState},
};

/// Bytes that the numbers of a queue take, and those of the daemon: where a scrape's text begins to grow from.
const BYTES_OF_QUEUE: usize = 1100;
const BYTES_OF_DAEMON: usize = 32 << 10;

/// The daemon in numbers: in Prometheus' text format, or in `OpenMetrics` where `Accept` prefers that.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses((
        status = 200, description = "The numbers",
        content((String = "text/plain"), (String = "application/openmetrics-text")),
    ))
)]
pub(crate) async fn metrics<B: Backend>(State(http): Shared<B>, request: Request) -> Answer {
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    // When writes have stopped the queues say nothing any more: then just that has to be seen here.
    let queues = match http.backend.queues().await {
        Err(Error::Fault(_)) => Vec::new(),
        other => other?,
    };
    let status = http.backend.status().await?;
    let text = written(&http, format, &queues, &status);
    let mut response = answer::of_type(format.content_type(), StatusCode::OK, text);
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

fn written<B: Backend>(
    http: &Http<B>,
    format: Format,
    queues: &[QueueView],
    status: &StatusView,
) -> String {
    let mut out = Exposition::new(format, queues.len() * BYTES_OF_QUEUE + BYTES_OF_DAEMON);
    of_health(&mut out, &http.backend.health());
    of_queues(&mut out, queues);
    of_tasks(&mut out, status);
    of_disk(&mut out, status);
    of_listeners(&mut out, http.backend.listeners());
    of_connections(&mut out, &http.tally);
    let held = Family::gauge(
        "workqueue_in_flight_bytes",
        "Bytes of large requests and answers that are held, on whichever is asked: TCP or the admin socket.",
    );
    out.plain(held, http.flight.bytes());
    of_requests(&mut out, &http.times);
    of_log(&mut out);
    of_process(&mut out);
    out.end()
}

fn of_health(out: &mut Exposition, health: &Health) {
    let up = Family::gauge("workqueue_up", "Whether writes are taken.");
    out.plain(up, health.fault.is_none());
    let ready = Family::gauge("workqueue_ready", "Whether requests are served.");
    out.plain(ready, health.ready);
    let info = Family::gauge(
        "workqueue_build_info",
        "Always 1; the label has the version.",
    );
    out.family(info);
    out.number(
        info,
        &labels([("version", &env!("CARGO_PKG_VERSION"))]),
        1_u64,
    );
}

/// What is counted of each queue, and where it stands.
type Counted = (Family, fn(&Counters) -> u64);

const COUNTED: [Counted; 5] = [
    (
        Family::counter("workqueue_submitted", "Tasks taken."),
        |c| c.submitted,
    ),
    (
        Family::counter("workqueue_claimed", "Tasks handed out, under a lease each."),
        |c| c.claimed,
    ),
    (
        Family::counter("workqueue_cancelled", "Tasks cancelled."),
        |c| c.cancelled,
    ),
    (
        Family::counter("workqueue_died", "Tasks that ran out of attempts."),
        |c| c.died,
    ),
    (
        Family::counter("workqueue_retried", "Dead tasks brought back."),
        |c| c.retried,
    ),
];

const ATTEMPTS: Family = Family::counter(
    "workqueue_attempts",
    "Attempts that have ended, by outcome: completed, failed (told by the worker), released (given back, not counted against \
     the task) or expired (the lease came to its end).",
);

/// The outcomes of attempts, and where they stand.
type Outcome = (&'static str, fn(&Counters) -> u64);

const OUTCOMES: [Outcome; 4] = [
    ("completed", |c| c.completed),
    ("failed", |c| c.failed),
    ("released", |c| c.released),
    ("expired", |c| c.expired),
];

const TASKS: Family = Family::gauge("workqueue_tasks", "Tasks by queue and state.");

/// What stands still of each queue: seconds and switches.
type Gauged = (Family, fn(&QueueView) -> f64);

const GAUGED: [Gauged; 4] = [
    (
        Family::gauge(
            "workqueue_oldest_due_age_seconds",
            "How long the ready task that has waited longest has been due; 0 when none is ready.",
        ),
        |queue| queue.oldest_due.map_or(0.0, Millis::as_secs_f64),
    ),
    (
        Family::gauge(
            "workqueue_queue_unasked_seconds",
            "How long no claim has asked for the queue's tasks, since the daemon's start at most.",
        ),
        |queue| queue.unasked.as_secs_f64(),
    ),
    (
        Family::gauge(
            "workqueue_queue_paused",
            "Whether the queue hands out nothing.",
        ),
        |queue| f64::from(u8::from(queue.paused)),
    ),
    (
        Family::gauge(
            "workqueue_queue_draining",
            "Whether the queue takes no new tasks.",
        ),
        |queue| f64::from(u8::from(queue.draining)),
    ),
];

fn of_queues(out: &mut Exposition, queues: &[QueueView]) {
    let names: Vec<String> = queues
        .iter()
        .map(|queue| labels([("queue", &queue.name)]))
        .collect();
    let named = || names.iter().map(String::as_str).zip(queues);
    for (family, value) in COUNTED {
        out.family(family);
        for (name, queue) in named() {
            out.number(family, name, value(&queue.counters));
        }
    }
    for (family, value) in GAUGED {
        out.family(family);
        for (name, queue) in named() {
            out.number(family, name, value(queue));
        }
    }
    let mut both = String::new();
    out.family(ATTEMPTS);
    for (name, queue) in named() {
        for (outcome, value) in OUTCOMES {
            join(&mut both, name, "outcome", outcome);
            out.number(ATTEMPTS, &both, value(&queue.counters));
        }
    }
    out.family(TASKS);
    for (name, queue) in named() {
        for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
            join(&mut both, name, "state", state.as_str());
            out.number(TASKS, &both, count);
        }
    }
}

/// Puts one more label behind others. Its value is a word of ours: nothing in it is escaped.
fn join(both: &mut String, others: &str, name: &str, value: &str) {
    both.clear();
    for part in [others, ",", name, "=\"", value, "\""] {
        both.push_str(part);
    }
}

fn of_tasks(out: &mut Exposition, status: &StatusView) {
    let waiting = Family::gauge("workqueue_waiting_claims", "Claims that wait for a task.");
    out.plain(waiting, status.waiting_claims);
    let refused = Family::counter(
        "workqueue_limit_refusals",
        "Requests that were refused because a limit was reached.",
    );
    out.family(refused);
    for (limit, count) in refused::counts() {
        out.number(refused, &labels([("limit", &limit)]), count);
    }
    let wait = Family::histogram(
        "workqueue_task_wait_seconds",
        "How long the tasks that were handed out had been due, over all queues.",
    );
    out.family(wait);
    out.histogram(wait, "", &status.wait);
    let run = Family::histogram(
        "workqueue_task_run_seconds",
        "How long the tasks that were completed had been held, over all queues.",
    );
    out.family(run);
    out.histogram(run, "", &status.run);
}

/// What is counted of the journal and the task directory, and where it stands.
type Stored = (Family, fn(&StatusView) -> u64);

const STORED: [Stored; 10] = [
    (
        Family::gauge(
            "workqueue_spool_pending_files",
            "Files to be written or removed.",
        ),
        |status| status.spool_pending,
    ),
    (
        Family::gauge(
            "workqueue_spool_failing_files",
            "File changes that failed and are tried again.",
        ),
        |status| status.spool_failing,
    ),
    (
        Family::gauge(
            "workqueue_drops_waiting_files",
            "Dropped files that wait where they are for a limit, or for room.",
        ),
        |status| status.drops_waiting,
    ),
    (
        Family::gauge(
            "workqueue_left_behind_tasks",
            "Tasks whose payloads are in a directory that is not there: they wait for it.",
        ),
        |status| status.left_behind,
    ),
    (
        Family::gauge(
            "workqueue_journal_bytes",
            "Bytes in the journal since the last checkpoint.",
        ),
        |status| status.journal_bytes,
    ),
    (
        Family::counter("workqueue_journal_syncs", "Groups written to the journal."),
        |status| status.journal_syncs,
    ),
    (
        Family::counter(
            "workqueue_journal_records",
            "Records written to the journal.",
        ),
        |status| status.journal_records,
    ),
    (
        Family::counter(
            "workqueue_workers_forgotten",
            "Workers that were forgotten because others came: `max_workers` are remembered.",
        ),
        |status| status.workers_forgotten,
    ),
    (
        Family::counter(
            "workqueue_rejected_files",
            "Dropped files that could not be taken in.",
        ),
        |status| status.rejected,
    ),
    (
        Family::gauge(
            "workqueue_disk_full",
            "Whether the disk is too full for new tasks.",
        ),
        |status| u64::from(status.disk_full),
    ),
];

fn of_disk(out: &mut Exposition, status: &StatusView) {
    let lag = Family::gauge(
        "workqueue_spool_lag_seconds",
        "How long the oldest file change has been waiting to be written.",
    );
    out.plain(lag, status.spool_lag.as_secs_f64());
    for (family, value) in STORED {
        out.plain(family, value(status));
    }
    let writes = Family::histogram(
        "workqueue_journal_sync_seconds",
        "How long a group of records took until it was where the durability wants it: on the disk with sync, in the kernel \
         with interval and none.",
    );
    out.family(writes);
    out.histogram(writes, "", &status.writes);
    if let Some(age) = status.checkpoint_age {
        let family = Family::gauge(
            "workqueue_checkpoint_age_seconds",
            "How long ago the last checkpoint was made; absent before the first since the start.",
        );
        out.plain(family, age.as_secs_f64());
    }
    if let Some(disk) = status.disk {
        let free = Family::gauge(
            "workqueue_disk_free_bytes",
            "Bytes free on the disk that the tasks are on.",
        );
        out.plain(free, disk.free);
        let size = Family::gauge(
            "workqueue_disk_size_bytes",
            "Bytes of the disk that the tasks are on.",
        );
        out.plain(size, disk.size);
    }
}

fn of_listeners(out: &mut Exposition, listeners: Listeners) {
    let now = Family::gauge("workqueue_event_listeners", "Open streams of events.");
    out.plain(now, listeners.now);
    let dropped = Family::counter(
        "workqueue_event_listeners_dropped",
        "Streams of events ended because their readers were too slow.",
    );
    out.plain(dropped, listeners.dropped);
}

fn of_connections(out: &mut Exposition, tally: &Tally) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let open = Family::gauge("workqueue_connections", "Open connections.");
    out.plain(open, of(&tally.open));
    let counted = [
        (
            Family::counter("workqueue_connections_accepted", "Connections let in."),
            &tally.accepted,
        ),
        (
            Family::counter(
                "workqueue_accept_errors",
                "Times that accepting failed for want of descriptors or memory.",
            ),
            &tally.accept_errors,
        ),
        (
            Family::counter(
                "workqueue_tls_handshakes_failed",
                "Handshakes of TLS that failed or took too long.",
            ),
            &tally.handshakes_failed,
        ),
        (
            Family::counter(
                "workqueue_connections_timed_out",
                "Connections closed because no request came, or its head too slowly.",
            ),
            &tally.timed_out,
        ),
        (
            Family::counter(
                "workqueue_connections_unread",
                "Connections closed because their clients read nothing of an answer.",
            ),
            &tally.unread,
        ),
        (
            Family::counter(
                "workqueue_heads_refused",
                "Requests refused for their head: malformed, too long, too many fields.",
            ),
            &tally.heads_refused,
        ),
        (
            Family::counter(
                "workqueue_requests_over_rate",
                "Requests refused because their address sent too many.",
            ),
            &tally.over_rate,
        ),
    ];
    for (family, counter) in counted {
        out.plain(family, of(counter));
    }
    let refused = Family::counter(
        "workqueue_connections_refused",
        "Connections turned away, by the limit that they were over: of all connections, or of those from one address, on the \
         admin socket of users.",
    );
    out.family(refused);
    for (limit, counter) in [("all", &tally.over_all), ("address", &tally.over_address)] {
        out.number(refused, &labels([("limit", &limit)]), of(counter));
    }
}

fn of_requests(out: &mut Exposition, times: &Times) {
    let family = Family::histogram(
        "workqueue_http_request_seconds",
        "How long requests took until the head of their answer, by route, method and class of status. A claim's time \
         includes its wait for a task.",
    );
    out.family(family);
    for one in times.all() {
        let labels = labels([
            ("route", &one.route),
            ("method", &one.method),
            ("status", &one.class),
        ]);
        out.histogram(family, &labels, &one.times);
    }
}

fn of_log(out: &mut Exposition) {
    let missing = logging::missing();
    let dropped = Family::counter(
        "workqueue_log_lines_dropped",
        "Log lines dropped because the log was not written as fast as they came.",
    );
    out.plain(dropped, missing.dropped);
    let passed_over = Family::counter(
        "workqueue_log_events_passed_over",
        "Events of tasks, and refusals of credentials, that were not logged because there were too many in a second.",
    );
    out.plain(passed_over, missing.passed_over);
}

/// The numbers that every Prometheus client library shows of its process:
/// <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
fn of_process(out: &mut Exposition) {
    let of = process::read();
    if let Some(stat) = of.stat {
        let family = Family::counter(
            "process_cpu_seconds",
            "User and system time spent, in seconds.",
        );
        out.plain(family, stat.cpu_seconds);
        let family = Family::gauge("process_threads", "Threads of the process.");
        out.plain(family, stat.threads);
        let family = Family::gauge("process_virtual_memory_bytes", "Virtual memory.");
        out.plain(family, stat.virtual_bytes);
        if let Some(start) = stat.start_time {
            let family = Family::gauge(
                "process_start_time_seconds",
                "When the process started, in Unix seconds.",
            );
            out.plain(family, start);
        }
    }
    let others = [
        (
            Family::gauge("process_resident_memory_bytes", "Resident memory."),
            of.resident_bytes,
        ),
        (
            Family::gauge("process_open_fds", "Open file descriptors."),
            of.open_fds,
        ),
        (
            Family::gauge("process_max_fds", "File descriptors that may be open."),
            of.max_fds,
        ),
    ];
    for (family, value) in others {
        if let Some(value) = value {
            out.plain(family, value);
        }
    }
}
