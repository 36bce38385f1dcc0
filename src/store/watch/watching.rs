//! The watcher's thread: it sleeps until a notice, a command or a time that is due, looks, and reports.
//!
//! Notices come in bursts: what is queued is taken at once, so that a burst becomes a few batches. There are no wake-ups
//! without a reason: without a periodic rescan, only a file that is too young, or a rescan put off, sets a time.
//!
//! This module may not know: what a path means (`place`), or what is done about one (`arrival`, `scan`).

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select, unbounded};
use notify::{Config, INotifyWatcher, RecursiveMode, Watcher as _};

use super::{
    BATCH, Sighting, WatchError, WatchSettings,
    events::{Filter, Notice, explain},
    memory::{Memory, Settling},
    mounts::MountWatch,
    place::TASKS,
};
use crate::{
    runtime,
    store::{DirId, Disk, DiskError, Kind, OwnSteps, shown},
    task::{Location, QueueName, Source, WallMillis},
};

/// How many notices may wait for the thread; those that find no room are made good by a rescan. As the kernel's own queue
/// is short (16 384 by default), this is what takes a burst up.
const NOTICES: usize = 1 << 16;
/// How many notices are handled before what was gathered is reported.
const BURST: usize = 4096;
/// The shortest time between a scan and one that lost events ask for, and how many times a scan's own length it is at
/// least: losing events is a sign of load, and scans must not become most of it.
const SPACING: Duration = Duration::from_secs(1);
const SPACING_LENGTHS: u32 = 4;
/// How long after descriptors were wanting everything is scanned again.
const WITHOUT_DESCRIPTORS: Duration = Duration::from_secs(5);
/// How often everything is scanned at least while the kernel does not tell of all changes.
const DEAF_RESCAN: Duration = Duration::from_mins(1);

/// What the handle asks of the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Scan everything.
    Rescan,
    /// Read these as drops.
    Inspect(Vec<Location>),
    /// Report those that are gone.
    Confirm(u64, Vec<Location>),
    /// Look at these anew.
    Again(Vec<PathBuf>),
    /// Report this one anew, if it is not the one at this place.
    TellApart(u64, Box<Location>, Source),
    /// Report this one again at the next scan.
    Forget(Source),
}

/// What a watcher is started with.
pub(super) struct Setup<D> {
    pub(super) disk: Arc<D>,
    pub(super) settings: WatchSettings,
    pub(super) own: Arc<OwnSteps>,
    pub(super) now_wall: Box<dyn Fn() -> WallMillis + Send>,
    pub(super) sink: Box<dyn Fn(Sighting) -> bool + Send>,
}

/// Nobody listens any more: the thread ends.
#[derive(Debug)]
pub(super) struct Unheard;

/// Whether somebody still listens.
pub(super) type Heard<T = ()> = Result<T, Unheard>;

/// What woke the thread.
enum Woken {
    Command(Command),
    Notice(Notice),
    /// What is mounted has changed; `false`: from now on nobody tells.
    Mounts(bool),
    Time,
    /// `notify` has ended: there will be no more notices.
    Deaf,
    /// The handle was dropped.
    Ended,
}

/// The thread's state.
pub(super) struct Watching<D: Disk> {
    pub(super) setup: Setup<D>,
    root: PathBuf,
    /// `None`: the kernel gives none to this user. Each scan asks for one again.
    notify: Option<INotifyWatcher>,
    notices: Receiver<Notice>,
    commands: Receiver<Command>,
    mounts: MountWatch,
    /// Set by the filter when a notice found no room.
    lost: Arc<AtomicBool>,
    deaf: bool,
    /// When the thread was started.
    pub(super) started: WallMillis,
    pub(super) memory: Memory,
    pub(super) settling: Settling,
    /// Canonical files that an event told whole; an inspection of them need not wait.
    pub(super) whole: HashSet<PathBuf>,
    /// The queues whose folders are there, and which folder that is.
    pub(super) folders: BTreeMap<QueueName, DirId>,
    /// Whether it was told that the task directory is gone.
    pub(super) root_gone: bool,
    /// Which task directory was scanned last.
    pub(super) scanned: Option<DirId>,
    /// Whether the scan that runs is of another task directory than the one before.
    pub(super) anew: bool,
    /// Whether the own file of a task is in its place, while another one with its id is looked at.
    pub(super) own: Option<bool>,
    /// Directories that the kernel gives no events for, and why not.
    pub(super) unwatched: BTreeMap<PathBuf, String>,
    /// What was told of that.
    told_deaf: Option<String>,
    seen: Vec<Location>,
    gone: Vec<Location>,
    /// Which question of the engine's is being answered.
    question: Option<u64>,
    /// A rescan that lost events asked for.
    asked_rescan: Option<Instant>,
    periodic_rescan: Option<Instant>,
    /// Before this, lost events cause no rescan.
    spaced_until: Instant,
}

