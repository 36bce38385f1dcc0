//! Tells when what is mounted changes: no event of a directory does, neither of the one that is covered or gone nor of the one
//! that comes to light.
//!
//! Runs on a thread of its own, which sleeps in `poll`. This module may not know: whether a change matters.

use std::{
    fs::File,
    io::{self, PipeWriter},
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Where the kernel says of a change, by `POLLPRI` (`proc_pid_mounts(5)`).
const TABLE: &str = "/proc/self/mountinfo";

/// The handle of the thread. Dropping it ends the thread and waits for that.
#[derive(Debug)]
pub(super) struct MountWatch {
    changes: Receiver<()>,
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl MountWatch {
    /// Begins to listen. Where that can't be (no `/proc`, no descriptors), nothing is told, and scans find what changed.
    pub(super) fn start() -> Self {
        begin().unwrap_or_else(|error| {
            tracing::debug!(%error, "changes of mounts are not told");
            Self {
                changes: never(),
                end: None,
                thread: None,
            }
        })
    }

    /// Nothing comes any more.
    pub(super) fn give_up(&mut self) {
        self.changes = never();
    }

    /// Says that something changed, once for any number of changes since it was asked last.
    pub(super) const fn changes(&self) -> &Receiver<()> {
        &self.changes
    }
}

fn begin() -> io::Result<MountWatch> {
    let table = File::open(TABLE)?;
    let (ended, end) = io::pipe()?;
    let (tell, changes) = bounded(1);
    let thread = std::thread::Builder::new()
        .name("mounts".to_owned())
        .spawn(move || listen(&table, &ended, &tell))?;
    Ok(MountWatch {
        changes,
        end: Some(end),
        thread: Some(thread),
    })
}

/// Until the other end of `ended` is closed.
fn listen(table: &File, ended: &io::PipeReader, tell: &Sender<()>) {
    loop {
        let mut fds = [
            PollFd::new(table, PollFlags::PRI),
            PollFd::new(ended, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            // It has no memory for that, or no such call: what is told by then is all.
            Err(_) => return,
        }
        let [table, ended] = fds.map(|fd| fd.revents());
        if !ended.is_empty() {
            return;
        }
        if table.contains(PollFlags::PRI) {
            match tell.try_send(()) {
                // Full: it is about to be looked at, after this change.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => return,
            }
        }
    }
}

impl Drop for MountWatch {
    fn drop(&mut self) {
        self.end = None;
        let ended = self.thread.take().map(JoinHandle::join);
        debug_assert!(!matches!(ended, Some(Err(_))), "the thread panics nowhere");
    }
}
