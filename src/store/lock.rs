//! One daemon per data directory: advisory locks (`flock`) on the file `lock` in it, and on the directory itself.
//!
//! The file says who holds it. Whoever removes or replaces it (a backup that is unpacked over it) would let a second daemon lock
//! another file of the same name: so the directory is locked, too, which stays the same one. The kernel gives both back when their
//! holder ends, however it ends.
//!
//! The file also keeps by what the journal's directory is known again, and how far it was: a start that finds another in its place, since
//! it was moved away or is not mounted yet, would take an empty one for a first one, and what was left below a mount, from before it
//! was moved there, for the journal. This module may not know: what is in the journal.

use std::{
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::{
    DirId, DiskError,
    checkpoint::checkpoint_cut,
    holder,
    journal::{DIR, segment_number},
    shown,
};
use crate::task::DirMark;

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on this data directory.
    #[error("another daemon{} holds {}", pid_text(*pid), shown(path))]
    Held {
        /// The lock's file, or the data directory where that is gone.
        path: PathBuf,
        /// The other one's process id, where it is told.
        pid: Option<u32>,
    },
    /// Something that is no file has the name of the lock's.
    #[error(
        "{} is {what}, and has to be a file: remove it, and the next start makes one",
        shown(path)
    )]
    NoFile {
        /// The lock's file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is no journal, and its directory is another one than the last daemon's.
    #[error(
        "{} has no journal in it, and is another directory than the last daemon wrote to: was that moved, or is it not mounted? \
         Put it back: mount it, or remove this one first, as it would get into it. Or remove {} to start with what tasks/ tells alone",
        shown(path),
        shown(lock)
    )]
    OtherJournal {
        /// The journal's directory.
        path: PathBuf,
        /// The lock's file.
        lock: PathBuf,
    },
    /// The journal's directory is another one than the last daemon's, and that had written more.
    #[error(
        "{} is another directory than the last daemon wrote to, and its journal ends before that one's: was that moved, or is it not \
         mounted? Put it back. Or remove {} to start with the older one, which may bring back what was done since",
        shown(path),
        shown(lock)
    )]
    OlderJournal {
        /// The journal's directory.
        path: PathBuf,
        /// The lock's file.
        lock: PathBuf,
    },
    /// The lock's file can't be opened, locked or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// The lock on a data directory, held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    _directory: OwnedFd,
}

impl Lock {
    /// Takes the lock of the data directory `root`, without waiting, and writes into its file who we are.
    pub fn take(root: &Path) -> Result<Self, LockError> {
        let path = root.join("lock");
        let directory = open_directory(root)?;
        // First, so that whoever is kept out makes no file.
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(root, path)),
            // The file alone has to do.
            Err(errno) => {
                tracing::debug!(%errno, "this file system has no locks of directories");
            }
        }
        let file = open(&path)?;
        give_away(&directory, &file).map_err(|errno| DiskError::new("give away", &path, errno))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(root, path)),
            Err(errno) => return Err(DiskError::new("lock", path, errno).into()),
        }
        match moved(&file, root)? {
            Some(Moved::Empty) => {
                let (path, lock) = (root.join(DIR), path);
                return Err(LockError::OtherJournal { path, lock });
            }
            Some(Moved::Older) => {
                let (path, lock) = (root.join(DIR), path);
                return Err(LockError::OlderJournal { path, lock });
            }
            Some(Moved::Other) => tracing::warn!(
                directory = %shown(&root.join(DIR)),
                "the journal's directory is another one than the last daemon wrote to, and as far: it is taken for a copy"
            ),
            None => {}
        }
        let told = Told::read(&file).map_err(|cause| DiskError::new("read", &path, cause))?;
        let segment = told.journal.and_then(|noted| noted.segment);
        let noted = mark(root)?.map(|mark| Noted { mark, segment });
        match write(&file, noted).map_err(|cause| DiskError::new("write", &path, cause)) {
            // It is held all the same. Who is kept out is not told by whom; what is there of the journal stays.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no room to say who holds the data directory");
            }
            other => other?,
        }
        Ok(Self {
            file,
            _directory: directory,
        })
    }

    /// Notes in the file how far the journal in `root` is: to be called once a start has made its first segment.
    pub fn note_journal(&self, root: &Path) -> Result<(), DiskError> {
        let Some(mark) = mark(root)? else {
            return Ok(());
        };
        let segment = found_in(root)?.segment;
        write(&self.file, Some(Noted { mark, segment }))
            .map_err(|cause| DiskError::new("write", root.join("lock"), cause))
    }
}

