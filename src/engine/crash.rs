//! Crashes at random points, from a seed: a synchronous driver over a disk in memory that forgets what was not synced.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Engine, Input, Loader, Output, Request, Response, Settings, Ticket};
use crate::{
    store::{Boot, DropLimits, Journal, Kept, MemoryDisk, Spool, recover},
    task::{
        ClaimRequest, Failure, LeaseKind, Millis, NewTask, Now, Payload, QueueName, TaskId, Tick,
        Token, WallMillis,
    },
};

const BOOT: [u8; 16] = [7; 16];

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

struct Bench {
    engine: Engine,
    journal: Journal<MemoryDisk>,
    spool: Spool<MemoryDisk>,
    work: VecDeque<Output>,
    replies: BTreeMap<u64, Result<Response, crate::backend::Error>>,
    tickets: u64,
    now: Now,
}

fn settings(delay: u64) -> Settings {
    Settings {
        spool_delay: Millis(delay),
        payload_cache: 0,
        checkpoint_bytes: 4096,
        segment_bytes: 64 << 10,
        ..Settings::default()
    }
}

impl Bench {
    fn open(disk: &Arc<MemoryDisk>, now: Now, seed: u64, delay: u64) -> Self {
        let limits = DropLimits {
            max_payload: 10_000,
            max_file: 100_000,
        };
        let spool = Spool::new(Arc::clone(disk), limits);
        spool.sweep_temporaries().unwrap();
        let mut chance = Chance(seed);
        let mut loader = Loader::new(settings(delay), Box::new(move || chance.next()), now);
        let boot = Boot {
            id: BOOT,
            tick: now.tick,
        };
        let start = recover(&**disk, &boot, &mut |found| loader.take(found)).unwrap();
        let (engine, _) = loader.finish(&start);
        let journal = Journal::new(Arc::clone(disk), start.boot);
        Self {
            engine,
            journal,
            spool,
            work: VecDeque::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            now,
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.step(self.now, input, &mut out);
        self.engine.step(self.now, Input::Flush, &mut out);
        for output in out {
            match output {
                Output::Reply(ticket, result) => {
                    self.replies.insert(ticket.0, result);
                }
                other => self.work.push_back(other),
            }
        }
    }

    /// Does the oldest thing that the engine wants done. Gives whether there was one.
    fn work_once(&mut self) -> bool {
        let Some(work) = self.work.pop_front() else {
            return false;
        };
        match work {
            Output::Write(group) => {
                if self.journal.write(&group).is_ok() {
                    self.input(Input::Written(group.seq));
                } else {
                    self.input(Input::WriteFailed("stopped".into()));
                }
            }
            Output::MakeSegment(new) => {
                let made = self.journal.make_segment(&new);
                self.input(match made {
                    Ok(bytes) => Input::SegmentMade(new.number, bytes),
                    Err(error) => Input::SegmentFailed(super::Failed {
                        full: false,
                        text: error.to_string().into(),
                    }),
                });
            }
            Output::Checkpoint(checkpoint) => {
                let made = self.journal.checkpoint(&checkpoint);
                self.input(Input::CheckpointDone(made.map_err(|error| super::Failed {
                    full: false,
                    text: error.to_string().into(),
                })));
            }
            Output::Files(work) => {
                let all = work.iter().flat_map(|one| &one.ops);
                if all
                    .map(|op| self.spool.run(op))
                    .all(|result| result.is_ok())
                {
                    let done = work.iter().map(|one| (one.id, Ok(()))).collect();
                    self.input(Input::FilesDone(done));
                }
            }
            Output::Load(places) => {
                let wall = self.now.wall;
                let read = places
                    .into_iter()
                    .map(|(id, place)| (id, self.spool.load(&place, wall)))
                    .collect();
                self.input(Input::Loaded(read));
            }
            _ => {}
        }
        true
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.input(Input::Request(Ticket(ticket), request));
        ticket
    }

    /// Lets time pass until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.work_once() {
                continue;
            }
            match self.engine.next_wake(self.now) {
                Some(tick) if tick.0 <= self.now.tick.0 + 70_000_000_000 => {
                    let ahead = tick.0.saturating_sub(self.now.tick.0);
                    self.pass(ahead.div_ceil(1_000_000));
                }
                _ => return,
            }
        }
        panic!(
            "never quiet: wakes at {:?}, now {:?}",
            self.engine.next_wake(self.now),
            self.now
        );
    }

    fn pass(&mut self, millis: u64) {
        self.now.tick = self.now.tick.plus(Millis(millis));
        self.now.wall = WallMillis(self.now.wall.0 + millis as i64);
        self.input(Input::Flush);
    }
}

