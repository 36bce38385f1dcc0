//! Looking for damage in the journal, and setting aside what is damaged, so that a start is possible again.
//!
//! Nothing is deleted: a damaged file stays beside its place as `NAME.damaged`. What stands before the damage in it is
//! kept; what comes behind it in the journal is set aside too, because records build on each other. The tasks' own files
//! are untouched: from them and from what is left of the journal the next start makes its state.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk::{Disk, DiskError, Read, names},
    journal::{Boot, DIR, SEGMENT_HEADER, segment_number},
    read_only::ReadOnly,
    recover::{JournalStart, RecoverError, recover},
};

/// Something that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// What it was called, relative to the data directory.
    pub file: PathBuf,
    /// What it is called now.
    pub now: PathBuf,
    /// Bytes at its beginning that are whole and stay in use; 0: none.
    pub kept: u64,
    /// What was wrong.
    pub reason: String,
}

/// The most that is read of one journal file: more than any segment has.
const MOST: u64 = 4 << 30;
/// How much damage is worked through before giving up.
const ROUNDS: usize = 10_000;

/// Reads the journal and the checkpoint like a start, and changes nothing.
pub fn inspect<D: Disk>(disk: &Arc<D>) -> Result<JournalStart, RecoverError> {
    recover(&ReadOnly(Arc::clone(disk)), &Boot::default(), &mut |_| {})
}

/// Sets aside what is damaged, until a start would succeed. No daemon may run.
pub fn set_aside<D: Disk>(disk: &Arc<D>) -> Result<Vec<SetAside>, RecoverError> {
    let mut moved = Vec::new();
    for _ in 0..ROUNDS {
        match inspect(disk) {
            Ok(_) => break,
            Err(RecoverError::Damaged {
                file,
                offset,
                reason,
            }) => {
                let before = moved.len();
                move_damaged(disk, &file, offset, &reason, &mut moved)?;
                // What can't be mended by setting it aside is told as it is.
                if moved.len() == before {
                    return Err(RecoverError::Damaged {
                        file,
                        offset,
                        reason,
                    });
                }
            }
            Err(other) => return Err(other),
        }
    }
    if !moved.is_empty() {
        disk.sync_everything()?;
    }
    Ok(moved)
}

fn move_damaged<D: Disk>(
    disk: &Arc<D>,
    file: &Path,
    offset: u64,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), DiskError> {
    let number = file
        .file_name()
        .and_then(|name| segment_number(name.to_str()?));
    let Some(number) = number else {
        return one(disk.as_ref(), file, 0, reason, moved);
    };
    let mut segments: Vec<(u64, PathBuf)> = names(disk.as_ref(), Path::new(DIR))?
        .into_iter()
        .filter_map(|name| Some((segment_number(name.to_str()?)?, Path::new(DIR).join(name))))
        .filter(|(found, _)| *found >= number)
        .collect();
    segments.sort();
    for (found, path) in segments {
        if found == number {
            one(disk.as_ref(), &path, offset, reason, moved)?;
        } else {
            let behind = format!("it comes behind the damage in {}", file.display());
            one(disk.as_ref(), &path, 0, &behind, moved)?;
        }
    }
    Ok(())
}

/// Sets one file aside, and puts its first `kept` bytes back where that is more than a segment's header.
fn one(
    disk: &impl Disk,
    file: &Path,
    kept: u64,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), DiskError> {
    let kept = if kept > SEGMENT_HEADER as u64 {
        kept
    } else {
        0
    };
    let mut prefix = None;
    if kept > 0
        && let Read::Whole(_, mut bytes) = disk.read(file, MOST)?
    {
        bytes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        prefix = Some(bytes);
    }
    let now = aside_name(disk, file)?;
    disk.rename_new(file, &now)?;
    if let Some(bytes) = &prefix {
        disk.write_new(file, bytes)?;
    }
    let kept = if prefix.is_some() { kept } else { 0 };
    moved.push(SetAside {
        file: file.to_owned(),
        now,
        kept,
        reason: reason.to_owned(),
    });
    Ok(())
}

fn aside_name(disk: &impl Disk, file: &Path) -> Result<PathBuf, DiskError> {
    let mut name = file.as_os_str().to_owned();
    name.push(".damaged");
    let mut number = 1;
    loop {
        let path = PathBuf::from(&name);
        match disk.look(&path) {
            Err(error) if error.is_missing() => return Ok(path),
            Err(error) => return Err(error),
            Ok(_) => {
                file.as_os_str().clone_into(&mut name);
                name.push(format!(".damaged-{number}"));
                number += 1;
            }
        }
    }
}
