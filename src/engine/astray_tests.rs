//! Files that come back with their directory, step by step: the test is the disk and the watcher.

use super::{super::*, *};
use crate::{
    store::{Digest, FileOp, Found, JournalStart, LoadError, Ran, Sighting},
    task::{
        ClaimRequest, ExecTime, FileName, LeaseKind, Left, NewTask, Options, Priority, Restored,
        State, Submitted, decode_records,
    },
};

const WALL: WallMillis = WallMillis(1_700_000_000_000);

fn id(number: u128) -> TaskId {
    TaskId::from_bytes(number.to_be_bytes())
}

/// A place of a task's file, of which it has one for each priority.
fn place(number: u128, priority: i32) -> Location {
    Location {
        area: Area::Tasks,
        queue: QueueName::default(),
        name: FileName {
            exectime: ExecTime::ASAP,
            priority: Priority::new(priority),
            id: id(number),
        },
    }
}

fn source(place: &Location) -> Source {
    Source {
        path: place.path(),
        inode: 1,
        modified: 7,
        size: 3,
    }
}

/// A task that only a checkpoint knows.
fn restored(place: &Location) -> Found {
    let restored = Restored {
        id: place.name.id,
        queue: place.queue.clone(),
        priority: place.name.priority,
        exectime: place.name.exectime,
        options: Options::default(),
        attempts: 0,
        state: State::Ready,
        lease: None,
        last_error: None,
    };
    Found::Checkpoint(Record::Restored(Box::new(restored)))
}

fn left(number: u128, left: Left) -> Found {
    Found::Checkpoint(Record::LeftBehind {
        id: id(number),
        at: WALL,
        left,
    })
}

fn moved_to(place: &Location) -> Record {
    Record::Rescheduled {
        id: place.name.id,
        priority: place.name.priority,
        exectime: place.name.exectime,
    }
}

struct Bench {
    engine: Engine,
    now: Now,
    /// Changes of files that the test has not made yet.
    changes: Vec<FileWork>,
    /// Files that it has not read yet.
    loads: Vec<(TaskId, Location)>,
    checkpoints: Vec<Vec<Record>>,
    rejected: Vec<BadFile>,
    /// The numbers of questions to the watcher that it has not answered yet.
    questions: Vec<u64>,
}

impl Bench {
    fn new(found: impl IntoIterator<Item = Found>) -> Self {
        let settings = Settings {
            spool_delay: Millis(0),
            ..Settings::default()
        };
        let now = Now {
            wall: WALL,
            tick: Tick(50_000_000_000),
        };
        let start = JournalStart {
            next: Seq(2),
            next_segment: 1,
            ..JournalStart::default()
        };
        let mut loader = Loader::new(settings, Box::new(|| 1), now);
        for found in found {
            loader.take(found);
        }
        let mut bench = Self {
            engine: loader.finish(&start).0,
            now,
            changes: Vec::new(),
            loads: Vec::new(),
            checkpoints: Vec::new(),
            rejected: Vec::new(),
            questions: Vec::new(),
        };
        bench.step(Input::Flush);
        bench
    }

    /// The watcher does not find this file, because it was asked or without that.
    fn is_gone(&mut self, place: &Location, asked: Option<u64>) {
        let places = vec![place.clone()];
        self.step(Input::Sighting(Sighting::Gone { places, asked }));
    }

    /// It was asked for this file last, and does not find it.
    fn answer_gone(&mut self, place: &Location) {
        let asked = self.questions.pop();
        assert!(asked.is_some(), "it is asked");
        self.is_gone(place, asked);
    }

