//! A model check: random operations on [`Queues`] and on a naive reference, which have to agree at every step, and with what
//! a restart would bring back.
//!
//! `WORKQUEUE_SEED` and `WORKQUEUE_OPERATIONS` choose another run; a failure prints what to set.

mod chance;
mod compare;
mod reference;
mod rules;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use self::{
    chance::Chance,
    reference::Reference,
    run::{Repeat, everything_came_to_pass, setting},
};
use super::{Grant, Limits, Queues, Verdict};
use crate::task::{
    Backoff, Change, ExecTime, Failure, IdSource, LeaseKind, Millis, NewTask, Now, Options, Past,
    Payload, Priority, QueueName, Record, Refusal, State, TaskId, Tick, Token, Trace, WallMillis,
    WorkerName,
};

const SEED: u64 = 20_261_124;
const OPERATIONS: u64 = 100_000;
/// The first four have nearly all tasks.
const QUEUES: [&str; 9] = [
    "default",
    "emails",
    "a",
    "b.c",
    "z-9",
    "1",
    "images",
    "web_hooks",
    "reports",
];
const PAYLOADS: [&str; 4] = [
    "{\"a\":1,\"b\":[]}",
    "{ \"b\": [], \"a\": 1 }",
    "\"x\"",
    "null",
];
const START: i64 = 1_800_000_000_000;

/// How the same thing went in both, in words that leave prose out.
fn kind<T>(result: &Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(Refusal::WrongState { id, state, .. }) => format!("WrongState {id} {state}"),
        Err(Refusal::Invalid { field, .. }) => format!("Invalid {field}"),
        Err(other) => format!("{other:?}"),
    }
}