fn open_directory(root: &Path) -> Result<OwnedFd, DiskError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|errno| DiskError::new("open", root, errno))
}

fn open(path: &Path) -> Result<File, LockError> {
    // NONBLOCK and NOCTTY: what is there may be no file.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    // Anybody who may look into the directory may read who holds it; the umask narrows that.
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let opened = rustix::fs::open(path, flags, mode);
    match opened.and_then(|file| Ok((rustix::fs::fstat(&file)?, file))) {
        Ok((stat, file)) if kind(stat.st_mode).is_none() => Ok(file.into()),
        opened => {
            let path = path.to_owned();
            match (no_file(&path), opened) {
                (Some(what), _) => Err(LockError::NoFile { path, what }),
                (None, Err(errno)) => Err(DiskError::new("open", path, errno).into()),
                (None, Ok(_)) => Err(DiskError::new("open", path, Errno::AGAIN).into()),
            }
        }
    }
}

/// What is at `path`, in words, if that is there and no file.
#[must_use]
pub fn no_file(path: &Path) -> Option<&'static str> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    kind(stat.st_mode)
}

fn kind(mode: u32) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device"),
    }
}

/// The error that names who holds `root`: as the kernel has it, else as its file `path` says.
fn held(root: &Path, path: PathBuf) -> LockError {
    match holder(root) {
        Ok(Some(found)) if found.pid.is_some() => LockError::Held {
            path: found.path,
            pid: found.pid,
        },
        // Another container's, or this one's rules hide it.
        Ok(_) | Err(_) => {
            let pid = told(&path).ok().and_then(|told| told.pid);
            LockError::Held { path, pid }
        }
    }
}

/// What a lock's file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Its holder, or the last one.
    pid: Option<u32>,
    /// The journal of that one.
    journal: Option<Noted>,
}

/// What is noted of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    /// Its directory.
    mark: DirMark,
    /// A segment that it has, or had.
    segment: Option<u64>,
}

impl Told {
    /// Reads an open one. What a crash or a full disk left of the text says nothing.
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 128];
        let count = file.read_at(&mut bytes, 0)?;
        let text = str::from_utf8(&bytes[..count]).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        let journal = lines.find_map(|line| Noted::parse(line.strip_prefix(JOURNAL)?));
        Ok(Self { pid, journal })
    }
}

impl Noted {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mark = words.next().filter(|mark| mark.len() == 32)?;
        let mark = u128::from_str_radix(mark, 16).ok()?;
        Some(Self {
            mark: DirMark(mark.to_be_bytes()),
            segment: words.next().and_then(|number| number.parse().ok()),
        })
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JOURNAL}{:032x}", u128::from_be_bytes(self.mark.0))?;
        match self.segment {
            Some(number) => write!(f, " {number}"),
            None => Ok(()),
        }
    }
}

const JOURNAL: &str = "journal ";

fn told(path: &Path) -> io::Result<Told> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty())?;
    Told::read(&file.into())
}

/// Cuts the file only when the new text is in it: on a full disk what is given away may be gone.
fn write(file: &File, journal: Option<Noted>) -> io::Result<()> {
    let journal = journal.map(|noted| format!("{noted}\n"));
    let text = format!("{}\n{}", std::process::id(), journal.unwrap_or_default());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// By what the journal's directory is known again, if there is one.
fn mark(root: &Path) -> Result<Option<DirMark>, DiskError> {
    let directory = open_directory(root)?;
    match DirId::at(directory.as_fd(), Path::new(DIR)) {
        Ok(id) => Ok(Some(id.mark())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(DiskError::new("look at", root.join(DIR), errno)),
    }
}

/// What is known of a journal's directory that is another one than the file `lock` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// No segment and no checkpoint is in it, or it is not there at all.
    Empty,
    /// A journal is, and ends before that of the last daemon: from before it was moved elsewhere.
    Older,
    /// A journal is, and ends no earlier: perhaps the data directory is a copy, or came back from a backup.
    Other,
}

/// Whether the journal's directory in `root` is another one than the daemon's that holds the lock, or held it last. `None` also where
/// that is not known.
pub fn moved_journal(root: &Path) -> Result<Option<Moved>, DiskError> {
    let path = root.join("lock");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => moved(&file.into(), root),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(DiskError::new("open", path, errno)),
    }
}

