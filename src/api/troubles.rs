//! What is not well, in words, and what to do next: one list for the pages' banner, `workqueuectl status` and
//! `GET /api/v1/troubles`.
//!
//! Made from what the backend shows. May not know: who shows it, or how it is coloured.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::task::{Millis, QueueView, State, StatusView, WorkerView};

/// How bad a trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work is lost, refused or not done: somebody has to do something.
    Critical,
    /// Something will go wrong, or has gone wrong that can wait.
    Warning,
    /// Somebody has wanted it so, and may have forgotten it.
    Notice,
}

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// A word for programs that stays the same: `writes-stopped`, `memory-full`, `disk-full`, `disk-low`, `files-failing`, `files-lag`,
    /// `no-worker`, `tasks-dying`, `dead-tasks`, `rejected-files`, `drops-waiting`, `left-behind`,
    /// `watch-deaf`, `paused`, `draining`.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// The queue that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What is not well.
    pub what: String,
    /// What to do next: commands, or a short sentence.
    pub next: String,
}

/// The worst first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Troubles {
    /// Empty when all is well.
    pub troubles: Vec<Trouble>,
}

/// Files that lag behind the journal for longer than this are told of: the largest configured delay is a minute.
const LAG: Millis = Millis::from_secs(60);
/// Less free space than this is told of.
const LOW_BYTES: u64 = 256 << 20;
/// And less than this share of the disk, in parts of a hundred, but not when so much is free that it is plenty.
const LOW_PERCENT: u64 = 5;
/// Free space that is plenty on any disk.
const PLENTY_BYTES: u64 = 10 << 30;
/// Due tasks that nobody has asked for, for so long, have no worker: the longest wait of a claim is as long, so a worker
/// that is there has asked at least once.
const NO_WORKER: Millis = Millis::from_secs(300);
/// How many queues are told of one by one; those behind them are counted.
const QUEUES_NAMED: usize = 5;

/// All that is not well, the worst first. `url` is where a worker finds the daemon, where that is known.
#[must_use]
pub fn troubles(
    status: &StatusView,
    queues: &[QueueView],
    workers: &[WorkerView],
    url: Option<&str>,
) -> Vec<Trouble> {
    let mut found = Vec::new();
    memory(status, &mut found);
    disk(status, &mut found);
    idle(status, queues, workers, url, &mut found);
    dying(status, queues, &mut found);
    files(status, &mut found);
    switches(status, queues, &mut found);
    // Stable: within a severity they stay in this order.
    found.sort_by_key(|trouble| trouble.severity);
    found
}