struct Model {
    chance: Chance,
    limits: Limits,
    now: Now,
    ids: IdSource,
    live: Queues,
    reference: Reference,
    /// Restarted from a checkpoint some time ago, and has followed the records since.
    restarted: Queues,
    records: Vec<Record>,
    tokens: Vec<Token>,
    ended: Vec<TaskId>,
    /// How often each thing came to pass: a model that never gets somewhere proves nothing about it.
    seen: BTreeMap<String, u64>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            max_queues: 6,
            max_tasks: usize::MAX,
            max_queue_tasks: usize::MAX,
            max_unique_keys: 10,
            max_attempts: 3,
            lease: Millis(20_000),
            backoff: Backoff {
                base: Millis(1_500),
                max: Millis(20_000),
            },
        };
        let mut model = Self {
            chance: Chance(seed),
            now: Now::default(),
            ids: IdSource::default(),
            live: Queues::new(limits.clone()),
            reference: Reference::new(limits.clone()),
            restarted: Queues::new(limits.clone()),
            records: Vec::new(),
            tokens: vec![Token(0)],
            ended: Vec::new(),
            seen: BTreeMap::new(),
            limits,
        };
        model.now.wall = WallMillis(START);
        model.advance(1);
        model
    }

    fn step(&mut self) {
        let crowded = self.reference.tasks.len() > 150;
        let forgets = self.reference.forgets;
        match self.chance.below(200) {
            0..46 if !crowded => self.submit(1),
            0..58 if !crowded => {
                let count = self.chance.below(6) as usize;
                self.submit(count);
            }
            0..88 => self.claim(),
            88..92 => self.claim_any(),
            92..120 => self.complete(),
            120..134 => self.fail(),
            134..140 => self.release(),
            140..148 => self.extend(),
            148..154 => self.cancel(),
            154..162 => self.reschedule(),
            162..166 => self.retry(),
            166..172 => self.switch(),
            172..184 => self.pass_time(),
            184..196 => self.expire(),
            196 => self.purge(),
            197 if self.chance.one_in(20) => self.reboot(),
            198 if self.chance.one_in(20) => self.open(),
            _ => self.wake(),
        }
        compare::same_totals(&self.live, &self.reference);
        if self.reference.forgets > forgets {
            self.note("forget", "ok");
        }
    }

    fn note(&mut self, what: &str, how: &str) {
        let how: String = how
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        *self.seen.entry(format!("{what} {how}")).or_default() += 1;
    }

    fn apply(&mut self, record: Record) {
        self.live.apply(&record);
        self.restarted.apply(&record);
        self.records.push(record);
    }

    /// Holds two answers against each other and makes the record true.
    fn agree<T: Debug>(
        &mut self,
        what: &str,
        id: Option<TaskId>,
        live: Result<Record, Refusal>,
        reference: &Result<T, Refusal>,
    ) -> bool {
        assert_eq!(kind(&live), kind(reference), "{what} {id:?}");
        self.note(what, &kind(reference));
        let Ok(record) = live else { return false };
        self.apply(record);
        if let Some(id) = id {
            compare::same_task(&self.live, &self.reference, id);
            if self.reference.get(id).is_none() {
                self.ended.push(id);
            }
        }
        true
    }

    fn queue(&mut self) -> QueueName {
        let end = if self.chance.one_in(12) { 9 } else { 4 };
        QueueName::parse(self.chance.pick::<&str>(&QUEUES[..end])).unwrap()
    }

    fn maybe_queue(&mut self) -> Option<QueueName> {
        let queue = self.queue();
        (!self.chance.one_in(3)).then_some(queue)
    }

    fn exectime(&mut self) -> ExecTime {
        let secs = self.now.wall.0 / 1000;
        match self.chance.below(10) {
            0..4 => ExecTime::ASAP,
            4..6 => ExecTime::new(secs + self.chance.between(-5, 5)).unwrap(),
            6..9 => ExecTime::new(secs + self.chance.between(-100, 100)).unwrap(),
            _ => ExecTime::new(self.chance.between(-3, 3)).unwrap(),
        }
    }

    fn length(chance: &mut Chance) -> Option<Millis> {
        let length = Millis(100 * chance.between(1, 300) as u64);
        chance.one_in(2).then_some(length)
    }

    fn content(&mut self, mut chance: Chance) -> NewTask {
        let payload = Payload::from_json(chance.pick::<&str>(&PAYLOADS)).unwrap();
        let mut task = NewTask::of(payload);
        let end = if chance.one_in(12) { 9 } else { 4 };
        task.queue = QueueName::parse(chance.pick::<&str>(&QUEUES[..end])).unwrap();
        if chance.one_in(2) {
            let value = *chance.pick(&[i32::MIN, -1, 0, 99, 101, i32::MAX]);
            task.priority = Priority::new(value);
        }
        if chance.one_in(3) {
            let key = format!("key {}", chance.below(12)).into();
            let backoff = Backoff {
                base: Millis(chance.below(3) * 700),
                max: Millis(9_000),
            };
            task.options = Options {
                unique_key: chance.one_in(2).then_some(key),
                max_attempts: chance.one_in(2).then_some(1 + chance.below(3) as u32),
                lease: Self::length(&mut chance),
                backoff: chance.one_in(2).then_some(backoff),
                trace: None,
            };
            if chance.one_in(3) {
                let parent = format!("00-{:032x}-{:016x}-01", chance.number() | 1, 1);
                let trace = Trace::parse(&parent).unwrap();
                task.options.trace = Some(Box::new(trace));
            }
        }
        task.exectime = self.exectime();
        if Chance(self.chance.number()).one_in(12) {
            task.past = Some(Box::new(Past {
                attempts: self.chance.below(4) as u32,
                dead: self.chance.one_in(2),
                last_error: self.chance.one_in(2).then(|| "long ago".into()),
            }));
        }
        task
    }

    /// A new task; one in four has an id of the caller's, mostly with the content that this id always has.
    fn new_task(&mut self) -> NewTask {
        let fresh = Chance(self.chance.number());
        if !self.chance.one_in(4) {
            return self.content(fresh);
        }
        let number = self.chance.below(40) as u8;
        let always = Chance(u64::from(number));
        let content = if self.chance.one_in(4) { fresh } else { always };
        let mut task = self.content(content);
        task.id = Some(callers_id(number));
        task
    }

    /// The same content again, so that tasks of one array meet.
    fn much_like(&mut self, task: &NewTask) -> NewTask {
        NewTask {
            id: task.id.filter(|_| self.chance.one_in(2)),
            exectime: self.exectime(),
            ..task.clone()
        }
    }

    fn submit(&mut self, count: usize) {
        let mut tasks: Vec<NewTask> = Vec::new();
        for _ in 0..count {
            let task = match tasks.last() {
                Some(last) if self.chance.one_in(4) => self.much_like(last),
                _ => self.new_task(),
            };
            tasks.push(task);
        }
        let mut made = Vec::new();
        let (ids, chance, wall) = (&mut self.ids, &mut self.chance, self.now.wall);
        let mut make_id = || {
            made.push(ids.make(wall, chance.wide()));
            made[made.len() - 1]
        };
        let reference = &self.reference;
        let payload_of = |id| Some(reference.get(id)?.payload.clone());
        let live = self
            .live
            .decide_submit(tasks.clone(), None, &mut make_id, &payload_of);
        let want = self.reference.submit(&tasks, &made);
        assert_eq!(kind(&live), kind(&want), "submit {tasks:?}");
        let what = if count == 1 { "submit" } else { "array" };
        self.note(what, &kind(&want));
        let (Ok(live), Ok(want)) = (live, want) else {
            return;
        };
        let plain = |verdict: &Verdict| match verdict {
            Verdict::New(task) => (true, task.id),
            Verdict::Existing(id) => (false, *id),
        };
        assert!(live.iter().map(plain).eq(want.iter().copied()));
        for verdict in live {
            if let Verdict::New(task) = verdict {
                self.apply(Record::Submitted(task));
            } else {
                self.note(what, "again");
            }
        }
        for (_, id) in want {
            compare::same_task(&self.live, &self.reference, id);
        }
    }

    fn grant(&mut self) -> Grant {
        let legacy = self.chance.one_in(3);
        let token = Token(self.chance.wide());
        self.tokens.push(token);
        Grant {
            token,
            kind: if legacy {
                LeaseKind::Legacy
            } else {
                LeaseKind::V1
            },
            worker: (!legacy).then(|| WorkerName::parse("host:1").unwrap()),
            length: Self::length(&mut self.chance),
        }
    }

    fn claim(&mut self) {
        let count = 1 + self.chance.below(3);
        let queues: Vec<QueueName> = (0..count).map(|_| self.queue()).collect();
        for _ in 0..=self.chance.below(3) {
            let best = self.best(&queues);
            let live = self.live.next_ready(&queues, self.now);
            let want = self.reference.next_ready(&queues);
            assert_eq!(live, want, "the next of {queues:?}");
            assert_eq!(live, best, "the best of {queues:?}");
            self.note("next", if live.is_some() { "one" } else { "none" });
            let Some(id) = live else { return };
            let grant = self.grant();
            self.claim_one(id, grant);
        }
    }

    /// What the order's words say is next, of the tasks that have become ready.
    fn best(&self, queues: &[QueueName]) -> Option<TaskId> {
        let handed_out = |name: &QueueName| {
            let known = self
                .reference
                .queues
                .iter()
                .find(|known| known.name == *name);
            queues.contains(name) && !self.reference.paused && known.is_some_and(|k| !k.paused)
        };
        let tasks = self.reference.tasks.iter().filter(|task| {
            task.state == State::Ready && task.is_due(self.now) && handed_out(&task.queue)
        });
        tasks.min_by_key(|task| task.place()).map(|task| task.id)
    }

    fn claim_any(&mut self) {
        let id = self.task(State::Ready);
        let grant = self.grant();
        self.claim_one(id, grant);
    }

    fn claim_one(&mut self, id: TaskId, grant: Grant) {
        let want = self.reference.claim(id, &grant);
        let live = self.live.decide_claim(id, grant, self.now);
        self.agree("claim", Some(id), live, &want);
    }

    /// Mostly one in this state, else any other, one that ended, or one that never was.
    fn task(&mut self, state: State) -> TaskId {
        let all: Vec<TaskId> = self.reference.tasks.iter().map(|task| task.id).collect();
        let ids = match self.chance.below(20) {
            0 => self.ended.clone(),
            1 => Vec::new(),
            2..5 => all,
            _ => {
                let list = self.reference.list(None, Some(state));
                list.into_iter().map(|task| task.id).collect()
            }
        };
        if ids.is_empty() {
            return callers_id(200);
        }
        *self.chance.pick(&ids)
    }

    /// Mostly the token of the task's lease, else one of before or of another task.
    fn token(&mut self, id: TaskId) -> Token {
        let own = self.reference.get(id).and_then(|task| task.lease.as_ref());
        let own = own.map_or(Token(1), |lease| lease.token);
        let recent = &self.tokens[self.tokens.len().saturating_sub(30)..];
        let other = *self.chance.pick(recent);
        if self.chance.one_in(5) { other } else { own }
    }

    fn complete(&mut self) {
        let id = self.task(State::Leased);
        let token = self.token(id);
        let token = (!self.chance.one_in(5)).then_some(token);
        let want = self.reference.complete(id, token);
        let live = self.live.decide_complete(id, token, None, self.now);
        self.agree("complete", Some(id), live, &want);
    }

    fn fail(&mut self) {
        let id = self.task(State::Leased);
        let token = self.token(id);
        let retry_in = *self.chance.pick(&[0, 1, 999, 1000, 30_001, u64::MAX]);
        let long = self.chance.one_in(10);
        let failure = Failure {
            error: if long {
                "long ä€".repeat(600)
            } else {
                "no".into()
            },
            retry_in: self.chance.one_in(2).then_some(Millis(retry_in)),
            dead: self.chance.one_in(6),
        };
        let random = self.chance.number();
        let want = self.reference.fail(id, token, &failure, random);
        let live = self.live.decide_fail(id, token, &failure, random, self.now);
        self.agree("fail", Some(id), live, &want);
    }

    fn release(&mut self) {
        let id = self.task(State::Leased);
        let token = self.token(id);
        let want = self.reference.release(id, token);
        let live = self.live.decide_release(id, token, self.now);
        self.agree("release", Some(id), live, &want);
    }

    fn extend(&mut self) {
        let id = self.task(State::Leased);
        let token = self.token(id);
        let length = Self::length(&mut self.chance);
        let want = self.reference.extend(id, token, length);
        let live = self.live.decide_extend(id, token, length, self.now);
        if let (Ok((_, live)), Ok(want)) = (&live, &want) {
            assert_eq!(live, want, "extended to");
        }
        self.agree("extend", Some(id), live.map(|(record, _)| record), &want);
    }

    fn cancel(&mut self) {
        let state = *self.chance.pick(&State::ALL);
        let id = self.task(state);
        self.cancel_one(id);
    }

    fn cancel_one(&mut self, id: TaskId) {
        let want = self.reference.cancel(id);
        let live = self.live.decide_cancel(id);
        self.agree("cancel", Some(id), live, &want);
    }

    fn reschedule(&mut self) {
        let state = *self
            .chance
            .pick(&[State::Ready, State::Scheduled, State::Dead]);
        let id = self.task(state);
        let queue = self.queue();
        let priority = Priority::new(self.chance.between(98, 102) as i32);
        let exectime = self.exectime();
        let change = Change {
            queue: self.chance.one_in(3).then_some(queue),
            priority: self.chance.one_in(2).then_some(priority),
            exectime: self.chance.one_in(2).then_some(exectime),
        };
        let want = self.reference.reschedule(id, change.clone());
        let live = self.live.decide_reschedule(id, change);
        let what = if matches!(live, Ok(Record::Moved { .. })) {
            "move"
        } else {
            "reschedule"
        };
        self.agree(what, Some(id), live, &want);
    }

    fn retry(&mut self) {
        let id = self.task(State::Dead);
        let want = self.reference.retry(id);
        let live = self.live.decide_retry(id);
        self.agree("retry", Some(id), live, &want);
    }

    fn switch(&mut self) {
        let queue = self.maybe_queue();
        let paused = self.chance.one_in(2);
        let on = self.chance.one_in(if paused { 4 } else { 12 });
        let want = self.reference.switch(queue.as_ref(), paused, on);
        let live = self.live.decide_switch(queue, paused, on);
        self.agree("switch", None, live, &want);
    }

    /// The clocks go their own ways: the boot clock forward, the wall clock anywhere near.
    fn pass_time(&mut self) {
        if self.chance.one_in(2) {
            // Coarse, so that a lease is sometimes asked about at the very tick of its end.
            self.now.tick.0 += self.chance.below(50) * 100_000_000;
        }
        self.now.wall.0 += match self.chance.below(10) {
            0 => self.chance.between(-60_000, 60_000),
            1..4 => 0,
            4 => self.chance.between(-1_500, 0),
            _ => self.chance.between(0, 4_000),
        };
        let most = *self.chance.pick(&[0, 1, 2, 5, usize::MAX]);
        self.advance(most);
    }

    fn advance(&mut self, most: usize) {
        let live = self.live.advance(self.now, most);
        let want = self.reference.advance(self.now, most);
        assert_eq!(live, want, "whether more are due");
        self.note("more", if live { "yes" } else { "no" });
    }

    fn expire(&mut self) {
        for _ in 0..self.chance.below(6) {
            let live = self.live.decide_expired(self.now);
            let want = self.reference.expire();
            assert_eq!(live.is_some(), want.is_some(), "expiry of {want:?}");
            let (Some(record), Some(id)) = (live, want) else {
                return;
            };
            assert!(matches!(record, Record::Expired { id: live, .. } if live == id));
            self.agree("expire", Some(id), Ok(record), &Ok(()));
        }
    }

    fn purge(&mut self) {
        let queue = self.maybe_queue();
        let state = *self.chance.pick(&State::ALL);
        let most = self.chance.below(8) as usize;
        let passed = self.chance.below(3) as usize;
        let live = self.live.some_in(queue.as_ref(), state, passed, most);
        if queue
            .as_ref()
            .is_some_and(|name| self.reference.known(name).is_none())
        {
            assert!(matches!(live, Err(Refusal::NoSuchQueue(_))));
            return;
        }
        let names = self.reference.queues.iter().map(|known| &known.name);
        let want: Vec<TaskId> = names
            .filter(|name| queue.as_ref().is_none_or(|queue| queue == *name))
            .flat_map(|name| self.reference.list(Some(name), Some(state)))
            .map(|task| task.id)
            .skip(passed)
            .take(most)
            .collect();
        assert_eq!(live.unwrap(), want, "some in {queue:?} {state}");
        for id in want {
            self.cancel_one(id);
        }
    }

    fn reboot(&mut self) {
        self.now.tick = Tick(self.chance.below(10) * 100_000_000);
        self.advance(0);
        self.reference.reboot();
        let tick = self.now.tick;
        self.agree("reboot", None, Ok(Record::Rebooted { tick }), &Ok(()));
    }

    /// A folder is there: it counts also where the limit is reached.
    fn open(&mut self) {
        let queue = QueueName::parse(self.chance.pick::<&str>(&QUEUES)).unwrap();
        self.reference.open(&queue);
        self.agree("open", None, Ok(Record::Opened { queue }), &Ok(()));
    }

    /// Nobody who must hear is left out, and nobody hears of a queue where nothing is.
    fn wake(&mut self) {
        let woken: BTreeSet<QueueName> = self.live.take_woken().into_iter().collect();
        let must = std::mem::take(&mut self.reference.woken);
        assert!(woken.is_superset(&must), "{woken:?} without {must:?}");
        assert_eq!(woken, must, "woken for nothing");
    }

    fn restart(&mut self, whole: bool) {
        compare::indexes_agree(&self.live);
        self.advance(usize::MAX);
        compare::same_after_restart(&self.live, &mut self.restarted, self.now);
        let mut fresh = compare::from_checkpoint(&self.live, &self.limits);
        compare::same_after_restart(&self.live, &mut fresh, self.now);
        self.restarted = fresh;
        if whole {
            let mut replayed = compare::from_journal(&self.records, &self.limits);
            compare::same_after_restart(&self.live, &mut replayed, self.now);
            assert_eq!(self.live.totals().1, replayed.totals().1, "counters");
        }
    }
}

/// Ids of callers lie before, between and behind those made here.
fn callers_id(number: u8) -> TaskId {
    let mut bytes = [number; 16];
    bytes[0] = number.wrapping_mul(37);
    bytes[6] = 0x40;
    bytes[8] = 0x80;
    TaskId::from_bytes(bytes)
}

#[test]
fn the_queue_does_what_a_naive_list_of_tasks_does() {
    let operations = setting("WORKQUEUE_OPERATIONS", OPERATIONS);
    let mut repeat = Repeat {
        seed: setting("WORKQUEUE_SEED", SEED),
        operation: 0,
    };
    let mut model = Model::new(repeat.seed);
    for operation in 0..operations {
        repeat.operation = operation;
        model.step();
        if operation % 100 == 99 {
            let mut chance = Chance(operation);
            compare::same_whole(&model.live, &model.reference, &mut chance);
        }
        if operation % 1_000 == 999 {
            model.restart(operation % 20_000 == 19_999);
        }
    }
    model.restart(true);
    if operations >= OPERATIONS {
        everything_came_to_pass(&model.seen);
    }
}