fn moved(lock: &File, root: &Path) -> Result<Option<Moved>, DiskError> {
    let read =
        Told::read(lock).map_err(|cause| DiskError::new("read", root.join("lock"), cause))?;
    let Some(noted) = read.journal else {
        return Ok(None);
    };
    if mark(root)? == Some(noted.mark) {
        return Ok(None);
    }
    let found = found_in(root)?;
    Ok(Some(if !found.is_journal {
        Moved::Empty
    } else if found.segment < noted.segment {
        Moved::Older
    } else {
        Moved::Other
    }))
}

/// What is in the journal's directory, by the names.
#[derive(Debug, Default)]
struct FoundIn {
    /// A segment, or a checkpoint.
    is_journal: bool,
    /// The newest segment.
    segment: Option<u64>,
}

fn found_in(root: &Path) -> Result<FoundIn, DiskError> {
    let path = root.join(DIR);
    let mut found = FoundIn::default();
    let list = |cause| DiskError::new("list", path.clone(), cause);
    let entries = match std::fs::read_dir(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(list)?,
    };
    for entry in entries {
        let name = entry.map_err(list)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let segment = segment_number(name);
        found.segment = found.segment.max(segment);
        found.is_journal |= segment.is_some() || checkpoint_cut(name).is_some();
    }
    Ok(found)
}

/// Gives the journal's files to whom its directory belongs: those that root made in a repair its daemon could not open. What has
/// another name elsewhere root did not make.
pub fn give_journal_away(root: &Path) -> Result<(), DiskError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let path = root.join(DIR);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let directory = rustix::fs::open(&path, flags | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| DiskError::new("open", &path, errno))?;
    let entries = std::fs::read_dir(&path).map_err(|cause| DiskError::new("list", &path, cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| DiskError::new("list", &path, cause))?;
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let give = || {
            let file = rustix::fs::openat(&directory, entry.file_name(), flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&file)?;
            if kind(stat.st_mode).is_none() && stat.st_nlink == 1 {
                give_away(&directory, &file)?;
            }
            Ok(())
        };
        give().map_err(|errno: Errno| DiskError::new("give away", entry.path(), errno))?;
    }
    Ok(())
}

