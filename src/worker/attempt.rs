//! One task from its claim to its end.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    answers::is_for_good,
    backoff::Backoff,
    handler::{Failure, Handler, Outcome},
};
use crate::{
    api,
    client::{ANSWER_TIMEOUT, Client, ClientError},
    systemd::catalog,
    task::{Millis, Payload},
};

/// How long reports are tried after a stop, when the daemon can't be reached.
pub(super) const REPORT_GRACE: Duration = Duration::from_secs(5);

/// How long an answer is waited for at least: on a busy machine a shorter silence means nothing, so a lease below three seconds is
/// not saved from a longer one.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer to a report is waited for at most after a stop, so that [`REPORT_GRACE`] is enough for other connections.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How many tasks that were kept are given back at once: what a worker at work asks, and no flood at its end.
pub(super) const RELEASES: usize = 8;

/// What all attempts of a worker share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) handler: Handler,
    pub(super) lease: Millis,
    /// Nothing new is to be begun.
    pub(super) stop: CancellationToken,
    /// Running handlers are to be stopped.
    pub(super) kill: CancellationToken,
    /// Tasks that are kept are to be given back.
    pub(super) let_go: CancellationToken,
    /// Whose turn it is to be given back; closed where the daemon can't be told.
    pub(super) turns: Semaphore,
}

/// How an attempt ended, and so what is left to do.
pub(super) enum Ended {
    /// The completion is still to be reported. The lease is held no more, and was extended last at that time.
    Completed(api::Completion, Instant),
    /// It failed; nothing is left to do.
    Failed,
    /// Its handler wants it at another time. Its lease is still held, and was extended last at that time.
    Deferred(Box<api::ClaimedTask>, Instant),
    /// So many tasks were given back; nothing is left to do.
    Released(u64),
    /// The lease was lost: the task is another's.
    Lost,
}