fn claim() -> Request {
    Request::Claim(ClaimRequest {
        queues: vec![QueueName::default()],
        max: 3,
        wait: Millis(0),
        lease: Some(Millis(6_000_000)),
        kind: LeaseKind::V1,
        worker: None,
        complete: Vec::new(),
    })
}

#[derive(Default)]
struct Oracle {
    there: BTreeSet<TaskId>,
    gone: BTreeSet<TaskId>,
    /// Asked to end, with no answer yet: may be there or not.
    doubtful: BTreeSet<TaskId>,
    held: BTreeMap<TaskId, Token>,
    asked: BTreeMap<u64, (TaskId, bool)>,
}

impl Oracle {
    fn hear(&mut self, bench: &mut Bench) {
        for (ticket, result) in std::mem::take(&mut bench.replies) {
            let asked = self.asked.remove(&ticket);
            match (result, asked) {
                (Ok(Response::Submitted(outcomes)), _) => {
                    self.there.extend(outcomes.iter().map(|one| one.task.id));
                }
                (Ok(Response::Claimed(answer)), _) => {
                    for (task, token) in answer.tasks {
                        assert!(!self.gone.contains(&task.id), "a completed task returned");
                        self.held.insert(task.id, token);
                    }
                }
                (Ok(_), Some((id, true))) => {
                    self.there.remove(&id);
                    self.doubtful.remove(&id);
                    self.gone.insert(id);
                }
                _ => {}
            }
        }
    }
}

fn life(bench: &mut Bench, oracle: &mut Oracle, chance: &mut Chance) {
    for turn in 0..chance.below(60) {
        match chance.below(8) {
            0..=2 => {
                let payload = Payload::from_text(&format!("{turn}"));
                bench.ask(Request::Submit(vec![NewTask::of(payload)]));
            }
            3 => {
                bench.ask(claim());
            }
            4 | 5 => {
                if let Some((id, token)) = oracle.held.pop_first() {
                    let fails = chance.below(3) == 0;
                    let failure = Failure {
                        error: "no".into(),
                        retry_in: Some(Millis(chance.below(3) * 1000)),
                        dead: chance.below(3) == 0,
                    };
                    let ticket = if fails {
                        bench.ask(Request::Fail(id, token, failure))
                    } else {
                        oracle.doubtful.insert(id);
                        bench.ask(Request::Complete(id, Some(token), None))
                    };
                    oracle.asked.insert(ticket, (id, !fails));
                }
            }
            6 => bench.pass(chance.below(300)),
            _ => {
                bench.ask(Request::RetrySome(None));
            }
        }
        for _ in 0..chance.below(6) {
            bench.work_once();
        }
        oracle.hear(bench);
    }
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let disk = Arc::new(MemoryDisk::new());
    let mut now = Now {
        wall: WallMillis(1_700_000_000_000),
        tick: Tick(1_000_000_000),
    };
    let mut oracle = Oracle::default();
    let delay = [0, 100, 60_000][chance.below(3) as usize];
    for round in 0..6 {
        let mut bench = Bench::open(&disk, now, seed ^ round, delay);
        if round > 0 {
            check(&mut bench, &mut oracle, seed);
        }
        disk.stop_after(chance.below(200));
        life(&mut bench, &mut oracle, &mut chance);
        oracle.asked.clear();
        now = bench.now;
        drop(bench);
        if chance.below(2) == 0 {
            // The file system keeps the order of names; contents that were not synced are lost.
            disk.crash(Kept::Additions);
        } else {
            disk.go_on();
        }
    }
}

fn check(bench: &mut Bench, oracle: &mut Oracle, seed: u64) {
    bench.settle();
    assert_eq!(bench.engine.files.len(), 0, "seed {seed}: files are left");
    assert_eq!(bench.engine.files.first_unsettled(), None, "seed {seed}");
    for id in &oracle.there {
        let there = bench.engine.queue.get(*id).is_some();
        assert!(
            there || oracle.doubtful.contains(id),
            "seed {seed}: {id} is lost"
        );
        if there {
            let ticket = bench.ask(Request::Task(*id));
            bench.settle();
            let shown = bench.replies.remove(&ticket);
            assert!(
                matches!(shown, Some(Ok(Response::Task(_)))),
                "seed {seed}: {shown:?}"
            );
        }
    }
    for id in &oracle.gone {
        assert!(
            bench.engine.queue.get(*id).is_none(),
            "seed {seed}: {id} came back"
        );
    }
    for (id, token) in &oracle.held {
        let lease = bench
            .engine
            .queue
            .get(*id)
            .and_then(super::super::queue::Entry::lease);
        assert!(
            lease.is_some_and(|lease| lease.token == *token),
            "seed {seed}: {id} lost its lease"
        );
    }
    oracle
        .doubtful
        .retain(|id| bench.engine.queue.get(*id).is_some());
    oracle
        .there
        .retain(|id| bench.engine.queue.get(*id).is_some());
    oracle.doubtful.clear();
}