fn trouble(
    kind: &str,
    severity: Severity,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Trouble {
    Trouble {
        kind: kind.to_owned(),
        severity,
        queue: None,
        what: what.into(),
        next: next.into(),
    }
}

fn memory(status: &StatusView, found: &mut Vec<Trouble>) {
    if let Some((used, limit)) = status.no_memory {
        let [used, limit] = [used, limit].map(|bytes| bytes >> 20);
        found.push(trouble(
            "memory-full",
            Severity::Critical,
            format!("{used} MiB of memory are in use, and the limit is {limit}: no new task is taken"),
            "start workers, or raise max_memory and reload; when less is in use, work goes on by itself",
        ));
    }
}

fn disk(status: &StatusView, found: &mut Vec<Trouble>) {
    if let Some(fault) = &status.fault {
        found.push(trouble(
            "writes-stopped",
            Severity::Critical,
            format!("writes have stopped: {fault}"),
            "journalctl -u workqueued; when the disk is well again: systemctl restart workqueued",
        ));
    }
    if status.disk_full {
        found.push(trouble(
            "disk-full",
            Severity::Critical,
            "the disk is full: no new task is taken",
            "df -h; make room, and work goes on by itself",
        ));
        return;
    }
    let Some(disk) = status.disk else { return };
    let percent = disk.free.saturating_mul(100) / disk.size.max(1);
    if disk.free < LOW_BYTES || (percent < LOW_PERCENT && disk.free < PLENTY_BYTES) {
        found.push(trouble(
            "disk-low",
            Severity::Warning,
            low(disk.free, percent),
            "df -h; when it is full, no new task is taken",
        ));
    }
}

/// Of a small disk much may be free, and that may be little all the same.
fn low(free: u64, percent: u64) -> String {
    let free = free >> 20;
    if percent < LOW_PERCENT {
        format!("the disk is nearly full: {free} MiB ({percent} %) are free")
    } else {
        format!("the disk has little room: {free} MiB are free")
    }
}

/// Due tasks that nobody works on.
fn idle(
    status: &StatusView,
    queues: &[QueueView],
    workers: &[WorkerView],
    url: Option<&str>,
    found: &mut Vec<Trouble>,
) {
    let flag = url.map_or_else(String::new, |url| format!(" --url {url}"));
    let next = format!("systemctl start workqueue-worker, or: workqueue-worker{flag}");
    if status.fault.is_some() || status.paused {
        return;
    }
    let idle = queues.iter().filter(|queue| {
        !queue.paused
            && queue.count(State::Leased) == 0
            && queue.unasked >= NO_WORKER
            && queue.oldest_due.is_some_and(|age| age >= NO_WORKER)
    });
    let idle: Vec<_> = idle.collect();
    for queue in idle.iter().take(QUEUES_NAMED) {
        let minutes = queue.unasked.min(queue.oldest_due.unwrap_or_default()).0 / 60_000;
        let ready = queue.count(State::Ready);
        found.push(Trouble {
            queue: Some(queue.name.to_string()),
            ..trouble(
                "no-worker",
                Severity::Critical,
                format!(
                    "no worker for {minutes} minutes on queue {}, which has due tasks: {ready}",
                    queue.name
                ),
                format!("start a worker with --queue {}: {next}", queue.name),
            )
        });
    }
    if idle.len() > QUEUES_NAMED {
        let more = idle.len() - QUEUES_NAMED;
        found.push(trouble(
            "no-worker",
            Severity::Critical,
            format!("further queues with due tasks and without a worker: {more}"),
            "workqueuectl queues",
        ));
    }
    let ready: u64 = queues.iter().map(|queue| queue.count(State::Ready)).sum();
    if idle.is_empty() && ready > 0 && workers.is_empty() && status.waiting_claims == 0 {
        found.push(trouble(
            "no-worker",
            Severity::Warning,
            format!("ready tasks, and no worker that has asked for any: {ready}"),
            next,
        ));
    }
}

fn dying(status: &StatusView, queues: &[QueueView], found: &mut Vec<Trouble>) {
    let list = "workqueuectl list --state dead; workqueuectl retry --dead";
    let mut dying: Vec<_> = queues
        .iter()
        .filter(|queue| queue.died_lately > 0)
        .collect();
    dying.sort_by_key(|queue| std::cmp::Reverse(queue.died_lately));
    for queue in dying.iter().take(QUEUES_NAMED) {
        let what = format!(
            "tasks are dying in queue {}: {} in the last hour ran out of attempts",
            queue.name, queue.died_lately
        );
        let next = format!("workqueuectl list --queue {} --state dead", queue.name);
        found.push(Trouble {
            queue: Some(queue.name.to_string()),
            ..trouble("tasks-dying", Severity::Critical, what, next)
        });
    }
    if dying.len() > QUEUES_NAMED {
        let more = dying.len() - QUEUES_NAMED;
        let what = format!("further queues in which tasks are dying: {more}");
        found.push(trouble("tasks-dying", Severity::Critical, what, list));
    }
    let dead: u64 = State::ALL
        .iter()
        .zip(status.counts)
        .filter_map(|(state, count)| (*state == State::Dead).then_some(count))
        .sum();
    if dead > 0 {
        let what = format!("dead tasks, out of attempts: {dead}");
        found.push(trouble("dead-tasks", Severity::Warning, what, list));
    }
}

fn files(status: &StatusView, found: &mut Vec<Trouble>) {
    if status.spool_failing > 0 {
        let what = format!(
            "file changes that failed and are tried again: {}",
            status.spool_failing
        );
        found.push(trouble(
            "files-failing",
            Severity::Warning,
            what,
            "journalctl -u workqueued",
        ));
    }
    if status.spool_lag > LAG {
        let what = format!(
            "the files lag {} seconds behind the journal",
            status.spool_lag.0 / 1000
        );
        found.push(trouble(
            "files-lag",
            Severity::Warning,
            what,
            "iostat -x 1; nothing is lost, but ls shows the past",
        ));
    }
    if status.drops_waiting > 0 {
        let what = format!(
            "dropped files that wait where they are, for a limit or for room: {}",
            status.drops_waiting
        );
        found.push(trouble(
            "drops-waiting",
            Severity::Warning,
            what,
            "let tasks end, or raise the limit that the log names: journalctl -u workqueued",
        ));
    }
    if status.left_behind > 0 {
        let what = format!(
            "tasks whose files are in a task directory that is not there any more: {}",
            status.left_behind
        );
        found.push(trouble(
            "left-behind",
            Severity::Critical,
            what,
            "mount it, or move it back: journalctl -u workqueued tells when it went",
        ));
    }
    if let Some(why) = &status.deaf {
        let what = format!("dropped files are seen late, by scans alone: {why}");
        found.push(trouble(
            "watch-deaf",
            Severity::Warning,
            what,
            next_of_deaf(why),
        ));
    }
    if status.rejected > 0 {
        let what = format!("dropped files that were rejected: {}", status.rejected);
        found.push(trouble(
            "rejected-files",
            Severity::Warning,
            what,
            "workqueuectl rejected",
        ));
    }
}

/// What helps where no events come. The reason is the system's: that of a limit names what sets it, in brackets.
fn next_of_deaf(why: &str) -> &'static str {
    if why.contains("(sysctl ") || why.contains("(ulimit ") {
        "raise the limit that is named, then: workqueuectl rescan"
    } else if why.contains("(os error 13)") {
        "let the daemon's user read the directory that is named, then: workqueuectl rescan"
    } else {
        "see to what is named, then: workqueuectl rescan; if that does not help: restart the daemon"
    }
}

