//! Who waits for payloads, step by step: the test reads the tasks' files for an engine that keeps none longer than it must.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
};

use super::{super::*, ANSWER_BYTES};
use crate::{
    backend::{Answer, ExportPiece},
    store::{DiskError, Found, JournalStart, LoadError, Ran},
    task::{ExecTime, NewTask, PageQuery, Priority, WallMillis},
};

/// Between the last but one and the last try to read a file for a page.
const SPOOL_DELAY: Millis = Millis(1500);

fn id(number: usize) -> TaskId {
    TaskId::from_bytes((number as u128).to_be_bytes())
}

fn ids(numbers: impl IntoIterator<Item = usize>) -> Vec<TaskId> {
    numbers.into_iter().map(id).collect()
}

/// An engine whose start found the files of scheduled tasks: none at the head of its queue, where payloads are kept.
struct Bench {
    engine: Engine,
    now: Now,
    payload: Payload,
    /// Whose files can't be read, and how often.
    bad: HashMap<TaskId, u32>,
    /// Who is cancelled while files are read, one at each time.
    ending: VecDeque<TaskId>,
    /// The most bytes of payloads that were in memory while nothing but time was waited for.
    most_bytes: u64,
}

impl Bench {
    fn new(tasks: usize, payload_bytes: usize) -> Self {
        let settings = Settings {
            payload_cache: 0,
            spool_delay: SPOOL_DELAY,
            ..Settings::default()
        };
        let now = Now {
            wall: WallMillis(1_700_000_000_000),
            tick: Tick(50_000_000_000),
        };
        let mut loader = Loader::new(settings, Box::new(|| 1), now);
        for number in 1..=tasks {
            loader.take(Found::File(Location {
                area: Area::Tasks,
                queue: QueueName::default(),
                name: FileName {
                    exectime: ExecTime::new(4_000_000_000).unwrap(),
                    priority: Priority::default(),
                    id: id(number),
                },
            }));
        }
        Self {
            engine: loader.finish(&JournalStart::default()).0,
            now,
            payload: Payload::from_text(&"x".repeat(payload_bytes)),
            bad: HashMap::default(),
            ending: VecDeque::new(),
            most_bytes: 0,
        }
    }

    fn with_bad(mut self, number: usize, times: u32) -> Self {
        self.bad.insert(id(number), times);
        self
    }

    fn new_task(&self, id: TaskId) -> NewTask {
        NewTask {
            id: Some(id),
            exectime: ExecTime::new(4_000_000_000).unwrap(),
            ..NewTask::of(self.payload.clone())
        }
    }

    fn read(&mut self, id: TaskId) -> Result<NewTask, LoadError> {
        match self.bad.get_mut(&id) {
            Some(times) if *times > 0 => {
                *times -= 1;
                let cause = io::Error::other("a bad block");
                Err(LoadError::Disk(DiskError::new("read", "a file", cause)))
            }
            _ => Ok(self.new_task(id)),
        }
    }

    /// Somebody else asks for a task that can't be read: it rests before it is tried again, and who asks now waits for that.
    fn read_in_vain(&mut self, id: TaskId) {
        let asked = Input::Request(Ticket(2), Request::Task(id));
        self.engine.step(self.now, asked, &mut Vec::new());
        let read = vec![(id, self.read(id))];
        assert!(read[0].1.is_err());
        self.engine
            .step(self.now, Input::Loaded(read), &mut Vec::new());
    }

    fn ask(&mut self, request: Request) -> Answer<Response> {
        let mut inbox = VecDeque::from([Input::Request(Ticket(1), request), Input::Flush]);
        for _ in 0..1000 {
            let input = inbox.pop_front().unwrap_or_else(|| {
                self.most_bytes = self.most_bytes.max(self.engine.bodies.bytes());
                let wake = self.engine.next_wake(self.now);
                self.now.tick = wake.map_or(self.now.tick, |wake| wake.max(self.now.tick));
                Input::Flush
            });
            let mut out = Vec::new();
            self.engine.step(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Reply(Ticket(1), answer) => {
                        let waiting = !self.engine.parked.is_empty();
                        assert!(waiting || self.engine.bodies.holds_none());
                        return answer;
                    }
                    Output::Load(places) => {
                        let ends = self.ending.pop_front().map(Request::Cancel);
                        inbox.extend(ends.map(|ends| Input::Request(Ticket(2), ends)));
                        let read = places.into_iter().map(|(id, _)| (id, self.read(id)));
                        inbox.push_back(Input::Loaded(read.collect()));
                    }
                    Output::Files(work) => {
                        let made = work.into_iter().map(|work| (work.id, Ok(Ran::Whole)));
                        inbox.push_back(Input::FilesDone(made.collect()));
                    }
                    Output::Write(group) => inbox.push_back(Input::Written(group.seq)),
                    Output::MakeSegment(new) => {
                        inbox.push_back(Input::SegmentMade(new.number, new.bytes, None));
                    }
                    _ => {}
                }
            }
        }
        panic!("no answer");
    }

    /// All pages of so many tasks each.
    fn pages(&mut self, limit: usize) -> Vec<Vec<TaskId>> {
        let mut query = PageQuery {
            queue: None,
            state: None,
            id_prefix: None,
            limit,
            after: None,
        };
        let mut pages = Vec::new();
        loop {
            match self.ask(Request::Tasks(query.clone())) {
                Ok(Response::Page(page)) => {
                    pages.push(page.tasks.iter().map(|task| task.id).collect());
                    query.after = page.next;
                }
                other => panic!("{other:?}"),
            }
            if query.after.is_none() {
                return pages;
            }
        }
    }
}

