//! The loop of a worker: claims, completions, stopping.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Config, WorkerError,
    answers::{is_for_good, is_too_large, leave_out_named, may_mean_result, outcome_of},
    attempt::{Ended, REPORT_GRACE, Shared, is_silence},
    backoff::Backoff,
    flight::{Answer, Flight, Kept, arrival},
};
use crate::{
    api,
    client::ClientError,
    systemd::catalog,
    task::{Payload, WorkerName},
};

/// How long a claim waits for its first task: long enough to be cheap, short enough for any proxy.
const CLAIM_WAIT_SECS: f64 = 30.0;
/// The least time between two claims that found nothing: a daemon that does not wait is not asked in a circle.
const IDLE_PACE: Duration = Duration::from_secs(1);
/// A claim that has had no answer for so long waits for a task; a younger one's answer may be on its way.
const LONG_POLL: Duration = Duration::from_secs(1);
/// The most bytes of results in one request; the daemon's limit for a body is 16 MiB by default.
const BATCH_BYTES: usize = 4 << 20;
/// The most completions in one request.
const BATCH_COUNT: usize = 1000;
/// With so many completions that the daemon does not take, nothing more is claimed.
const MOST_KEPT: usize = 10 * BATCH_COUNT;
/// The most tasks that are kept with `until_empty`: as many as one claim may bring. Each costs a request at each third of a lease.
const MOST_DEFERRED: usize = 1000;
/// The least time between two observations.
const OBSERVE_PACE: Duration = Duration::from_secs(1);

/// What a worker has done and is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tasks whose handler runs.
    pub running: usize,
    /// Completions that the daemon has not taken yet.
    pub unreported: usize,
    /// Tasks completed, taken by the daemon.
    pub completed: u64,
    /// Attempts failed.
    pub failed: u64,
    /// Tasks given back.
    pub released: u64,
    /// Tasks whose lease was lost.
    pub lost: u64,
}

/// Why the log says that the daemon can't be worked with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It does not answer.
    Silent,
    /// It answers, and does not do what it is asked.
    Refuses,
}

/// The loop.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, not a part of one state"
)]
pub(super) struct Claims<O> {
    shared: Arc<Shared>,
    config: Config,
    name: String,
    hurry: CancellationToken,
    observe: O,
    observed: Option<Instant>,
    counts: Counts,
    /// One entry for each used slot.
    running: JoinSet<Ended>,
    /// With `until_empty`: the tasks that were given back and are kept to the end. They use no slots.
    deferred: JoinSet<Ended>,
    kept: Vec<Kept>,
    claim: Option<Flight>,
    /// Completions that go beside a claim that waits.
    report: Option<Flight>,
    backoff: Backoff,
    /// Nothing is sent before: the daemon can't be reached.
    retry_at: Option<Instant>,
    /// What has been said of the daemon since it last took a request, so that it is said once.
    said: Option<Said>,
    /// Nothing is claimed before: `delay`, or the pace of an idle worker.
    claim_at: Option<Instant>,
    /// The last claim found nothing, and nothing has ended since.
    is_empty: bool,
    was_reached: bool,
    /// As many tasks are kept as may be.
    is_full: bool,
    /// Whether a task has ended since the claim in flight was sent: what that end brought, its answer may not know.
    ended_since: bool,
    is_stopping: bool,
    /// After a stop, a claim is withdrawn then.
    withdraw_at: Option<Instant>,
    /// Handlers are stopped then.
    kill_at: Option<Instant>,
    /// Completions that are still kept are given up then.
    give_up_at: Option<Instant>,
}

