//! [`Handle`]: the engine as transports see it. Async calls go in, answers come out.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, oneshot};

use super::{
    Live, clock,
    hands::post,
    io::{Input, Request, Response, Ticket},
    mailbox::{Mailbox, Refused},
    memory::{Gate, Passed},
};
use crate::{
    backend::{
        Answer, Backend, Change, ClaimAnswer, ClaimRequest, Error, EventId, EventLog, EventStream,
        ExportHead, ExportPiece, Failure, Fault, Health, HistoryView, Listeners, Meant, Page,
        PageQuery, QueueView, RejectedView, RetriedDead, Settlement, StatusView, SubmitOutcome,
        TaskView, WorkerView,
    },
    store::LiveDropLimits,
    task::{
        Millis, NewTask, Payload, QueueName, Refusal, Span, State, TaskId, Tick, Token, WallMillis,
    },
};

/// A write that takes longer is told of: a slow disk takes a tenth of it, one that recovers an error a few of it.
const SILENT: Millis = Millis::from_secs(5);

/// Where an answer goes, and what is held until then.
#[derive(Debug)]
pub(super) struct Caller {
    answer: oneshot::Sender<Answer<Response>>,
    /// Of a submit. A client that goes takes back nothing of what the engine holds.
    passed: Option<Passed>,
}

impl Caller {
    /// Gives the answer back if nobody waits for it any more.
    pub(super) fn answer(self, answer: Answer<Response>) -> Result<(), Answer<Response>> {
        drop(self.passed);
        self.answer.send(answer)
    }
}

/// What the engine's thread receives.
#[derive(Debug)]
pub(super) enum Post {
    /// Somebody asks.
    Request(Ticket, Request, Caller),
    /// Anything else that happened.
    Input(Input),
    /// The thread is to end.
    End,
}

/// What is known of the engine without asking it.
#[derive(Debug, Default)]
pub(super) struct Signs {
    pub(super) ready: AtomicBool,
    /// Rises with each turn of the engine's thread.
    pub(super) turns: AtomicU64,
    /// Since when the journal is being written, in nanoseconds of the boot clock; zero: it is not.
    pub(super) writing_since: AtomicU64,
    pub(super) fault: OnceLock<Arc<str>>,
    /// Wakes those who wait for a fault.
    pub(super) failed: Notify,
}

impl Signs {
    /// For how long the disk has not answered, when that is so long that people should know.
    fn disk_silent(&self) -> Option<Millis> {
        let since = self.writing_since.load(Ordering::Relaxed);
        let silent = (since > 0).then(|| clock::now().tick.since(Tick(since)))?;
        (silent >= SILENT).then_some(silent)
    }

    /// Writes have stopped, for this reason. The first reason stays.
    pub(super) fn fail(&self, text: Arc<str>) {
        drop(self.fault.set(text));
        self.failed.notify_waiters();
    }
}

/// The engine, for those who ask.
#[derive(Debug)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
    tickets: AtomicU64,
    events: Arc<EventLog>,
    signs: Arc<Signs>,
    drops: LiveDropLimits,
    gate: Arc<Gate>,
}

