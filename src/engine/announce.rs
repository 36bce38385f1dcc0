//! Saying what happens: to listeners as events, to the log, and to the table of workers.

use std::sync::Arc;

use super::{Engine, io::Output, workers::Deed};
use crate::{
    systemd::{catalog, logging::LIFE},
    task::{
        Event, EventKind, EventResult, ExecTime, Now, QueueName, Record, State, TaskId, Then,
        WorkerName,
    },
};

/// Logs what belongs to a task's ordinary life.
macro_rules! life {
    ($entry:expr, $id:expr, $trace:expr, $($fields:tt)*) => {
        tracing::info!(target: LIFE, message_id = $entry.id, task_id = %$id, trace_id = $trace, $($fields)*, "{}", $entry.line)
    };
}

/// Logs what somebody may have to look at: a warning when nothing more happens by itself.
macro_rules! trouble {
    ($is_dead:expr, $entry:expr, $id:expr, $trace:expr, $($fields:tt)*) => {
        if $is_dead {
            tracing::warn!(message_id = $entry.id, task_id = %$id, trace_id = $trace, $($fields)*, "{}", $entry.line);
        } else {
            tracing::info!(message_id = $entry.id, task_id = %$id, trace_id = $trace, $($fields)*, "{}", $entry.line);
        }
    };
}

impl Engine {
    /// Tells of a record that is about to be made true.
    pub(super) fn announce(&mut self, now: Now, record: &Record) {
        let result = self.told.take();
        let worker = match record {
            Record::Claimed(claimed) => claimed.worker.clone(),
            _ => record.id().and_then(|id| self.worker_of(id)),
        };
        self.note_deed(now, record, worker.as_ref());
        self.remember(now, record);
        let Some(kind) = kind_of(record).filter(|_| !self.starting) else {
            return;
        };
        self.log(now, record, kind, worker.as_ref());
        if !self.listening {
            return;
        }
        let id = record.id();
        let entry = id.and_then(|id| self.queue.get(id));
        let before = entry.map(|entry| self.queue.queue_of(entry).clone());
        let (queue, moved_from) = match record {
            Record::Moved { queue, .. } => (Some(queue.clone()), before),
            Record::Submitted(task) => (Some(task.queue.clone()), None),
            Record::Paused { queue, .. } | Record::Draining { queue, .. } => (queue.clone(), None),
            _ => (before, None),
        };
        let attempt =
            entry.map(|entry| entry.attempts + u32::from(matches!(record, Record::Claimed(_))));
        let error = match record {
            Record::Failed { error, .. } => Some(Arc::clone(error)),
            Record::Expired { .. } => Some("the lease expired".into()),
            _ => None,
        };
        let event = Event {
            at: now.wall,
            kind,
            id,
            queue,
            moved_from,
            state: self.state_after(now, record),
            worker,
            attempt: attempt.filter(|count| *count > 0),
            error,
            result: result.map(|result| {
                if result.len() > Event::MOST_RESULT {
                    EventResult::TooLong(result.len())
                } else {
                    EventResult::Whole(result)
                }
            }),
        };
        // The frame that holds the record is open, so there is a frame to wait for.
        let seq = self
            .ledger
            .pending_seq()
            .unwrap_or_else(|| self.ledger.synced_seq());
        self.held.push_back((seq, Output::Event(Arc::new(event))));
    }

    /// Tells listeners of something that is no record.
    pub(super) fn tell(
        &mut self,
        now: Now,
        kind: EventKind,
        id: Option<TaskId>,
        queue: Option<QueueName>,
        error: Option<Arc<str>>,
        out: &mut Vec<Output>,
    ) {
        if self.listening {
            let event = Event {
                at: now.wall,
                kind,
                id,
                queue,
                moved_from: None,
                state: None,
                worker: None,
                attempt: None,
                error,
                result: None,
            };
            self.emit(Output::Event(Arc::new(event)), out);
        }
    }

    /// The state to which `record` is about to bring its task; `None`: it ends it, or is not about one.
    fn state_after(&self, now: Now, record: &Record) -> Option<State> {
        let waits = |exectime: ExecTime| {
            if exectime.is_due(now.wall) {
                State::Ready
            } else {
                State::Scheduled
            }
        };
        Some(match record {
            Record::Submitted(task) if task.past.as_ref().is_some_and(|past| past.dead) => {
                State::Dead
            }
            Record::Submitted(task) => waits(task.exectime),
            Record::Claimed(_) | Record::Extended { .. } => State::Leased,
            Record::Failed { then, .. } | Record::Expired { then, .. } => match then {
                Then::Retry(exectime) => waits(*exectime),
                Then::Dead => State::Dead,
            },
            Record::Released { id } | Record::Retried { id } => {
                waits(self.queue.get(*id)?.exectime)
            }
            Record::Rescheduled { exectime, .. } => waits(*exectime),
            Record::Moved { id, exectime, .. } => match self.queue.get(*id)?.state {
                State::Dead => State::Dead,
                _ => waits(*exectime),
            },
            _ => return None,
        })
    }

