//! Moving a file between folders of the data directory that may lie on different file systems, or mounts of one.
//!
//! This module may not know: why a file is moved.

use std::{io, path::Path};

use super::{Disk, DiskError, DiskFile as _, DiskResult, Meta, Read};

/// The longest file that is copied, in bytes: it is held in memory meanwhile. A longer one stays where it is.
const MAX_COPY: u64 = 16 << 20;
/// What the copy is called until it is whole: a hidden name, which the watcher passes over. One that a crash left is removed by
/// the next. Not a name of the spool's, whose renames the watcher takes for the daemon's own.
pub(super) const UNFINISHED: &str = ".wq-carried";

/// How a file came to its new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// It was renamed: it is what it was.
    Renamed,
    /// It was copied.
    Copied,
    /// It was to be copied, and is not the one that is meant: it stays.
    Another,
}

/// Moves `from` to `to`, and fails if `to` is taken. Where no rename can do it, by a copy of what `is_meant`, durable before
/// `from` goes: a crash leaves one of them, or both.
pub(super) fn carry<D: Disk>(
    disk: &D,
    from: &Path,
    to: &Path,
    is_meant: impl Fn(&Meta) -> bool,
) -> DiskResult<Carried> {
    match disk.rename_new(from, to) {
        Err(error) if error.cause.kind() == io::ErrorKind::CrossesDevices => {
            copy(disk, from, to, is_meant, error)
        }
        other => other.map(|()| Carried::Renamed),
    }
}

fn copy<D: Disk>(
    disk: &D,
    from: &Path,
    to: &Path,
    is_meant: impl Fn(&Meta) -> bool,
    why: DiskError,
) -> DiskResult<Carried> {
    let (read, bytes) = match disk.read(from, MAX_COPY)? {
        Read::Whole(read, bytes) => (read, bytes),
        Read::Changed => return Ok(Carried::Another),
        Read::Irregular(_) | Read::TooLarge(_) => return Err(why),
    };
    if !is_meant(&read) {
        return Ok(Carried::Another);
    }
    let folder = to.parent().unwrap_or(to);
    let unfinished = folder.join(UNFINISHED);
    remove(disk, &unfinished)?;
    let written = disk.write_new(&unfinished, &bytes);
    let durable = written.and_then(|()| disk.open(&unfinished)?.sync());
    let copied = durable.and_then(|()| disk.rename_new(&unfinished, to));
    if copied.is_err() {
        remove(disk, &unfinished)?;
        return copied.map(|()| Carried::Copied);
    }
    disk.sync_dir(folder)?;
    if !disk.look(from)?.is(&read.source(from)) {
        // What has come since is looked at like any other.
        disk.unlink(to)?;
        return Ok(Carried::Another);
    }
    disk.unlink(from).map(|()| Carried::Copied)
}

/// Removes a file, if it is there.
pub(super) fn remove<D: Disk>(disk: &D, path: &Path) -> DiskResult<()> {
    match disk.unlink(path) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