impl Handle {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        events: Arc<EventLog>,
        signs: Arc<Signs>,
        drops: LiveDropLimits,
    ) -> Self {
        Self {
            mailbox,
            tickets: AtomicU64::new(0),
            events,
            signs,
            drops,
            gate: Arc::default(),
        }
    }

    /// Changes what can change while the engine runs. `false`: it has no room for a word just now, or has ended; then nothing has
    /// changed.
    #[must_use]
    pub fn set_live(&self, live: Live) -> bool {
        let (drops, max_memory, max_submitting) =
            (live.drops, live.max_memory, live.max_submitting);
        let input = Input::Live(Box::new(live));
        let is_told = self.mailbox.try_post(Post::Input(input)).is_ok();
        if is_told {
            self.drops.set(drops);
            self.set_gate(max_memory, max_submitting);
        }
        is_told
    }

    /// From now on no new task is taken above so much memory, nor while so many bytes of others wait for their answer.
    pub fn set_gate(&self, max_memory: Option<u64>, max_submitting: u64) {
        self.gate.set(max_memory, max_submitting);
    }

    /// How many turns the engine's thread has made. It makes one soon after [`Handle::nudge`]; where the number stands
    /// still after that, the thread is stuck.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.signs.turns.load(Ordering::Relaxed)
    }

    /// Has the engine's thread make a turn, if it has nothing to do.
    pub fn nudge(&self) {
        match self.mailbox.try_post(Post::Input(Input::Flush)) {
            // A full line is work enough; an engine that is gone makes no turn.
            Ok(()) | Err(Refused::Full(_) | Refused::Closed) => {}
        }
    }

    /// Ready when writes have stopped, with the reason.
    pub async fn faulted(&self) -> Arc<str> {
        loop {
            // Made before the look, so that a fault between the two is not missed.
            let failed = self.signs.failed.notified();
            if let Some(fault) = self.signs.fault.get() {
                return Arc::clone(fault);
            }
            failed.await;
        }
    }

    async fn ask(&self, request: Request) -> Answer<Response> {
        self.ask_holding(request, None).await
    }

    async fn ask_holding(&self, request: Request, passed: Option<Passed>) -> Answer<Response> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let claims = matches!(request, Request::Claim(_) | Request::ExportBegin);
        let (caller, answer) = oneshot::channel();
        let caller = Caller {
            answer: caller,
            passed,
        };
        match self.mailbox.ask(Post::Request(ticket, request, caller)) {
            Ok(()) => {}
            Err(Refused::Full(_)) => return Err(Refusal::Busy.into()),
            Err(Refused::Closed) => return Err(Refusal::Stopping.into()),
        }
        let mut waiting = Asked {
            answer: Some(answer),
            ticket,
            mailbox: claims.then_some(&self.mailbox),
        };
        let Some(answer) = waiting.answer.as_mut() else {
            return Err(odd());
        };
        let result = answer.await;
        waiting.answer = None;
        result.unwrap_or_else(|_| Err(Refusal::Stopping.into()))
    }

    /// Asks until nothing is left, and counts.
    async fn ask_all(&self, request: Request) -> Answer<u64> {
        let mut sum = 0;
        loop {
            match self.ask(request.clone()).await? {
                Response::Count(0) => return Ok(sum),
                Response::Count(count) => sum += count,
                _ => return Err(odd()),
            }
        }
    }

    async fn ask_done(&self, request: Request) -> Answer<()> {
        match self.ask(request).await? {
            Response::Done => Ok(()),
            _ => Err(odd()),
        }
    }

    async fn ask_task(&self, request: Request) -> Answer<TaskView> {
        match self.ask(request).await? {
            Response::Task(task) => Ok(*task),
            _ => Err(odd()),
        }
    }
}

/// The engine answered another question than was asked.
fn odd() -> Error {
    Error::Fault(Fault("the engine gave an answer of the wrong kind".into()))
}

/// A question whose answer is awaited. Dropped before that, it withdraws a claim, or gives back what the claim got.
struct Asked<'a> {
    answer: Option<oneshot::Receiver<Answer<Response>>>,
    ticket: Ticket,
    mailbox: Option<&'a Arc<Mailbox>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let (Some(answer), Some(mailbox)) = (&mut self.answer, self.mailbox) else {
            return;
        };
        answer.close();
        let input = match answer.try_recv() {
            Ok(result) => match undelivered(result) {
                Some(input) => input,
                None => return,
            },
            Err(_) => Input::Withdrawn(self.ticket),
        };
        // A full line takes it a little later; a closed one has no engine behind it that could hold anything.
        if let Err(Refused::Full(input)) = mailbox.ask(Post::Input(input)) {
            let mailbox = Arc::clone(mailbox);
            tokio::task::spawn_blocking(move || post(&mailbox, *input));
        }
    }
}

/// What is to be given back of an answer that nobody took.
pub(super) fn undelivered(answer: Answer<Response>) -> Option<Input> {
    let tasks = match answer {
        Ok(Response::Claimed(ClaimAnswer { tasks, .. })) => tasks,
        Ok(Response::ExportBegun(head)) => return Some(Input::ExportEnded(head.number)),
        _ => return None,
    };
    let held: Vec<_> = tasks
        .into_iter()
        .map(|(task, token)| (task.id, token))
        .collect();
    (!held.is_empty()).then_some(Input::Undelivered(held))
}

