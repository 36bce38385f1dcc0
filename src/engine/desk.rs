//! [`Desk`]: the engine, led by two threads in turn.
//!
//! One sits and waits for what happens. When a step ends with a group to write, the thread that made the step goes to the disk with
//! it itself, and the other sits down. Who comes back from the disk tells the engine, answers, takes what has gathered
//! meanwhile, and goes again with the next group; only when there is none does it wait for the seat. So under load a group costs no
//! wake-up of one thread by another on its way to the disk or back, and a request that comes alone costs one, while a disk
//! that hangs holds up one thread: the other still takes what happens, and the watchdog sees it.
//!
//! With a thread for the engine and one for the journal, each hand-over was an interrupt between processors, and on a loaded machine
//! a wait for one: the disk stood idle for half of the time (`benches/RESULTS.md`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
};

use crossbeam_channel::Sender;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    Engine, clock,
    driver::{OpenError, thread},
    handle::{Caller, Post, Signs, undelivered},
    hands::{CheckpointWork, FilesWork, Hands, LoadWork, SharedJournal, write_group},
    io::{Input, Output, Response, Ticket},
    mailbox::{For, Mailbox},
};
use crate::{
    backend::EventLog,
    store::{Disk, Group, RealDisk, Seq, Watcher},
    task::{Now, Tick},
};

/// How many inputs, and how many requests, are taken before what has gathered is written.
const INPUTS_A_TURN: usize = 1024;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Desk(Arc<Shared>);

struct Shared {
    /// Held by the thread that waits for what happens. Taken before the driver, never after it.
    seat: Mutex<()>,
    /// None at the end.
    driver: Mutex<Option<Driver>>,
    mailbox: Arc<Mailbox>,
    journal: SharedJournal,
    signs: Arc<Signs>,
}

/// A mailbox that is closed when a thread ends, however it ends.
struct Open<'a>(&'a Mailbox);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a step left to do.
enum Left {
    /// To wait for what happens.
    Nothing,
    /// To write this.
    Group(Group),
    /// To end.
    End,
}

/// What came of a group.
struct Written {
    input: Input,
    /// Which frame still needs a sync, counted from when.
    behind: Option<(Seq, Tick)>,
}

impl Desk {
    pub(super) fn new(mut driver: Driver, journal: SharedJournal) -> Self {
        let (mailbox, signs) = (Arc::clone(&driver.mailbox), Arc::clone(&driver.signs));
        driver.begin();
        Self(Arc::new(Shared {
            seat: Mutex::new(()),
            driver: Mutex::new(Some(driver)),
            mailbox,
            journal,
            signs,
        }))
    }

    /// Starts one of the two threads.
    pub(super) fn start(&self) -> Result<JoinHandle<()>, OpenError> {
        let desk = Arc::clone(&self.0);
        thread("engine", move || desk.run())
    }
}

impl Shared {
    fn run(&self) {
        let open = Open(&self.mailbox);
        let sit = || self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seat = sit();
        while self.mailbox.wait() {
            let mut left = self.turn(None);
            if matches!(left, Left::Group(_)) {
                drop(seat);
                while let Left::Group(group) = left {
                    left = self.turn(Some(self.write(&group)));
                }
                seat = sit();
            }
            if matches!(left, Left::End) {
                break;
            }
        }
        drop(open);
    }

    fn write(&self, group: &Group) -> Written {
        // The clock is read before the write: what is written is answered after it.
        let since = clock::now().tick;
        self.signs.writing_since.store(since.0, Ordering::Relaxed);
        let (input, behind) = write_group(&self.journal, group);
        self.signs.writing_since.store(0, Ordering::Relaxed);
        Written {
            input,
            behind: behind.then_some((group.seq, since)),
        }
    }

    /// Tells the engine what came of a group, and all that has happened, and does what it says.
    fn turn(&self, written: Option<Written>) -> Left {
        // The other thread panicked in the middle of a step: what it left is not to be trusted.
        let Ok(mut slot) = self.driver.lock() else {
            return Left::End;
        };
        let Some(driver) = slot.as_mut() else {
            return Left::End;
        };
        let going = driver.turn(written);
        self.signs.turns.fetch_add(1, Ordering::Relaxed);
        if !going {
            let ended = slot.take();
            drop(slot);
            // Closed before the watcher ends, whose thread may wait for room in it.
            self.mailbox.close();
            drop(ended);
            return Left::End;
        }
        driver.group.take().map_or(Left::Nothing, Left::Group)
    }
}

/// The engine, and what it needs to be led.
pub(super) struct Driver {
    pub(super) engine: Engine,
    /// To be told when the first segment is there, or refused.
    pub(super) opened: Option<Sender<()>>,
    pub(super) mailbox: Arc<Mailbox>,
    /// What was taken from it and is not yet told to the engine.
    pub(super) taken: VecDeque<Post>,
    pub(super) watcher: Watcher,
    pub(super) callers: HashMap<Ticket, Caller, RandomState>,
    pub(super) hands: Hands,
    pub(super) events: Arc<EventLog>,
    /// Whether the engine makes events.
    pub(super) listening: bool,
    /// Whether events were kept that listeners have not heard of.
    pub(super) has_told: bool,
    pub(super) signs: Arc<Signs>,
    pub(super) closing: Sender<()>,
    pub(super) disk: Arc<RealDisk>,
    /// To be written by the thread that made the step.
    pub(super) group: Option<Group>,
    /// What the engine says; kept for its room.
    pub(super) out: Vec<Output>,
}

