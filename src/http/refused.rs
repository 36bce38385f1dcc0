//! How often each limit was the reason of a refusal, for `/metrics`.
//!
//! Counted where a refusal becomes a problem, so every transport's are here. Of the whole process, like its memory and its
//! descriptors.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::task::Refusal;

/// The limits, by the names of their settings.
const NAMES: [&str; 18] = [
    "body_timeout",
    "max_body",
    "max_depth",
    "max_in_flight",
    "max_listeners",
    "max_memory",
    "max_payload",
    "max_queue_tasks",
    "max_queues",
    "max_spool",
    "max_submitting",
    "max_tasks",
    "max_unique_keys",
    "max_url",
    "max_waiting",
    "requests",
    "room",
    "token_rate",
];

static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Counts a refusal, if a limit is its reason.
pub(super) fn count(refusal: &Refusal) {
    let name = match refusal {
        Refusal::TooDeep { .. } => "max_depth",
        Refusal::TooLarge { .. } => "max_payload",
        Refusal::QueueTooLong { .. } => "max_queue_tasks",
        Refusal::TooMany { setting, .. } | Refusal::TooManyAtOnce { setting, .. } => setting,
        Refusal::NoMemory { .. } => "max_memory",
        Refusal::Busy | Refusal::FilesLag | Refusal::ExportRuns => "requests",
        Refusal::NoRoom | Refusal::QueueFull(_) => "room",
        _ => return,
    };
    count_by(name);
}

/// Counts a refusal whose reason is the limit of this name, and of which only the transport knows.
pub(super) fn count_by(name: &str) {
    if let Some(at) = NAMES.iter().position(|one| *one == name) {
        COUNTS[at].fetch_add(1, Relaxed);
    }
}

/// All of them with their counts.
pub(super) fn counts() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = COUNTS.iter().map(|count| count.load(Relaxed));
    NAMES.into_iter().zip(counts)
}
