//! A stream of tasks, one JSON object a line (`application/x-ndjson`), of any length.
//!
//! Knows lines and pieces; holds one piece in memory at a time, and reads on only when the backend has taken it.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Http, answer, body,
    caller::Caller,
    entry::Entry,
    flight::Share,
    import::{Import, Pauses},
    problem::{self, Problem},
    tasks,
};
use crate::{
    api,
    backend::{Backend, Error, SubmitOutcome},
    task::{NewTask, QueueName, Refusal, Trace},
};

/// How many tasks go to the backend at once: enough that they share a sync, few enough to be little memory.
const PIECE_TASKS: usize = 256;
/// The same in bytes of input.
const PIECE_BYTES: usize = 256 << 10;
/// What a line may have beside its payload: every other field at its longest is far below.
const LINE_SLACK: usize = 64 << 10;

/// Takes the tasks of `body` as they come.
pub(crate) async fn submit<B: Backend>(
    http: &Http<B>,
    caller: Caller,
    trace: Option<Trace>,
    request: Request,
) -> Answer {
    take(http, caller.clone(), Reads::Tasks(caller, trace), request).await
}

/// Takes back what an export wrote.
pub(crate) async fn import<B: Backend>(http: &Http<B>, caller: Caller, request: Request) -> Answer {
    take(http, caller, Reads::Export(Import::default()), request).await
}

async fn take<B: Backend>(
    http: &Http<B>,
    caller: Caller,
    reads: Reads,
    request: Request,
) -> Answer {
    let mut stream = Stream {
        http,
        reads,
        share: Share::none(&http.flight),
        piece: Vec::new(),
        piece_bytes: 0,
        line: 0,
        accepted: 0,
        created: 0,
    };
    let mut source = Source {
        stop: http.ending.clone(),
        entry: Entry::of(http, caller, &request),
        idle: http
            .limits
            .body_timeout
            .max(http.limits.max_wait)
            .as_duration(),
        ended: false,
        body: request.into_body(),
    };
    if let Err(problem) = stream.run(&mut source).await {
        // What it held is nobody's while the rest is thrown away.
        drop(stream);
        if !source.ended && !source.stop.is_cancelled() {
            body::discard(&mut source.body, http.limits.max_body).await;
        }
        return Err(problem);
    }
    let accepted = api::Accepted {
        accepted: stream.accepted,
        created: stream.created,
    };
    let status = if stream.created > 0 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(answer::json(status, serde_json::to_vec(&accepted)?))
}

/// Where the bytes come from.
struct Source {
    body: Body,
    stop: CancellationToken,
    entry: Entry,
    idle: Duration,
    /// A body is not asked again after its end.
    ended: bool,
}

impl Source {
    /// The next bytes, if they are there already.
    fn ready(&mut self) -> Option<Result<Option<Bytes>, Problem>> {
        let piece = body::next_piece(&mut self.body, self.idle).now_or_never()?;
        self.ended = !matches!(piece, Ok(Some(_)));
        Some(piece)
    }

    /// The next bytes, or the end of the daemon, or of what the credential grants.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let piece = tokio::select! {
            piece = body::next_piece(&mut self.body, self.idle) => piece,
            () = self.stop.cancelled() => return Err(Refusal::Stopping.into()),
            problem = self.entry.lapsed() => return Err(problem),
        };
        self.ended = !matches!(piece, Ok(Some(_)));
        piece
    }
}

/// What the lines are.
enum Reads {
    /// Task objects of somebody; the trace is that of tasks that name none.
    Tasks(Caller, Option<Trace>),
    /// An export.
    Export(Import),
}

struct Stream<'a, B> {
    http: &'a Http<B>,
    reads: Reads,
    /// What it holds: tasks that were read, and the line that is being read.
    share: Share,
    /// Tasks that were read and are not yet submitted, each with its line.
    piece: Vec<(usize, NewTask)>,
    piece_bytes: usize,
    /// The line that is being read; 1 is the first.
    line: usize,
    accepted: u64,
    created: u64,
}

