//! Exports while everything changes, held against what was true when they began.

use std::{collections::BTreeMap, path::Path};

use super::super::{
    Settings,
    driver::{Opening, Running, open},
};
use crate::{
    backend::{Answer, Backend, ClaimRequest, Error, ExportPiece, Failure, PageQuery},
    store::DropLimits,
    task::{
        Change, ExecTime, LeaseKind, Millis, NewTask, Options, Past, Payload, PayloadLimits,
        Priority, QueueName, Refusal, State, TaskId, Token,
    },
};

type Seen = BTreeMap<TaskId, NewTask>;

/// Splitmix64 (<https://prng.di.unimi.it/splitmix64.c>): the same numbers from the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

fn start(root: &Path, payload_cache: u64) -> Running {
    let drops = DropLimits {
        payloads: PayloadLimits::bytes(1 << 20),
        max_file: 2 << 20,
    };
    let settings = Settings {
        payload_cache,
        spool_delay: Millis(0),
        ..Settings::default()
    };
    let opening = Opening {
        root: root.to_owned(),
        settings,
        drops,
        rescan_every: None,
    };
    open(opening, &mut |_| {}).unwrap()
}

fn queue(chance: &mut Chance) -> QueueName {
    QueueName::parse(["default", "a", "b"][chance.below(3) as usize]).unwrap()
}

struct World<'a, B> {
    backend: &'a B,
    chance: Chance,
    leases: Vec<(TaskId, Token)>,
    submitted: u64,
}

impl<B: Backend> World<'_, B> {
    async fn submit(&mut self, id: Option<TaskId>) {
        self.submitted += 1;
        let key = format!("key {}", self.submitted);
        let new = NewTask {
            id,
            queue: queue(&mut self.chance),
            priority: Priority::new(self.chance.below(3) as i32),
            exectime: if self.chance.below(4) == 0 {
                ExecTime::new(4_000_000_000).unwrap()
            } else {
                ExecTime::ASAP
            },
            options: Options {
                unique_key: (self.chance.below(3) == 0).then(|| key.as_str().into()),
                max_attempts: (self.chance.below(2) == 0).then_some(1),
                ..Options::default()
            },
            ..NewTask::of(Payload::from_text(&format!("payload {}", self.submitted)))
        };
        self.backend.submit(vec![new]).await.unwrap();
    }

    async fn claim(&mut self) {
        let request = ClaimRequest {
            queues: vec![queue(&mut self.chance)],
            max: 1,
            wait: Millis(0),
            lease: None,
            kind: LeaseKind::V1,
            worker: None,
            complete: Vec::new(),
        };
        let answer = self.backend.claim(request).await.unwrap();
        self.leases
            .extend(answer.tasks.iter().map(|(task, token)| (task.id, *token)));
    }

    fn lease(&mut self) -> Option<(TaskId, Token)> {
        let count = self.leases.len() as u64;
        (count > 0).then(|| {
            let at = self.chance.below(count) as usize;
            self.leases.swap_remove(at)
        })
    }

    async fn some_task(&mut self) -> Option<TaskId> {
        let all = seen(self.backend).await;
        let at = self.chance.below(all.len().max(1) as u64) as usize;
        all.into_keys().nth(at)
    }

    /// Something happens.
    async fn act(&mut self) {
        match self.chance.below(12) {
            0..=2 => self.submit(None).await,
            3..=4 => self.claim().await,
            5 => {
                if let Some((id, token)) = self.lease() {
                    self.backend.complete(id, Some(token), None).await.unwrap();
                }
            }
            6..=7 => {
                if let Some((id, token)) = self.lease() {
                    let failure = Failure {
                        error: "it failed".to_owned(),
                        ..Failure::default()
                    };
                    self.backend.fail(id, token, failure).await.unwrap();
                }
            }
            8 => {
                // And another one comes that has its id.
                if let Some(id) = self.some_task().await
                    && tolerate(self.backend.cancel(id).await).is_some()
                {
                    self.submit(Some(id)).await;
                }
            }
            9 => {
                let change = Change {
                    queue: Some(queue(&mut self.chance)),
                    priority: Some(Priority::new(self.chance.below(9) as i32)),
                    ..Change::default()
                };
                if let Some(id) = self.some_task().await {
                    tolerate(self.backend.reschedule(id, change).await);
                }
            }
            10 => {
                if let Some(id) = self.some_task().await {
                    tolerate(self.backend.retry(id).await);
                }
            }
            _ if self.chance.below(6) == 0 => {
                self.backend.purge(None, State::Dead).await.unwrap();
            }
            _ => {}
        }
    }
}

