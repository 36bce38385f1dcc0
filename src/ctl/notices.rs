//! What is not well, by the daemon's numbers, and what to type next.

use super::{console::Colour, when};
use crate::api;

/// Files that lag behind the journal for longer than this are told of: the largest configured delay is a minute.
const LAG: f64 = 60.0;
/// Less free space than this is told of.
const LOW_DISK: u64 = 256 << 20;

/// One thing that is not well.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) colour: Colour,
    pub(super) what: String,
    /// What to type.
    pub(super) next: &'static str,
}

fn bad(what: impl Into<String>, next: &'static str) -> Notice {
    Notice {
        colour: Colour::Red,
        what: what.into(),
        next,
    }
}

fn warn(what: impl Into<String>, next: &'static str) -> Notice {
    Notice {
        colour: Colour::Yellow,
        what: what.into(),
        next,
    }
}

/// All of them: the disk first, then tasks, then switches that somebody has set.
pub(super) fn of(
    status: &api::Status,
    queues: &[api::Queue],
    workers: &[api::Worker],
) -> Vec<Notice> {
    let mut found = Vec::new();
    disk(status, &mut found);
    tasks(status, workers, &mut found);
    switches(status, queues, &mut found);
    found
}

fn disk(status: &api::Status, found: &mut Vec<Notice>) {
    if let Some(fault) = &status.fault {
        let next =
            "journalctl -u workqueued; when the disk is well again: systemctl restart workqueued";
        found.push(bad(format!("writes have stopped: {fault}"), next));
    }
    let free = status.disk_free.unwrap_or(u64::MAX);
    if status.status == "full" {
        found.push(bad(
            "the disk is full: no new task is taken",
            "df -h; make room, and work goes on by itself",
        ));
    } else if free < LOW_DISK {
        found.push(warn(
            format!("the disk has only {} MiB free", free >> 20),
            "df -h",
        ));
    }
    if status.spool_failures > 0 {
        let what = format!(
            "file changes that failed and are tried again: {}",
            status.spool_failures
        );
        found.push(warn(what, "journalctl -u workqueued"));
    }
    if status.spool_lag_seconds > LAG {
        let what = format!(
            "the files lag {} behind the journal",
            when::length(status.spool_lag_seconds)
        );
        found.push(warn(what, "iostat -x 1"));
    }
}

fn tasks(status: &api::Status, workers: &[api::Worker], found: &mut Vec<Notice>) {
    if status.dead > 0 {
        let next = "workqueuectl list --state dead; workqueuectl retry --dead";
        found.push(bad(
            format!("dead tasks, out of attempts: {}", status.dead),
            next,
        ));
    }
    if status.rejected > 0 {
        let what = format!("dropped files that were rejected: {}", status.rejected);
        found.push(warn(what, "workqueuectl rejected"));
    }
    if status.ready > 0 && workers.is_empty() && !status.paused {
        let what = format!(
            "ready tasks, and no worker that has asked for any: {}",
            status.ready
        );
        let next =
            "systemctl start workqueue-worker, or: workqueue-worker --url http://127.0.0.1:5000";
        found.push(warn(what, next));
    }
}

fn switches(status: &api::Status, queues: &[api::Queue], found: &mut Vec<Notice>) {
    let names = |pick: fn(&api::Queue) -> bool| -> String {
        let picked = queues
            .iter()
            .filter(|one| pick(one))
            .map(|one| one.queue.as_str());
        picked.collect::<Vec<_>>().join(", ")
    };
    let (paused, draining) = (names(|one| one.paused), names(|one| one.draining));
    if status.paused {
        found.push(warn("all queues are paused", "workqueuectl resume"));
    } else if !paused.is_empty() {
        found.push(warn(
            format!("paused: {paused}"),
            "workqueuectl resume QUEUE",
        ));
    }
    if status.draining {
        found.push(warn(
            "nothing new is taken anywhere",
            "workqueuectl undrain",
        ));
    } else if !draining.is_empty() {
        found.push(warn(
            format!("draining: {draining}"),
            "workqueuectl undrain QUEUE",
        ));
    }
}