/// What is asked for of a task, and where that is to be.
fn within(task: impl Into<Meant>, request: impl FnOnce(TaskId) -> Request) -> Request {
    let Meant { id, queue } = task.into();
    let request = request(id);
    match queue {
        Some(queue) => Request::Within(id, queue, Box::new(request)),
        None => request,
    }
}

impl Backend for Handle {
    async fn submit(&self, tasks: Vec<NewTask>) -> Answer<Vec<SubmitOutcome>> {
        let passed = self.gate.pass(&tasks, || clock::now().tick)?;
        match self
            .ask_holding(Request::Submit(tasks), Some(passed))
            .await?
        {
            Response::Submitted(outcomes) => Ok(outcomes),
            _ => Err(odd()),
        }
    }

    async fn claim(&self, request: ClaimRequest) -> Answer<ClaimAnswer> {
        match self.ask(Request::Claim(request)).await? {
            Response::Claimed(answer) => Ok(answer),
            _ => Err(odd()),
        }
    }

    async fn complete(
        &self,
        task: impl Into<Meant> + Send,
        token: Option<Token>,
        result: Option<Payload>,
    ) -> Answer<()> {
        let request = within(task, |id| Request::Complete(id, token, result));
        self.ask_done(request).await
    }

    async fn fail(&self, id: TaskId, token: Token, failure: Failure) -> Answer<TaskView> {
        self.ask_task(Request::Fail(id, token, failure)).await
    }

    async fn release(&self, id: TaskId, token: Token) -> Answer<()> {
        self.ask_done(Request::Release(id, token)).await
    }

    async fn extend(&self, id: TaskId, token: Token, length: Option<Millis>) -> Answer<WallMillis> {
        match self.ask(Request::Extend(id, token, length)).await? {
            Response::Expires(at) => Ok(at),
            _ => Err(odd()),
        }
    }

    async fn cancel(&self, task: impl Into<Meant> + Send) -> Answer<()> {
        self.ask_done(within(task, Request::Cancel)).await
    }

    async fn reschedule(&self, task: impl Into<Meant> + Send, change: Change) -> Answer<TaskView> {
        let request = within(task, |id| Request::Reschedule(id, change));
        self.ask_task(request).await
    }

    async fn retry(&self, task: impl Into<Meant> + Send) -> Answer<TaskView> {
        self.ask_task(within(task, Request::Retry)).await
    }

    async fn task(&self, id: TaskId) -> Answer<TaskView> {
        self.ask_task(Request::Task(id)).await
    }

    async fn tasks(&self, query: PageQuery) -> Answer<Page> {
        match self.ask(Request::Tasks(query)).await? {
            Response::Page(page) => Ok(page),
            _ => Err(odd()),
        }
    }

    async fn queues(&self) -> Answer<Vec<QueueView>> {
        match self.ask(Request::Queues).await? {
            Response::Queues(queues) => Ok(queues),
            _ => Err(odd()),
        }
    }

    async fn queue(&self, name: QueueName) -> Answer<QueueView> {
        match self.ask(Request::Queue(name)).await? {
            Response::Queues(mut queues) => queues.pop().ok_or_else(odd),
            _ => Err(odd()),
        }
    }

    async fn history(&self, queue: Option<QueueName>, span: Span) -> Answer<HistoryView> {
        match self.ask(Request::History(queue, span)).await? {
            Response::History(view) => Ok(*view),
            _ => Err(odd()),
        }
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        match self.ask(Request::Workers).await? {
            Response::Workers(workers) => Ok(workers),
            _ => Err(odd()),
        }
    }

    fn events(&self, after: Option<EventId>) -> EventStream {
        // The engine's thread looks before it takes the next request, so whatever is asked from now on is told.
        self.events.listen(after)
    }

    fn listeners(&self) -> Listeners {
        self.events.listeners()
    }

    fn health(&self) -> Health {
        Health {
            ready: self.signs.ready.load(Ordering::Acquire),
            fault: self.signs.fault.get().cloned(),
            disk_silent: self.signs.disk_silent(),
        }
    }

    async fn status(&self) -> Answer<StatusView> {
        match self.ask(Request::Status).await? {
            Response::Status(status) => Ok(StatusView {
                no_memory: self.gate.no_memory(|| clock::now().tick),
                ..*status
            }),
            _ => Err(odd()),
        }
    }