fn switches(status: &StatusView, queues: &[QueueView], found: &mut Vec<Trouble>) {
    if status.paused {
        found.push(trouble(
            "paused",
            Severity::Notice,
            "all queues are paused: nothing is handed out",
            "workqueuectl resume",
        ));
    } else {
        let paused = queues.iter().filter(|one| one.paused);
        found.extend(named("paused", "paused", paused, "workqueuectl resume"));
    }
    if status.draining {
        found.push(trouble(
            "draining",
            Severity::Notice,
            "nothing new is taken anywhere: all queues are draining",
            "workqueuectl undrain",
        ));
    } else {
        let draining = queues.iter().filter(|one| one.draining);
        found.extend(named(
            "draining",
            "draining",
            draining,
            "workqueuectl undrain",
        ));
    }
}

/// One notice for all queues that are so; `None` where none is.
fn named<'a>(
    kind: &str,
    how: &str,
    queues: impl Iterator<Item = &'a QueueView>,
    command: &str,
) -> Option<Trouble> {
    let names: Vec<&str> = queues.map(|queue| queue.name.as_str()).collect();
    let shown = names.get(..QUEUES_NAMED).unwrap_or(&names).join(", ");
    let (queue, what, next) = match names.len() {
        0 => return None,
        1 => (
            Some(shown.clone()),
            format!("{how}: {shown}"),
            format!("{command} {shown}"),
        ),
        count if count <= QUEUES_NAMED => {
            (None, format!("{how}: {shown}"), format!("{command} QUEUE"))
        }
        count => (
            None,
            format!("{how}: {shown} and {} more", count - QUEUES_NAMED),
            format!("{command} QUEUE"),
        ),
    };
    Some(Trouble {
        queue,
        ..trouble(kind, Severity::Notice, what, next)
    })
}

#[cfg(test)]
mod tests;