    /// One step, and all that the journal's writer has to do for it.
    fn step(&mut self, input: Input) {
        let mut inbox = VecDeque::from([input, Input::Flush]);
        while let Some(input) = inbox.pop_front() {
            let mut out = Vec::new();
            self.engine.step(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Load(loads) => self.loads.extend(loads),
                    Output::Files(work) => self.changes.extend(work),
                    Output::Checkpoint(checkpoint) => {
                        self.checkpoints
                            .push(decode_records(&checkpoint.records.concat()).unwrap());
                        inbox.push_back(Input::CheckpointDone(Ok(())));
                    }
                    Output::Reject(bad) => self.rejected.push(bad),
                    Output::Confirm(number, _) => self.questions.push(number),
                    Output::Write(group) => inbox.push_back(Input::Written(group.seq)),
                    Output::MakeSegment(new) => {
                        inbox.push_back(Input::SegmentMade(new.number, new.bytes, None));
                    }
                    _ => {}
                }
            }
            if inbox.is_empty() && self.engine.ledger.pending_seq().is_some() {
                inbox.push_back(Input::Flush);
            }
        }
    }

    fn ask(&mut self, request: Request) {
        self.step(Input::Request(Ticket(1), request));
    }

    /// The next of what time brings.
    fn wait(&mut self) {
        let wake = self.engine.next_wake(self.now).unwrap();
        self.now.tick = wake.max(self.now.tick);
        self.step(Input::Flush);
    }

    fn submit(&mut self) {
        let task = NewTask::of(Payload::from_text("another"));
        self.ask(Request::Submit(vec![task]));
    }

    fn claim(&mut self) {
        self.ask(Request::Claim(ClaimRequest {
            queues: vec![QueueName::default()],
            max: 1,
            wait: Millis(0),
            lease: None,
            kind: LeaseKind::Legacy,
            worker: None,
            complete: Vec::new(),
        }));
    }

    /// The watcher sees a file with a task's id.
    fn drop_file(&mut self, place: &Location) {
        self.drop_source(place, source(place));
    }

    fn drop_source(&mut self, place: &Location, source: Source) {
        self.step(Input::Sighting(Sighting::Drop {
            source,
            born: Some(5),
            content: Digest::of(b"own"),
            task: task_in(place),
            own: None,
        }));
    }

    /// Reads the one file that is there; gives how many were looked for.
    fn read_all(&mut self, there: &Location) -> usize {
        let loads = std::mem::take(&mut self.loads);
        let count = loads.len();
        let read = loads.into_iter().map(|(id, place)| {
            let read = Some(task_in(&place)).filter(|_| place == *there);
            (id, read.ok_or(LoadError::Missing))
        });
        let read = Input::Loaded(read.collect());
        self.step(read);
        count
    }

    /// The same, once there are some.
    fn changed(&mut self) -> Vec<FileOp> {
        while self.changes.is_empty() {
            self.wait();
        }
        self.change_all()
    }

    /// Makes all changes; gives what they were.
    fn change_all(&mut self) -> Vec<FileOp> {
        let changes = std::mem::take(&mut self.changes);
        let made = changes.iter().map(|work| (work.id, Ok(Ran::Whole)));
        self.step(Input::FilesDone(made.collect()));
        changes.into_iter().flat_map(|work| work.ops).collect()
    }
}

fn task_in(place: &Location) -> NewTask {
    NewTask {
        id: Some(place.name.id),
        priority: place.name.priority,
        ..NewTask::of(Payload::from_text("own"))
    }
}

#[test]
fn a_checkpoint_tells_of_a_file_that_came_back() {
    let mut bench = Bench::new([left(1, Left::Ended)]);
    let tells = |records: &Vec<Record>| {
        let of_it =
            |record: &Record| matches!(record, Record::LeftBehind { id, .. } if *id == self::id(1));
        records.iter().any(of_it)
    };
    bench.submit();
    // It waits for the file of that task, and not for what comes now.
    bench.ask(Request::Checkpoint);
    bench.submit();
    bench.drop_file(&place(1, 3));
    let removal = bench.changes.extract_if(.., |work| work.id == id(1));
    let removal = removal.last().expect("it is removed");
    assert_eq!(removal.ops, [FileOp::RemoveSource(source(&place(1, 3)))]);
    assert!(bench.checkpoints.is_empty());
    assert_eq!(bench.change_all().len(), 2);
    let checkpoint = bench.checkpoints.pop().expect("a checkpoint");
    assert!(tells(&checkpoint), "{checkpoint:?}");
    bench.step(Input::FilesDone(vec![(id(1), Ok(Ran::Whole))]));
    bench.ask(Request::Checkpoint);
    let checkpoint = bench.checkpoints.pop().expect("a checkpoint");
    assert!(tells(&checkpoint), "one of several: {checkpoint:?}");
}