#[test]
fn whatever_was_answered_outlives_crashes_at_any_point() {
    for seed in 0..200 {
        run(seed);
    }
}

#[test]
fn the_engine_is_a_backend_and_closes_quickly_also_with_a_long_spool_delay() {
    let scratch = tempfile::tempdir().unwrap();
    let opening = super::driver::Opening {
        root: scratch.path().to_owned(),
        settings: settings(60_000),
        drops: DropLimits {
            max_payload: 10_000,
            max_file: 100_000,
        },
        rescan_every: None,
    };
    let running = super::driver::open(opening, &mut |_, _| {}).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = running.handle();
    let patience = std::time::Duration::from_secs(20);
    let suite = crate::backend::conformance::suite(&*handle);
    runtime
        .block_on(async { tokio::time::timeout(patience, suite).await })
        .unwrap();
    running.stop();
    assert_eq!(running.close(patience), None);
}

#[test]
fn after_a_failed_write_whoever_waits_is_told_and_status_still_answers() {
    let disk = Arc::new(MemoryDisk::new());
    let mut bench = Bench::open(&disk, Now::default(), 1, 0);
    bench.settle();
    disk.fail_next("sync", std::io::ErrorKind::Other);
    let first = bench.ask(Request::Submit(vec![NewTask::of(Payload::from_text("x"))]));
    bench.settle();
    let later = bench.ask(Request::Submit(vec![NewTask::of(Payload::from_text("y"))]));
    let status = bench.ask(Request::Status);
    for ticket in [first, later] {
        let told = bench.replies.remove(&ticket);
        assert!(
            matches!(told, Some(Err(crate::backend::Error::Fault(_)))),
            "{told:?}"
        );
    }
    let shown = bench.replies.remove(&status);
    assert!(matches!(shown, Some(Ok(Response::Status(status))) if status.fault.is_some()));
    assert_eq!(bench.engine.next_wake(bench.now), None);
}

/// Does what the engine wants, but files of a queue find no room.
fn work_without_room(bench: &mut Bench, narrow: &QueueName) {
    for _ in 0..1000 {
        let Some(Output::Files(work)) = bench.work.front() else {
            if bench.work_once() {
                continue;
            }
            return;
        };
        let refused = || super::Failed {
            full: true,
            text: "no space".into(),
        };
        let queue = &bench.engine.queue;
        let is_narrow = |id| {
            queue
                .get(id)
                .is_some_and(|entry| queue.queue_of(entry) == narrow)
        };
        let done = work
            .iter()
            .map(|one| {
                (
                    one.id,
                    if is_narrow(one.id) {
                        Err(refused())
                    } else {
                        Ok(())
                    },
                )
            })
            .collect();
        bench.work.pop_front();
        bench.input(Input::FilesDone(done));
    }
}

#[test]
fn a_queue_whose_files_find_no_room_is_closed_alone_and_its_tasks_outlive_a_checkpoint() {
    let disk = Arc::new(MemoryDisk::new());
    let mut bench = Bench::open(&disk, Now::default(), 1, 0);
    let narrow = QueueName::parse("narrow").unwrap();
    let new = |queue: &QueueName| NewTask {
        queue: queue.clone(),
        ..NewTask::of(Payload::from_text("x"))
    };
    let ask = |bench: &mut Bench, request| {
        let ticket = bench.ask(request);
        work_without_room(bench, &narrow);
        bench.replies.remove(&ticket).unwrap()
    };
    let first = ask(&mut bench, Request::Submit(vec![new(&narrow)]));
    let Ok(Response::Submitted(first)) = first else {
        panic!("{first:?}");
    };
    let more = ask(&mut bench, Request::Submit(vec![new(&narrow)]));
    let refused = crate::task::Refusal::QueueFull(narrow.clone());
    assert_eq!(more.unwrap_err(), refused.into());
    ask(
        &mut bench,
        Request::Submit(vec![new(&QueueName::default())]),
    )
    .unwrap();
    ask(&mut bench, Request::Checkpoint).unwrap();
    let segments = disk.files();
    drop(bench);
    disk.crash(Kept::Nothing);

    let mut bench = Bench::open(&disk, Now::default(), 2, 0);
    bench.settle();
    let id = first[0].task.id;
    let ticket = bench.ask(Request::Task(id));
    bench.settle();
    assert!(matches!(
        bench.replies.remove(&ticket),
        Some(Ok(Response::Task(_)))
    ));
    let path = bench.engine.queue.location(id).unwrap().path();
    assert!(
        !segments.contains(&path) && disk.files().contains(&path),
        "its file is written now"
    );
    assert_eq!(bench.engine.files.first_unsettled(), None);
}
