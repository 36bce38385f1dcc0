//! The threads that drive the engine, and the hands that do what it says.
//!
//! | thread | does |
//! |---|---|
//! | `engine` | [`Engine::step`], nothing else; sleeps until something happens or is due |
//! | `journal` | writes groups |
//! | `segments` | makes segments ahead of need |
//! | `checkpoint` | makes checkpoints, so that a long sync of the file system holds up no group |
//! | `files` | changes task files |
//! | `payloads` | reads task files |
//! | `clock` | sleeps until the wall clock is set |
//! | `watch` | the watcher's own |

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    Engine, Entropy, Loader, Settings, clock,
    clock_watch::ClockWatch,
    handle::{Caller, Handle, Post, Signs, undelivered},
    hands::{FilesWork, Hands, JournalWork, LoadWork},
    io::{Input, Output, Response, Ticket},
    mailbox::{For, Mailbox},
};
use crate::{
    backend::EventLog,
    store::{
        Boot, DataDirError, Disk, DiskError, DropLimits, Found, JournalStart, Latched,
        LiveDropLimits, Lock, LockError, RealDisk, RecoverError, Spool, WatchError, Watcher,
        prepare, recover,
    },
    systemd::catalog,
    task::{Location, Now, TaskId},
};

/// How many inputs, and how many requests, are taken before what has gathered is written.
const INPUTS_A_TURN: usize = 1024;

/// What a start needs to know.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The data directory.
    pub root: PathBuf,
    /// What the engine holds itself to.
    pub settings: Settings,
    /// How large a dropped file may be.
    pub drops: DropLimits,
    /// How often the task directory is looked through; `None`: never.
    pub rescan_every: Option<Duration>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Another daemon has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What is in it can't be read.
    #[error("{}/{error}", root.display())]
    Recover {
        /// The data directory.
        root: PathBuf,
        /// Why.
        #[source]
        error: RecoverError,
    },
    /// The disk failed.
    #[error("{}: {error}", root.display())]
    Disk {
        /// The data directory.
        root: PathBuf,
        /// Why.
        #[source]
        error: DiskError,
    },
    /// The task directory can't be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The kernel would not say which boot this is, or start a thread.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

/// A running engine.
#[derive(Debug)]
pub struct Running {
    handle: Arc<Handle>,
    mailbox: Arc<Mailbox>,
    closed: Receiver<()>,
    signs: Arc<Signs>,
    engine: JoinHandle<()>,
    clock_watch: ClockWatch,
    // Held until everything above has ended.
    _lock: Lock,
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// So many records and files have been read. Told now and then.
    Read(u64),
    /// So many bytes of the journal have been read, of so many.
    Journal {
        /// Read.
        done: u64,
        /// In all.
        of: u64,
    },
}

/// How many records and files are read between two tellings of progress: some ten milliseconds' worth.
const TELL_EVERY: u64 = 4096;

/// Opens a data directory, finds what is there, and starts the threads. `progress` is told how far reading has come.
pub fn open(opening: Opening, progress: &mut dyn FnMut(Loading)) -> Result<Running, OpenError> {
    let Opening {
        root,
        settings,
        drops,
        rescan_every,
    } = opening;
    prepare(&root)?;
    let lock = Lock::take(&root)?;
    let on_disk = |error| OpenError::Disk {
        root: root.clone(),
        error,
    };
    let real = Arc::new(RealDisk::open(&root).map_err(on_disk)?);
    let drops = LiveDropLimits::from(drops);
    // A write that failed in a former life is told to the next sync of each descriptor that was open before (`syncfs(2)`). What is
    // missing by it is found by reading; a sync of this life, by a descriptor of its own, must not be taken for it.
    if let Err(error) = real.sync_everything() {
        tracing::warn!(%error, "the disk had failed before this start: all is read anew");
    }
    let latched = Arc::new(Latched::new(RealDisk::open(&root).map_err(on_disk)?));
    let spool = Arc::new(Spool::new(Arc::clone(&real), drops.clone()));
    let (engine, start, doubles) = find(&root, &settings, &latched, &spool, progress)?;

    let mailbox = Arc::new(Mailbox::default());
    let (closing, closed) = bounded(1);
    let events = Arc::new(EventLog::new(entropy()() as u32));
    let signs = Arc::new(Signs::default());
    let hands = Hands::start(
        &latched,
        &real,
        &spool,
        &start,
        settings.durability,
        &mailbox,
    )?;
    let sink = Arc::clone(&mailbox);
    let watcher = Watcher::start(
        Arc::clone(&real),
        &root,
        drops.clone(),
        rescan_every,
        spool.own_steps(),
        || clock::now().wall,
        move |sighting| sink.post(Post::Input(Input::Sighting(sighting))),
    )?;
    watcher.inspect(doubles);
    let handle = Arc::new(Handle::new(
        Arc::clone(&mailbox),
        Arc::clone(&events),
        Arc::clone(&signs),
        drops,
    ));
    let clock_watch = ClockWatch::start(Arc::clone(&mailbox))?;
    let (tell_opened, opened) = bounded(1);
    let driver = Driver {
        engine,
        opened: Some(tell_opened),
        mailbox: Open(Arc::clone(&mailbox)),
        taken: VecDeque::new(),
        watcher,
        callers: HashMap::default(),
        hands,
        events,
        listening: false,
        has_told: false,
        signs: Arc::clone(&signs),
        closing,
        disk: real,
    };
    let thread = thread("engine", move || driver.run())?;
    // Ready when the journal has somewhere to write, or is known to have no room.
    if opened.recv().is_err() {
        tracing::error!("the engine's thread has ended");
    }
    signs.ready.store(true, Ordering::Release);
    Ok(Running {
        handle,
        mailbox,
        closed,
        signs,
        engine: thread,
        clock_watch,
        _lock: lock,
    })
}

