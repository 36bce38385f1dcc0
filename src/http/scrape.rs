//! `GET /metrics`: the backend's numbers in Prometheus' text format.
//!
//! A recorder is made for each scrape and filled with absolute values, so nothing has to be counted twice, and a queue that
//! is gone leaves nothing behind. Names: <https://prometheus.io/docs/practices/naming/>.

use axum::{extract::State, http::StatusCode};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::{Answer, Shared, answer, process};
use crate::{
    backend::{Backend, Counters, Error, Listeners, QueueView, StatusView},
    systemd::logging,
    task::{Millis, State as TaskState},
};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The daemon in numbers, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics<B: Backend>(State(http): Shared<B>) -> Answer {
    // When writes have stopped the queues say nothing any more: then just that has to be seen here.
    let queues = match http.backend.queues().await {
        Err(Error::Fault(_)) => Vec::new(),
        other => other?,
    };
    let status = http.backend.status().await?;
    let health = http.backend.health();
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        of_queues(&queues);
        of_status(&status);
        plain(
            "workqueue_up",
            "Whether writes are taken.",
            u8::from(health.fault.is_none()),
        );
        plain(
            "workqueue_ready",
            "Whether requests are served.",
            u8::from(health.ready),
        );
        of_listeners(http.backend.listeners());
        of_process();
        of_log();
    });
    Ok(answer::of_type(
        CONTENT_TYPE,
        StatusCode::OK,
        handle.render(),
    ))
}

/// What is counted of each queue: a name, what it means, and where it stands.
type Counted = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTED: [Counted; 9] = [
    ("workqueue_submitted_total", "Tasks taken.", |c| c.submitted),
    ("workqueue_claimed_total", "Leases given.", |c| c.claimed),
    ("workqueue_completed_total", "Tasks completed.", |c| {
        c.completed
    }),
    (
        "workqueue_failed_total",
        "Failed attempts, told by workers.",
        |c| c.failed,
    ),
    ("workqueue_released_total", "Tasks given back.", |c| {
        c.released
    }),
    (
        "workqueue_expired_total",
        "Leases that came to their end.",
        |c| c.expired,
    ),
    ("workqueue_cancelled_total", "Tasks cancelled.", |c| {
        c.cancelled
    }),
    (
        "workqueue_died_total",
        "Tasks that ran out of attempts.",
        |c| c.died,
    ),
    ("workqueue_retried_total", "Dead tasks brought back.", |c| {
        c.retried
    }),
];

fn of_queues(queues: &[QueueView]) {
    describe_gauge!("workqueue_tasks", "Tasks by queue and state.");
    describe_gauge!(
        "workqueue_oldest_due_age_seconds",
        Unit::Seconds,
        "How long the ready task that has waited longest has been due; 0 when none is ready."
    );
    describe_gauge!(
        "workqueue_queue_paused",
        "Whether the queue hands out nothing."
    );
    describe_gauge!(
        "workqueue_queue_draining",
        "Whether the queue takes no new tasks."
    );
    for (name, help, _) in COUNTED {
        describe_counter!(name, help);
    }
    for queue in queues {
        let name = queue.name.to_string();
        for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
            gauge!("workqueue_tasks", "queue" => name.clone(), "state" => state.as_str())
                .set(count as f64);
        }
        let age = queue.oldest_due.map_or(0.0, Millis::as_secs_f64);
        gauge!("workqueue_oldest_due_age_seconds", "queue" => name.clone()).set(age);
        gauge!("workqueue_queue_paused", "queue" => name.clone()).set(u8::from(queue.paused));
        gauge!("workqueue_queue_draining", "queue" => name.clone()).set(u8::from(queue.draining));
        for (counted, _, value) in COUNTED {
            counter!(counted, "queue" => name.clone()).absolute(value(&queue.counters));
        }
    }
}

fn of_status(status: &StatusView) {
    describe_gauge!(
        "workqueue_spool_lag_seconds",
        Unit::Seconds,
        "How long the oldest file change has been waiting to be written."
    );
    gauge!("workqueue_spool_lag_seconds").set(status.spool_lag.as_secs_f64());
    let gauges = [
        (
            "workqueue_spool_pending_files",
            "Files to be written or removed.",
            status.spool_pending,
        ),
        (
            "workqueue_spool_failing_files",
            "File changes that failed and are tried again.",
            status.spool_failures,
        ),
        (
            "workqueue_journal_bytes",
            "Bytes in the journal since the last checkpoint.",
            status.journal_bytes,
        ),
        (
            "workqueue_waiting_claims",
            "Claims that wait for a task.",
            status.waiting_claims,
        ),
        (
            "workqueue_disk_full",
            "Whether the disk is too full for new tasks.",
            status.disk_full.into(),
        ),
    ];
    for (name, help, value) in gauges {
        plain(name, help, value as f64);
    }
    if let Some(disk) = status.disk {
        plain(
            "workqueue_disk_free_bytes",
            "Bytes free on the disk.",
            disk.free as f64,
        );
    }
    let counters = [
        (
            "workqueue_journal_syncs_total",
            "Syncs of the journal.",
            status.journal_syncs,
        ),
        (
            "workqueue_journal_records_total",
            "Records written to the journal.",
            status.journal_records,
        ),
        (
            "workqueue_rejected_files_total",
            "Files that could not be taken in.",
            status.rejected,
        ),
    ];
    for (name, help, value) in counters {
        describe_counter!(name, help);
        counter!(name).absolute(value);
    }
}

fn of_log() {
    let missing = logging::missing();
    let counters = [
        (
            "workqueue_log_lines_dropped_total",
            "Log lines dropped because the log was not written as fast as they came.",
            missing.dropped,
        ),
        (
            "workqueue_log_events_passed_over_total",
            "Events of tasks that were not logged because there were too many in a second.",
            missing.passed_over,
        ),
    ];
    for (name, help, value) in counters {
        describe_counter!(name, help);
        counter!(name).absolute(value);
    }
}

fn of_listeners(listeners: Listeners) {
    plain(
        "workqueue_event_listeners",
        "Open streams of events.",
        listeners.now as f64,
    );
    let name = "workqueue_event_listeners_dropped_total";
    describe_counter!(
        name,
        "Streams of events ended because their readers were too slow."
    );
    counter!(name).absolute(listeners.dropped);
}

fn of_process() {
    describe_gauge!(
        "workqueue_build_info",
        "Always 1; the label has the version."
    );
    gauge!("workqueue_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    if let Some(start) = process::start_time() {
        plain(
            "process_start_time_seconds",
            "When the process started, in Unix seconds.",
            start,
        );
    }
    if let Some(bytes) = process::resident_memory() {
        plain(
            "process_resident_memory_bytes",
            "Resident memory.",
            bytes as f64,
        );
    }
    if let Some(count) = process::open_fds() {
        plain("process_open_fds", "Open file descriptors.", count as f64);
    }
}

/// A gauge without labels.
fn plain(name: &'static str, help: &'static str, value: impl metrics::IntoF64) {
    describe_gauge!(name, help);
    gauge!(name).set(value);
}