fn lock(extended: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    extended.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Runs the handler, and reports all ends but a completion.
    pub(super) async fn attempt(&self, task: api::ClaimedTask) -> Ended {
        let stop = self.kill.child_token();
        let begin = Instant::now();
        let extended = Mutex::new(begin);
        let outcome = {
            let mut handler = std::pin::pin!(self.handler.run(&task, &stop));
            tokio::select! {
                biased;
                outcome = &mut handler => Some(outcome),
                () = self.hold(&task.task.id, &task.token, &extended) => {
                    stop.cancel();
                    handler.await;
                    None
                }
            }
        };
        let id = &task.task.id;
        match outcome {
            Some(Outcome::Completed(result)) => {
                let completion = api::Completion {
                    id: task.task.id,
                    token: task.token,
                    result,
                };
                Ended::Completed(completion, *lock(&extended))
            }
            Some(Outcome::Failed(failure)) => {
                tracing::warn!(message_id = catalog::TASK_FAILED.id, task_id = %id, trace_id = task.task.trace_id(), queue = %task.task.queue, attempt = task.attempt, duration_usec = begin.elapsed().as_micros() as u64, error = %failure.error, "{}", catalog::TASK_FAILED.line);
                self.report(&task, &extended, Some(failure)).await;
                Ended::Failed
            }
            Some(Outcome::Released) => Ended::Deferred(Box::new(task), *lock(&extended)),
            Some(Outcome::Stopped) => {
                let extended = *lock(&extended);
                self.release(task, extended).await
            }
            None => lost(&task),
        }
    }

    /// Keeps the lease of a task that is not to come again, and gives the task back when all that are kept are let go.
    pub(super) async fn keep(&self, mut task: api::ClaimedTask, extended: Instant) -> Ended {
        tracing::info!(task_id = %task.task.id, trace_id = task.task.trace_id(), queue = %task.task.queue, "task kept until the rest is done");
        // Very many may be kept, and nobody reads it any more.
        task.task.payload = Payload::null();
        let extended = Mutex::new(extended);
        let turn = async {
            self.let_go.cancelled().await;
            self.turns.acquire().await
        };
        let turn = tokio::select! {
            biased;
            turn = turn => turn,
            () = self.hold(&task.task.id, &task.token, &extended) => return lost(&task),
        };
        if turn.is_err() {
            tracing::error!(task_id = %task.task.id, "a task that was kept can't be given back; the lease will expire");
            return Ended::Lost;
        }
        if !self.report(&task, &extended, None).await {
            // Each of the others would wait as long.
            self.turns.close();
            return Ended::Lost;
        }
        tracing::info!(task_id = %task.task.id, trace_id = task.task.trace_id(), queue = %task.task.queue, "task released");
        Ended::Released(1)
    }

    /// Gives a task back whose lease was extended, or began, at that time.
    pub(super) async fn release(&self, task: api::ClaimedTask, extended: Instant) -> Ended {
        tracing::info!(task_id = %task.task.id, trace_id = task.task.trace_id(), queue = %task.task.queue, "task released");
        self.report(&task, &Mutex::new(extended), None).await;
        Ended::Released(1)
    }

    /// Gives tasks back, one after the other, until the daemon can't be told in time.
    pub(super) async fn release_all(&self, tasks: Vec<api::ClaimedTask>) -> Ended {
        let mut left = tasks.len();
        let mut count = 0;
        let begin = Instant::now();
        for task in tasks {
            if !self.report(&task, &Mutex::new(begin), None).await {
                tracing::error!(
                    left,
                    "the leases of tasks that were not asked for will expire"
                );
                break;
            }
            (left, count) = (left - 1, count + 1);
        }
        Ended::Released(count)
    }

    /// Extends a lease at each third of its length since it was `extended`, which is also about how long an answer may take. Returns
    /// when it is lost.
    pub(super) async fn hold(&self, id: &str, token: &str, extended: &Mutex<Instant>) {
        let third = self.third();
        let patience = third.max(LEAST_PATIENCE);
        loop {
            let due = *lock(extended) + third;
            tokio::time::sleep_until(due).await;
            let mut backoff = Backoff::default();
            loop {
                // One that hangs is tried again, over another connection, while there is time.
                let lease = Some(self.lease.as_secs_f64());
                let extension = self.client.extend(id, token, lease);
                let given_up = tokio::time::sleep(patience);
                match self.client.until(given_up, extension).await {
                    Ok(_) => {
                        *lock(extended) = Instant::now();
                        break;
                    }
                    Err(error) if is_stale(&error) => return,
                    Err(ClientError::Timeout { .. }) => {
                        tracing::debug!(task_id = %id, "no answer to the lease's extension; trying again");
                    }
                    Err(error) => {
                        tracing::debug!(task_id = %id, %error, "the lease is not extended; trying again");
                        tokio::time::sleep(backoff.next().min(third)).await;
                    }
                }
            }
        }
    }

    /// A third of a lease: so often it is extended.
    fn third(&self) -> Duration {
        self.lease.as_duration() / 3
    }

    /// How long the answer to a request is waited for that tells how a task ended, after `silences` that were as long: about a third of
    /// the lease, so that there is time for another connection. Then longer: a large result takes its time.
    pub(super) fn patience(&self, silences: u32) -> Duration {
        let third = self.third();
        grown(third.max(LEAST_PATIENCE), silences).min(ANSWER_TIMEOUT.as_duration())
    }

    /// `request`, which tells how a task ended, unless it has no answer for too long: so many times (`silences`) it had none before.
    /// After a stop a second or two are too long.
    pub(super) async fn tell<T>(
        &self,
        silences: u32,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let patience = self.patience(silences);
        let last = grown(LEAST_PATIENCE, silences).min(LAST_PATIENCE);
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(last).await;
        };
        let given_up = async {
            tokio::select! {
                () = stopped => {}
                () = tokio::time::sleep(patience) => {}
            }
        };
        self.client.until(given_up, request).await
    }

    /// Tells of a failure, or (`None`) gives the task back: until the daemon has taken it, or says that it will not. Meanwhile the lease,
    /// `extended` last then, is held. `false`: it could not be told in time.
    async fn report(
        &self,
        task: &api::ClaimedTask,
        extended: &Mutex<Instant>,
        failure: Option<Failure>,
    ) -> bool {
        let id = &task.task.id;
        let given_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(REPORT_GRACE).await;
        };
        let held = async {
            self.hold(id, &task.token, extended).await;
            // What became of the report is for its answer to say.
            std::future::pending::<()>().await;
        };
        // A killed handler ends long after the stop; its report gets its own time.
        tokio::select! {
            () = self.deliver(task, failure) => true,
            () = given_up => {
                tracing::error!(task_id = %id, "the report was not delivered; the lease will expire");
                false
            }
            () = held => false,
        }
    }

    /// Sends a report until there is an answer that is the last word.
    async fn deliver(&self, task: &api::ClaimedTask, failure: Option<Failure>) {
        let failure = failure.map(|failure| api::Fail {
            token: task.token.clone(),
            error: failure.error,
            retry_in: failure.retry_in,
            dead: failure.dead,
        });
        let id = &task.task.id;
        let mut backoff = Backoff::default();
        let mut silences = 0;
        let mut is_in_doubt = false;
        loop {
            let request = async {
                match &failure {
                    Some(failure) => self.client.fail(id, failure).await,
                    None => self.client.release(id, &task.token).await,
                }
            };
            let error = match self.tell(silences, request).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if is_stale(&error) && is_in_doubt {
                tracing::info!(task_id = %id, %error, "the report was sent before; it is dropped");
                return;
            }
            if is_for_good(&error) {
                tracing::warn!(task_id = %id, %error, "the report was refused and is dropped");
                return;
            }
            if backoff.is_fresh() {
                tracing::warn!(task_id = %id, %error, "the report is kept and sent again");
            }
            silences += u32::from(is_silence(&error));
            is_in_doubt |= error.may_be_done();
            let third = self.third();
            tokio::time::sleep(backoff.next().min(third)).await;
        }
    }
}

fn lost(task: &api::ClaimedTask) -> Ended {
    tracing::warn!(message_id = catalog::LEASE_LOST.id, task_id = %task.task.id, trace_id = task.task.trace_id(), queue = %task.task.queue, "{}", catalog::LEASE_LOST.line);
    Ended::Lost
}

/// Whether the daemon says that the lease is not ours any more.
fn is_stale(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if matches!(problem.status, 404 | 409))
}

/// A length of time, twice as long after each silence.
fn grown(length: Duration, silences: u32) -> Duration {
    length.saturating_mul(1 << silences.min(16))
}

/// Whether there was no answer for as long as one was waited for.
pub(super) fn is_silence(error: &ClientError) -> bool {
    matches!(error, ClientError::Timeout { .. })
}
