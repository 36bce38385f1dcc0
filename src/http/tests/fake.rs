//! A backend that keeps tasks in a list, refuses what it is told to refuse, and tells what it was asked.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    backend::{
        Answer, Backend, Change, ClaimAnswer, ClaimRequest, Counters, Cursor, DiskSpace,
        Distribution, Error, EventId, EventLog, EventStream, ExportHead, ExportPiece, Failure,
        Fault, Health, HistorySlot, HistoryView, LeaseView, Listeners, Meant, Page, PageQuery,
        Quantiles, QueueView, RejectedView, RetriedDead, Settlement, Span, StatusView,
        SubmitOutcome, TaskView, WorkerView,
    },
    task::{
        ExecTime, IdSource, Millis, NewTask, Payload, QueueName, Refusal, State, TaskId, Token,
        WallMillis, WorkerName,
    },
};

pub(crate) const WALL: WallMillis = WallMillis(1_800_000_000_000);
pub(crate) const TOKEN: Token = Token(7);

pub(crate) struct FakeBackend {
    pub(crate) tasks: Mutex<Vec<TaskView>>,
    ids: Mutex<IdSource>,
    /// What every call answers instead, while it is set.
    pub(crate) error: Mutex<Option<Error>>,
    pub(crate) fault: Mutex<Option<Fault>>,
    /// The claims and switches that came, in words.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) claims: Mutex<Vec<ClaimRequest>>,
    /// How many calls of `submit` took something.
    pub(crate) submits: AtomicU64,
    /// A claim that found nothing and waits has begun.
    pub(crate) waiting: Notify,
    /// A claim that waited was dropped.
    pub(crate) withdrawn: Arc<Notify>,
    /// Ends the wait of a claim.
    pub(crate) wake: Notify,
    /// A call of `submit` has taken something.
    pub(crate) taken: Notify,
    pub(crate) events: Arc<EventLog>,
    /// What was submitted, as it came.
    pub(crate) submitted: Mutex<Vec<NewTask>>,
    /// What an export has.
    pub(crate) pieces: Mutex<VecDeque<ExportPiece>>,
    /// Where somebody moves the next task that is to be changed, just before that.
    pub(crate) moving: Mutex<Option<QueueName>>,
}

fn lengths(micros: &[u64]) -> Distribution {
    let mut made = Distribution::new(Distribution::LONG);
    for one in micros {
        made.note(*one);
    }
    made
}

struct Withdrawal(Arc<Notify>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            ids: Mutex::default(),
            error: Mutex::default(),
            fault: Mutex::default(),
            asked: Mutex::default(),
            claims: Mutex::default(),
            submits: AtomicU64::new(0),
            waiting: Notify::new(),
            moving: Mutex::default(),
            withdrawn: Arc::default(),
            wake: Notify::new(),
            taken: Notify::new(),
            events: Arc::new(EventLog::new(0x5f3a_9c01)),
            submitted: Mutex::default(),
            pieces: Mutex::default(),
        }
    }
}

impl FakeBackend {
    pub(crate) fn refuse(&self, error: impl Into<Error>) {
        *self.error.lock().unwrap() = Some(error.into());
    }

    pub(crate) fn payloads(&self) -> Vec<String> {
        let tasks = self.tasks.lock().unwrap();
        tasks
            .iter()
            .map(|task| task.payload.as_json().to_owned())
            .collect()
    }