    fn note_deed(&mut self, now: Now, record: &Record, worker: Option<&WorkerName>) {
        let Some(worker) = worker else { return };
        match record {
            Record::Claimed(_) => self.workers.note(worker, Deed::Claimed, now.wall),
            Record::Completed { .. } => self.workers.note(worker, Deed::Completed, now.wall),
            _ => {}
        }
    }

    fn log(&self, now: Now, record: &Record, kind: EventKind, worker: Option<&WorkerName>) {
        let Some(id) = record.id() else {
            return log_switch(record, kind);
        };
        let worker = worker.map_or("", WorkerName::as_str);
        let entry = self.queue.get(id);
        let queue = match record {
            Record::Submitted(task) => task.queue.as_str(),
            _ => entry.map_or("", |entry| self.queue.queue_of(entry).as_str()),
        };
        // How long it was held. On the wall clock, which may have been set in between: never negative.
        let duration_usec = entry.and_then(|entry| entry.lease()).map_or(0, |lease| {
            u64::try_from(now.wall.0 - lease.at.0).unwrap_or(0) * 1000
        });
        let attempt = entry.map_or(0, |entry| entry.attempts);
        let options = match record {
            Record::Submitted(task) => Some(&task.options),
            _ => entry.and_then(|entry| entry.options()),
        };
        let trace = options
            .and_then(|options| options.trace.as_ref())
            .map(|trace| tracing::field::display(trace.id()));
        match record {
            Record::Failed { error, then, .. } => {
                let is_dead = matches!(then, Then::Dead);
                let said = if is_dead {
                    catalog::TASK_DEAD
                } else {
                    catalog::ATTEMPT_FAILED
                };
                trouble!(is_dead, said, id, trace, queue, worker, attempt, duration_usec, error = %error);
            }
            Record::Expired { then, .. } => {
                let is_dead = matches!(then, Then::Dead);
                let said = if is_dead {
                    catalog::TASK_DEAD
                } else {
                    catalog::LEASE_EXPIRED
                };
                trouble!(
                    is_dead,
                    said,
                    id,
                    trace,
                    queue,
                    worker,
                    attempt,
                    duration_usec,
                    error = "the lease expired"
                );
            }
            Record::Submitted(_) => life!(catalog::TASK_SUBMITTED, id, trace, queue),
            Record::Claimed(_) => {
                life!(
                    catalog::TASK_CLAIMED,
                    id,
                    trace,
                    queue,
                    worker,
                    attempt = attempt + 1
                );
            }
            Record::Completed { .. } => {
                life!(
                    catalog::TASK_COMPLETED,
                    id,
                    trace,
                    queue,
                    worker,
                    attempt,
                    duration_usec
                );
            }
            Record::Released { .. } => life!(catalog::TASK_RELEASED, id, trace, queue, worker),
            Record::Cancelled { .. } => life!(catalog::TASK_CANCELLED, id, trace, queue),
            Record::Moved { queue, .. } => {
                let queue = queue.as_str();
                life!(
                    catalog::TASK_CHANGED,
                    id,
                    trace,
                    queue,
                    change = kind.as_str()
                );
            }
            Record::Rescheduled { .. } | Record::Retried { .. } => {
                life!(
                    catalog::TASK_CHANGED,
                    id,
                    trace,
                    queue,
                    change = kind.as_str()
                );
            }
            _ => {
                tracing::debug!(task_id = %id, trace_id = trace, queue, worker, attempt, change = kind.as_str(), "a task has changed");
            }
        }
    }
}

/// Logs what was done to a queue, or to all.
fn log_switch(record: &Record, kind: EventKind) {
    let queue = match record {
        Record::Paused {
            queue: Some(queue), ..
        }
        | Record::Draining {
            queue: Some(queue), ..
        } => queue.as_str(),
        _ => "all",
    };
    let entry = catalog::QUEUE_CHANGED;
    tracing::info!(
        message_id = entry.id,
        queue,
        change = kind.as_str(),
        "{}",
        entry.line
    );
}

fn kind_of(record: &Record) -> Option<EventKind> {
    Some(match record {
        Record::Submitted(_) => EventKind::Submitted,
        Record::Claimed(_) => EventKind::Claimed,
        Record::Completed { .. } => EventKind::Completed,
        Record::Failed {
            then: Then::Dead, ..
        }
        | Record::Expired {
            then: Then::Dead, ..
        } => EventKind::Dead,
        Record::Failed { .. } => EventKind::Failed,
        Record::Released { .. } => EventKind::Released,
        Record::Extended { .. } => EventKind::Extended,
        Record::Expired { .. } => EventKind::Expired,
        Record::Cancelled { .. } => EventKind::Cancelled,
        Record::Rescheduled { .. } => EventKind::Rescheduled,
        Record::Moved { .. } => EventKind::Moved,
        Record::Retried { .. } => EventKind::Retried,
        Record::Paused { on: true, .. } => EventKind::Paused,
        Record::Paused { .. } => EventKind::Resumed,
        Record::Draining { on: true, .. } => EventKind::Draining,
        Record::Draining { .. } => EventKind::Undrained,
        Record::Opened { .. }
        | Record::Rebooted { .. }
        | Record::Restored(_)
        | Record::Housed { .. }
        | Record::LeftBehind { .. }
        | Record::DropBehind { .. } => return None,
    })
}