impl Driver {
    /// Has the engine ask for its first segment.
    fn begin(&mut self) {
        let mut out = Vec::new();
        let now = clock::now();
        self.engine.step(now, Input::Flush, &mut out);
        if !out
            .iter()
            .any(|output| matches!(output, Output::MakeSegment(_)))
        {
            self.tell_opened();
        }
        self.carry_out(now, &mut out);
        self.mailbox.expect(For::All, Some(now.tick));
    }

    /// Takes one thing that happened. Gives whether to go on.
    fn take(&mut self, now: Now, post: Post, out: &mut Vec<Output>) -> bool {
        let input = match post {
            Post::End => return false,
            Post::Input(input) => input,
            Post::Request(ticket, request, caller) => {
                self.callers.insert(ticket, caller);
                Input::Request(ticket, request)
            }
        };
        match &input {
            Input::Withdrawn(ticket) => drop(self.callers.remove(ticket)),
            Input::SegmentMade(..) | Input::SegmentFailed(_) => self.tell_opened(),
            _ => {}
        }
        self.engine.step(now, input, out);
        true
    }

    fn tell_opened(&mut self) {
        if let Some(opened) = self.opened.take()
            && opened.send(()).is_err()
        {
            tracing::debug!("nobody waits for the start any more");
        }
    }

    /// Takes all that has happened. Gives whether to go on.
    ///
    /// While a group is being written no answer can go out, so callers wake nobody then: what they ask gathers, and is taken
    /// in one go when the group is written. A wake-up for each request costs more than the request.
    fn turn(&mut self, written: Option<Written>) -> bool {
        let mut out = std::mem::take(&mut self.out);
        let mut taken = std::mem::take(&mut self.taken);
        self.mailbox.take(INPUTS_A_TURN, &mut taken);
        let now = clock::now();
        if let Some(Written { input, behind }) = written {
            self.engine.step(now, input, &mut out);
            if let Some((seq, since)) = behind {
                self.hands.sync(seq, since);
            }
        }
        // After the taking: who asked after it began to listen hears of what it asked.
        if self.listening != self.events.wanted() {
            self.listening = !self.listening;
            let input = Input::Listening(self.listening);
            self.engine.step(now, input, &mut out);
        }
        for post in taken.drain(..) {
            if !self.take(now, post, &mut out) {
                return false;
            }
        }
        self.taken = taken;
        self.engine.step(now, Input::Flush, &mut out);
        self.carry_out(now, &mut out);
        self.out = out;
        let want = if self.engine.is_writing() {
            For::Inputs
        } else {
            For::All
        };
        self.mailbox.expect(want, self.engine.next_wake(now));
        true
    }

    /// Does what the engine says, until it says nothing more.
    fn carry_out(&mut self, now: Now, out: &mut Vec<Output>) {
        while !out.is_empty() {
            let mut inputs = Vec::new();
            for output in out.drain(..) {
                inputs.extend(self.one(now, output));
            }
            let fed_back = !inputs.is_empty();
            for input in inputs {
                self.engine.step(now, input, out);
            }
            // What was given back is to be written, and may be what a waiting claim waits for.
            if fed_back || !out.is_empty() {
                self.engine.step(now, Input::Flush, out);
            }
        }
        if self.has_told {
            self.has_told = false;
            self.events.wake();
        }
    }

    fn one(&mut self, now: Now, output: Output) -> Option<Input> {
        match output {
            Output::Reply(ticket, result) => return self.answer(ticket, result),
            Output::Event(event) => {
                self.events.publish(now.tick, event);
                self.has_told = true;
            }
            Output::Write(group) => self.group = Some(group),
            Output::MakeSegment(segment) => self.hands.segment(segment),
            Output::Checkpoint(checkpoint) => {
                self.hands.checkpoint(CheckpointWork::Write(checkpoint));
            }
            Output::SetAside(bytes) => self.hands.checkpoint(CheckpointWork::SetAside(bytes)),
            Output::Files(work) => self.hands.files(FilesWork::Change(work)),
            Output::Reject(file) => self.hands.files(FilesWork::Reject(file)),
            Output::PurgeDone(before) => self.hands.files(FilesWork::PurgeDone(before)),
            Output::Load(places) => self.hands.load(LoadWork::Load(places)),
            Output::ListRejected(ticket, limit) => {
                self.hands.load(LoadWork::ListRejected(ticket, limit));
            }
            Output::SettleRejected(ticket, name, how) => {
                self.hands.load(LoadWork::SettleRejected(ticket, name, how));
            }
            Output::Inspect(places) => self.watcher.inspect(places),
            Output::Confirm(number, places) => self.watcher.confirm(number, places),
            Output::Rescan => self.watcher.rescan(),
            Output::Again(paths) => self.watcher.again(paths),
            Output::TellApart(number, own, source) => {
                self.watcher.tell_apart(number, own, source);
            }
            Output::Forget(source) => self.watcher.forget(source),
            Output::Fault(text) => self.signs.fail(text),
            Output::Closed => {
                // Whoever waits has room for one; one that does not wait any more needs none.
                if self.closing.try_send(()).is_err() {
                    tracing::debug!("nobody waits for the end any more");
                }
            }
        }
        None
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        mut result: crate::backend::Answer<Response>,
    ) -> Option<Input> {
        if let Ok(Response::Status(status)) = &mut result {
            status.disk = self.disk.space().ok();
        }
        let caller = self.callers.remove(&ticket);
        let unsent = match caller {
            Some(caller) => caller.answer(result).err()?,
            None => result,
        };
        undelivered(unsent)
    }
}