/// What can't be done to a task in its state is refused.
fn tolerate<T>(answer: Answer<T>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(Error::Refused(
            Refusal::Leased(_) | Refusal::WrongState { .. } | Refusal::UniqueKeyInUse(_),
        )) => None,
        Err(other) => panic!("{other}"),
    }
}

/// All that is there, as an export has it.
async fn seen(backend: &impl Backend) -> Seen {
    let query = PageQuery {
        queue: None,
        state: None,
        limit: 1000,
        after: None,
        id_prefix: None,
    };
    let page = backend.tasks(query).await.unwrap();
    let tasks = page.tasks.into_iter().map(|view| {
        let past = Past {
            attempts: view.attempts,
            dead: view.state == State::Dead,
            last_error: view.last_error,
        };
        let task = NewTask {
            id: Some(view.id),
            queue: view.queue,
            priority: view.priority,
            exectime: view.exectime,
            options: view.options,
            payload: view.payload,
            past: (past != Past::default()).then(|| Box::new(past)),
        };
        (view.id, task)
    });
    tasks.collect()
}

async fn scenario<B: Backend>(backend: &B, seed: u64) -> Seen {
    let mut world = World {
        backend,
        chance: Chance(seed),
        leases: Vec::new(),
        submitted: 0,
    };
    for _ in 0..60 {
        world.act().await;
    }
    let head = backend.export().await.unwrap();
    let mut wanted = seen(backend).await;
    // A page leaves out what is on its way from one directory to another.
    while (wanted.len() as u64) < head.tasks {
        wanted = seen(backend).await;
    }
    assert_eq!(wanted.len() as u64, head.tasks);
    let second = backend.export().await;
    assert_eq!(second.unwrap_err(), Error::Refused(Refusal::ExportRuns));
    let mut got = Seen::new();
    loop {
        for _ in 0..world.chance.below(8) {
            world.act().await;
        }
        match backend.export_next(head.number).await.unwrap() {
            ExportPiece::Tasks(tasks) => {
                for task in tasks {
                    let twice = got.insert(task.id.unwrap(), task);
                    assert_eq!(twice, None, "seed {seed}");
                }
            }
            ExportPiece::End { tasks, left_out } => {
                assert_eq!((tasks, left_out), (got.len() as u64, 0), "seed {seed}");
                break;
            }
            ExportPiece::GivenUp => panic!("seed {seed}: given up"),
        }
    }
    for (id, task) in &wanted {
        assert_eq!(got.get(id), Some(task), "seed {seed}");
    }
    assert_eq!(got.len(), wanted.len(), "seed {seed}");
    let over = backend.export_next(head.number).await.unwrap();
    assert_eq!(over, ExportPiece::GivenUp);
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_what_was_true_when_it_began_whatever_happens_meanwhile() {
    for seed in 0..12 {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = if seed % 2 == 0 { 0 } else { 1 << 20 };
        let running = start(from.path(), cache);
        let got = scenario(&*running.handle(), seed).await;
        end(running).await;
        // Somewhere else it is the same, also after a restart and when it comes again.
        let running = start(to.path(), cache);
        let tasks: Vec<NewTask> = got.values().cloned().collect();
        running.handle().submit(tasks.clone()).await.unwrap();
        end(running).await;
        let running = start(to.path(), cache);
        let again = running.handle().submit(tasks).await.unwrap();
        assert!(again.iter().all(|outcome| !outcome.created), "seed {seed}");
        while seen(&*running.handle()).await.len() < got.len() {}
        assert_eq!(seen(&*running.handle()).await, got, "seed {seed}");
        end(running).await;
    }
}

async fn end(running: Running) {
    tokio::task::spawn_blocking(move || {
        running.stop();
        assert_eq!(running.close(std::time::Duration::from_secs(20)), None);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_nobody_reads_any_more_makes_room_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), 0);
    let backend = running.handle();
    let first = backend.export().await.unwrap();
    backend.export_end(first.number);
    let second = backend.export().await.unwrap();
    let end = ExportPiece::End {
        tasks: 0,
        left_out: 0,
    };
    assert_eq!(backend.export_next(second.number).await.unwrap(), end);
    end_of(running, backend).await;
}

async fn end_of<B>(running: Running, backend: B) {
    drop(backend);
    end(running).await;
}