    async fn pause(&self, queue: Option<QueueName>, on: bool) -> Answer<()> {
        self.ask_done(Request::Pause(queue, on)).await
    }

    async fn drain(&self, queue: Option<QueueName>, on: bool) -> Answer<()> {
        self.ask_done(Request::Drain(queue, on)).await
    }

    async fn retry_dead(&self, queue: Option<QueueName>) -> Answer<RetriedDead> {
        let mut all = RetriedDead::default();
        loop {
            let request = Request::RetrySome(queue.clone(), all.left);
            let some = match self.ask(request).await {
                Ok(Response::RetriedSome(some)) => some,
                Ok(_) => return Err(odd()),
                // What is back is told of in any case.
                Err(Error::Refused(refusal)) if all.count > 0 => {
                    all.reason = Some(refusal);
                    return Ok(all);
                }
                Err(error) => return Err(error),
            };
            if some.count + some.left == 0 {
                return Ok(all);
            }
            all.count += some.count;
            all.left += some.left;
            all.reason = all.reason.or(some.reason);
        }
    }

    async fn purge(&self, queue: Option<QueueName>, state: State) -> Answer<u64> {
        self.ask_all(Request::PurgeSome(queue, state)).await
    }

    async fn rejected(&self, limit: usize) -> Answer<Vec<RejectedView>> {
        match self.ask(Request::Rejected(limit)).await? {
            Response::Rejected(rejected) => Ok(rejected),
            _ => Err(odd()),
        }
    }

    async fn settle_rejected(&self, name: String, how: Settlement) -> Answer<()> {
        self.ask_done(Request::SettleRejected(name, how)).await
    }

    async fn rescan(&self) -> Answer<()> {
        self.ask_done(Request::Rescan).await
    }

    async fn checkpoint(&self) -> Answer<()> {
        self.ask_done(Request::Checkpoint).await
    }

    async fn export(&self) -> Answer<ExportHead> {
        match self.ask(Request::ExportBegin).await? {
            Response::ExportBegun(head) => Ok(*head),
            _ => Err(odd()),
        }
    }

    async fn export_next(&self, number: u64) -> Answer<ExportPiece> {
        match self.ask(Request::ExportNext(number)).await? {
            Response::Exported(piece) => Ok(piece),
            _ => Err(odd()),
        }
    }

    fn export_end(&self, number: u64) {
        let input = Post::Input(Input::ExportEnded(number));
        if let Err(Refused::Full(input)) = self.mailbox.ask(input) {
            let mailbox = Arc::clone(&self.mailbox);
            tokio::task::spawn_blocking(move || post(&mailbox, *input));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, pin::pin, task::Poll};

    use super::*;
    use crate::{store::DropLimits, task::PayloadLimits};

    #[tokio::test]
    async fn a_submit_counts_for_as_long_as_the_engine_holds_it_whoever_waits() {
        let mailbox = Arc::new(Mailbox::default());
        let limits = DropLimits {
            payloads: PayloadLimits::bytes(100),
            max_file: 100,
        };
        let handle = Handle::new(
            Arc::clone(&mailbox),
            Arc::new(EventLog::new(1)),
            Arc::default(),
            LiveDropLimits::from(limits),
        );
        handle.set_gate(None, 1);
        let task = || vec![NewTask::of(Payload::from_text("payload"))];
        {
            let mut gives_up = pin!(handle.submit(task()));
            poll_fn(|context| {
                assert!(gives_up.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        let refused = handle.submit(task()).await;
        let too_many = Refusal::TooManyAtOnce {
            what: "bytes of tasks that wait to be taken",
            setting: "max_submitting",
            limit: 1,
        };
        assert_eq!(refused.unwrap_err(), too_many.into());
        let mut posts = VecDeque::new();
        mailbox.take(usize::MAX, &mut posts);
        let Some(Post::Request(_, _, caller)) = posts.pop_front() else {
            panic!("{posts:?}");
        };
        let answer = caller.answer(Err(Refusal::Stopping.into()));
        assert!(answer.is_err(), "nobody waits for it");
        mailbox.close();
        assert_eq!(
            handle.submit(task()).await.unwrap_err(),
            Refusal::Stopping.into()
        );
    }
}
