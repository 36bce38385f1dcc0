//! Opening a data directory, and the threads that then drive the engine and do what it says.
//!
//! | thread | does |
//! |---|---|
//! | `engine`, twice | [`Engine::step`]; sleeps until something happens or is due; writes groups: see `desk` |
//! | `journal` | syncs what is written, where syncs come on their own time |
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
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};
use hashbrown::HashMap;

use super::{
    Engine, Entropy, Loader, Settings, clock,
    clock_watch::ClockWatch,
    desk::{Desk, Driver},
    handle::{Handle, Post, Signs},
    hands::Hands,
    io::Input,
    mailbox::Mailbox,
};
use crate::{
    backend::EventLog,
    store::{
        Boot, DataDirError, DirId, Disk, DiskError, DropLimits, Found, Journal, JournalStart,
        Latched, LiveDropLimits, Lock, LockError, RealDisk, RecoverError, Spool, WatchError,
        WatchSettings, Watcher, prepare, recover,
    },
    systemd::catalog,
    task::{Area, Location, TaskId},
};

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
    engine: [JoinHandle<()>; 2],
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
    let read = match latched.directory(Path::new(Area::Tasks.dir())) {
        Ok(read) => Some(read),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(on_disk(error)),
    };
    let (engine, start, doubles) = find(&root, &settings, &latched, &spool, read, progress)?;

    let mailbox = Arc::new(Mailbox::default());
    let (closing, closed) = bounded(1);
    let events = Arc::new(EventLog::new(entropy()() as u32));
    let signs = Arc::new(Signs::default());
    let journal = Arc::new(Mutex::new(Journal::new(Arc::clone(&latched), start.boot)));
    let hands = Hands::start(
        &latched,
        &real,
        &spool,
        &journal,
        settings.durability,
        &mailbox,
    )?;
    let sink = Arc::clone(&mailbox);
    let watcher = Watcher::start(
        Arc::clone(&real),
        &root,
        WatchSettings {
            limits: drops.clone(),
            rescan_every,
            read,
        },
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
    let desk = Desk::new(
        Driver {
            engine,
            opened: Some(tell_opened),
            mailbox: Arc::clone(&mailbox),
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
            group: None,
            out: Vec::new(),
        },
        journal,
    );
    let engine = [desk.start()?, desk.start()?];
    // Ready when the journal has somewhere to write, or is known to have no room.
    if opened.recv().is_err() {
        tracing::error!("the engine's thread has ended");
    }
    if let Err(error) = lock.note_journal(&root) {
        tracing::warn!(%error, "can't note how far the journal is");
    }
    signs.ready.store(true, Ordering::Release);
    Ok(Running {
        handle,
        mailbox,
        closed,
        signs,
        engine,
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
    directory: Option<DirId>,
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
    let failed = |error| OpenError::Disk {
        root: root.to_owned(),
        error,
    };
    let start = start.map_err(|error| match error {
        RecoverError::Disk(error) => failed(error),
        RecoverError::Thread(cause) => no_thread(cause),
        error @ (RecoverError::Damaged { .. }
        | RecoverError::NoFile { .. }
        | RecoverError::Misnamed { .. }
        | RecoverError::Version { .. }) => OpenError::Recover {
            root: root.to_owned(),
            error,
        },
    })?;
    let left = spool.sweep(temporary).map_err(failed)?;
    if left > 0 {
        tracing::info!(files = left, "removed temporary files of a former life");
    }
    if let Some(torn) = &start.torn {
        tracing::warn!(message_id = catalog::TORN_TAIL.id, file = %torn.file.display(), offset = torn.offset, reason = torn.reason, "{}", catalog::TORN_TAIL.line);
    }
    if let Some(file) = &start.passed_over {
        tracing::warn!(file = %file.display(), "a damaged checkpoint was passed over: the journal is whole without it");
    }
    let mut each = || {
        read += 1;
        if read % TELL_EVERY == 0 {
            progress(Loading::Read(read));
        }
    };
    loader.compare(latched, directory, &mut each);
    loader.measure(latched, &mut each);
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
        let ends = self.engine.map(JoinHandle::join);
        if ends.iter().any(Result::is_err) {
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

pub(super) fn thread(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(no_thread)
}

const fn no_thread(cause: io::Error) -> OpenError {
    OpenError::System {
        what: "can't start a thread",
        cause,
    }
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