    fn ok(&self) -> Answer<()> {
        match &*self.error.lock().unwrap() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn ask(&self, what: String) -> Answer<()> {
        self.asked.lock().unwrap().push(what);
        self.ok()
    }

    pub(crate) fn find(&self, id: TaskId) -> Answer<TaskView> {
        self.ok()?;
        let tasks = self.tasks.lock().unwrap();
        let found = tasks.iter().find(|task| task.id == id);
        Ok(found.cloned().ok_or(Refusal::NoSuchTask(id))?)
    }

    /// The task that is meant, if it is in the queue that it is to be in.
    fn within(&self, task: impl Into<Meant>) -> Answer<TaskId> {
        let Meant { id, queue } = task.into();
        if let Some(to) = self.moving.lock().unwrap().take() {
            self.change(id, |task| task.queue = to)?;
        }
        match self.find(id) {
            Ok(task) if queue.is_some_and(|queue| queue != task.queue) => {
                Err(Refusal::Moved(id).into())
            }
            _ => Ok(id),
        }
    }

    pub(crate) fn change(
        &self,
        id: TaskId,
        change: impl FnOnce(&mut TaskView),
    ) -> Answer<TaskView> {
        self.find(id)?;
        let mut tasks = self.tasks.lock().unwrap();
        let task = tasks.iter_mut().find(|task| task.id == id).unwrap();
        change(task);
        Ok(task.clone())
    }

    fn hold(&self, id: TaskId, token: Token) -> Answer<()> {
        if self.find(id)?.lease.is_none() || token != TOKEN {
            return Err(Refusal::StaleToken(id).into());
        }
        Ok(())
    }

    fn remove(&self, id: TaskId) {
        self.tasks.lock().unwrap().retain(|task| task.id != id);
    }

    fn view(&self, task: NewTask) -> TaskView {
        let id = task
            .id
            .unwrap_or_else(|| self.ids.lock().unwrap().make(WALL, 1));
        TaskView {
            id,
            queue: task.queue,
            state: if task.exectime.is_due(WALL) {
                State::Ready
            } else {
                State::Scheduled
            },
            priority: task.priority,
            exectime: task.exectime,
            max_attempts: task.options.max_attempts.unwrap_or(5),
            options: task.options,
            attempts: 0,
            lease: None,
            last_error: None,
            history: None,
            payload: task.payload,
        }
    }

    /// Up to `max` ready tasks, now under a lease.
    fn hand_out(&self, request: &ClaimRequest) -> Vec<(TaskView, Token)> {
        let mut tasks = self.tasks.lock().unwrap();
        tasks
            .iter_mut()
            .filter(|task| task.state == State::Ready && request.queues.contains(&task.queue))
            .take(request.max as usize)
            .map(|task| {
                task.state = State::Leased;
                task.attempts += 1;
                task.lease = Some(LeaseView {
                    worker: request.worker.clone(),
                    kind: request.kind,
                    since: WALL,
                    expires: WallMillis(WALL.0 + 60_500),
                });
                (task.clone(), TOKEN)
            })
            .collect()
    }

    fn queue_view(&self, name: &QueueName) -> QueueView {
        let tasks = self.tasks.lock().unwrap();
        let count = |state| {
            let of = |task: &&TaskView| task.queue == *name && task.state == state;
            tasks.iter().filter(of).count() as u64
        };
        QueueView {
            name: name.clone(),
            counts: State::ALL.map(count),
            paused: false,
            draining: true,
            oldest_due: Some(Millis(90_000)),
            unasked: Millis(1000),
            died_lately: 0,
            counters: Counters {
                submitted: 3,
                completed: 2,
                ..Counters::default()
            },
            submitted_rate: 0.5,
            completed_rate: 0.25,
        }
    }
}

impl Backend for FakeBackend {
    async fn submit(&self, tasks: Vec<NewTask>) -> Answer<Vec<SubmitOutcome>> {
        self.ok()?;
        self.submitted.lock().unwrap().extend(tasks.clone());
        let before = self.tasks.lock().unwrap().clone();
        let mut outcomes = Vec::new();
        for task in tasks {
            if let Some(id) = task.id
                && let Ok(old) = self.find(id)
                && !old.payload.same_value(&task.payload)
            {
                *self.tasks.lock().unwrap() = before;
                return Err(Refusal::IdInUse(id).into());
            }
            if let Some(old) = task.id.and_then(|id| self.find(id).ok()) {
                outcomes.push(SubmitOutcome {
                    task: old,
                    created: false,
                });
                continue;
            }
            let view = self.view(task);
            self.tasks.lock().unwrap().push(view.clone());
            outcomes.push(SubmitOutcome {
                task: view,
                created: true,
            });
        }
        self.submits.fetch_add(1, Ordering::Relaxed);
        self.taken.notify_one();
        Ok(outcomes)
    }

    async fn claim(&self, request: ClaimRequest) -> Answer<ClaimAnswer> {
        self.ok()?;
        self.claims.lock().unwrap().push(request.clone());
        let mut answer = ClaimAnswer::default();
        for one in &request.complete {
            let outcome = match self.hold(one.id, one.token) {
                Ok(()) => {
                    self.remove(one.id);
                    Ok(())
                }
                Err(Error::Refused(refusal)) => Err(refusal),
                Err(fault @ Error::Fault(_)) => return Err(fault),
            };
            answer.completed.push((one.id, outcome));
        }
        answer.tasks = self.hand_out(&request);
        if answer.tasks.is_empty() && request.wait > Millis(0) {
            let withdrawal = Withdrawal(Arc::clone(&self.withdrawn));
            self.waiting.notify_one();
            self.wake.notified().await;
            std::mem::forget(withdrawal);
            answer.tasks = self.hand_out(&request);
        }
        Ok(answer)
    }

