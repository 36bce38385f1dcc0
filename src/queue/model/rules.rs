//! The rules of the queue, each as a sentence.

use super::super::{Grant, Limits, Queues, Verdict};
use crate::task::{
    ExecTime, Failure, LeaseKind, Millis, NewTask, Now, Payload, Priority, QueueName, Record,
    Refusal, State, TaskId, Tick, Token, WallMillis,
};

const WALL: i64 = 1_800_000_000;

fn at(wall_secs: i64, tick_secs: u64) -> Now {
    Now {
        wall: WallMillis(wall_secs * 1000),
        tick: Tick(tick_secs * 1_000_000_000),
    }
}

fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn task(number: u8) -> NewTask {
    NewTask {
        id: Some(id(number)),
        ..NewTask::of(Payload::from_text("x"))
    }
}

fn timed(number: u8, priority: i32, exectime: i64) -> NewTask {
    NewTask {
        priority: Priority::new(priority),
        exectime: ExecTime::new(exectime).unwrap(),
        ..task(number)
    }
}

fn keyed(number: u8) -> NewTask {
    let mut task = task(number);
    task.options.unique_key = Some("k".into());
    task
}

fn named(number: u8, queue: &str) -> NewTask {
    NewTask {
        queue: QueueName::parse(queue).unwrap(),
        ..task(number)
    }
}

/// The state machine with a clock beside it.
struct Bench {
    queues: Queues,
    now: Now,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let mut queues = Queues::new(limits);
        let now = at(WALL, 100);
        queues.advance(now, usize::MAX);
        Self { queues, now }
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn time(&mut self, now: Now) {
        self.now = now;
        self.queues.advance(now, usize::MAX);
    }

    fn submit(&mut self, tasks: Vec<NewTask>) -> Result<Vec<Verdict>, Refusal> {
        let mut no_id = || panic!("each task here has an id");
        let same = |_| Some(Payload::from_text("x"));
        let verdicts = self.queues.decide_submit(tasks, None, &mut no_id, &same)?;
        for verdict in &verdicts {
            if let Verdict::New(task) = verdict {
                self.queues.apply(&Record::Submitted(task.clone()));
            }
        }
        Ok(verdicts)
    }

    fn next(&mut self) -> Option<TaskId> {
        self.queues.next_ready(&[QueueName::default()], self.now)
    }

    fn claim(&mut self, id: TaskId, token: u128) -> Result<(), Refusal> {
        let grant = Grant {
            token: Token(token),
            kind: LeaseKind::V1,
            worker: None,
            length: None,
        };
        let record = self.queues.decide_claim(id, grant, self.now)?;
        self.queues.apply(&record);
        Ok(())
    }

    fn complete(&mut self, id: TaskId, token: u128) -> Result<(), Refusal> {
        let token = Some(Token(token));
        let record = self.queues.decide_complete(id, token, None, self.now)?;
        self.queues.apply(&record);
        Ok(())
    }

    fn kill(&mut self, id: TaskId) {
        self.claim(id, 9).unwrap();
        let failure = Failure {
            dead: true,
            ..Failure::default()
        };
        let record = self.queues.decide_fail(id, Token(9), &failure, 0, self.now);
        self.queues.apply(&record.unwrap());
    }

    fn state(&self, id: TaskId) -> State {
        self.queues.get(id).unwrap().state
    }

    fn pause(&mut self, on: bool) {
        let queue = Some(QueueName::default());
        let record = self.queues.decide_switch(queue, true, on).unwrap();
        self.queues.apply(&record);
    }
}

#[test]
fn higher_priority_comes_first_then_earlier_exectime_then_submission() {
    let mut bench = Bench::new();
    let tasks = [
        (4, 100, 50),
        (3, 100, 50),
        (1, 99, 0),
        (2, 100, 60),
        (5, 101, 70),
    ];
    for (number, priority, exectime) in tasks {
        bench
            .submit(vec![timed(number, priority, exectime)])
            .unwrap();
    }
    let mut order = Vec::new();
    while let Some(id) = bench.next() {
        bench.claim(id, 1).unwrap();
        order.push(id);
    }
    assert_eq!(order, [5, 3, 4, 2, 1].map(id));
}