#[test]
fn a_file_that_came_back_and_went_again_is_known_still() {
    let mut bench = Bench::new([left(1, Left::Ended)]);
    bench.drop_file(&place(1, 3));
    bench.changes.clear();
    bench.step(Input::FilesDone(vec![(id(1), Ok(Ran::Astray))]));
    bench.drop_file(&place(1, 3));
    assert_eq!(
        bench.change_all(),
        [FileOp::RemoveSource(source(&place(1, 3)))]
    );
    assert!(bench.engine.queue.get(id(1)).is_none());
}

#[test]
fn the_file_of_a_task_that_waits_for_its_directory_is_known_by_its_former_name() {
    let (former, place) = (place(1, 3), place(1, 4));
    let mut bench = Bench::new([restored(&place), left(1, Left::Only)]);
    bench.ask(Request::Task(id(1)));
    assert_eq!(bench.read_all(&former), 1);
    bench.drop_file(&former);
    while bench.changes.is_empty() {
        if bench.read_all(&former) == 0 {
            bench.wait();
        }
    }
    match &*bench.change_all() {
        [FileOp::Put { old, at, .. }] => assert_eq!((old, at), (&Some(former), &place)),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.engine.astray.behind.lost(), 0);
}

/// A look at the disk may be older than a file that was written since, as when the task directory was removed and made again.
#[test]
fn a_file_written_since_it_was_looked_for_is_not_gone() {
    let mut bench = Bench::new([]);
    let own = place(1, 3);
    bench.ask(Request::Submit(vec![task_in(&own)]));
    bench.changed();
    // The watcher is asked twice, and finds nothing.
    bench.is_gone(&own, None);
    bench.is_gone(&own, None);
    let (first, second) = (bench.questions.remove(0), bench.questions.remove(0));
    // Before that is told, another directory is found in its place, and the file is written into that.
    bench.step(Input::Sighting(Sighting::Scanned {
        queue: QueueName::default(),
        ids: HashSet::default(),
        anew: true,
        mark: None,
    }));
    let written = bench.changed();
    assert!(matches!(&*written, [FileOp::Put { at, .. }] if *at == own));
    for stale in [first, second] {
        bench.is_gone(&own, Some(stale));
        assert!(bench.engine.queue.get(id(1)).is_some());
    }
    // It is there: nobody answers. Removed then, it is gone.
    bench.is_gone(&own, None);
    assert!(bench.engine.queue.get(id(1)).is_some());
    bench.answer_gone(&own);
    assert!(bench.engine.queue.get(id(1)).is_none());
}

/// The daemon writes the file of a task that a worker holds once more; the moved one may turn up under any name that the task had.
#[test]
fn a_file_that_was_moved_from_under_a_worker_makes_no_task_when_that_has_done_it() {
    for is_moved in [true, false] {
        let mut bench = Bench::new([]);
        let (own, other) = (place(1, 3), place(1, 4));
        bench.ask(Request::Submit(vec![task_in(&own)]));
        assert_eq!(bench.changed().len(), 1);
        bench.claim();
        if is_moved {
            bench.is_gone(&own, None);
            bench.answer_gone(&own);
            assert_eq!(bench.changed().len(), 1, "it is written again");
        }
        bench.ask(Request::Complete(id(1), None, None));
        assert!(bench.engine.queue.get(id(1)).is_none());
        assert_eq!(
            bench.changed(),
            [FileOp::Remove {
                at: own,
                strange: None
            }]
        );
        bench.drop_file(&other);
        assert_eq!(bench.engine.queue.get(id(1)).is_none(), is_moved);
        assert_eq!(bench.rejected.len(), usize::from(is_moved));
    }
}

/// What comes to the place of a done task's file may be another one: then it stays where it was written since, and makes no task, as
/// the clock says only roughly which it is.
#[test]
fn a_file_that_takes_the_place_of_a_done_tasks_file_is_rejected() {
    let mut bench = Bench::new([]);
    let own = place(1, 3);
    bench.ask(Request::Submit(vec![task_in(&own)]));
    bench.changed();
    bench.claim();
    bench.ask(Request::Complete(id(1), None, None));
    bench.step(Input::Sighting(Sighting::Seen(vec![own.clone()])));
    while bench.changes.is_empty() {
        bench.wait();
    }
    let changes = std::mem::take(&mut bench.changes);
    let [
        FileOp::Remove {
            at,
            strange: Some(strange),
        },
    ] = &*changes[0].ops
    else {
        panic!("{changes:?}");
    };
    assert_eq!(*at, own);
    assert!(strange.contains(&bench.now.wall) || strange.end == bench.now.wall);
    bench.step(Input::FilesDone(vec![(id(1), Ok(Ran::Strange))]));
    let now = i128::from(bench.now.wall.0) * 1_000_000;
    bench.drop_source(
        &own,
        Source {
            modified: now,
            ..source(&own)
        },
    );
    assert!(bench.engine.queue.get(id(1)).is_none());
    assert_eq!(bench.rejected.len(), 1);
}

