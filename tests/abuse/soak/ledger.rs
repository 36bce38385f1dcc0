//! What was acknowledged in a soak, and what became of it. Nothing here panics: what is wrong is written down and told at the
//! end, so that one finding does not hide the next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The most findings of a kind that are kept with their text.
const TOLD: usize = 20;

/// Where a task is, as far as clients know.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    There,
    /// Its completion was asked for and not answered: either is right.
    Doubtful,
    Completed,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    state: State,
    /// A worker's handler takes it, which keeps its own book.
    is_for_worker: bool,
    /// Until when nobody else may be handed it: a lease's length after the claim was sent.
    held_until: Option<Instant>,
}

/// What was counted.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) acknowledged: u64,
    pub(super) completed: u64,
    pub(super) dropped_files: u64,
    pub(super) checks: u64,
    /// Each kind of fault, and how often.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

/// What must not be.
#[derive(Debug, Default, Clone)]
pub(super) struct Findings {
    pub(super) lost: Vec<String>,
    pub(super) twice: Vec<String>,
    pub(super) wrong: Vec<String>,
    count: u64,
}

impl Findings {
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[derive(Default)]
struct Book {
    tasks: HashMap<u128, Entry>,
    /// As which task each payload became known.
    by_serial: HashMap<u64, u128>,
    /// Those that are not completed.
    open: HashSet<u128>,
    /// How many of them are for the worker, whose ends are known at the next check only.
    open_for_worker: usize,
    /// Serials of dropped files that no one has seen as a task yet.
    dropped: BTreeSet<u64>,
    serial: u64,
    counts: Counts,
    findings: Findings,
}

/// An account that all threads of a soak keep.
#[derive(Default)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    told: Condvar,
}

pub(super) fn number(id: &str) -> Option<u128> {
    u128::from_str_radix(&id.replace('-', ""), 16).ok()
}

fn id_of(task: &Value) -> Option<u128> {
    number(task["id"].as_str()?)
}

/// A payload that says of itself whether it is whole.
pub(super) fn payload(serial: u64, size: u64, act: &str) -> Value {
    json!({"serial": serial, "size": size, "act": act, "rest": "x".repeat(size as usize)})
}