#[test]
fn no_task_is_handed_out_before_its_exectime() {
    let mut bench = Bench::new();
    bench.submit(vec![timed(1, 100, WALL + 1)]).unwrap();
    assert_eq!((bench.next(), bench.state(id(1))), (None, State::Scheduled));
    assert_eq!(bench.queues.next_due(), ExecTime::new(WALL + 1).ok());
    bench.now.wall.0 += 999;
    bench.time(bench.now);
    assert_eq!(bench.next(), None);
    bench.time(at(WALL + 1, 100));
    assert_eq!(bench.next(), Some(id(1)));
}

#[test]
fn a_task_steps_back_when_the_wall_clock_goes_back() {
    let mut bench = Bench::new();
    bench
        .submit(vec![timed(1, 200, WALL - 5), timed(2, 100, WALL - 50)])
        .unwrap();
    bench.time(at(WALL - 10, 101));
    assert_eq!(bench.next(), Some(id(2)));
    assert_eq!(bench.state(id(1)), State::Scheduled);
    bench.time(at(WALL - 5, 102));
    assert_eq!(bench.next(), Some(id(1)));
}

/// Also not when it was ready before the wall clock went back and nobody has looked since.
#[test]
fn a_claim_of_a_task_that_is_not_due_any_more_is_refused() {
    let mut bench = Bench::new();
    bench.submit(vec![timed(1, 100, WALL - 5)]).unwrap();
    bench.time(at(WALL - 10, 101));
    let refused = bench.claim(id(1), 1);
    assert!(
        matches!(
            refused,
            Err(Refusal::WrongState {
                state: State::Scheduled,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_wall_clock_that_jumps_ends_no_lease() {
    let mut bench = Bench::new();
    bench.submit(vec![task(1)]).unwrap();
    bench.claim(id(1), 1).unwrap();
    bench.time(at(WALL + 1_000_000, 159));
    assert_eq!(bench.queues.decide_expired(bench.now), None);
    bench.complete(id(1), 1).unwrap();
}

#[test]
fn a_stale_token_is_refused_after_expiry() {
    let mut bench = Bench::new();
    bench.submit(vec![task(1)]).unwrap();
    bench.claim(id(1), 1).unwrap();
    bench.time(at(WALL, 160));
    assert_eq!(bench.complete(id(1), 1), Err(Refusal::StaleToken(id(1))));
    let expired = bench.queues.decide_expired(bench.now).unwrap();
    bench.queues.apply(&expired);
    assert_eq!(bench.next(), Some(id(1)));
    bench.claim(id(1), 2).unwrap();
    assert_eq!(bench.complete(id(1), 1), Err(Refusal::StaleToken(id(1))));
    bench.complete(id(1), 2).unwrap();
    assert!(bench.queues.is_empty());
}

#[test]
fn a_unique_key_is_free_again_when_its_task_has_ended() {
    let mut bench = Bench::new();
    bench.submit(vec![keyed(1)]).unwrap();
    assert_eq!(
        bench.submit(vec![keyed(2)]),
        Ok(vec![Verdict::Existing(id(1))])
    );
    bench.claim(id(1), 1).unwrap();
    assert_eq!(
        bench.submit(vec![keyed(2)]),
        Ok(vec![Verdict::Existing(id(1))])
    );
    bench.complete(id(1), 1).unwrap();
    assert!(matches!(
        bench.submit(vec![keyed(2)]).unwrap()[..],
        [Verdict::New(_)]
    ));
}

#[test]
fn a_dead_task_holds_no_unique_key_and_is_not_retried_while_another_does() {
    let mut bench = Bench::new();
    bench.submit(vec![keyed(1)]).unwrap();
    bench.kill(id(1));
    bench.submit(vec![keyed(2)]).unwrap();
    let refused = bench.queues.decide_retry(id(1));
    assert_eq!(refused, Err(Refusal::UniqueKeyInUse(id(2))));
    bench.claim(id(2), 1).unwrap();
    bench.complete(id(2), 1).unwrap();
    let retried = bench.queues.decide_retry(id(1)).unwrap();
    bench.queues.apply(&retried);
    assert_eq!(
        bench.submit(vec![keyed(3)]),
        Ok(vec![Verdict::Existing(id(1))])
    );
}

#[test]
fn an_id_twice_is_the_first_task_or_a_refusal() {
    let mut bench = Bench::new();
    bench.submit(vec![task(1)]).unwrap();
    let later = timed(1, 100, WALL + 9);
    assert_eq!(
        bench.submit(vec![later]),
        Ok(vec![Verdict::Existing(id(1))])
    );
    let other = timed(1, 101, 0);
    assert_eq!(bench.submit(vec![other]), Err(Refusal::IdInUse(id(1))));
    let twice = bench.submit(vec![task(2), task(2)]).unwrap();
    assert!(matches!(twice[..], [Verdict::New(_), Verdict::Existing(_)]));
}

#[test]
fn an_array_is_taken_whole_or_not_at_all() {
    let mut bench = Bench::new();
    let tasks = vec![named(1, "a"), keyed(2), timed(1, 7, 0)];
    assert_eq!(bench.submit(tasks), Err(Refusal::IdInUse(id(1))));
    assert_eq!((bench.queues.len(), bench.queues.queue_count()), (0, 1));
}

#[test]
fn no_queue_is_made_beyond_the_limit() {
    let mut bench = Bench::with(Limits {
        max_queues: 2,
        ..Limits::default()
    });
    let refused = Err(Refusal::TooMany {
        what: "queues",
        setting: "max_queues",
        limit: 2,
    });
    assert_eq!(bench.submit(vec![named(1, "a"), named(2, "b")]), refused);
    bench.submit(vec![named(1, "a"), named(2, "a")]).unwrap();
    assert_eq!(bench.submit(vec![named(3, "b")]), refused);
}

#[test]
fn a_queue_that_has_nothing_gives_its_place_to_another() {
    let mut bench = Bench::with(Limits {
        max_queues: 4,
        ..Limits::default()
    });
    let names = |bench: &Bench| -> Vec<String> {
        let names = bench.queues.queue_names();
        names.map(ToString::to_string).collect()
    };
    for (number, queue) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.submit(vec![named(number, queue)]).unwrap();
    }
    assert!(bench.submit(vec![named(4, "d")]).is_err());
    for number in [1, 2] {
        bench.time(at(WALL, 100 + u64::from(number)));
        bench.claim(id(number), 1).unwrap();
        bench.complete(id(number), 1).unwrap();
    }
    // Somebody asks for tasks of the one that has been empty longest.
    bench.time(at(WALL, 110));
    let a = QueueName::parse("a").unwrap();
    assert_eq!(bench.queues.next_ready(&[a], bench.now), None);
    bench.submit(vec![named(4, "d")]).unwrap();
    assert_eq!(names(&bench), ["a", "c", "d", "default"]);
    let both = vec![named(5, "e"), named(6, "f")];
    assert!(bench.submit(both).is_err(), "only one has nothing");
    bench.submit(vec![named(5, "e"), named(6, "e")]).unwrap();
    assert_eq!(names(&bench), ["c", "d", "default", "e"]);
    let counts = bench.queues.totals().1;
    assert_eq!((counts.submitted, counts.completed), (6, 2));
}

#[test]
fn a_queue_with_a_dead_task_or_a_switch_keeps_its_place() {
    let mut bench = Bench::with(Limits {
        max_queues: 3,
        ..Limits::default()
    });
    bench.submit(vec![named(1, "a"), named(2, "b")]).unwrap();
    bench.kill(id(1));
    let b = QueueName::parse("b").unwrap();
    let paused = bench.queues.decide_switch(Some(b.clone()), true, true);
    bench.queues.apply(&paused.unwrap());
    let cancelled = bench.queues.decide_cancel(id(2)).unwrap();
    bench.queues.apply(&cancelled);
    assert!(bench.submit(vec![named(3, "c")]).is_err());
    let resumed = bench.queues.decide_switch(Some(b), true, false);
    bench.queues.apply(&resumed.unwrap());
    bench.submit(vec![named(3, "c")]).unwrap();
    bench.submit(vec![named(4, "a")]).unwrap();
}

#[test]
fn no_task_is_taken_beyond_the_limits_of_all_and_of_a_queue() {
    let mut bench = Bench::with(Limits {
        max_tasks: 4,
        max_queue_tasks: 2,
        ..Limits::default()
    });
    let long = Err(Refusal::QueueTooLong {
        queue: QueueName::parse("a").unwrap(),
        limit: 2,
    });
    let three = vec![named(1, "a"), named(2, "a"), named(3, "a")];
    assert_eq!(bench.submit(three), long, "all or none");
    assert_eq!(bench.queues.len(), 0);
    bench
        .submit(vec![named(1, "a"), named(2, "a"), named(3, "b")])
        .unwrap();
    assert_eq!(bench.submit(vec![named(4, "a")]), long);
    bench.submit(vec![named(1, "a")]).unwrap();
    bench.submit(vec![named(4, "b")]).unwrap();
    let many = Err(Refusal::TooMany {
        what: "tasks",
        setting: "max_tasks",
        limit: 4,
    });
    assert_eq!(bench.submit(vec![named(5, "c")]), many);
    bench.queues.apply(&Record::Cancelled {
        id: id(1),
        gone: false,
    });
    bench.submit(vec![named(5, "a")]).unwrap();
}

/// Folders may be more than the limit says, and the limit may have been lowered.
#[test]
fn more_queues_than_the_limit_go_on_taking_tasks() {
    let mut bench = Bench::with(Limits {
        max_queues: 1,
        ..Limits::default()
    });
    let queue = QueueName::parse("a").unwrap();
    bench.queues.apply(&Record::Opened { queue });
    bench.submit(vec![task(1), named(2, "a")]).unwrap();
    assert!(bench.submit(vec![named(3, "b")]).is_err());
}

#[test]
fn a_paused_queue_hands_out_nothing_and_wakes_on_resume() {
    let mut bench = Bench::new();
    bench.submit(vec![task(1)]).unwrap();
    bench.pause(true);
    assert_eq!(bench.next(), None);
    bench.queues.take_woken();
    bench.pause(false);
    assert_eq!(bench.queues.take_woken(), [QueueName::default()]);
    assert_eq!(bench.next(), Some(id(1)));
}

#[test]
fn a_queue_wakes_whenever_it_gains_a_ready_task() {
    let mut bench = Bench::new();
    let default = [QueueName::default()];
    bench.submit(vec![timed(1, 100, WALL + 5)]).unwrap();
    assert_eq!(bench.queues.take_woken(), []);
    bench.time(at(WALL + 5, 105));
    assert_eq!(bench.queues.take_woken(), default);
    bench.claim(id(1), 1).unwrap();
    assert_eq!(bench.queues.take_woken(), []);
    let released = bench.queues.decide_release(id(1), Token(1), bench.now);
    bench.queues.apply(&released.unwrap());
    assert_eq!(bench.queues.take_woken(), default);
    assert_eq!(bench.queues.get(id(1)).unwrap().attempts, 0);
}

#[test]
fn a_reboot_gives_each_lease_its_full_length_again() {
    let mut bench = Bench::new();
    bench.submit(vec![task(1)]).unwrap();
    bench.claim(id(1), 1).unwrap();
    bench.time(at(WALL, 3));
    bench.queues.apply(&Record::Rebooted {
        tick: bench.now.tick,
    });
    let full = bench.now.tick.plus(Millis::from_secs(60));
    assert_eq!(bench.queues.next_expiry(), Some(full));
}