/// The same where the file was just being written when the task was completed: it is younger than that.
#[test]
fn a_file_that_was_written_after_its_task_had_ended_and_moved_at_once_makes_no_task() {
    let mut bench = Bench::new([]);
    let (own, other) = (place(1, 3), place(1, 4));
    bench.ask(Request::Submit(vec![task_in(&own)]));
    bench.changed();
    bench.claim();
    bench.is_gone(&own, None);
    bench.answer_gone(&own);
    while bench.changes.is_empty() {
        bench.wait();
    }
    bench.ask(Request::Complete(id(1), None, None));
    bench.now.wall.0 += 10;
    assert!(matches!(&*bench.change_all(), [FileOp::Put { .. }]));
    assert_eq!(
        bench.changed(),
        [FileOp::Remove {
            at: own,
            strange: None
        }]
    );
    bench.drop_source(
        &other,
        Source {
            modified: i128::from(WALL.0 + 5) * 1_000_000,
            ..source(&other)
        },
    );
    assert!(bench.engine.queue.get(id(1)).is_none());
    assert_eq!(bench.rejected.len(), 1);
}

/// A former life ended before it looked for the file of a task that was done, or after: what comes back later is that file, also where it
/// was on its way to the disk when the task ended; and one that was written later is another task.
#[test]
fn a_file_that_somebody_moved_before_a_restart_makes_no_task_after_it() {
    let long = MISSED.0 as i64;
    let cases = [
        (0, 0, true),
        (0, 5, false),
        (60_000, -55_000, true),
        (60_000, -45_000, false),
        (5_000, 5, false),
        (long + 10_000, -long, false),
    ];
    for (ago, written, is_own) in cases {
        let own = place(1, 3);
        let completed = Record::Completed {
            id: id(1),
            result: None,
            at: WallMillis(WALL.0 - ago),
        };
        let mut bench = Bench::new([Found::Tail(Seq(1), completed)]);
        assert!(bench.engine.queue.get(id(1)).is_none());
        let renamed = Source {
            path: "tasks/other/renamed.json".into(),
            modified: i128::from(WALL.0 + written) * 1_000_000,
            ..source(&own)
        };
        bench.drop_source(&own, renamed);
        assert_eq!(bench.engine.queue.get(id(1)).is_none(), is_own);
        assert_eq!(bench.rejected.len(), usize::from(is_own));
    }
}

/// The same where the new life looks for the file to remove it: that it finds none then says nothing of what was written meanwhile.
#[test]
fn a_file_that_is_looked_for_in_vain_after_a_start_was_written_before_the_end() {
    let completed = Record::Completed {
        id: id(1),
        result: None,
        at: WALL,
    };
    for (written, is_own) in [(0, true), (5, false)] {
        let own = place(1, 3);
        let mut bench = Bench::new([restored(&own), Found::Tail(Seq(1), completed.clone())]);
        bench.now.wall.0 += 60_000;
        while bench.changes.is_empty() {
            bench.wait();
        }
        let missing: Vec<FileWork> = bench.changes.drain(..).collect();
        let missing = missing.iter().map(|work| (work.id, Ok(Ran::Astray)));
        bench.step(Input::FilesDone(missing.collect()));
        let renamed = Source {
            modified: i128::from(WALL.0 + written) * 1_000_000,
            ..source(&place(1, 9))
        };
        bench.drop_source(&own, renamed);
        assert_eq!(bench.engine.queue.get(id(1)).is_none(), is_own);
        assert_eq!(bench.rejected.len(), usize::from(is_own));
    }
}

