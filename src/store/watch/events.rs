//! From the kernel's events to notices: which paths to look at, and no word of the daemon's own writes.
//!
//! Runs on `notify`'s thread, for each event, so it is quick and never waits for another. It does pause for a moment while the
//! daemon itself makes and removes files one after the other: the kernel tells of each, and to be woken for each took a tenth of what
//! the daemon spends on a claim. What comes in a pause is read in one go.
//!
//! This module may not know: what is on the disk.
//!
//! What `notify` 8.2 makes of inotify's events (its `src/inotify.rs`): a rename is `From` and `To`, in this order and with
//! one cookie, and then a `Both` that says nothing new; a folder that is watched itself reports its own removal or move
//! besides; overflow is an event that asks for a rescan.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};
use notify::{
    Event, EventHandler, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use super::{
    place::{is_hidden, location},
    watching::instant,
};
use crate::store::{
    own::{OwnSteps, Step},
    shown,
    spool::is_temporary,
};

/// What to look at, and why. Paths are relative to the data directory.
#[derive(Debug)]
pub(super) enum Notice {
    /// Something is whole at this path: renamed to it, or closed after writing.
    Arrived(PathBuf),
    /// A folder was made at this path; what is in it may still be being written.
    FolderMade(PathBuf),
    /// Something was made at this path, and if it is a file it is not whole yet.
    Created(PathBuf),
    /// Something left this path.
    Left(PathBuf),
    /// The daemon removed its files at these paths. At most [`REMOVED`].
    Removed(Vec<PathBuf>),
    /// Owner, mode or times changed.
    Touched(PathBuf),
    /// Events are lost.
    Overflow,
    /// `notify` itself has a problem.
    Failed(String),
    /// Look at the mark of what was lost.
    Wake,
}

/// How many renames of ours may be under way between their two events. They come in pairs, so that one would do; the kernel
/// does not promise it (inotify(7), "dealing with rename events").
const RENAMES: usize = 64;

/// How many files that the daemon removed are told of in one notice. None waits once no step of its own is under way; one that the
/// kernel never tells of may keep the last few until something else is heard of, which comes after them.
const REMOVED: usize = 64;

/// How long a pause is: so much later at most is somebody else's file heard of while the daemon is at work on its own.
const PAUSE: Duration = Duration::from_millis(1);
/// An event that comes no sooner after the one before was waited for. While there are others to be read there is no pause: the kernel
/// keeps no more than 16 384.
const WAITED: Duration = Duration::from_micros(20);

/// Takes `notify`'s events and passes on what matters.
pub(super) struct Filter {
    root: PathBuf,
    notices: Sender<Notice>,
    lost: Arc<AtomicBool>,
    own: Arc<OwnSteps>,
    /// Cookies of renames that began at one of our temporary names.
    ours: VecDeque<usize>,
    /// What the daemon removed, and was not told of yet.
    removed: Vec<PathBuf>,
    /// When the last event was done with.
    idle_since: Instant,
}

impl Filter {
    /// For events below `root`, which is absolute. `lost` is set when a notice found no room.
    pub(super) fn new(
        root: PathBuf,
        notices: Sender<Notice>,
        lost: Arc<AtomicBool>,
        own: Arc<OwnSteps>,
    ) -> Self {
        let ours = VecDeque::with_capacity(RENAMES);
        Self {
            root,
            notices,
            lost,
            own,
            ours,
            removed: Vec::new(),
            idle_since: instant(),
        }
    }

    fn notice(&mut self, event: &Event) -> Option<Notice> {
        if event.need_rescan() {
            self.own.forget();
            return Some(Notice::Overflow);
        }
        let path = event.paths.first()?.strip_prefix(&self.root).ok()?;
        if let EventKind::Modify(ModifyKind::Name(mode)) = event.kind {
            return self.renamed(path, mode, event.tracker());
        }
        if path.file_name().is_none_or(is_hidden) {
            return None;
        }
        let step = match event.kind {
            EventKind::Create(_) => Some(Step::Made),
            EventKind::Remove(_) => Some(Step::Removed),
            _ => None,
        };
        if let Some(step) = step
            && let Some(at) = location(path)
            && let Some(under_way) = self.own.end(step, at)
        {
            if step == Step::Removed {
                self.removed.push(path.to_owned());
            }
            self.heard_of_own(under_way);
            return None;
        }
        let path = path.to_owned();
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Notice::Arrived(path)),
            EventKind::Create(CreateKind::Folder) => Some(Notice::FolderMade(path)),
            EventKind::Create(_) => Some(Notice::Created(path)),
            EventKind::Remove(_) => Some(Notice::Left(path)),
            EventKind::Modify(ModifyKind::Metadata(_)) => Some(Notice::Touched(path)),
            _ => None,
        }
    }

    /// The daemon made or removed a file, and so many steps of it are under way still, of which the kernel will tell.
    fn heard_of_own(&mut self, under_way: usize) {
        let pause = under_way > 0 && instant() >= self.idle_since + WAITED;
        if pause || under_way == 0 || self.removed.len() >= REMOVED {
            self.pass_removed();
        }
        if pause {
            #[allow(
                clippy::disallowed_methods,
                reason = "waits for nothing: events gather meanwhile"
            )]
            std::thread::sleep(PAUSE);
        }
    }

    fn renamed(&mut self, path: &Path, mode: RenameMode, cookie: Option<usize>) -> Option<Notice> {
        let name = path.file_name()?;
        match mode {
            RenameMode::From => {
                if let Some(cookie) = cookie.filter(|_| is_temporary(name)) {
                    self.ours.truncate(RENAMES - 1);
                    self.ours.push_front(cookie);
                }
                (!is_hidden(name)).then(|| Notice::Left(path.to_owned()))
            }
            RenameMode::To => {
                let ours = self.ours.iter().position(|ours| Some(*ours) == cookie);
                if let Some(at) = ours {
                    self.ours.remove(at);
                }
                // Our writes end at canonical names. Whoever uses our temporary names for others has dropped a file.
                let own_write = ours.is_some() && location(path).is_some();
                (!own_write && !is_hidden(name)).then(|| Notice::Arrived(path.to_owned()))
            }
            _ => None,
        }
    }

    /// Before any other notice: what comes to a path is not what was removed there.
    fn pass_removed(&mut self) {
        if !self.removed.is_empty() {
            let removed = std::mem::take(&mut self.removed);
            self.pass(Notice::Removed(removed));
        }
    }

    /// Never waits: the thread that takes the notices waits for this one when it adds a watch.
    fn pass(&self, notice: Notice) {
        if let Err(TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lost.store(true, Ordering::SeqCst);
            // The other side looks at the mark each time it has taken what was there. Should that have been before the
            // mark was set, then there is room now.
            drop(self.notices.try_send(Notice::Wake));
        }
    }
}

