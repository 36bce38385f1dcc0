//! Looking for damage in the journal, and setting aside what is damaged, so that a start is possible again.
//!
//! Nothing is deleted: a damaged file stays beside its place as `NAME.damaged`. What stands before the damage in it is
//! kept; what comes behind it in the journal is set aside too, because records build on each other. The tasks' own files
//! are untouched: from them and from what is left of the journal the next start makes its state.
//!
//! A damaged checkpoint would take the whole journal with it: what it stands for is gone from there. But the frames that are left
//! build on each other, and those before them are in the tasks' files as far as files tell. So where the frames begin not later than
//! right behind the checkpoint's cut, an empty checkpoint takes its place, with the lowest cut from which no frame is missing. It
//! has the bytes of any other, so every program that knows the format starts with it. What is lost then is what only the damaged one told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    checkpoint::{self, checkpoint_cut, checkpoint_path},
    disk::{Disk, DiskError, DiskFile as _, names},
    journal::{
        Boot, DIR, Header, HeaderError, LAST_NUMBER, Next, SEGMENT_HEADER, Seq, next_frame,
        segment_number, segment_path,
    },
    read_only::ReadOnly,
    recover::{Found, JournalStart, Names, RecoverError, choose, read_segments, recover},
    replay::Replay,
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
    /// An empty checkpoint took its place: what the frames behind this one tell is kept.
    pub replayed_after: Option<Seq>,
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

/// What [`set_aside`] would keep of the journal, if `damage` is a checkpoint's: what the frames behind the one that is given tell.
/// `None`: as it does with any other damage.
pub fn kept_behind(disk: &impl Disk, damage: &RecoverError) -> Result<Option<Seq>, RecoverError> {
    let RecoverError::Damaged { file, .. } = damage else {
        return Ok(None);
    };
    let Some(cut) = cut_of(file) else {
        return Ok(None);
    };
    Ok(find_stand_in(disk, cut)?.map(|found| found.cut))
}

fn cut_of(file: &Path) -> Option<Seq> {
    checkpoint_cut(file.file_name()?.to_str()?)
}

/// What takes the place of a damaged checkpoint.
#[derive(Debug, Clone, Copy)]
struct StandIn {
    cut: Seq,
    boot: Boot,
}

/// Looks for frames that vouch for the cut in the name of a damaged checkpoint, and go on from there.
fn find_stand_in(disk: &impl Disk, damaged: Seq) -> Result<Option<StandIn>, RecoverError> {
    // A number that is never reached is nobody's; and one that is whole and has another's name shows that names can't be trusted.
    if damaged.0 > LAST_NUMBER || checkpoint::is_misnamed(disk, damaged)? {
        return Ok(None);
    }
    let names = Names::list(disk)?;
    let older = names.checkpoints.iter().copied();
    let older: Vec<Seq> = older.filter(|cut| *cut < damaged).collect();
    let before = choose(disk, &older)?
        .found
        .map_or(Seq(0), |found| found.cut);
    // All is there without it, or would be but for damage behind it.
    if last_read(disk, &names.segments, before)? >= damaged {
        return Ok(None);
    }
    let Some((first, boot)) = first_frame(disk, &names.segments)? else {
        return Ok(None);
    };
    let lowest = first.before();
    if lowest <= damaged && last_read(disk, &names.segments, lowest)? >= damaged {
        let cut = lowest;
        return Ok(Some(StandIn { cut, boot }));
    }
    // Some of what it stands for is missing or damaged too: that is in the files.
    let goes_on = last_read(disk, &names.segments, damaged)? > damaged;
    Ok(goes_on.then_some(StandIn { cut: damaged, boot }))
}

/// The first frame that is left, and the boot that it is of.
fn first_frame(disk: &impl Disk, segments: &[u64]) -> Result<Option<(Seq, Boot)>, RecoverError> {
    for &number in segments {
        let path = segment_path(number);
        refuse_other_version(disk, number, &path)?;
        let bytes = disk.open(&path)?.read_written()?;
        if let Ok(header) = Header::decode(&bytes, number)
            && let Next::Frame(frame) = next_frame(number, &bytes, SEGMENT_HEADER)
        {
            return Ok(Some((frame.seq, header.boot)));
        }
    }
    Ok(None)
}

/// The last frame that a start would read which begins behind `cut`, also if it stops at damage then; 0 if there is none.
fn last_read(disk: &impl Disk, segments: &[u64], cut: Seq) -> Result<Seq, RecoverError> {
    let mut replay = Replay::new(cut, None);
    match read_segments(disk, segments, &mut replay, &mut |_| {}) {
        Ok(()) | Err(RecoverError::Damaged { .. }) => Ok(replay.last_read()),
        Err(other) => Err(other),
    }
}

/// Sets a damaged checkpoint aside, and makes its file an empty one.
///
/// It is the same file, so that it keeps its owner, as in [`one`]. At each moment it is either damaged, and a repair begins anew,
/// or whole.
fn replace(
    disk: &impl Disk,
    file: &Path,
    by: StandIn,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), DiskError> {
    let place = checkpoint_path(by.cut);
    let is_taken = place != file && disk.look(&place).is_ok();
    if is_taken {
        // A whole one would have been started from.
        one(disk, &place, 0, "it is damaged too", moved)?;
    }
    let now = copy_aside(disk, file)?;
    if place != file {
        disk.rename_new(file, &place)?;
        // Under its former name the next would be whole, and take another's place.
        disk.sync_dir(Path::new(DIR))?;
    }
    disk.truncate(&place, 0)?;
    let mut empty = disk.open_to_write(&place)?;
    empty.write_at(&checkpoint::empty(&by.boot, by.cut), 0)?;
    empty.sync()?;
    moved.push(SetAside {
        file: file.to_owned(),
        now,
        kept: 0,
        reason: reason.to_owned(),
        replayed_after: Some(by.cut),
    });
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
        let stand_in = match cut_of(file) {
            Some(cut) => find_stand_in(disk.as_ref(), cut)?,
            None => None,
        };
        match stand_in {
            Some(by) => replace(disk.as_ref(), file, by, reason, moved)?,
            None => one(disk.as_ref(), file, 0, reason, moved)?,
        }
        return Ok(());
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
    let now = if kept > 0 {
        let now = copy_aside(disk, file)?;
        disk.truncate(file, kept)?;
        now
    } else {
        let now = aside_name(disk, file)?;
        disk.rename_new(file, &now)?;
        now
    };
    moved.push(SetAside {
        file: file.to_owned(),
        now,
        kept,
        reason: reason.to_owned(),
        replayed_after: None,
    });
    Ok(())
}

/// Sets a copy aside, durable, before the file itself is changed.
fn copy_aside(disk: &impl Disk, file: &Path) -> Result<PathBuf, DiskError> {
    let now = aside_name(disk, file)?;
    let whole = disk.open(file)?.read_written()?;
    disk.write_new(&now, &whole)?;
    disk.sync_everything()?;
    Ok(now)
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