impl<B: Backend> Stream<'_, B> {
    async fn run(&mut self, source: &mut Source) -> Result<(), Problem> {
        let most = self.http.limits.payloads.max_payload + LINE_SLACK;
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let bytes = if let Some(bytes) = source.ready() {
                bytes
            } else {
                // The sender pauses: what it has sent is taken now, not when it goes on.
                self.flush().await?;
                source.next().await
            };
            let Some(bytes) = self.settle(bytes).await? else {
                break;
            };
            let mut bytes = &bytes[..];
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                if rest.is_empty() {
                    self.take(&bytes[..end], most).await?;
                } else {
                    rest.extend_from_slice(&bytes[..end]);
                    self.take(&rest, most).await?;
                    rest.clear();
                }
                bytes = &bytes[end + 1..];
            }
            rest.extend_from_slice(bytes);
            let held = self.share.grow_to((rest.len() + self.piece_bytes) as u64);
            if let Err(refusal) = held {
                self.line += 1;
                self.settle(Err(refusal.into())).await?;
            }
            if rest.len() > most {
                self.take(&rest, most).await?;
            }
        }
        if !rest.is_empty() {
            self.take(&rest, most).await?;
        }
        self.flush().await?;
        match &self.reads {
            Reads::Export(import) => import
                .ended()
                .map_err(|problem| problem.in_stream(self.line.max(1), self.accepted)),
            Reads::Tasks(..) => Ok(()),
        }
    }

    /// One line: a task, or nothing but space.
    async fn take(&mut self, line: &[u8], most: usize) -> Result<(), Problem> {
        self.line += 1;
        let parsed = if line.len() > most {
            Err(problem::TOO_LARGE.problem(format!("longer than {most} bytes")))
        } else {
            body::text(line).and_then(|text| {
                if text.trim().is_empty() {
                    return Ok(None);
                }
                match &mut self.reads {
                    Reads::Tasks(caller, trace) => {
                        let task = tasks::parse(self.http, trace.as_ref(), text)?;
                        caller.reach(&task.queue)?;
                        Ok(Some(task))
                    }
                    Reads::Export(import) => Ok(import.line(self.http, text)?),
                }
            })
        };
        if let Some(task) = self.settle(parsed).await? {
            let queue = task.queue.clone();
            self.piece.push((self.line, task));
            self.piece_bytes += line.len();
            if self.piece.len() >= PIECE_TASKS || self.piece_bytes >= PIECE_BYTES {
                self.flush().await?;
            }
            self.pause_what_was_paused(&queue).await?;
        }
        Ok(())
    }

    /// A queue that was paused when it was exported is so from its first task on.
    async fn pause_what_was_paused(&mut self, queue: &QueueName) -> Result<(), Problem> {
        let Reads::Export(import) = &mut self.reads else {
            return Ok(());
        };
        let pause = match import.pauses(queue) {
            Pauses::Nothing => return Ok(()),
            Pauses::All => None,
            Pauses::This => {
                // It exists only when its first task is there.
                self.flush().await?;
                Some(queue.clone())
            }
        };
        let paused = self.http.backend.pause(pause, true).await;
        self.settle(paused.map_err(Problem::from)).await
    }

    /// `result`, or its problem after the tasks before it are durable: told with the line and their number.
    async fn settle<T>(&mut self, result: Result<T, Problem>) -> Result<T, Problem> {
        match result {
            Ok(value) => Ok(value),
            Err(problem) => {
                self.flush().await?;
                Err(problem.in_stream(self.line.max(1), self.accepted))
            }
        }
    }

    /// Submits what was read.
    async fn flush(&mut self) -> Result<(), Problem> {
        let piece = std::mem::take(&mut self.piece);
        self.piece_bytes = 0;
        if piece.is_empty() {
            return Ok(());
        }
        let tasks = piece.iter().map(|(_, task)| task.clone()).collect();
        match self.http.backend.submit(tasks).await {
            Ok(outcomes) => self.count(&piece, &outcomes),
            // The piece was refused whole: one by one, the tasks before the wrong one are taken, and it gets named.
            Err(Error::Refused(_)) => self.submit_each(piece).await,
            Err(error) => {
                let first = piece.first().map_or(1, |(line, _)| *line);
                Err(Problem::from(error).in_stream(first, self.accepted))
            }
        }
    }

    async fn submit_each(&mut self, piece: Vec<(usize, NewTask)>) -> Result<(), Problem> {
        for one in piece {
            let outcomes = self
                .http
                .backend
                .submit(vec![one.1.clone()])
                .await
                .map_err(|error| Problem::from(error).in_stream(one.0, self.accepted))?;
            self.count(&[one], &outcomes)?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        piece: &[(usize, NewTask)],
        outcomes: &[SubmitOutcome],
    ) -> Result<(), Problem> {
        for ((line, task), outcome) in piece.iter().zip(outcomes) {
            // Who submits gets the task that holds the key; a task that comes back from elsewhere would be lost.
            let other = task.id.is_some_and(|id| id != outcome.task.id);
            if other && matches!(self.reads, Reads::Export(_)) {
                let refusal = Refusal::UniqueKeyInUse(outcome.task.id);
                return Err(Problem::from(refusal).in_stream(*line, self.accepted));
            }
            self.accepted += 1;
            self.created += u64::from(outcome.created);
        }
        Ok(())
    }
}