    async fn complete(
        &self,
        task: impl Into<Meant> + Send,
        token: Option<Token>,
        _: Option<Payload>,
    ) -> Answer<()> {
        let id = self.within(task)?;
        match token {
            Some(token) => self.hold(id, token)?,
            None => {
                self.find(id)?;
            }
        }
        self.remove(id);
        Ok(())
    }

    async fn fail(&self, id: TaskId, token: Token, failure: Failure) -> Answer<TaskView> {
        self.hold(id, token)?;
        self.change(id, |task| {
            task.lease = None;
            task.last_error = Some(failure.error.into());
            task.state = if failure.dead {
                State::Dead
            } else {
                State::Scheduled
            };
        })
    }

    async fn release(&self, id: TaskId, token: Token) -> Answer<()> {
        self.hold(id, token)?;
        self.change(id, |task| {
            task.lease = None;
            task.state = State::Ready;
        })?;
        Ok(())
    }

    async fn extend(&self, id: TaskId, token: Token, length: Option<Millis>) -> Answer<WallMillis> {
        self.hold(id, token)?;
        Ok(WallMillis(
            WALL.0 + length.unwrap_or(Millis(60_000)).0 as i64,
        ))
    }

    async fn cancel(&self, task: impl Into<Meant> + Send) -> Answer<()> {
        let id = self.within(task)?;
        self.find(id)?;
        self.remove(id);
        Ok(())
    }

    async fn reschedule(&self, task: impl Into<Meant> + Send, change: Change) -> Answer<TaskView> {
        let id = self.within(task)?;
        self.change(id, |task| {
            task.queue = change.queue.unwrap_or_else(|| task.queue.clone());
            task.priority = change.priority.unwrap_or(task.priority);
            task.exectime = change.exectime.unwrap_or(task.exectime);
        })
    }

    async fn retry(&self, task: impl Into<Meant> + Send) -> Answer<TaskView> {
        let id = self.within(task)?;
        let state = self.find(id)?.state;
        if state != State::Dead {
            let wanted = "only a dead task can be retried";
            return Err(Refusal::WrongState { id, state, wanted }.into());
        }
        self.change(id, |task| {
            task.state = State::Ready;
            task.exectime = ExecTime::ASAP;
        })
    }

    async fn task(&self, id: TaskId) -> Answer<TaskView> {
        self.find(id)
    }

    async fn tasks(&self, query: PageQuery) -> Answer<Page> {
        self.ok()?;
        let tasks = self.tasks.lock().unwrap();
        let mut rest = tasks
            .iter()
            .filter(|task| {
                query
                    .queue
                    .as_ref()
                    .is_none_or(|queue| *queue == task.queue)
            })
            .filter(|task| query.state.is_none_or(|state| state == task.state))
            .filter(|task| query.after.is_none_or(|after| after.id < task.id));
        let page: Vec<TaskView> = rest.by_ref().take(query.limit).cloned().collect();
        let next = rest.next().and(page.last()).map(|last| Cursor {
            state: last.state,
            priority: last.priority,
            exectime: last.exectime,
            id: last.id,
        });
        Ok(Page { tasks: page, next })
    }

    async fn queues(&self) -> Answer<Vec<QueueView>> {
        self.ok()?;
        Ok(vec![self.queue_view(&QueueName::default())])
    }

    async fn queue(&self, name: QueueName) -> Answer<QueueView> {
        self.ok()?;
        if name.is_default() {
            Ok(self.queue_view(&name))
        } else {
            Err(Refusal::NoSuchQueue(name).into())
        }
    }