/// Begins to watch, and starts the thread, which begins with a scan.
pub(super) fn start<D: Disk>(
    setup: Setup<D>,
    root: &Path,
) -> Result<(Sender<Command>, JoinHandle<()>), WatchError> {
    let failed = |path: &Path, cause: String| WatchError::Events {
        path: path.to_owned(),
        cause,
    };
    let root = std::path::absolute(root).map_err(|cause| failed(root, cause.to_string()))?;
    let (commands_in, commands) = unbounded();
    let lost = Arc::new(AtomicBool::new(false));
    // What is not there, and what is no directory, is no matter of the kernel's limits.
    // Not listed: of a million names that takes longer than all else of a start but the names.
    let top = setup.disk.look(Path::new(TASKS));
    let top = top.map_err(|error| failed(&root.join(TASKS), error.cause.to_string()))?;
    if top.kind != Kind::Directory {
        return Err(failed(&root.join(TASKS), "not a directory".to_owned()));
    }
    let started = (setup.now_wall)();
    let scanned = setup.settings.read;
    let mut watching = Watching {
        setup,
        root,
        notify: None,
        notices: never(),
        commands,
        mounts: MountWatch::start(),
        lost,
        deaf: false,
        started,
        memory: Memory::default(),
        settling: Settling::default(),
        whole: HashSet::new(),
        folders: BTreeMap::new(),
        root_gone: false,
        scanned,
        anew: false,
        own: None,
        unwatched: BTreeMap::new(),
        told_deaf: None,
        seen: Vec::new(),
        gone: Vec::new(),
        question: None,
        asked_rescan: None,
        periodic_rescan: None,
        spaced_until: instant(),
    };
    watching.watch_top();
    let thread = std::thread::Builder::new()
        .name("watcher".to_owned())
        .spawn(|| watching.run())
        .map_err(WatchError::Thread)?;
    Ok((commands_in, thread))
}

/// The one look at the clock here, for the times at which the thread wakes.
#[allow(
    clippy::disallowed_methods,
    reason = "this thread waits for real events and real files to settle"
)]
pub(super) fn instant() -> Instant {
    Instant::now()
}

impl<D: Disk> Watching<D> {
    fn run(mut self) {
        // Both ways to end are wanted: the handle was dropped, or nobody listens.
        match self.serve() {
            Ok(()) | Err(Unheard) => {}
        }
    }

    fn serve(&mut self) -> Heard {
        self.scan_first()?;
        loop {
            self.flush()?;
            self.tell_deaf()?;
            self.tell_freed()?;
            self.plan_rescan()?;
            match self.wait() {
                Woken::Command(command) => self.obey(command)?,
                Woken::Notice(notice) => self.take_burst(notice)?,
                Woken::Mounts(true) => self.look_at_mounts()?,
                Woken::Mounts(false) => self.mounts.give_up(),
                Woken::Time => {}
                Woken::Deaf => self.go_deaf()?,
                Woken::Ended => return Ok(()),
            }
            self.run_due()?;
        }
    }

    fn wait(&self) -> Woken {
        let times = [
            self.asked_rescan,
            self.periodic_rescan,
            self.settling.next_due(),
        ];
        let alarm = times.into_iter().flatten().min().map_or_else(never, at);
        select! {
            recv(self.commands) -> command => command.map_or(Woken::Ended, Woken::Command),
            recv(self.notices) -> notice => notice.map_or(Woken::Deaf, Woken::Notice),
            recv(self.mounts.changes()) -> change => Woken::Mounts(change.is_ok()),
            recv(alarm) -> _ => Woken::Time,
        }
    }