/// What a start writes once more, because nobody can say whether it is whole, was moved before that.
#[test]
fn a_file_that_was_moved_before_a_start_wrote_it_again_makes_no_task_when_its_own_is_done() {
    let (own, other) = (place(1, 3), place(1, 4));
    let submitted = Submitted {
        id: id(1),
        made_here: true,
        queue: own.queue.clone(),
        priority: own.name.priority,
        exectime: own.name.exectime,
        options: Options::default(),
        payload: task_in(&own).payload,
        source: None,
        past: None,
    };
    let mut bench = Bench::new([
        Found::File(own.clone()),
        Found::Tail(Seq(1), Record::Submitted(submitted.into())),
    ]);
    bench.claim();
    // The watcher's word is of no use while the change waits.
    bench.is_gone(&own, None);
    while bench.changes.is_empty() {
        bench.wait();
    }
    let again =
        |ops: &[FileOp]| matches!(ops, [FileOp::Put { old: Some(old), at, .. }] if old == at);
    let changes: Vec<FileWork> = bench.changes.drain(..).collect();
    assert!(changes.iter().all(|work| again(&work.ops)));
    let moved = changes.iter().map(|work| (work.id, Ok(Ran::Astray)));
    bench.step(Input::FilesDone(moved.collect()));
    bench.ask(Request::Complete(id(1), None, None));
    assert_eq!(
        bench.changed(),
        [FileOp::Remove {
            at: own,
            strange: None
        }]
    );
    bench.drop_file(&other);
    assert!(bench.engine.queue.get(id(1)).is_none());
    assert_eq!(bench.rejected.len(), 1);
}

#[test]
fn a_file_that_a_former_life_may_have_moved_unseen_is_found_where_it_is() {
    let (former, place) = (place(1, 3), place(1, 4));
    for there in [&place, &former] {
        let mut bench = Bench::new([
            restored(&former),
            left(1, Left::Only),
            Found::Tail(Seq(1), moved_to(&place)),
        ]);
        // While the directory is away, nothing is given up.
        let nowhere = self::place(2, 0);
        let mut looks = 0;
        while looks < 5 {
            looks += bench.read_all(&nowhere);
            assert_eq!(bench.change_all(), []);
            bench.wait();
        }
        while bench.changes.is_empty() {
            looks += bench.read_all(there);
            assert!(looks < 10);
            bench.wait();
        }
        match &*bench.change_all() {
            [FileOp::Remove { at: other, .. }] => assert_eq!((there, other), (&place, &former)),
            [FileOp::Put { old, at, .. }] => {
                assert_eq!((there, old.as_ref(), at), (&former, Some(there), &place));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.engine.files.len(), 0);
        assert!(bench.engine.bodies.get(id(1)).is_some());
    }
}

#[test]
fn what_was_done_to_a_task_is_true_again_with_its_file_and_not_of_one_that_is_submitted_anew() {
    let (former, place) = (place(1, 3), place(1, 4));
    for comes_back in [true, false] {
        let mut bench = Bench::new([Found::Checkpoint(moved_to(&place))]);
        bench.submit();
        bench.ask(Request::Checkpoint);
        bench.change_all();
        let kept = bench.checkpoints.pop().expect("a checkpoint");
        assert!(kept.contains(&moved_to(&place)), "{kept:?}");
        if comes_back {
            bench.drop_file(&former);
        } else {
            let task = NewTask {
                id: Some(id(1)),
                ..task_in(&former)
            };
            bench.ask(Request::Submit(vec![task]));
        }
        let expected = if comes_back { &place } else { &former };
        assert_eq!(bench.engine.queue.location(id(1)).as_ref(), Some(expected));
        bench.change_all();
        bench.ask(Request::Checkpoint);
        bench.change_all();
        let kept = bench.checkpoints.pop().expect("a checkpoint");
        assert!(!kept.contains(&moved_to(&place)), "{kept:?}");
    }
}

#[test]
fn the_tail_tells_of_unknown_tasks_in_vain_where_the_directory_is_the_one_that_it_was() {
    let mut bench = Bench::new([Found::Tail(Seq(1), moved_to(&place(1, 4)))]);
    bench.drop_file(&place(1, 3));
    let at = bench.engine.queue.location(id(1));
    assert_eq!(at, Some(place(1, 3)), "it is another one, put there since");
}
