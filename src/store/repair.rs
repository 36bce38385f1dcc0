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
    disk::{Disk, DiskError, DiskFile as _, names},
    journal::{Boot, DIR, Header, HeaderError, SEGMENT_HEADER, segment_number},
    read_only::ReadOnly,
    recover::{Found, JournalStart, RecoverError, recover},
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

/// How much damage is worked through before giving up.
const ROUNDS: usize = 10_000;

/// Reads the journal and the checkpoint like a start, tells what was found, and changes nothing.
pub fn inspect<D: Disk>(
    disk: &Arc<D>,
    sink: &mut dyn FnMut(Found),
) -> Result<JournalStart, RecoverError> {
    recover(&ReadOnly(Arc::clone(disk)), &Boot::default(), sink)
}

/// Sets aside what is damaged, until a start would succeed. No daemon may run. `moved` tells what was done, also before an
/// error.
pub fn set_aside<D: Disk>(disk: &Arc<D>, moved: &mut Vec<SetAside>) -> Result<(), RecoverError> {
    for _ in 0..ROUNDS {
        match inspect(disk, &mut |_| {}) {
            Ok(_) => break,
            Err(RecoverError::Damaged {
                file,
                offset,
                reason,
            }) => {
                let before = moved.len();
                move_damaged(disk, &file, offset, &reason, moved)?;
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
    Ok(())
}

fn move_damaged<D: Disk>(
    disk: &Arc<D>,
    file: &Path,
    offset: u64,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), RecoverError> {
    let number = file
        .file_name()
        .and_then(|name| segment_number(name.to_str()?));
    let Some(number) = number else {
        return Ok(one(disk.as_ref(), file, 0, reason, moved)?);
    };
    let mut segments: Vec<(u64, PathBuf)> = names(disk.as_ref(), Path::new(DIR))?
        .into_iter()
        .filter_map(|name| Some((segment_number(name.to_str()?)?, Path::new(DIR).join(name))))
        .filter(|(found, _)| *found >= number)
        .collect();
    segments.sort();
    for (found, path) in &segments {
        refuse_other_version(disk.as_ref(), *found, path)?;
    }
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

/// What a newer program has written is that one's to judge, also where it comes behind damage.
fn refuse_other_version(disk: &impl Disk, number: u64, path: &Path) -> Result<(), RecoverError> {
    let header = disk.open(path)?.read_at(0, SEGMENT_HEADER)?;
    match Header::decode(&header, number) {
        Err(HeaderError::Version(found)) => Err(RecoverError::Version {
            file: path.to_owned(),
            found,
        }),
        Ok(_) | Err(HeaderError::Number(_) | HeaderError::Unreadable(_)) => Ok(()),
    }
}

/// Sets one file aside; of one whose first `kept` bytes are more than a segment's header it sets a copy aside, and cuts the
/// file itself, which so keeps its owner and is whole at each moment.
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
    let now = aside_name(disk, file)?;
    if kept > 0 {
        let whole = disk.open(file)?.read_written()?;
        disk.write_new(&now, &whole)?;
        disk.sync_everything()?;
        disk.truncate(file, kept)?;
    } else {
        disk.rename_new(file, &now)?;
    }
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
