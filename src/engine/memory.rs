//! [`Gate`]: what submits pass before the engine holds them: is there memory, and does too much wait already.
//!
//! A slow disk makes submits wait, and each that waits is held in memory. So their bytes are bounded here, before the engine's
//! line, and the memory of the whole process beside them: the kernel kills whoever exceeds its cgroup, and asks nobody.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::task::{Millis, NewTask, Refusal, Tick};

/// How long a reading of the memory in use is good for: reading costs some microseconds, and the daemon can't take more than
/// some ten megabytes in this time.
const FRESH: Millis = Millis(20);
/// Bytes that a task takes beside its payload while it waits.
const TASK_BYTES: u64 = 512;
/// No limit.
const ANY: u64 = u64::MAX;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Gate {
    max_memory: AtomicU64,
    max_submitting: AtomicU64,
    submitting: AtomicU64,
    /// When the memory in use was read, in nanoseconds of the boot clock, and what it was.
    read_at: AtomicU64,
    used: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            max_memory: AtomicU64::new(ANY),
            max_submitting: AtomicU64::new(ANY),
            submitting: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }
    }
}

/// A submit that the engine holds: until it is answered, also when nobody waits for that any more.
#[derive(Debug)]
pub(super) struct Passed {
    gate: Arc<Gate>,
    bytes: u64,
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.gate.submitting.fetch_sub(self.bytes, Relaxed);
    }
}

impl Gate {
    pub(super) fn set(&self, max_memory: Option<u64>, max_submitting: u64) {
        self.max_memory.store(max_memory.unwrap_or(ANY), Relaxed);
        self.max_submitting.store(max_submitting, Relaxed);
    }

    /// Lets these tasks pass, or says why not. A request that is alone always finds room to wait.
    pub(super) fn pass(
        self: &Arc<Self>,
        tasks: &[NewTask],
        now: impl FnOnce() -> Tick,
    ) -> Result<Passed, Refusal> {
        if let Some((used, limit)) = self.no_memory(now) {
            return Err(Refusal::NoMemory { used, limit });
        }
        let bytes = tasks
            .iter()
            .map(|task| task.payload.len() as u64 + TASK_BYTES)
            .sum();
        let before = self.submitting.fetch_add(bytes, Relaxed);
        let passed = Passed {
            gate: Arc::clone(self),
            bytes,
        };
        let limit = self.max_submitting.load(Relaxed);
        if before > 0 && before.saturating_add(bytes) > limit {
            return Err(Refusal::TooManyAtOnce {
                what: "bytes of tasks that wait to be taken",
                setting: "max_submitting",
                limit,
            });
        }
        Ok(passed)
    }

    /// The memory in use and its limit, where no new task passes for that.
    pub(super) fn no_memory(&self, now: impl FnOnce() -> Tick) -> Option<(u64, u64)> {
        let limit = self.max_memory.load(Relaxed);
        let used = (limit != ANY).then(|| self.used(now()))?;
        (used >= limit).then_some((used, limit))
    }

    fn used(&self, now: Tick) -> u64 {
        let read_at = Tick(self.read_at.load(Relaxed));
        if now.since(read_at) >= FRESH {
            self.read_at.store(now.0, Relaxed);
            match own_memory() {
                Ok(used) => self.used.store(used, Relaxed),
                // Without `/proc` there is no limit, which is better than no service; it is said each time it is missed.
                Err(error) => {
                    tracing::warn!(%error, "the memory in use can't be read: max_memory is not kept");
                }
            }
        }
        self.used.load(Relaxed)
    }
}

/// Bytes of memory that are this process's own: the kernel can't take them back as it can pages of files
/// (`proc_pid_status(5)`).
fn own_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    text.lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok())
        .map(|kibibytes| kibibytes << 10)
        .ok_or_else(|| io::Error::other("/proc/self/status has no line RssAnon"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Payload, TaskObject};

    fn tasks() -> Vec<NewTask> {
        let object = TaskObject::parse(r#"{"payload": 1}"#).unwrap();
        vec![
            object
                .check(
                    crate::task::WallMillis(0),
                    crate::task::PayloadLimits::bytes(100),
                )
                .unwrap(),
        ]
    }

    #[test]
    fn a_submit_passes_while_no_more_wait_than_may_and_alone_in_any_case() {
        let gate = Arc::<Gate>::default();
        gate.set(None, 1);
        let tasks = tasks();
        assert_eq!(tasks[0].payload, Payload::from_json("1").unwrap());
        let first = gate
            .pass(&tasks, || unreachable!("no limit, no look"))
            .unwrap();
        let second = gate.pass(&tasks, Tick::default);
        assert!(matches!(
            second,
            Err(Refusal::TooManyAtOnce { limit: 1, .. })
        ));
        drop(first);
        assert!(gate.pass(&tasks, Tick::default).is_ok());
        assert_eq!(
            gate.submitting.load(Relaxed),
            0,
            "who was refused left nothing"
        );
    }

    #[test]
    fn no_submit_passes_above_the_limit_of_memory() {
        let gate = Arc::<Gate>::default();
        gate.set(Some(1), 1 << 20);
        let now = || Tick(1_000_000_000);
        let refused = gate.pass(&tasks(), now).unwrap_err();
        assert!(matches!(refused, Refusal::NoMemory { used, limit: 1 } if used > 100_000));
        gate.set(Some(1 << 50), 1 << 20);
        assert!(gate.pass(&tasks(), now).is_ok());
    }
}