/// Finds what is in a data directory: an engine that goes on with it, where the journal goes on, and canonical files that are
/// no task's.
fn find(
    root: &Path,
    settings: &Settings,
    latched: &Latched<RealDisk>,
    spool: &Spool<RealDisk>,
    progress: &mut dyn FnMut(Loading),
) -> Result<(Engine, JournalStart, Vec<Location>), OpenError> {
    let boot = Boot {
        id: boot_id()?,
        tick: clock::now().tick,
    };
    let mut loader = Loader::new(settings.clone(), entropy(), clock::now());
    let mut read = 0;
    let mut temporary = Vec::new();
    let start = recover(latched, &boot, &mut |found| {
        read += 1;
        if let Found::Temporary(path) = found {
            return temporary.push(path);
        }
        if let Found::Progress { done, of } = found {
            progress(Loading::Journal { done, of });
        } else if read % TELL_EVERY == 0 {
            progress(Loading::Read(read));
        }
        loader.take(found);
    });
    let start = start.map_err(|error| OpenError::Recover {
        root: root.to_owned(),
        error,
    })?;
    let left = spool.sweep(temporary).map_err(|error| OpenError::Disk {
        root: root.to_owned(),
        error,
    })?;
    if left > 0 {
        tracing::info!(files = left, "removed temporary files of a former life");
    }
    if let Some(torn) = &start.torn {
        tracing::warn!(message_id = catalog::TORN_TAIL.id, file = %torn.file.display(), offset = torn.offset, reason = torn.reason, "{}", catalog::TORN_TAIL.line);
    }
    if let Some(file) = &start.passed_over {
        tracing::warn!(file = %file.display(), "a damaged checkpoint was passed over: the journal is whole without it");
    }
    let (engine, doubles) = loader.finish(&start);
    Ok((engine, start, doubles))
}

impl Running {
    /// The engine, for those who ask.
    #[must_use]
    pub fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// Begins to stop: claims that wait are answered, and none waits from now on.
    pub fn stop(&self) {
        self.signs.ready.store(false, Ordering::Release);
        self.tell(Post::Input(Input::Stop));
    }

    /// Ends it: brings what is in memory to the disk, for at most `patience`; what is not done then is done by the next
    /// start, from the journal. Gives the fault that stopped writes, if one did.
    pub fn close(self, patience: Duration) -> Option<Arc<str>> {
        self.tell(Post::Input(Input::Close));
        if self.closed.recv_timeout(patience).is_err() {
            tracing::info!("stopping with file changes that the next start will make");
        }
        self.tell(Post::End);
        if self.engine.join().is_err() {
            tracing::error!("the engine's thread panicked");
            return Some("the engine's thread panicked".into());
        }
        self.clock_watch.stop();
        self.signs.fault.get().cloned()
    }

    fn tell(&self, post: Post) {
        if !self.mailbox.post(post) {
            tracing::error!("the engine's thread is gone");
        }
    }
}

