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
//!
//! So it is where the checkpoint is missing, or an older one is back in its place: the first frame that is left follows on nothing,
//! and what was before it is in the tasks' files or nowhere. The segments stay, and an empty checkpoint right before that frame takes
//! the place of the older one, or of none.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    checkpoint::{self, checkpoint_cut, checkpoint_path},
    disk::{Disk, DiskError, DiskFile as _, names},
    journal::{
        Boot, DIR, Header, HeaderError, LAST_NUMBER, Next, SEGMENT_HEADER, Seq, frames_after,
        next_frame, segment_number, segment_path,
    },
    read_only::ReadOnly,
    recover::{Found, JournalStart, Names, RecoverError, choose, read_segments, recover},
    replay::Replay,
    reserve,
};

/// Something that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// What it was called, relative to the data directory.
    pub file: PathBuf,
    /// What it is called now. The same as `file`: that was missing, and has been put in its place.
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
    let mut start = recover(&ReadOnly(Arc::clone(disk)), &Boot::default(), sink)?;
    // Whoever looks asks what is not well, and a start says all of it in the log.
    let spoilt = start.spoilt.first().map(|spoilt| spoilt.file.clone());
    start.passed_over = start.passed_over.or(spoilt);
    Ok(start)
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

/// What [`set_aside`] would keep of the journal, if `damage` is a checkpoint's, or one is missing: what the frames behind the one that is
/// given tell. `None`: as it does with any other damage.
pub fn kept_behind(disk: &impl Disk, damage: &RecoverError) -> Result<Option<Seq>, RecoverError> {
    let RecoverError::Damaged { file, offset, .. } = damage else {
        return Ok(None);
    };
    let found = match (cut_of(file), number_of(file)) {
        (Some(cut), _) => find_stand_in(disk, cut)?,
        (None, Some(number)) => find_missing(disk, number, *offset)?.map(|(_, found)| found),
        (None, None) => None,
    };
    Ok(found.map(|found| found.cut))
}

fn number_of(file: &Path) -> Option<u64> {
    segment_number(file.file_name()?.to_str()?)
}

fn cut_of(file: &Path) -> Option<Seq> {
    checkpoint_cut(file.file_name()?.to_str()?)
}

/// What takes the place of a damaged checkpoint, or of a missing one.
#[derive(Debug, Clone, Copy)]
struct StandIn {
    cut: Seq,
    boot: Boot,
}

/// Looks for frames that vouch for the cut in the name of a damaged checkpoint, and go on from there.
fn find_stand_in(disk: &impl Disk, damaged: Seq) -> Result<Option<StandIn>, RecoverError> {
    // A number that is never reached is nobody's; and one that is whole and has another's name shows that names can't be trusted.
    if damaged.0 > LAST_NUMBER || checkpoint::misnamed(disk, damaged)?.is_some() {
        return Ok(None);
    }
    let names = Names::list(disk)?;
    let before = older_cut(disk, &names, damaged)?;
    // All is there without it, or would be but for damage behind it.
    if last_read(disk, &names.segments, before)? >= damaged {
        return Ok(None);
    }
    let Some(first) = first_frame(disk, &names.segments)? else {
        return Ok(None);
    };
    let (lowest, boot) = (first.seq.before(), first.boot);
    if lowest > damaged && first.hides_behind(damaged) {
        return Ok(None);
    }
    // Where it lies behind the cut, the segments between are missing, too.
    if lowest > damaged || last_read(disk, &names.segments, lowest)? >= damaged {
        let cut = lowest;
        return Ok(Some(StandIn { cut, boot }));
    }
    // Some of what it stands for is missing or damaged too: that is in the files.
    let goes_on = last_read(disk, &names.segments, damaged)? > damaged;
    Ok(goes_on.then_some(StandIn { cut: damaged, boot }))
}

/// The cut of the checkpoint that a start takes if that of `damaged`, and all newer ones, are damaged; 0 if there is none.
fn older_cut(disk: &impl Disk, names: &Names, damaged: Seq) -> Result<Seq, RecoverError> {
    let older = names.checkpoints.iter().copied();
    let older: Vec<Seq> = older.filter(|cut| *cut < damaged).collect();
    let found = choose(disk, &older)?.found;
    Ok(found.map_or(Seq(0), |found| found.cut))
}

/// Looks for what makes the journal begin with its first frame, if all before it is missing: so says damage at `offset` of segment
/// `number` that no frame stands before. Also gives the checkpoint that is there, whose cut lies too far back.
fn find_missing(
    disk: &impl Disk,
    number: u64,
    offset: u64,
) -> Result<Option<(Option<Seq>, StandIn)>, RecoverError> {
    if offset > SEGMENT_HEADER as u64 {
        return Ok(None);
    }
    let names = Names::list(disk)?;
    let there = choose(disk, &names.checkpoints)?.found;
    let there = there.map(|found| found.cut);
    let first = first_frame(disk, &names.segments)?;
    let first = first.filter(|first| {
        let cut = there.unwrap_or_default();
        number <= first.segment && first.seq > cut.next() && !first.hides_behind(cut)
    });
    Ok(first.map(|First { seq, boot, .. }| {
        let cut = seq.before();
        (there, StandIn { cut, boot })
    }))
}

/// The first frame that is left.
struct First {
    seq: Seq,
    segment: u64,
    /// The boot that it is of.
    boot: Boot,
    /// The last of the whole frames before it: the beginnings of their segments are damaged.
    hidden: Option<Seq>,
}

impl First {
    /// Whether frames before it are there that were not in a checkpoint of this cut: those are damaged, and not missing.
    fn hides_behind(&self, cut: Seq) -> bool {
        self.hidden.is_some_and(|hidden| hidden > cut)
    }
}

