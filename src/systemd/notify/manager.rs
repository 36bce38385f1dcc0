//! The service manager's socket, and what waits until there is room in it.
//!
//! A manager reads when it likes: one that is stopped or overloaded leaves no room after some ten datagrams
//! (`net.unix.max_dgram_qlen`, unix(7)), and a send that waits then holds up all that its thread serves. So nobody who tells
//! something waits. What finds no room is kept, the latest of each kind, and a thread of its own waits for room and ends when all
//! is told.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with},
};

/// What a message is about: a later one of the same kind makes an earlier one needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ready,
    Reloading,
    Stopping,
    Status,
    Patience,
    Failure,
}

/// The other end of `NOTIFY_SOCKET`.
#[derive(Debug)]
pub(super) struct Manager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    line: Mutex<Line>,
    /// Told when the thread has ended.
    emptied: Condvar,
    has_warned: AtomicBool,
}

/// What waits for room, in the order in which it is to be told.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(Kind, String)>,
    /// Whether the thread runs. It alone sends then, so that nothing overtakes what it holds.
    has_thread: bool,
}

impl Line {
    fn keep(&mut self, kind: Kind, text: String) {
        self.waiting.retain(|(waiting, _)| *waiting != kind);
        self.waiting.push_back((kind, text));
    }
}

impl Manager {
    /// The manager that listens at `name`: a path, or after an `@` a name without a file (abstract, unix(7)).
    pub(super) fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(name)?,
        };
        Ok(Self {
            // Not connected: a manager that was started anew has another socket at the same place.
            socket: socket_with(
                AddressFamily::UNIX,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                None,
            )?,
            address,
            line: Mutex::default(),
            emptied: Condvar::new(),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Tells it now, or when there is room.
    pub(super) fn tell(self: &Arc<Self>, kind: Kind, text: String) {
        let mut line = self.line();
        line.keep(kind, text);
        if line.has_thread {
            return;
        }
        while let Some((_, text)) = line.waiting.front() {
            match self.send(text, SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {
                    self.warn("it does not read: it is told the latest when it does");
                    // Without a thread, the next who tells something tries again.
                    line.has_thread = self.start_thread();
                    return;
                }
                sent => self.look(sent),
            }
            line.waiting.pop_front();
        }
    }

    /// Tells it now or not at all: what would be wrong later.
    pub(super) fn tell_now(&self, text: &str) {
        self.look(self.send(text, SendFlags::DONTWAIT));
    }

    /// Waits until all is told, at most for so long.
    pub(super) fn finish(&self, patience: Duration) {
        let line = self.line();
        let waited = self
            .emptied
            .wait_timeout_while(line, patience, |line| line.has_thread);
        // Whether it was told: the program ends in either case.
        drop(waited);
    }

    fn start_thread(self: &Arc<Self>) -> bool {
        let manager = Arc::clone(self);
        thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || manager.tell_in_turn())
            .inspect_err(|cause| self.warn(cause))
            .is_ok()
    }

    /// Runs on the thread, which nobody waits for.
    fn tell_in_turn(&self) {
        while let Some(text) = self.next() {
            self.look(retry_on_intr(|| self.send(&text, SendFlags::empty())));
        }
    }

    /// What is to be told next. `None`: the thread ends, and who comes next may send.
    fn next(&self) -> Option<String> {
        let mut line = self.line();
        let next = line.waiting.pop_front();
        if next.is_none() {
            line.has_thread = false;
            self.emptied.notify_all();
        }
        next.map(|(_, text)| text)
    }

    fn send(&self, text: &str, flags: SendFlags) -> Result<(), Errno> {
        // A datagram goes as a whole or not at all.
        sendto(&self.socket, text.as_bytes(), flags, &self.address).map(drop)
    }

    fn look(&self, sent: Result<(), Errno>) {
        if let Err(cause) = sent {
            self.warn(cause);
        }
    }

    /// Once: a manager that can't be told is not told many times a minute.
    fn warn(&self, why: impl std::fmt::Display) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            super::warn(why);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A panic elsewhere while this was held leaves a line that is as good as before.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    const FILLER: &str = "filler";

    fn at(address: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        socket
    }

    /// Leaves no room in the socket at `address`. Gives how much was put there.
    fn fill(address: &SocketAddr) -> usize {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        let put = || filler.send_to_addr(FILLER.as_bytes(), address);
        std::iter::from_fn(|| put().ok()).count()
    }

    fn hear(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// A manager at a path that does not read, and how much it has not read.
    fn deaf(dir: &tempfile::TempDir) -> (UnixDatagram, Arc<Manager>, usize) {
        let path = dir.path().join("notify");
        let address = SocketAddr::from_pathname(&path).unwrap();
        let socket = at(&address);
        let manager = Arc::new(Manager::at(path.as_os_str()).unwrap());
        let unread = fill(&address);
        (socket, manager, unread)
    }

    #[test]
    fn one_that_does_not_read_holds_up_nobody_and_hears_the_latest_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, manager, unread) = deaf(&dir);
        for number in 0..1000 {
            manager.tell(Kind::Status, format!("status {number}"));
        }
        manager.tell(Kind::Ready, "ready".to_owned());
        manager.tell(Kind::Status, "the latest".to_owned());
        manager.tell(Kind::Reloading, "reloading".to_owned());
        manager.tell(Kind::Ready, "ready again".to_owned());
        manager.finish(Duration::from_millis(1));
        for _ in 0..unread {
            assert_eq!(hear(&socket), FILLER);
        }
        let mut heard = vec![hear(&socket)];
        while heard.last().is_none_or(|last| last != "ready again") {
            heard.push(hear(&socket));
        }
        // Before these comes at most the one that the thread already held.
        assert!(heard.len() <= 4, "{heard:?}");
        assert!(
            heard.ends_with(&["the latest", "reloading", "ready again"].map(str::to_owned)),
            "{heard:?}"
        );
        manager.finish(Duration::from_mins(1));
        assert!(!manager.line().has_thread);
        manager.tell(Kind::Status, "as before".to_owned());
        assert_eq!(hear(&socket), "as before");
    }

    #[test]
    fn a_sign_of_life_that_finds_no_room_is_not_told_later() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, manager, unread) = deaf(&dir);
        manager.tell_now("alive");
        for _ in 0..unread {
            assert_eq!(hear(&socket), FILLER);
        }
        manager.tell_now("alive again");
        assert_eq!(hear(&socket), "alive again");
    }

    #[test]
    fn a_name_without_a_file_is_told_too_and_one_where_nobody_is_does_no_harm() {
        let name = format!("workqueue-test-{}", std::process::id());
        let manager = Arc::new(Manager::at(OsStr::new(&format!("@{name}"))).unwrap());
        manager.tell(Kind::Ready, "nobody hears".to_owned());
        let socket = at(&SocketAddr::from_abstract_name(&name).unwrap());
        manager.tell(Kind::Ready, "ready".to_owned());
        assert_eq!(hear(&socket), "ready");
        let too_long = "/x".repeat(200);
        assert!(Manager::at(OsStr::new(&too_long)).is_err());
    }
}