/// A mailbox that is closed when the thread ends, however it ends.
struct Open(Arc<Mailbox>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The engine's thread.
struct Driver {
    engine: Engine,
    /// To be told when the first segment is there, or refused.
    opened: Option<Sender<()>>,
    // Dropped before the watcher, whose thread may wait for room in it.
    mailbox: Open,
    /// What was taken from it and is not yet told to the engine.
    taken: VecDeque<Post>,
    watcher: Watcher,
    callers: HashMap<Ticket, Caller, RandomState>,
    hands: Hands,
    events: Arc<EventLog>,
    /// Whether the engine makes events.
    listening: bool,
    /// Whether events were kept that listeners have not heard of.
    has_told: bool,
    signs: Arc<Signs>,
    closing: Sender<()>,
    disk: Arc<RealDisk>,
}

impl Driver {
    fn run(mut self) {
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
        let mut going = true;
        while going {
            going = self.turn(&mut out);
            self.signs.turns.fetch_add(1, Ordering::Relaxed);
        }
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

    /// Sleeps until something happens or is due, then takes all that has happened. Gives whether to go on.
    ///
    /// While a group is being written no answer can go out, so callers don't wake the thread then: what they ask gathers, and
    /// is taken in one go when the group is written. A wake-up for each request costs more than the request.
    fn turn(&mut self, out: &mut Vec<Output>) -> bool {
        let now = clock::now();
        let left = self
            .engine
            .next_wake(now)
            .map(|wake| Duration::from_nanos(wake.0.saturating_sub(now.tick.0)));
        let want = if self.engine.is_writing() {
            For::Inputs
        } else {
            For::All
        };
        let mut taken = std::mem::take(&mut self.taken);
        self.mailbox.0.take(want, left, INPUTS_A_TURN, &mut taken);
        let now = clock::now();
        // After the taking: who asked after it began to listen hears of what it asked.
        if self.listening != self.events.wanted() {
            self.listening = !self.listening;
            self.engine.step(now, Input::Listening(self.listening), out);
        }
        for post in taken.drain(..) {
            if !self.take(now, post, out) {
                return false;
            }
        }
        self.taken = taken;
        self.engine.step(now, Input::Flush, out);
        self.carry_out(now, out);
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
            Output::Write(group) => self.hands.journal(JournalWork::Write(group)),
            Output::MakeSegment(segment) => self.hands.segment(segment),
            Output::Checkpoint(checkpoint) => self.hands.checkpoint(checkpoint),
            Output::Files(work) => self.hands.files(FilesWork::Change(work)),
            Output::Reject { path, reason } => self.hands.files(FilesWork::Reject(path, reason)),
            Output::PurgeDone(before) => self.hands.files(FilesWork::PurgeDone(before)),
            Output::Load(places) => self.hands.load(LoadWork::Load(places)),
            Output::ListRejected(ticket, limit) => {
                self.hands.load(LoadWork::ListRejected(ticket, limit));
            }
            Output::Inspect(places) => self.watcher.inspect(places),
            Output::Confirm(places) => self.watcher.confirm(places),
            Output::Rescan => self.watcher.rescan(),
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
            Some(caller) => caller.send(result).err()?,
            None => result,
        };
        undelivered(unsent)
    }
}

pub(super) fn thread(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|cause| OpenError::System {
            what: "can't start a thread",
            cause,
        })
}

/// Which boot of the machine this is, as the kernel names it.
fn boot_id() -> Result<[u8; 16], OpenError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let odd = |cause| OpenError::System {
        what: "can't read /proc/sys/kernel/random/boot_id",
        cause,
    };
    let text = std::fs::read_to_string(Path::new(PATH)).map_err(odd)?;
    let id =
        TaskId::parse(text.trim()).map_err(|_| odd(io::Error::from(io::ErrorKind::InvalidData)))?;
    Ok(*id.as_bytes())
}

/// Random numbers of the kernel's, a page at a time: a token must not be guessed, and a call for each would cost more
/// than the token.
fn entropy() -> Entropy {
    let mut page = [0_u8; 4096];
    let mut used = page.len();
    Box::new(move || {
        if used == page.len() {
            // `getrandom` fails only on kernels without the call, where nothing of this daemon runs; then tokens rest on
            // what the page held before, which is never handed out twice.
            if let Err(error) = getrandom::fill(&mut page) {
                tracing::error!(%error, "no random numbers to be had");
            }
            used = 0;
        }
        let bytes = page[used..used + 8].try_into().unwrap_or([0; 8]);
        used += 8;
        u64::from_ne_bytes(bytes)
    })
}