#[test]
fn a_page_has_every_task_that_can_be_read_beside_one_that_can_not() {
    let mut bench = Bench::new(6, 10).with_bad(3, 3);
    assert_eq!(bench.pages(10), [ids([1, 2, 4, 5, 6])]);
    // What was only read to be shown is gone.
    assert_eq!(bench.engine.bodies.bytes(), 0);
}

#[test]
fn a_page_has_a_task_that_can_be_read_late_and_all_others() {
    let mut bench = Bench::new(6, 10).with_bad(6, 2);
    assert_eq!(bench.pages(10), [ids(1..=6)]);
}

#[test]
fn a_page_has_a_task_whose_file_is_made_while_another_is_read() {
    let mut bench = Bench::new(5, 10).with_bad(3, 3);
    let new = bench.new_task(id(6));
    assert!(bench.ask(Request::Submit(vec![new])).is_ok());
    assert_eq!(bench.pages(10), [ids([1, 2, 4, 5, 6])]);
    assert_eq!(bench.engine.bodies.bytes(), 0);
}

#[test]
fn a_page_has_all_tasks_that_it_found_although_some_of_them_end_while_they_are_read() {
    let mut bench = Bench::new(12, 10).with_bad(5, 2);
    bench.ending = ids(1..=4).into();
    let pages = bench.pages(6);
    assert_eq!(pages.concat(), ids(4..=12), "{pages:?}");
}

#[test]
fn a_page_that_waits_keeps_no_more_in_memory_than_one_answer_has() {
    const TASKS: usize = 64;
    let mut bench = Bench::new(TASKS, 1_000_000).with_bad(2, 4);
    bench.read_in_vain(id(2));
    let pages = bench.pages(1000);
    let mut shown = pages.concat();
    assert_eq!(pages[0], ids([1, 3, 4, 5]));
    shown.dedup();
    assert_eq!(shown, ids((1..=TASKS).filter(|number| *number != 2)));
    assert!(bench.most_bytes > 0, "nothing was waited for");
    assert!(
        bench.most_bytes <= ANSWER_BYTES,
        "{} bytes",
        bench.most_bytes
    );
    assert_eq!(bench.engine.bodies.bytes(), 0);
}

#[test]
fn tasks_that_are_submitted_again_are_told_of_although_one_of_them_is_read_late() {
    let mut bench = Bench::new(5, 10).with_bad(2, 2);
    let tasks = (1..=5).map(|number| bench.new_task(id(number))).collect();
    match bench.ask(Request::Submit(tasks)) {
        Ok(Response::Submitted(outcomes)) => {
            let told: BTreeSet<_> = outcomes.iter().map(|one| one.task.id).collect();
            assert_eq!(told, ids(1..=5).into_iter().collect());
            assert!(outcomes.iter().all(|one| !one.created));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_export_leaves_out_no_task_but_the_one_that_can_not_be_read() {
    let mut bench = Bench::new(6, 10).with_bad(1, 4);
    let number = match bench.ask(Request::ExportBegin) {
        Ok(Response::ExportBegun(head)) => head.number,
        other => panic!("{other:?}"),
    };
    bench.read_in_vain(id(1));
    let mut told = Vec::new();
    let left_out = loop {
        match bench.ask(Request::ExportNext(number)) {
            Ok(Response::Exported(ExportPiece::Tasks(tasks))) => {
                told.extend(tasks.iter().filter_map(|task| task.id));
            }
            Ok(Response::Exported(ExportPiece::End { left_out, .. })) => break left_out,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((told, left_out), (ids(2..=6), 1));
}