/// Of root, who checks another user's directory, the file must not stay: that one's daemon could not open it any more.
fn give_away(directory: &OwnedFd, file: &impl AsFd) -> rustix::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (owner, now) = (rustix::fs::fstat(directory)?, rustix::fs::fstat(file)?);
    if owner.st_uid == now.st_uid {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    rustix::fs::fchown(file, Some(user), Some(group))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_daemon_is_told_the_first_ones_pid() {
        let scratch = tempfile::tempdir().unwrap();
        let held = Lock::take(scratch.path()).unwrap();
        match Lock::take(scratch.path()) {
            Err(LockError::Held { pid, path }) => {
                assert_eq!(pid, Some(std::process::id()));
                assert_eq!(path, scratch.path().join("lock"));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::take(scratch.path()).unwrap();
    }

    #[test]
    fn a_lock_whose_file_is_removed_or_replaced_is_held_all_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let _held = Lock::take(scratch.path()).unwrap();
        for replaced in [false, true] {
            fs::remove_file(&path).unwrap();
            if replaced {
                fs::write(&path, "1\n").unwrap();
            }
            match Lock::take(scratch.path()) {
                Err(LockError::Held { pid, path }) => {
                    assert_eq!(pid, Some(std::process::id()));
                    assert_eq!(path, scratch.path());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(path.exists(), replaced, "who is kept out makes none");
            fs::write(&path, "").unwrap();
        }
    }

    #[test]
    fn a_daemon_that_locks_the_file_alone_keeps_others_out() {
        let scratch = tempfile::tempdir().unwrap();
        let file = File::create(scratch.path().join("lock")).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        let second = Lock::take(scratch.path());
        assert!(matches!(second, Err(LockError::Held { .. })), "{second:?}");
    }

    #[test]
    fn a_longer_text_of_before_leaves_nothing_behind() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("lock"), "99999999999\njournal x\n").unwrap();
        let _held = Lock::take(scratch.path()).unwrap();
        let text = fs::read_to_string(scratch.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn what_is_no_file_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let refused = |what: &str| {
            let error = Lock::take(scratch.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("lock is {what}, and")), "{error}");
        };
        fs::create_dir(&path).unwrap();
        refused("a directory");
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        refused("a symbolic link");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        refused("a FIFO");
        fs::remove_file(&path).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        refused("a socket");
    }

    #[test]
    fn an_empty_journal_in_place_of_the_last_daemons_is_refused_until_that_is_back() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let (journal, away) = (root.join("journal"), root.join("away"));
        fs::create_dir(&journal).unwrap();
        drop(Lock::take(root).unwrap());
        assert_eq!(moved_journal(root).unwrap(), None);
        fs::rename(&journal, &away).unwrap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Empty));
        fs::create_dir_all(journal.join("lost+found")).unwrap();
        for _ in 0..2 {
            let refused = Lock::take(root);
            assert!(
                matches!(refused, Err(LockError::OtherJournal { .. })),
                "{refused:?}"
            );
        }
        fs::remove_dir(journal.join("lost+found")).unwrap();
        fs::remove_dir(&journal).unwrap();
        fs::rename(&away, &journal).unwrap();
        drop(Lock::take(root).unwrap());

        // One with a journal in it, as of a backup, is the journal from now on; and so is any where nobody says another.
        fs::rename(&journal, &away).unwrap();
        fs::create_dir(&journal).unwrap();
        fs::write(journal.join(".keep"), "").unwrap();
        fs::create_dir(journal.join("journal")).unwrap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Empty));
        fs::write(journal.join(format!("{:020}.wal", 1)), "").unwrap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Other));
        drop(Lock::take(root).unwrap());
        assert_eq!(moved_journal(root).unwrap(), None);
        fs::remove_dir_all(&journal).unwrap();
        fs::rename(&away, &journal).unwrap();
        fs::remove_file(root.join("lock")).unwrap();
        drop(Lock::take(root).unwrap());
    }

    #[test]
    fn a_journal_that_was_left_behind_when_it_was_moved_elsewhere_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let (journal, away) = (root.join("journal"), root.join("away"));
        let segment = |in_it: &Path, number: u64| in_it.join(format!("{number:020}.wal"));
        fs::create_dir(&journal).unwrap();
        fs::create_dir(&away).unwrap();
        for number in [1, 2] {
            fs::write(segment(&journal, number), "").unwrap();
            fs::write(segment(&away, number), "").unwrap();
        }
        let swap = || {
            let third = root.join("third");
            fs::rename(&journal, &third).unwrap();
            fs::rename(&away, &journal).unwrap();
            fs::rename(&third, &away).unwrap();
        };
        let lock = Lock::take(root).unwrap();
        lock.note_journal(root).unwrap();
        drop(lock);
        // As far as the other: a copy of it.
        swap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Other));
        let lock = Lock::take(root).unwrap();
        fs::write(segment(&journal, 3), "").unwrap();
        lock.note_journal(root).unwrap();
        drop(lock);
        // What the copy was made of ends before it.
        swap();
        for _ in 0..2 {
            assert_eq!(moved_journal(root).unwrap(), Some(Moved::Older));
            let refused = Lock::take(root);
            assert!(
                matches!(refused, Err(LockError::OlderJournal { .. })),
                "{refused:?}"
            );
        }
        // Only segments tell how far it is.
        fs::write(journal.join(format!("{:020}.checkpoint", 9)), "").unwrap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Older));
        swap();
        // A start that came to no segment of its own forgets nothing.
        drop(Lock::take(root).unwrap());
        swap();
        assert_eq!(moved_journal(root).unwrap(), Some(Moved::Older));
        fs::remove_file(root.join("lock")).unwrap();
        drop(Lock::take(root).unwrap());
    }

    #[test]
    fn a_lock_for_whose_text_there_is_no_room_is_held_all_the_same() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = DiskError::new("write", "lock", write(&full, None).unwrap_err());
        assert!(error.is_full(), "{error}");
    }

    #[test]
    fn without_its_directory_the_lock_is_a_disk_error() {
        let error = Lock::take(Path::new("/nonexistent/data"));
        assert!(matches!(error, Err(LockError::Disk(cause)) if cause.is_missing()));
    }
}
