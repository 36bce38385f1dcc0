//! [`Held`]: the journal's directory, opened once. What is answered lies where the daemon began, whatever takes that directory's
//! name while it runs.
//!
//! This module may not know: what is in the journal.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::OnceLock,
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    disk::{DiskError, DiskResult},
    journal::DIR,
    real_disk::retry,
};

/// The journal's directory, from its first use on.
///
/// By its name it could be another one from one segment to the next (moved away, covered by a mount): then what was answered would
/// lie in two, and the next start would find one of them.
#[derive(Debug, Default)]
pub(super) struct Held(OnceLock<OwnedFd>);

impl Held {
    /// The directory, and what `path` is called in it; `None` where `path` is not the journal's, or there is no directory yet.
    pub(super) fn place<'a>(
        &self,
        root: BorrowedFd<'_>,
        path: &'a Path,
    ) -> rustix::io::Result<Option<(BorrowedFd<'_>, &'a Path)>> {
        let Ok(name) = path.strip_prefix(DIR) else {
            return Ok(None);
        };
        let held = if let Some(held) = self.0.get() {
            held
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match retry(|| fs::openat(root, DIR, flags, Mode::empty())) {
                Ok(found) => self.0.get_or_init(|| found),
                // What is wrong with it is told by whatever is done at its path.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        };
        let is_itself = name.as_os_str().is_empty();
        let name = if is_itself { Path::new(".") } else { name };
        Ok(Some((held.as_fd(), name)))
    }

    /// Fails if `path` is the journal's, and its directory is not the one any more that its name leads to: what was written there
    /// the next start would not find. Somebody has to learn of that before.
    pub(super) fn check(&self, root: BorrowedFd<'_>, path: &Path) -> DiskResult<()> {
        let failed = |errno: Errno| DiskError::new("look at", DIR, errno);
        let Some(held) = self.0.get().filter(|_| path.starts_with(DIR)) else {
            return Ok(());
        };
        let own = fs::fstat(held).map_err(failed)?;
        let is_own = match fs::statat(root, DIR, AtFlags::SYMLINK_NOFOLLOW) {
            // The numbers of what is open are nobody else's.
            Ok(now) => (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino),
            Err(Errno::NOENT | Errno::NOTDIR) => false,
            Err(errno) => return Err(failed(errno)),
        };
        if is_own {
            return Ok(());
        }
        let why = "journal/ is not the directory any more that it was at the start: what was answered is in that one, so put it \
                   back before the next start";
        Err(DiskError::new("write", path, io::Error::other(why)))
    }
}