fn is_whole(payload: &Value) -> bool {
    let rest = payload["rest"].as_str().map_or(0, str::len) as u64;
    payload["serial"].is_u64() && payload["size"] == json!(rest)
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        // A client that panicked has failed the soak, and the others go on.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> Counts {
        self.book().counts.clone()
    }

    pub(super) fn findings(&self) -> Findings {
        self.book().findings.clone()
    }

    /// Tasks that are not completed, and files not seen as tasks.
    pub(super) fn open(&self) -> (usize, usize) {
        let book = self.book();
        (book.open.len(), book.dropped.len())
    }

    /// Tasks of the clients that are not completed.
    pub(super) fn backlog(&self) -> usize {
        let book = self.book();
        book.open.len() - book.open_for_worker
    }

    pub(super) fn serial(&self) -> u64 {
        let mut book = self.book();
        book.serial += 1;
        book.serial
    }

    pub(super) fn fault(&self, kind: &'static str) {
        *self.book().counts.faults.entry(kind).or_default() += 1;
    }

    pub(super) fn wrong(&self, text: String) {
        self.book().findings.note(text, |all| &mut all.wrong);
    }

    /// A request was sent, and this status came back, if one did.
    pub(super) fn asked(&self, status: Option<u16>) {
        let mut book = self.book();
        book.counts.requests += 1;
        match status {
            None => book.counts.unanswered += 1,
            Some(429 | 503 | 507) => book.counts.refused += 1,
            Some(_) => {}
        }
        drop(book);
        self.told.notify_all();
    }

    /// Waits for so many more requests, at most this long: faults come at another amount of work each time.
    pub(super) fn wait_for(&self, more: u64, at_most: Duration) {
        let book = self.book();
        let goal = book.counts.requests + more;
        let waited = self
            .told
            .wait_timeout_while(book, at_most, |book| book.counts.requests < goal);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn submitted(&self, task: &Value, is_for_worker: bool) {
        let mut book = self.book();
        book.counts.acknowledged += 1;
        book.meet(task, is_for_worker);
    }

    /// A file was moved into the directory.
    pub(super) fn dropped(&self, serial: u64) {
        let mut book = self.book();
        book.counts.dropped_files += 1;
        book.dropped.insert(serial);
    }

    /// It never got there.
    pub(super) fn not_dropped(&self, serial: u64) {
        let mut book = self.book();
        book.counts.dropped_files -= 1;
        book.dropped.remove(&serial);
    }

    /// `task` was handed out, to be held until then, if its client means to.
    pub(super) fn claimed(&self, task: &Value, until: Option<Instant>) {
        let mut book = self.book();
        let Some(id) = book.meet(task, false) else {
            return;
        };
        let now = Instant::now();
        let Some(entry) = book.tasks.get_mut(&id) else {
            return;
        };
        let before = (entry.state, entry.held_until);
        entry.held_until = until;
        match before {
            (State::Completed, _) => {
                let text = format!("completed, and handed out again: {task}");
                book.findings.note(text, |all| &mut all.twice);
            }
            (State::There, Some(end)) if now < end => {
                let text = format!("held by one, and handed to another: {task}");
                book.findings.note(text, |all| &mut all.twice);
            }
            // If it is handed out, the completion was not made.
            (State::Doubtful, _) => entry.state = State::There,
            (State::There, _) => {}
        }
    }

    /// Its client gives it up, in whatever way, from now on.
    pub(super) fn let_go(&self, id: &str) {
        let mut book = self.book();
        if let Some(entry) = number(id).and_then(|id| book.tasks.get_mut(&id)) {
            entry.held_until = None;
        }
    }

    pub(super) fn doubt(&self, id: &str) {
        let mut book = self.book();
        if let Some(entry) = number(id).and_then(|id| book.tasks.get_mut(&id))
            && entry.state == State::There
        {
            entry.state = State::Doubtful;
        }
    }

    /// It was said to be completed.
    pub(super) fn completed(&self, id: &str) {
        let mut book = self.book();
        let Some(id) = number(id) else { return };
        if book.end(id) == Some(State::Completed) {
            let text = format!("completed twice: {id:032x}");
            book.findings.note(text, |all| &mut all.twice);
        }
    }

    /// How many tasks that are not completed a daemon does not have. `ran`: what the worker's handler has ended.
    pub(super) fn missing(&self, there: &BTreeMap<String, Value>, ran: &HashSet<u128>) -> usize {
        let there: HashSet<u128> = there.keys().filter_map(|id| number(id)).collect();
        let book = self.book();
        let open = book.open.difference(&there);
        open.filter(|id| {
            let entry = &book.tasks[*id];
            entry.state == State::There && !(entry.is_for_worker && ran.contains(*id))
        })
        .count()
    }

    /// Holds the account against what a daemon has, while no client works. `ran`: what the worker's handler has ended.
    pub(super) fn hold(
        &self,
        there: &BTreeMap<String, Value>,
        ran: impl FnOnce() -> HashSet<u128>,
        when: &str,
    ) {
        let mut book = self.book();
        book.counts.checks += 1;
        let mut present = HashSet::new();
        for task in there.values() {
            let Some(id) = book.meet(task, task["queue"] == "hands") else {
                continue;
            };
            present.insert(id);
            let entry = book.tasks.get_mut(&id);
            let Some(entry) = entry else { continue };
            match entry.state {
                State::Doubtful => entry.state = State::There,
                // A worker's task may have ended after the list was made.
                State::Completed if !entry.is_for_worker => {
                    let text = format!("{when}: completed, and back: {task}");
                    book.findings.note(text, |all| &mut all.twice);
                }
                State::Completed | State::There => {}
            }
        }
        let ran = ran();
        let gone: Vec<u128> = book.open.difference(&present).copied().collect();
        for id in gone {
            let entry = &book.tasks[&id];
            let is_right =
                entry.state == State::Doubtful || (entry.is_for_worker && ran.contains(&id));
            let serial = entry.serial;
            // Told once.
            book.end(id);
            if !is_right {
                let text = format!("{when}: {id:032x}, serial {serial}, is lost");
                book.findings.note(text, |all| &mut all.lost);
            }
        }
    }

    /// After the last check: what is in no account any more.
    pub(super) fn close(&self) {
        let mut book = self.book();
        for serial in std::mem::take(&mut book.dropped) {
            let text = format!("the dropped file with serial {serial} never became a task");
            book.findings.note(text, |all| &mut all.lost);
        }
    }
}