impl<O: FnMut(&Counts) + Send> Claims<O> {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Config,
        hurry: CancellationToken,
        observe: O,
    ) -> Self {
        Self {
            shared,
            config,
            name: worker_name(),
            hurry,
            observe,
            observed: None,
            counts: Counts::default(),
            running: JoinSet::new(),
            deferred: JoinSet::new(),
            kept: Vec::new(),
            claim: None,
            report: None,
            backoff: Backoff::default(),
            retry_at: None,
            said: None,
            claim_at: None,
            is_empty: false,
            was_reached: false,
            is_full: false,
            ended_since: false,
            is_stopping: false,
            withdraw_at: None,
            kill_at: None,
            give_up_at: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<Counts, WorkerError> {
        while !self.is_over() {
            self.send();
            self.let_go_at_the_end();
            self.show();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled(), if !self.is_stopping => self.begin_stop(),
                () = self.hurry.cancelled(), if self.kill_at.is_some() => self.kill("told to hurry"),
                () = until(self.kill_at) => self.kill("shutdown_grace is over"),
                answer = arrival(&mut self.report) => self.report_answered(answer),
                answer = arrival(&mut self.claim) => self.claim_answered(answer)?,
                Some(ended) = self.running.join_next() => self.ended(ended),
                Some(ended) = self.deferred.join_next() => self.let_gone(ended),
                () = until(self.retry_at) => self.retry_at = None,
                () = until(self.claim_at) => self.claim_at = None,
                () = until(self.withdraw_at) => self.withdraw(),
                () = until(self.give_up_at) => self.give_up(),
            }
        }
        self.counts.running = 0;
        (self.observe)(&self.counts);
        if self.is_full && !self.is_stopping {
            return Err(WorkerError::TooManyDeferred(MOST_DEFERRED));
        }
        Ok(self.counts)
    }

    /// Whether nothing runs, nothing is to be told, and nothing more is to be claimed.
    fn is_over(&self) -> bool {
        self.is_done() && self.deferred.is_empty()
    }

    /// The same, but for tasks that are kept.
    fn is_done(&self) -> bool {
        let is_idle = self.running.is_empty()
            && self.kept.is_empty()
            && self.claim.is_none()
            && self.report.is_none();
        is_idle && (self.is_stopping || self.waits_for_the_rest())
    }

    fn let_go_at_the_end(&self) {
        if self.is_done() {
            self.shared.let_go.cancel();
        }
    }

    /// Free slots: kept completions use theirs until they are delivered.
    fn free(&self) -> usize {
        if self.kept.len() >= MOST_KEPT {
            return 0;
        }
        let carried = |flight: &Option<Flight>| flight.as_ref().map_or(0, |f| f.carried.len());
        // Each that runs may be one more to keep.
        (self.config.concurrency as usize)
            .min(MOST_DEFERRED.saturating_sub(self.deferred.len()))
            .saturating_sub(self.running.len())
            .saturating_sub(carried(&self.report))
            .saturating_sub(self.kept.iter().filter(|kept| kept.is_alone).count())
    }

    /// Starts the requests that there is reason for. What is not in one waits, however long that takes: its lease is held.
    fn send(&mut self) {
        if self.retry_at.is_none() {
            self.send_now();
        }
        for kept in &mut self.kept {
            kept.hold(&self.shared);
        }
    }

    fn send_now(&mut self) {
        let free = self.free();
        let is_wanted = !self.is_stopping && self.claim_at.is_none() && !self.waits_for_the_rest();
        if self.claim.is_none() && free > 0 && is_wanted {
            let carried = self.batch();
            self.claim = Some(self.claiming(free, carried));
            self.ended_since = false;
        }
        if !self.kept.is_empty() && self.report.is_none() {
            let carried = self.report_batch();
            let shared = Arc::clone(&self.shared);
            self.report = Some(match &carried[..] {
                [kept] if kept.is_alone => Flight::of_one(shared, carried),
                _ => {
                    let claim = self.asking(0, 0.0, &carried);
                    Flight::of_report(shared, claim, carried)
                }
            });
        }
    }

    /// A claim, which waits for a task only where it carries nothing: while it waits, whether the completions have arrived would not be
    /// known, and their leases would end. A busy queue answers at once; an idle worker has the time for a second claim.
    fn claiming(&self, max: usize, carried: Vec<Kept>) -> Flight {
        let shared = Arc::clone(&self.shared);
        let waits = carried.is_empty() && !self.config.until_empty;
        let wait = if waits { CLAIM_WAIT_SECS } else { 0.0 };
        let claim = self.asking(max, wait, &carried);
        Flight::of_claim(shared, claim, carried)
    }

    fn asking(&self, max: usize, wait: f64, carried: &[Kept]) -> api::Claim {
        let queues = self.config.queues.iter();
        api::Claim {
            queues: queues.map(|queue| queue.as_str().to_owned()).collect(),
            max: max as u32,
            wait,
            lease: Some(self.config.lease.as_secs_f64()),
            worker: Some(self.name.clone()),
            complete: carried.iter().map(|kept| kept.completion.clone()).collect(),
        }
    }

    /// With `until_empty`: nothing was due, and tasks still run; what their ends bring is looked for then. What is given back at the
    /// end is not.
    fn waits_for_the_rest(&self) -> bool {
        let is_ending = self.is_empty || self.is_full || self.shared.let_go.is_cancelled();
        self.config.until_empty && is_ending
    }

    /// Takes completions that may go together.
    fn batch(&mut self) -> Vec<Kept> {
        let mut bytes = 0;
        let mut taken = 0;
        for kept in &self.kept {
            bytes += kept.completion.result.as_ref().map_or(0, Payload::len);
            if kept.is_alone || taken == BATCH_COUNT || (taken > 0 && bytes > BATCH_BYTES) {
                break;
            }
            taken += 1;
        }
        let mut batch: Vec<_> = self.kept.drain(..taken).collect();
        // For the answer to one that had none before is waited longer.
        if batch.iter().any(|kept| kept.silences > 0) {
            for kept in &mut batch {
                kept.hold(&self.shared);
            }
        }
        batch
    }

    fn report_batch(&mut self) -> Vec<Kept> {
        let batch = self.batch();
        if batch.is_empty() {
            self.kept.drain(..1).collect()
        } else {
            batch
        }
    }

    fn claim_answered(&mut self, (flight, answer): (Flight, Answer)) -> Result<(), WorkerError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if flight.is_withdrawn() {
                    self.keep_all(flight.carried, &error);
                    return Ok(());
                }
                let holds_nothing = self.running.is_empty() && flight.carried.is_empty();
                if self.config.until_empty && !self.was_reached && holds_nothing {
                    return Err(error.into());
                }
                self.unanswered(flight.carried, &error);
                return Ok(());
            }
        };
        // One that carries completions does not wait.
        let may_wait = flight.carried.is_empty();
        self.answered(flight.carried, &answer.completed);
        self.is_empty = answer.tasks.is_empty() && !self.ended_since;
        let was_quick = may_wait && flight.since.elapsed() < IDLE_PACE;
        if self.is_empty && was_quick && !self.config.until_empty {
            self.hold_claims(flight.since + IDLE_PACE);
        }
        self.take_in(flight.asked, answer.tasks);
        Ok(())
    }

    /// Runs the tasks of an answer; what is more than was asked for is given back.
    fn take_in(&mut self, asked: usize, mut tasks: Vec<api::ClaimedTask>) {
        let surplus = tasks.split_off(asked.min(tasks.len()));
        for task in tasks {
            self.begin(task);
        }
        if surplus.is_empty() {
            return;
        }
        tracing::warn!(
            asked,
            surplus = surplus.len(),
            "the daemon gave more tasks than it was asked for; they are given back"
        );
        let shared = Arc::clone(&self.shared);
        self.running
            .spawn(async move { shared.release_all(surplus).await });
    }

    fn report_answered(&mut self, (flight, answer): (Flight, Answer)) {
        match answer {
            Ok(answer) => {
                self.answered(flight.carried, &answer.completed);
                self.take_in(flight.asked, answer.tasks);
            }
            Err(error) => self.unanswered(flight.carried, &error),
        }
    }

    /// Runs a task, or gives it back when it can't be run now.
    fn begin(&mut self, task: api::ClaimedTask) {
        let shared = Arc::clone(&self.shared);
        let has_room = self.running.len() < self.config.concurrency as usize;
        if self.is_stopping || !has_room {
            self.running
                .spawn(async move { shared.release(task, Instant::now()).await });
            return;
        }
        tracing::debug!(task_id = %task.task.id, trace_id = task.task.trace_id(), queue = %task.task.queue, attempt = task.attempt, "task claimed");
        let is_kept = self.config.until_empty;
        self.running.spawn(async move {
            match shared.attempt(task).await {
                Ended::Deferred(task, extended) if !is_kept => {
                    shared.release(*task, extended).await
                }
                ended => ended,
            }
        });
    }

    /// A task that would come again before all others is kept until those are done.
    fn defer(&mut self, task: api::ClaimedTask, extended: Instant) {
        let shared = Arc::clone(&self.shared);
        self.deferred
            .spawn(async move { shared.keep(task, extended).await });
        self.is_full |= self.deferred.len() >= MOST_DEFERRED;
    }

    /// A task that was kept is given back, or was lost.
    fn let_gone(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Released(count)) => self.counts.released += count,
            Ok(_) => {
                // Its lease has ended, so it may be due once more.
                self.counts.lost += 1;
                self.is_empty = false;
                self.ended_since = true;
            }
            Err(error) => {
                self.counts.lost += 1;
                tracing::error!(%error, "a task can't be kept; its lease will expire");
            }
        }
    }

    /// The daemon has said what became of these.
    fn answered(&mut self, carried: Vec<Kept>, outcomes: &[api::CompletionOutcome]) {
        if self.said.take().is_some() {
            tracing::info!(
                message_id = catalog::DAEMON_BACK.id,
                "{}",
                catalog::DAEMON_BACK.line
            );
        }
        self.was_reached = true;
        let (mut untold, mut is_later) = (0, false);
        for (at, mut kept) in carried.into_iter().enumerate() {
            let Some(outcome) = outcome_of(outcomes, at, &kept) else {
                untold += 1;
                kept.is_in_doubt = true;
                self.keep(kept);
                continue;
            };
            match outcome.problem.clone() {
                None => self.counts.completed += 1,
                Some(problem) => {
                    is_later |= self.refused(kept, &ClientError::Problem(Box::new(problem)));
                }
            }
        }
        if untold > 0 {
            tracing::warn!(
                untold,
                "an answer does not say what became of completions; they are sent again"
            );
        }
        self.pace(is_later || untold > 0);
    }

    /// The daemon has answered: the next request may follow at once, or where it does not take something now (`is_later`) in a while.
    fn pace(&mut self, is_later: bool) {
        if is_later {
            self.wait_to_retry();
        } else {
            self.backoff.reset();
        }
    }

    /// The daemon did not take a completion. Whether it may take it later.
    fn refused(&mut self, mut kept: Kept, error: &ClientError) -> bool {
        let id = &kept.completion.id;
        if error.status() == Some(404) && kept.is_in_doubt {
            // Most likely it was taken when it was sent first, and only the answer was lost. Where the task is still there, under
            // another lease or none, it was not.
            self.counts.completed += 1;
            tracing::info!(task_id = %id, %error, "the completion was sent before; it is dropped");
        } else if kept.completion.result.is_some() && may_mean_result(error) {
            // Alone it can be refused for nothing but itself; after a stop there is no time for that.
            kept.is_alone = !self.is_stopping;
            kept.leave_out_result(error);
            self.keep_first(vec![kept]);
            self.hurry_without_results();
        } else if is_for_good(error) {
            self.counts.lost += 1;
            tracing::warn!(task_id = %id, %error, "the completion was refused and is dropped");
        } else {
            tracing::warn!(task_id = %id, %error, "the completion is kept and sent again");
            self.keep(kept);
            return true;
        }
        false
    }

    /// No good answer: what was carried is kept.
    fn unanswered(&mut self, carried: Vec<Kept>, error: &ClientError) {
        if !carried.is_empty() && (is_for_good(error) || is_too_large(error)) {
            self.refused_whole(carried, error);
            return;
        }
        self.say(error, carried.len());
        self.keep_all(carried, error);
        self.wait_to_retry();
    }

    /// A request was refused as a whole, perhaps because of a completion in it. That is an answer: what was carried goes on at once, in
    /// the place that it had, without the result that is to blame; where none is named, each alone.
    fn refused_whole(&mut self, carried: Vec<Kept>, error: &ClientError) {
        tracing::debug!(%error, kept = carried.len(), "a request that carries completions was refused");
        let (alone, mut carried): (Vec<_>, Vec<_>) =
            carried.into_iter().partition(|kept| kept.is_alone);
        let mut is_later = false;
        for kept in alone {
            is_later |= self.refused(kept, error);
        }
        if !leave_out_named(&mut carried, error) {
            for kept in &mut carried {
                kept.is_alone = true;
            }
        }
        for kept in &mut carried {
            kept.is_in_doubt |= error.may_be_done();
        }
        self.keep_first(carried);
        if may_mean_result(error) {
            self.hurry_without_results();
        }
        self.pace(is_later);
    }

    /// After a stop, when the daemon refuses a result: to find out which of the others it takes there may be no time, and without its
    /// completion a task is done again. So they all go without, together.
    fn hurry_without_results(&mut self) {
        if !self.is_stopping {
            return;
        }
        let with_result = self.kept.iter_mut();
        let with_result = with_result.filter(|kept| kept.completion.result.is_some());
        let mut left_out = 0;
        for kept in with_result {
            kept.completion.result = None;
            kept.is_alone = false;
            left_out += 1;
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "the daemon refuses a result, and the worker stops: other results are left out, too"
            );
        }
    }

    /// Keeps what a request without a good answer carried.
    fn keep_all(&mut self, carried: Vec<Kept>, error: &ClientError) {
        for mut kept in carried {
            kept.is_in_doubt |= error.may_be_done();
            kept.silences += u32::from(is_silence(error));
            self.keep(kept);
        }
    }

    /// Keeps what was sent and not taken, and its lease until it is.
    fn keep(&mut self, mut kept: Kept) {
        kept.hold(&self.shared);
        self.kept.push(kept);
    }

    /// The same, before all others.
    fn keep_first(&mut self, mut carried: Vec<Kept>) {
        for kept in &mut carried {
            kept.hold(&self.shared);
        }
        self.kept.splice(..0, carried);
    }

    /// Says what is wrong with the daemon, unless that was said before.
    fn say(&mut self, error: &ClientError, kept: usize) {
        let (said, entry) = match error {
            ClientError::Problem(_) => (Said::Refuses, catalog::DAEMON_REFUSES),
            _ => (Said::Silent, catalog::DAEMON_SILENT),
        };
        if self.said.replace(said) != Some(said) {
            tracing::warn!(message_id = entry.id, %error, kept, "{}", entry.line);
        }
    }

    fn wait_to_retry(&mut self) {
        // Whose completions wait, their leases run on.
        let third = self.config.lease.as_duration() / 3;
        self.retry_at = Some(Instant::now() + self.backoff.next().min(third));
    }

    fn hold_claims(&mut self, until: Instant) {
        self.claim_at = self.claim_at.max(Some(until));
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        self.is_empty = false;
        self.ended_since = true;
        match ended {
            Ok(Ended::Completed(completion, extended)) => {
                self.kept.push(Kept::new(completion, extended));
            }
            Ok(Ended::Failed) => self.counts.failed += 1,
            Ok(Ended::Deferred(task, extended)) => self.defer(*task, extended),
            Ok(Ended::Released(count)) => {
                self.counts.released += count;
                // What was just given back is due again at once: without a pause the two would race in a circle.
                self.hold_claims(Instant::now() + IDLE_PACE);
            }
            Ok(Ended::Lost) => self.counts.lost += 1,
            Err(error) => {
                self.counts.lost += 1;
                tracing::error!(%error, "a handler panicked; its task's lease will expire");
            }
        }
        if self.config.delay.0 > 0 {
            self.hold_claims(Instant::now() + self.config.delay.as_duration());
        }
        self.mind_the_end();
    }

    /// No new claims. One whose answer is on its way is waited for, or its tasks would stay leased to nobody.
    fn begin_stop(&mut self) {
        self.is_stopping = true;
        let now = Instant::now();
        self.kill_at = Some(now + self.config.shutdown_grace.as_duration());
        self.retry_at = None;
        self.backoff.reset();
        self.shared.let_go.cancel();
        self.withdraw_at = self.claim.as_ref().map(|flight| flight.since + LONG_POLL);
        tracing::info!(
            message_id = catalog::WORKER_STOPS.id,
            running = self.running.len(),
            "{}",
            catalog::WORKER_STOPS.line
        );
        self.mind_the_end();
    }

    /// Withdraws a claim that waits. It still has an end: the tasks that were handed out at this very moment, which are given back.
    fn withdraw(&mut self) {
        self.withdraw_at = None;
        if let Some(flight) = &self.claim {
            flight.withdraw();
        }
    }

    fn kill(&mut self, why: &'static str) {
        self.kill_at = None;
        self.shared.kill.cancel();
        if !self.running.is_empty() {
            tracing::warn!(
                message_id = catalog::WORKER_KILLS.id,
                running = self.running.len(),
                why,
                "{}",
                catalog::WORKER_KILLS.line
            );
        }
    }

    /// When the last handler has ended after a stop, the rest of the reports has a last, short time.
    fn mind_the_end(&mut self) {
        if self.is_stopping && self.running.is_empty() && self.give_up_at.is_none() {
            self.give_up_at = Some(Instant::now() + REPORT_GRACE);
        }
    }

    fn give_up(&mut self) {
        self.give_up_at = None;
        if let Some(flight) = self.report.take() {
            self.kept.extend(flight.carried);
        }
        for kept in self.kept.drain(..) {
            self.counts.lost += 1;
            tracing::error!(task_id = %kept.completion.id, "the completion was not delivered; the lease will expire");
        }
    }

    fn show(&mut self) {
        self.counts.running = self.running.len();
        self.counts.unreported = self.kept.len();
        let now = Instant::now();
        if self.observed.is_none_or(|last| now >= last + OBSERVE_PACE) {
            self.observed = Some(now);
            (self.observe)(&self.counts);
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// `host:pid`, the host cut where it is too long.
fn worker_name() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let pid = std::process::id().to_string();
    let room = WorkerName::MAX_LEN - pid.len() - 1;
    let mut name = String::new();
    for letter in host.chars().filter(|letter| !letter.is_control()) {
        if name.len() + letter.len_utf8() > room {
            break;
        }
        name.push(letter);
    }
    format!("{name}:{pid}")
}

#[cfg(test)]
mod tests;
