//! From the kernel's events to notices: which paths to look at, and no word of the daemon's own writes.
//!
//! Runs on `notify`'s thread, for each event, so it is quick and never waits. This module may not know: what is on the
//! disk.
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
};

use crossbeam_channel::{Sender, TrySendError};
use notify::{
    Event, EventHandler, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use super::place::{is_hidden, location};
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
    /// The daemon removed its file at this path.
    Removed(PathBuf),
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

/// Takes `notify`'s events and passes on what matters.
pub(super) struct Filter {
    root: PathBuf,
    notices: Sender<Notice>,
    lost: Arc<AtomicBool>,
    own: Arc<OwnSteps>,
    /// Cookies of renames that began at one of our temporary names.
    ours: VecDeque<usize>,
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
            && self.own.end(step, at)
        {
            return (step == Step::Removed).then(|| Notice::Removed(path.to_owned()));
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
            self.pass(notice);
        }
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