    async fn history(&self, queue: Option<QueueName>, span: Span) -> Answer<HistoryView> {
        self.ask(format!("history {queue:?} {span:?}"))?;
        let (step, count) = span.steps();
        let mut slots = vec![HistorySlot::default(); count];
        slots[count - 1] = HistorySlot {
            submitted: 4,
            completed: 3,
            failed: 2,
            died: 1,
            wait: Some(Quantiles {
                count: 3,
                p50: Millis(5),
                p99: Millis(1500),
            }),
            run: None,
        };
        Ok(HistoryView {
            span,
            step,
            start: WALL,
            elapsed: Millis(500),
            slots,
        })
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        self.ok()?;
        Ok(vec![WorkerView {
            name: WorkerName::parse("host:1").unwrap(),
            holds: Vec::new(),
            waiting: true,
            last_seen: WALL,
            claimed: 1,
            completed: 1,
            failed: 0,
        }])
    }

    fn events(&self, after: Option<EventId>) -> EventStream {
        self.events.listen(after)
    }

    fn listeners(&self) -> Listeners {
        self.events.listeners()
    }

    fn health(&self) -> Health {
        Health {
            ready: true,
            fault: self
                .fault
                .lock()
                .unwrap()
                .as_ref()
                .map(|fault| Arc::clone(&fault.0)),
            disk_silent: None,
        }
    }

    async fn status(&self) -> Answer<StatusView> {
        self.ok()?;
        let view = self.queue_view(&QueueName::default());
        Ok(StatusView {
            counts: view.counts,
            queues: 1,
            paused: false,
            draining: false,
            waiting_claims: 2,
            counters: view.counters,
            spool_lag: Millis(1500),
            spool_pending: 4,
            workers_forgotten: 0,
            spool_failing: 0,
            drops_waiting: 0,
            left_behind: 0,
            journal_bytes: 4096,
            checkpoint_age: Some(Millis(2500)),
            journal_syncs: 5,
            journal_records: 6,
            rejected: 7,
            disk_full: false,
            no_memory: None,
            disk: Some(DiskSpace {
                free: 1 << 30,
                size: 4 << 30,
            }),
            durability: "sync",
            wait: lengths(&[4_000, 90_000_000]),
            run: lengths(&[2_000_000]),
            writes: Distribution::of(Distribution::SHORT, [1, 2], 500),
            died_lately: 1,
            deaf: None,
            fault: self.health().fault,
        })
    }

    async fn pause(&self, queue: Option<QueueName>, on: bool) -> Answer<()> {
        self.ask(format!("pause {queue:?} {on}"))
    }

    async fn drain(&self, queue: Option<QueueName>, on: bool) -> Answer<()> {
        self.ask(format!("drain {queue:?} {on}"))
    }

    async fn retry_dead(&self, queue: Option<QueueName>) -> Answer<RetriedDead> {
        self.ask(format!("retry_dead {queue:?}"))?;
        let reason = Refusal::TooMany {
            what: "unique keys",
            setting: "max_unique_keys",
            limit: 7,
        };
        Ok(RetriedDead {
            count: 3,
            left: 2,
            reason: Some(reason),
        })
    }

    async fn purge(&self, queue: Option<QueueName>, state: State) -> Answer<u64> {
        self.ask(format!("purge {queue:?} {state}"))?;
        Ok(4)
    }

    async fn rejected(&self, limit: usize) -> Answer<Vec<RejectedView>> {
        self.ask(format!("rejected {limit}"))?;
        Ok(vec![RejectedView {
            name: "x.json".to_owned(),
            reason: "not JSON".to_owned(),
            size: Some(3),
            modified: Some(WALL),
            moved: true,
            beginning: "{<".to_owned(),
        }])
    }

    async fn settle_rejected(&self, name: String, how: Settlement) -> Answer<()> {
        self.ask(format!("settle_rejected {name} {how:?}"))
    }

    async fn rescan(&self) -> Answer<()> {
        self.ask("rescan".to_owned())
    }

    async fn checkpoint(&self) -> Answer<()> {
        self.ask("checkpoint".to_owned())
    }

    async fn export(&self) -> Answer<ExportHead> {
        self.ask("export".to_owned())?;
        Ok(ExportHead {
            number: 7,
            at: WALL,
            tasks: 2,
            paused: vec![Some(QueueName::default())],
            draining: vec![None],
        })
    }

    async fn export_next(&self, number: u64) -> Answer<ExportPiece> {
        self.ask(format!("export_next {number}"))?;
        Ok(self
            .pieces
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(ExportPiece::GivenUp))
    }

    fn export_end(&self, number: u64) {
        self.asked
            .lock()
            .unwrap()
            .push(format!("export_end {number}"));
    }
}