impl EventHandler for Filter {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let notice = match event {
            Ok(event) => self.notice(&event),
            Err(error) => Some(Notice::Failed(explain(&error))),
        };
        if let Some(notice) = notice {
            self.pass_removed();
            self.pass(notice);
        }
        self.idle_since = instant();
    }
}

/// What `notify` says, with its paths escaped and the limit named that it ran into.
pub(super) fn explain(error: &notify::Error) -> String {
    let mut text = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached (sysctl fs.inotify.max_user_watches)"
                .to_owned()
        }
        // inotify_init: the limit of instances, or of descriptors.
        notify::ErrorKind::Io(cause)
            if cause.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
        {
            format!("{cause} (ulimit -n, or sysctl fs.inotify.max_user_instances)")
        }
        notify::ErrorKind::Io(cause) => cause.to_string(),
        notify::ErrorKind::PathNotFound => "it is not there".to_owned(),
        other => format!("{other:?}"),
    };
    for path in &error.paths {
        text.push_str(": ");
        text.push_str(&shown(path));
    }
    text
}

#[cfg(test)]
mod tests {
    use notify::event::RemoveKind;

    use super::*;
    use crate::{store::watch::tests::place_of, task::Location};

    struct Ears {
        filter: Filter,
        notices: crossbeam_channel::Receiver<Notice>,
        own: Arc<OwnSteps>,
    }

    impl Ears {
        fn new() -> Self {
            let (tell, notices) = crossbeam_channel::bounded(8);
            let own = Arc::<OwnSteps>::default();
            let filter = Filter::new("/data".into(), tell, Arc::default(), Arc::clone(&own));
            Self {
                filter,
                notices,
                own,
            }
        }

        fn hear(&mut self, kind: EventKind, path: &Path) {
            let event = Event::new(kind).add_path(Path::new("/data").join(path));
            self.filter.handle_event(Ok(event));
        }

        fn hear_removed(&mut self, path: &Path) {
            self.hear(EventKind::Remove(RemoveKind::File), path);
        }

        /// One that was there to be read when the one before was done with.
        fn hear_removed_at_once(&mut self, path: &Path) {
            self.filter.idle_since = instant() + Duration::from_mins(1);
            self.hear_removed(path);
        }

        /// What was passed on since, in short.
        fn told(&self) -> Vec<String> {
            let notices = self.notices.try_iter();
            notices.map(|notice| format!("{notice:?}")).collect()
        }

        /// Places at which the daemon is about to remove its files.
        fn remove(&self, numbers: std::ops::Range<u8>) -> Vec<Location> {
            let places: Vec<_> = numbers.map(|number| place_of("default", number)).collect();
            for at in &places {
                self.own.begin(Step::Removed, at);
            }
            places
        }
    }

    #[test]
    fn own_removals_are_told_of_together_once_none_is_under_way() {
        let mut ears = Ears::new();
        let places = ears.remove(1..4);
        for at in &places[..2] {
            ears.hear_removed_at_once(&at.path());
        }
        assert!(ears.told().is_empty());
        ears.hear_removed_at_once(&places[2].path());
        let paths: Vec<_> = places.iter().map(Location::path).collect();
        assert_eq!(ears.told(), [format!("{:?}", Notice::Removed(paths))]);
    }

    #[test]
    fn what_comes_to_a_path_is_told_after_what_was_removed_there() {
        let mut ears = Ears::new();
        let places = ears.remove(1..3);
        let path = places[0].path();
        ears.hear_removed_at_once(&path);
        ears.hear(
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            &path,
        );
        let removed = Notice::Removed(vec![path.clone()]);
        let expected = [removed, Notice::Arrived(path)].map(|notice| format!("{notice:?}"));
        assert_eq!(ears.told(), expected);
    }

    #[test]
    fn no_removal_waits_for_a_pause_to_end_or_for_more_than_a_notice_holds() {
        let mut ears = Ears::new();
        let places = ears.remove(0..200);
        // Other steps are under way, and this one was waited for: a pause is made, and before it all is told.
        ears.filter.idle_since = instant().checked_sub(WAITED).unwrap();
        ears.hear_removed(&places[0].path());
        assert_eq!(ears.told().len(), 1);
        for at in &places[1..199] {
            ears.hear_removed_at_once(&at.path());
        }
        assert_eq!(ears.told().len(), 198 / REMOVED);
        // One of somebody else's is no step of ours, and told at once.
        let others = place_of("default", 255).path();
        ears.hear_removed_at_once(&others);
        let told = ears.told();
        assert_eq!(told.len(), 2);
        assert_eq!(told[1], format!("{:?}", Notice::Left(others)));
    }
}