fn first_frame(disk: &impl Disk, segments: &[u64]) -> Result<Option<First>, RecoverError> {
    let mut hidden = None;
    for &number in segments {
        let path = segment_path(number);
        refuse_other_version(disk, number, &path)?;
        let bytes = match disk.open(&path)?.read_written() {
            Err(error) if error.is_too_large() => continue,
            read => read?,
        };
        if let Ok(header) = Header::decode(&bytes, number)
            && let Next::Frame(frame) = next_frame(number, &bytes, SEGMENT_HEADER)
        {
            return Ok(Some(First {
                seq: frame.seq,
                segment: number,
                boot: header.boot,
                hidden,
            }));
        }
        let whole = frames_after(number, &bytes, SEGMENT_HEADER).map(|frame| frame.seq);
        hidden = hidden.max(whole.max());
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

/// Sets a checkpoint aside, and makes its file an empty one.
///
/// It is the same file, so that it keeps its owner, as in [`one`]. At each moment it is either damaged, and a repair begins anew,
/// or whole, and never under another's name.
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
    let now = match copy_aside(disk, file) {
        Err(error) if error.is_too_large() => {
            let now = aside_name(disk, file)?;
            disk.rename_new(file, &now)?;
            put(disk, by)?;
            now
        }
        copied => {
            let now = copied?;
            disk.truncate(file, 0)?;
            if place != file {
                disk.rename_new(file, &place)?;
                // Under its former name the next would be whole, and take another's place.
                disk.sync_dir(Path::new(DIR))?;
            }
            fill(disk, &place, by)?;
            now
        }
    };
    moved.push(SetAside {
        file: file.to_owned(),
        now,
        kept: 0,
        reason: reason.to_owned(),
        replayed_after: Some(by.cut),
    });
    Ok(())
}

/// Writes an empty checkpoint into an empty file.
fn fill(disk: &impl Disk, place: &Path, by: StandIn) -> Result<(), DiskError> {
    let mut empty = disk.open_to_write(place)?;
    empty.write_at(&checkpoint::empty(&by.boot, by.cut), 0)?;
    empty.sync()
}

/// Puts an empty checkpoint in place where none is. It is made of the reserve, if that is there, so that it finds room and has the
/// daemon's owner also where root repairs; the daemon sets room aside anew.
fn put(disk: &impl Disk, by: StandIn) -> Result<PathBuf, DiskError> {
    let temporary = Path::new(DIR).join(checkpoint::TEMPORARY);
    checkpoint::remove(disk, &temporary)?;
    match reserve::take(disk, &temporary)? {
        Some(_) => disk.truncate(&temporary, 0)?,
        None => disk.write_new(&temporary, b"")?,
    }
    fill(disk, &temporary, by)?;
    let place = checkpoint_path(by.cut);
    disk.rename_new(&temporary, &place)?;
    disk.sync_dir(Path::new(DIR))?;
    Ok(place)
}

/// Sets nothing aside but a checkpoint whose cut lies too far back, and has the journal begin with its first frame.
fn begin_anew(
    disk: &impl Disk,
    there: Option<Seq>,
    by: StandIn,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), DiskError> {
    if let Some(there) = there {
        let first = by.cut.next();
        let reason =
            format!("it ends with frame {there}, and the journal begins with frame {first}");
        return replace(disk, &checkpoint_path(there), by, &reason, moved);
    }
    let place = put(disk, by)?;
    moved.push(SetAside {
        file: place.clone(),
        now: place,
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
    let Some(number) = number_of(file) else {
        return move_checkpoint(disk.as_ref(), file, reason, moved);
    };
    if let Some((there, by)) = find_missing(disk.as_ref(), number, offset)? {
        return Ok(begin_anew(disk.as_ref(), there, by, reason, moved)?);
    }
    move_segments(disk.as_ref(), number, file, offset, reason, moved)
}

fn move_checkpoint(
    disk: &impl Disk,
    file: &Path,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), RecoverError> {
    let cut = cut_of(file);
    let stand_in = match cut {
        Some(cut) => find_stand_in(disk, cut)?,
        None => None,
    };
    if let Some(by) = stand_in {
        return Ok(replace(disk, file, by, reason, moved)?);
    }
    // Where the frames end before the cut, what they changed may have been changed back since.
    let names = Names::list(disk)?;
    if let Some(cut) = cut.filter(|cut| cut.0 <= LAST_NUMBER)
        && let Some(first) = first_frame(disk, &names.segments)?
        && let Some(number) = names.segments.first()
    {
        let older = older_cut(disk, &names, cut)?;
        let lowest = first.seq.before();
        if lowest > older && last_read(disk, &names.segments, lowest)? < cut {
            move_segments(disk, *number, file, 0, reason, moved)?;
        }
    }
    Ok(one(disk, file, 0, reason, moved)?)
}

/// Sets a segment aside from the damage at `offset` on, and all behind it. `file` is what is damaged.
fn move_segments(
    disk: &impl Disk,
    number: u64,
    file: &Path,
    offset: u64,
    reason: &str,
    moved: &mut Vec<SetAside>,
) -> Result<(), RecoverError> {
    let mut segments: Vec<(u64, PathBuf)> = names(disk, Path::new(DIR))?
        .into_iter()
        .filter_map(|name| Some((segment_number(name.to_str()?)?, Path::new(DIR).join(name))))
        .filter(|(found, _)| *found >= number)
        .collect();
    segments.sort();
    for (found, path) in &segments {
        refuse_other_version(disk, *found, path)?;
    }
    for (_, path) in segments {
        if path == file {
            one(disk, &path, offset, reason, moved)?;
        } else {
            let behind = format!("it comes behind the damage in {}", file.display());
            one(disk, &path, 0, &behind, moved)?;
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