    fn obey(&mut self, command: Command) -> Heard {
        match command {
            Command::Rescan => self.rescan(),
            Command::Inspect(places) => places.iter().try_for_each(|at| self.inspect(at)),
            Command::Confirm(number, places) => self.asked(number, |this| {
                places.iter().try_for_each(|at| this.left(&at.path()))
            }),
            Command::Again(paths) => self.again(&paths),
            Command::TellApart(number, own, source) => {
                self.asked(number, |this| this.tell_apart(*own, &source))
            }
            Command::Forget(source) => {
                self.memory.forget_file(&source);
                Ok(())
            }
        }
    }

    fn take_burst(&mut self, first: Notice) -> Heard {
        self.heed(first)?;
        for _ in 1..BURST {
            let Ok(notice) = self.notices.try_recv() else {
                break;
            };
            self.heed(notice)?;
        }
        Ok(())
    }

    fn heed(&mut self, notice: Notice) -> Heard {
        match notice {
            Notice::Arrived(path) => self.arrived(&path),
            Notice::FolderMade(path) => self.folder_made(&path),
            Notice::Created(path) => self.created(&path),
            Notice::Left(path) => self.left(&path),
            Notice::Removed(paths) => {
                for path in &paths {
                    self.forget(path);
                }
                Ok(())
            }
            Notice::Touched(path) => self.touched(&path),
            Notice::Overflow => {
                self.lost.store(true, Ordering::SeqCst);
                Ok(())
            }
            Notice::Failed(cause) => self.trouble(cause),
            Notice::Wake => Ok(()),
        }
    }

    fn go_deaf(&mut self) -> Heard {
        self.notices = never();
        self.deaf = true;
        self.ask_for_scan();
        self.tell_deaf()
    }

    /// Lost events ask for a rescan, at the earliest time that is not too soon after the last one.
    fn plan_rescan(&mut self) -> Heard {
        if !self.lost.swap(false, Ordering::SeqCst) || self.asked_rescan.is_some() {
            return Ok(());
        }
        self.asked_rescan = Some(self.spaced_until.max(instant()));
        self.trouble("more events came than the kernel's queue or ours holds; the task directory is scanned again".to_owned())
    }

    fn run_due(&mut self) -> Heard {
        let now = instant();
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if due(self.asked_rescan) || due(self.periodic_rescan) {
            self.rescan()?;
        }
        while let Some((path, before)) = self.settling.take_due(now) {
            self.settled(&path, before)?;
        }
        Ok(())
    }

    fn rescan(&mut self) -> Heard {
        self.watch_top();
        self.scan_again()
    }

    /// Events were lost, or a directory is another one.
    pub(super) fn ask_for_scan(&mut self) {
        if self.asked_rescan.is_none() {
            self.asked_rescan = Some(self.spaced_until.max(instant()));
        }
    }

    /// A scan of everything begins: what is lost from here on asks for another one.
    pub(super) fn begin_scan(&mut self) -> Instant {
        self.asked_rescan = None;
        self.memory.begin_scan();
        instant()
    }

    /// The scan that began at `begun` has ended; `complete` tells whether it saw everything.
    pub(super) fn end_scan(&mut self, begun: Instant, complete: bool) {
        if complete {
            self.memory.end_scan();
        }
        let now = instant();
        let length = now.saturating_duration_since(begun);
        self.spaced_until = now + SPACING.max(length * SPACING_LENGTHS);
        let every = self.setup.settings.rescan_every;
        let every = if self.is_deaf() {
            Some(every.map_or(DEAF_RESCAN, |every| every.min(DEAF_RESCAN)))
        } else {
            every
        };
        self.periodic_rescan = every.map(|every| now + every);
    }

    /// Asks for the events of the data directory and the task directory.
    fn watch_top(&mut self) {
        self.watch(Path::new(""));
        self.watch(Path::new(TASKS));
    }

