//! The ceiling: the product's own HTTP stack over a backend that answers at once. The same parsing, the same rendering, no
//! queue and no disk: what HTTP alone costs on this machine.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use workqueue::{
    backend::{
        Answer, Backend, Change, ClaimAnswer, ClaimRequest, Error, EventId, EventLog, EventStream,
        ExportHead, ExportPiece, Failure, Fault, Health, HistoryView, LeaseView, Listeners, Meant,
        Page, PageQuery, QueueView, RejectedView, RetriedDead, Settlement, Span, StatusView,
        SubmitOutcome, TaskView, WorkerView,
    },
    engine::clock,
    http::{self, Http, HttpLimits},
    task::{
        ExecTime, Millis, NewTask, Options, Payload, Priority, QueueName, State, TaskId, Token,
        WallMillis,
    },
};

use crate::account::write_payload;

/// Says yes to everything: ids are counted, nothing is kept.
struct Null {
    next: AtomicU64,
    payload: Payload,
    events: Arc<EventLog>,
}

impl Null {
    fn id(&self) -> TaskId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let value = (0x0198_c0de_0000_7000_8000_u128 << 48) | u128::from(number);
        TaskId::from_bytes(value.to_be_bytes())
    }
}

fn nothing<T>() -> Answer<T> {
    let text = "the ceiling of HTTP only submits and claims";
    Err(Error::Fault(Fault(text.into())))
}

impl Backend for Null {
    async fn submit(&self, tasks: Vec<NewTask>) -> Answer<Vec<SubmitOutcome>> {
        let outcome = |task: NewTask| SubmitOutcome {
            task: TaskView {
                id: task.id.unwrap_or_else(|| self.id()),
                queue: task.queue,
                state: State::Ready,
                priority: task.priority,
                exectime: task.exectime,
                max_attempts: task.options.max_attempts.unwrap_or(5),
                options: task.options,
                attempts: 0,
                lease: None,
                last_error: None,
                history: None,
                payload: task.payload,
            },
            created: true,
        };
        Ok(tasks.into_iter().map(outcome).collect())
    }

    async fn claim(&self, request: ClaimRequest) -> Answer<ClaimAnswer> {
        let wall = clock::now().wall;
        let task = |_| {
            let id = self.id();
            let view = TaskView {
                id,
                queue: request.queues.first().cloned().unwrap_or_default(),
                state: State::Leased,
                priority: Priority::default(),
                exectime: ExecTime::ASAP,
                max_attempts: 5,
                options: Options::default(),
                attempts: 1,
                lease: Some(LeaseView {
                    worker: request.worker.clone(),
                    kind: request.kind,
                    since: wall,
                    expires: WallMillis(wall.0 + 60_000),
                }),
                last_error: None,
                history: None,
                payload: self.payload.clone(),
            };
            (view, Token(u128::from_be_bytes(*id.as_bytes())))
        };
        let tasks = (0..request.max).map(task).collect();
        let completed = request.complete.iter().map(|one| (one.id, Ok(())));
        Ok(ClaimAnswer {
            completed: completed.collect(),
            tasks,
        })
    }

    async fn complete(
        &self,
        _: impl Into<Meant> + Send,
        _: Option<Token>,
        _: Option<Payload>,
    ) -> Answer<()> {
        nothing()
    }

    async fn fail(&self, _: TaskId, _: Token, _: Failure) -> Answer<TaskView> {
        nothing()
    }

    async fn release(&self, _: TaskId, _: Token) -> Answer<()> {
        nothing()
    }

    async fn extend(&self, _: TaskId, _: Token, _: Option<Millis>) -> Answer<WallMillis> {
        nothing()
    }

    async fn cancel(&self, _: impl Into<Meant> + Send) -> Answer<()> {
        nothing()
    }

    async fn reschedule(&self, _: impl Into<Meant> + Send, _: Change) -> Answer<TaskView> {
        nothing()
    }

    async fn retry(&self, _: impl Into<Meant> + Send) -> Answer<TaskView> {
        nothing()
    }

    async fn task(&self, _: TaskId) -> Answer<TaskView> {
        nothing()
    }

    async fn tasks(&self, _: PageQuery) -> Answer<Page> {
        nothing()
    }

    async fn queues(&self) -> Answer<Vec<QueueView>> {
        nothing()
    }

    async fn queue(&self, _: QueueName) -> Answer<QueueView> {
        nothing()
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        nothing()
    }

    async fn history(&self, _: Option<QueueName>, _: Span) -> Answer<HistoryView> {
        nothing()
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
            fault: None,
            disk_silent: None,
        }
    }

    async fn status(&self) -> Answer<StatusView> {
        nothing()
    }

    async fn pause(&self, _: Option<QueueName>, _: bool) -> Answer<()> {
        nothing()
    }

    async fn drain(&self, _: Option<QueueName>, _: bool) -> Answer<()> {
        nothing()
    }

    async fn retry_dead(&self, _: Option<QueueName>) -> Answer<RetriedDead> {
        nothing()
    }

    async fn purge(&self, _: Option<QueueName>, _: State) -> Answer<u64> {
        nothing()
    }

    async fn rejected(&self, _: usize) -> Answer<Vec<RejectedView>> {
        nothing()
    }

    async fn settle_rejected(&self, _: String, _: Settlement) -> Answer<()> {
        nothing()
    }

    async fn rescan(&self) -> Answer<()> {
        nothing()
    }

    async fn checkpoint(&self) -> Answer<()> {
        nothing()
    }

    async fn export(&self) -> Answer<ExportHead> {
        nothing()
    }

    async fn export_next(&self, _: u64) -> Answer<ExportPiece> {
        nothing()
    }

    fn export_end(&self, _: u64) {}
}

/// Serves it on a free port, which is printed, until the process is ended. It has all processors: there is no engine beside it.
pub fn serve() -> anyhow::Result<()> {
    let mut text = Vec::new();
    write_payload(0, &mut text);
    let null = Null {
        next: AtomicU64::new(1),
        payload: Payload::from_text(&String::from_utf8(text)?),
        events: Arc::new(EventLog::new(0)),
    };
    let stop = CancellationToken::new();
    let http = Http::new(
        Arc::new(null),
        HttpLimits::default(),
        Arc::new(clock::now),
        stop.clone(),
    );
    let runtime = tokio::runtime::Runtime::new().context("threads")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("  page       http://{}/", listener.local_addr()?);
        std::io::stdout().flush()?;
        let (_router, routed) = tokio::sync::watch::channel(http::router(http));
        let serving = http::Serving {
            router: routed,
            stop,
            gate: http::Gate::new(http::Bounds::default(), Arc::default()),
        };
        http::serve_tcp(listener, serving, None).await;
        Ok(())
    })
}