impl Findings {
    fn note(&mut self, text: String, of: impl FnOnce(&mut Self) -> &mut Vec<String>) {
        self.count += 1;
        let list = of(self);
        if list.len() < TOLD {
            list.push(text);
        }
    }
}

impl Book {
    /// Knows `task` from now on, by whatever way it became known.
    fn meet(&mut self, task: &Value, is_for_worker: bool) -> Option<u128> {
        let payload = &task["payload"];
        let (Some(id), true) = (id_of(task), is_whole(payload)) else {
            let text = format!("not what anyone submitted: {task}");
            self.findings.note(text, |all| &mut all.wrong);
            return None;
        };
        let serial = payload["serial"].as_u64().unwrap_or_default();
        self.dropped.remove(&serial);
        let twin = *self.by_serial.entry(serial).or_insert(id);
        if twin != id && !self.tasks.contains_key(&id) {
            let text = format!("one payload, and two tasks: {twin:032x} and {task}");
            self.findings.note(text, |all| &mut all.twice);
        }
        let known = self.tasks.entry(id).or_insert_with(|| {
            self.open.insert(id);
            self.open_for_worker += usize::from(is_for_worker);
            Entry {
                serial,
                state: State::There,
                is_for_worker,
                held_until: None,
            }
        });
        if known.serial != serial {
            let text = format!("another payload than was submitted: {task}");
            self.findings.note(text, |all| &mut all.wrong);
        }
        Some(id)
    }

    /// It is completed; gives what it was before.
    fn end(&mut self, id: u128) -> Option<State> {
        let entry = self.tasks.get_mut(&id)?;
        let before = entry.state;
        entry.state = State::Completed;
        entry.held_until = None;
        let is_for_worker = entry.is_for_worker;
        if self.open.remove(&id) {
            self.open_for_worker -= usize::from(is_for_worker);
            self.counts.completed += 1;
        }
        Some(before)
    }
}

#[test]
fn the_ledger_finds_what_is_lost_and_what_is_completed_twice() {
    let ledger = Ledger::default();
    let task = |number: u64| {
        let id = format!("{number:08x}-0000-7000-8000-000000000000");
        json!({"id": id, "queue": "s0", "payload": payload(number, 3, "work")})
    };
    let id = |number| task(number)["id"].as_str().expect("an id").to_owned();
    for number in 1..=5 {
        ledger.submitted(&task(number), false);
    }
    let later = Some(Instant::now() + Duration::from_mins(1));
    ledger.claimed(&task(1), later);
    ledger.completed(&id(1));
    // The answer to this one's completion was lost: it may be gone.
    ledger.claimed(&task(2), later);
    ledger.doubt(&id(2));
    let there = [(id(3), task(3)), (id(5), task(5))].into();
    ledger.hold(&there, HashSet::new, "first");
    let findings = ledger.findings();
    assert_eq!((findings.lost.len(), findings.count()), (1, 1));
    assert!(findings.lost[0].contains("serial 4"), "{findings:?}");
    // Handed out after its end, ended again, handed to two, back in the list, a file that never came, another payload.
    ledger.claimed(&task(1), later);
    ledger.completed(&id(1));
    ledger.claimed(&task(3), later);
    ledger.claimed(&task(3), later);
    ledger.hold(
        &[(id(2), task(2)), (id(3), task(3)), (id(5), task(5))].into(),
        HashSet::new,
        "second",
    );
    ledger.dropped(99);
    ledger.close();
    let mut other = task(5);
    other["payload"] = payload(7, 3, "work");
    ledger.claimed(&other, None);
    // A payload that became a second task.
    let mut twin = task(6);
    twin["payload"] = payload(3, 3, "work");
    ledger.claimed(&twin, None);
    let findings = ledger.findings();
    assert_eq!(
        (
            findings.lost.len(),
            findings.twice.len(),
            findings.wrong.len()
        ),
        (2, 5, 1),
        "{findings:#?}"
    );
}