    /// Asks for the events of a directory that is there, again if need be: that does no harm, and what stands at the path
    /// may be another directory than before.
    pub(super) fn watch(&mut self, path: &Path) {
        if self.deaf {
            return;
        }
        let whole = if path.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        };
        let watched = self.ears().and_then(|notify| {
            let unlinked = RecursiveMode::NonRecursive;
            notify.watch(&whole, unlinked)
        });
        match watched {
            Ok(()) => drop(self.unwatched.remove(path)),
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) => drop(self.unwatched.insert(path.to_owned(), explain(&error))),
        }
    }

    fn ears(&mut self) -> notify::Result<&mut INotifyWatcher> {
        if let Some(ref mut notify) = self.notify {
            return Ok(notify);
        }
        let (notices_in, notices) = bounded(NOTICES);
        let filter = Filter::new(
            self.root.clone(),
            notices_in,
            Arc::clone(&self.lost),
            Arc::clone(&self.setup.own),
        );
        let unlinked = Config::default().with_follow_symlinks(false);
        // It takes for granted that its thread starts.
        runtime::try_threads(1).map_err(notify::Error::io)?;
        let notify = INotifyWatcher::new(filter, unlinked)?;
        self.notices = notices;
        Ok(self.notify.insert(notify))
    }

    fn is_deaf(&self) -> bool {
        self.deaf || !self.unwatched.is_empty()
    }

    fn tell_freed(&mut self) -> Heard {
        let freed = self.memory.take_freed();
        if freed.is_empty() {
            return Ok(());
        }
        self.tell(Sighting::Freed(freed))
    }

    /// Tells for which directories there are no events, if that is not what was told last.
    pub(super) fn tell_deaf(&mut self) -> Heard {
        let why = match self.unwatched.first_key_value() {
            _ if self.deaf => {
                Some("the thread that reads the kernel's events has ended".to_owned())
            }
            None => None,
            Some((_, why)) => {
                let count = self.unwatched.len();
                Some(format!("no events come from {count} directories: {why}"))
            }
        };
        if why == self.told_deaf {
            return Ok(());
        }
        if let Some(why) = why.clone().filter(|_| self.told_deaf.is_none()) {
            self.trouble(format!("only scans see what comes and goes: {why}"))?;
        }
        self.told_deaf.clone_from(&why);
        self.tell(Sighting::Deaf(why))
    }

    /// Tells what was seen, after what was gathered before it: sightings come in the order in which things were seen.
    pub(super) fn tell(&mut self, sighting: Sighting) -> Heard {
        self.flush()?;
        self.give(sighting)
    }

    fn give(&self, sighting: Sighting) -> Heard {
        if (self.setup.sink)(sighting) {
            Ok(())
        } else {
            Err(Unheard)
        }
    }

    pub(super) fn trouble(&mut self, text: String) -> Heard {
        self.tell(Sighting::Trouble(text))
    }

    /// A look that failed for a reason that no file should give.
    pub(super) fn failed(&mut self, error: &DiskError) -> Heard {
        if error.is_for_want_of_descriptors() {
            // Nothing tells when there are some again. What could not be looked at now is found then, told once a scan.
            if self.asked_rescan.is_some() {
                return Ok(());
            }
            self.asked_rescan = Some(self.spaced_until.max(instant() + WITHOUT_DESCRIPTORS));
        }
        let (operation, path) = (error.operation, shown(&error.path));
        self.trouble(format!("can't {operation} {path}: {}", error.cause))
    }

    /// Gathers a canonical file that is there.
    pub(super) fn saw(&mut self, at: Location) -> Heard {
        self.flush_gone()?;
        self.seen.push(at);
        if self.seen.len() == BATCH {
            self.flush_seen()?;
        }
        Ok(())
    }

    /// Gathers a canonical file that is gone. What was seen goes before, so that the last word about a file is the true one.
    pub(super) fn missed(&mut self, at: Location) -> Heard {
        self.flush_seen()?;
        self.gone.push(at);
        if self.gone.len() == BATCH {
            self.flush_gone()?;
        }
        Ok(())
    }

    /// Looks because of a question: what is found gone meanwhile is an answer to that.
    fn asked(&mut self, number: u64, look: impl FnOnce(&mut Self) -> Heard) -> Heard {
        self.flush_gone()?;
        self.question = Some(number);
        look(self)?;
        self.flush_gone()?;
        self.question = None;
        Ok(())
    }

    /// Tells what was gathered.
    fn flush(&mut self) -> Heard {
        self.flush_seen()?;
        self.flush_gone()
    }

    fn flush_seen(&mut self) -> Heard {
        if self.seen.is_empty() {
            return Ok(());
        }
        let seen = std::mem::take(&mut self.seen);
        self.give(Sighting::Seen(seen))
    }

    fn flush_gone(&mut self) -> Heard {
        if self.gone.is_empty() {
            return Ok(());
        }
        let places = std::mem::take(&mut self.gone);
        let asked = self.question;
        self.give(Sighting::Gone { places, asked })
    }
}
