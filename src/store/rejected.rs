//! Files that came into the task directory and are no tasks: `rejected/NAME`, and why in `rejected/NAME.reason`.
//!
//! This module may not know: what makes a file a task, or who decided.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use crate::task::{QueueName, Source, WallMillis};

use super::{
    Disk, DiskError, DiskFile as _, DiskResult, Kind, Meta, Read,
    carry::{Carried, UNFINISHED, carry, remove},
    shown,
};

/// The task directory.
const TASKS: &str = "tasks";
/// The directory, relative to the data directory.
const DIRECTORY: &str = "rejected";
/// What the name of a reason's file ends in.
const REASON: &[u8] = b".reason";
/// The longest file name that Linux's file systems take, in bytes.
const MAX_NAME: usize = 255;
/// The longest ending that is kept as it is when a name is cut or numbered.
const MAX_ENDING: usize = 16;
/// How many files of one name are told apart before a further one is an error.
const MAX_NUMBER: u32 = 100_000_000;
/// How the line of a reason's file begins that says where the file lay, if it lay in a queue's folder.
const FROM: &str = "from ";
/// How much of a file's beginning is shown, in bytes.
const BEGINNING: usize = 1024;
/// The longest reason that is read back, in bytes. Those written here are far shorter.
const MAX_REASON: u64 = 64 * 1024;

/// Moves the file at `path` (relative to the data directory) into `rejected/`, and says why beside it. Gives where it is
/// now, relative to the data directory; `None`: another file is there by now than `known`, the one that was judged, and it
/// stays.
///
/// Its name stays, but for a number (`NAME-1.json`) where that name is taken and a cut where it would be too long. The
/// reason is written first, so a crash leaves no file without its reason. A file that is gone by now is an error that
/// [`is_missing`](DiskError::is_missing).
pub fn reject<D: Disk>(
    disk: &D,
    path: &Path,
    known: Option<&Source>,
    reason: &str,
) -> DiskResult<Option<PathBuf>> {
    if !is_known(disk.look(path)?, known) {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().as_bytes();
    let text = text_of(path, reason);
    for number in free_number(disk, name)?..=MAX_NUMBER {
        let name = numbered(name, number);
        let to = Path::new(DIRECTORY).join(&name);
        let beside = Path::new(DIRECTORY).join(with_reason(&name));
        match disk.write_new(&beside, text.as_bytes()) {
            Err(error) if error.is_taken() => continue,
            Err(error) if error.is_missing() => {
                disk.make_dir(Path::new(DIRECTORY))?;
                disk.write_new(&beside, text.as_bytes())?;
            }
            other => other?,
        }
        match carry(disk, path, &to, |found| is_known(*found, known)) {
            Ok(Carried::Copied) => return Ok(Some(to)),
            Ok(Carried::Another) => return disk.unlink(&beside).map(|()| None),
            Ok(Carried::Renamed) => return checked(disk, path, &to, &beside, known),
            Err(error) => {
                disk.unlink(&beside)?;
                if !error.is_taken() {
                    return Err(error);
                }
            }
        }
    }
    let taken = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(DiskError::new("find a free name for", path, taken))
}

/// The number under which a name is free. By doubling, then halving: a heap of files of one name that has been there for long
/// costs a few looks, not one for each. Where some were taken away from among them, their numbers may stay unused.
fn free_number<D: Disk>(disk: &D, name: &[u8]) -> DiskResult<u32> {
    let is_free = |number| {
        let name = numbered(name, number);
        Ok(look(disk, &name)?.is_none() && look(disk, &with_reason(&name))?.is_none())
    };
    if is_free(0)? {
        return Ok(0);
    }
    let (mut taken, mut free) = (0, 1);
    while free < MAX_NUMBER && !is_free(free)? {
        (taken, free) = (free, free.saturating_mul(2).min(MAX_NUMBER));
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_free(middle)? {
            free = middle;
        } else {
            taken = middle;
        }
    }
    Ok(free)
}

/// After a file was moved from `path` to `to`: whether it was the one that is `known`. Linux can't move a file only if it is a
/// certain one, and nobody else writes here, so it is looked at afterwards; another one goes back.
fn checked<D: Disk>(
    disk: &D,
    path: &Path,
    to: &Path,
    beside: &Path,
    known: Option<&Source>,
) -> DiskResult<Option<PathBuf>> {
    if is_known(disk.look(to)?, known) {
        return Ok(Some(to.to_owned()));
    }
    match disk.rename_new(to, path) {
        Ok(()) => disk.unlink(beside)?,
        // A third one is there already. Whoever wrote it would have replaced this one: it is kept here, as what it is.
        Err(error) if error.is_taken() => {
            disk.unlink(beside)?;
            let reason = text_of(path, "two others of its name came before it was looked at");
            disk.write_new(beside, reason.as_bytes())?;
        }
        Err(error) => return Err(error),
    }
    Ok(None)
}

fn is_known(found: Meta, known: Option<&Source>) -> bool {
    known.is_none_or(|known| found.is(known))
}

/// What stands in a reason's file.
fn text_of(path: &Path, reason: &str) -> String {
    let mut text = reason.to_owned();
    text.push('\n');
    // A file in a queue's folder belongs to that queue: said here, so that it can go back there.
    if let Some(folder) = folder_of(path) {
        text.extend([FROM, folder, "\n"]);
    }
    text
}

/// The queue's folder that `path` is in; `None` right in the task directory.
fn folder_of(path: &Path) -> Option<&str> {
    let folder = path.parent()?.strip_prefix(TASKS).ok()?.to_str()?;
    QueueName::parse(folder).ok()?;
    Some(folder)
}

/// `name` with a number before its ending, cut so that the reason's name still fits.
fn numbered(name: &[u8], number: u32) -> OsString {
    let (stem, ending) = match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_ENDING => name.split_at(dot),
        _ => (name, &[][..]),
    };
    let suffix = match number {
        0 => String::new(),
        number => format!("-{number}"),
    };
    let room = MAX_NAME - REASON.len() - ending.len() - suffix.len();
    let mut end = stem.len().min(room);
    // Not through the middle of a character.
    while end < stem.len() && end > 0 && stem[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    OsString::from_vec([&stem[..end], suffix.as_bytes(), ending].concat())
}

fn with_reason(name: &OsStr) -> OsString {
    OsString::from_vec([name.as_bytes(), REASON].concat())
}

/// A file in `rejected/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedFile {
    /// Its name, escaped for display.
    pub name: String,
    /// Why it was rejected; empty where nothing says so.
    pub reason: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was rejected, or last written where no reason tells that.
    pub modified: WallMillis,
    /// How it begins; what is not UTF-8 is replaced.
    pub beginning: String,
}

/// The `limit` files that were rejected last, newest first.
pub fn rejected<D: Disk>(disk: &D, limit: usize) -> DiskResult<Vec<RejectedFile>> {
    let mut names = HashSet::new();
    let listed = disk.list(Path::new(DIRECTORY), &mut |name, kind| {
        if kind == Kind::File && name != UNFINISHED {
            names.insert(name.to_owned());
        }
    });
    match listed {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        other => other?,
    }
    let mut found = Vec::new();
    for name in &names {
        let has_reason = names.contains(&with_reason(name));
        if name.as_bytes().ends_with(REASON) && !has_reason {
            continue;
        }
        let Some(file) = look(disk, name)? else {
            continue;
        };
        let written = if has_reason {
            look(disk, &with_reason(name))?
        } else {
            None
        };
        found.push((
            written.map_or(file.modified, |meta| meta.modified),
            name,
            file,
        ));
    }
    found.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
    found.truncate(limit);
    let describe = |(modified, name, file): (i128, &OsString, Meta)| {
        Ok(RejectedFile {
            name: shown(Path::new(name)),
            reason: reason_of(disk, name)?.0,
            beginning: beginning_of(disk, name)?,
            size: file.size,
            modified: WallMillis((modified / 1_000_000) as i64),
        })
    };
    found.into_iter().map(describe).collect()
}

/// What is there under a name in `rejected/`; `None` if it went away since it was listed.
fn look<D: Disk>(disk: &D, name: &OsStr) -> DiskResult<Option<Meta>> {
    match disk.look(&Path::new(DIRECTORY).join(name)) {
        Ok(meta) => Ok(Some(meta)),
        Err(gone) if gone.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a file was rejected, and the queue's folder that it lay in.
fn reason_of<D: Disk>(disk: &D, name: &OsStr) -> DiskResult<(String, Option<QueueName>)> {
    let text = match disk.read(&Path::new(DIRECTORY).join(with_reason(name)), MAX_REASON) {
        Ok(Read::Whole(_, bytes)) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Ok(Read::Irregular(_) | Read::TooLarge(_) | Read::Changed) => String::new(),
        Err(error) if error.is_missing() => String::new(),
        Err(error) => return Err(error),
    };
    let folder = |line: &str| QueueName::parse(line.strip_prefix(FROM)?).ok();
    Ok(match text.rsplit_once('\n') {
        Some((reason, last)) if let Some(queue) = folder(last) => (reason.to_owned(), Some(queue)),
        _ => (text, None),
    })
}

fn beginning_of<D: Disk>(disk: &D, name: &OsStr) -> DiskResult<String> {
    let path = Path::new(DIRECTORY).join(name);
    let bytes = match disk.read(&path, BEGINNING as u64) {
        Ok(Read::Whole(_, bytes)) => bytes,
        // It was regular a moment ago, so opening it does not wait for a writer.
        Ok(Read::TooLarge(_)) => disk.open(&path)?.read_at(0, BEGINNING)?,
        Ok(Read::Irregular(_) | Read::Changed) => Vec::new(),
        Err(error) if error.is_missing() => Vec::new(),
        Err(error) => return Err(error),
    };
    // Not the half of a character at the cut: what follows it is not shown.
    let text = String::from_utf8_lossy(&bytes);
    Ok(match std::str::from_utf8(&bytes) {
        Err(error) if error.error_len().is_none() => text.trim_end_matches('\u{fffd}').to_owned(),
        _ => text.into_owned(),
    })
}

/// The file in `rejected/` that is shown as `name`: one of those that [`rejected`] lists, and so never another's reason.
fn find<D: Disk>(disk: &D, name: &str) -> DiskResult<Option<OsString>> {
    let mut found = None;
    let listed = disk.list(Path::new(DIRECTORY), &mut |one, kind| {
        if kind == Kind::File && one != UNFINISHED && shown(Path::new(one)) == name {
            found = Some(one.to_owned());
        }
    });
    match listed {
        Err(error) if error.is_missing() => return Ok(None),
        other => other?,
    }
    match found {
        Some(one) if one.as_bytes().ends_with(REASON) => {
            Ok(look(disk, &with_reason(&one))?.map(|_| one))
        }
        other => Ok(other),
    }
}

/// Moves a rejected file back to where it lay in the task directory, where the watcher sees it like any other that is
/// dropped. `false`: there is none that is shown as `name`.
pub fn take_back<D: Disk>(disk: &D, name: &str) -> DiskResult<bool> {
    let Some(file) = find(disk, name)? else {
        return Ok(false);
    };
    let folder = match reason_of(disk, &file)?.1 {
        Some(queue) => Path::new(TASKS).join(queue.as_str()),
        None => PathBuf::from(TASKS),
    };
    disk.make_dir(&folder)?;
    let from = Path::new(DIRECTORY).join(&file);
    carry(disk, &from, &folder.join(&file), |_| true)?;
    forget_reason(disk, &file)?;
    Ok(true)
}

/// Deletes a rejected file. `false`: there is none that is shown as `name`.
pub fn discard<D: Disk>(disk: &D, name: &str) -> DiskResult<bool> {
    let Some(file) = find(disk, name)? else {
        return Ok(false);
    };
    disk.unlink(&Path::new(DIRECTORY).join(&file))?;
    forget_reason(disk, &file)?;
    Ok(true)
}

fn forget_reason<D: Disk>(disk: &D, name: &OsStr) -> DiskResult<()> {
    remove(disk, &Path::new(DIRECTORY).join(with_reason(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::RealDisk;

    fn scratch() -> (tempfile::TempDir, RealDisk) {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("tasks")).unwrap();
        let disk = RealDisk::open(scratch.path()).unwrap();
        (scratch, disk)
    }

    fn drop_and_reject(root: &Path, disk: &RealDisk, name: &OsStr, reason: &str) -> PathBuf {
        let path = Path::new("tasks").join(name);
        fs::write(root.join(&path), "{").unwrap();
        let to = reject(disk, &path, None, reason).unwrap().unwrap();
        assert!(!root.join(&path).exists());
        assert_eq!(fs::read_to_string(root.join(&to)).unwrap(), "{");
        let beside = root
            .join(DIRECTORY)
            .join(with_reason(to.file_name().unwrap()));
        assert_eq!(fs::read_to_string(beside).unwrap(), format!("{reason}\n"));
        to
    }

    #[test]
    fn files_of_one_name_are_numbered_and_listed_newest_first() {
        let (scratch, disk) = scratch();
        let names = ["x.json", "x-1.json", "x-2.json"];
        for (at, name) in names.iter().enumerate() {
            let reason = format!("reason {at}");
            let to = drop_and_reject(scratch.path(), &disk, OsStr::new("x.json"), &reason);
            assert_eq!(to, Path::new(DIRECTORY).join(name));
            let beside = fs::File::options()
                .write(true)
                .open(
                    scratch
                        .path()
                        .join(DIRECTORY)
                        .join(format!("{name}.reason")),
                )
                .unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(100 + at as u64);
            beside.set_modified(at).unwrap();
        }
        let listed = rejected(&disk, 2).unwrap();
        let told: Vec<_> = listed
            .iter()
            .map(|file| (&*file.name, &*file.reason, file.size, file.modified.0))
            .collect();
        assert_eq!(
            told,
            [
                ("x-2.json", "reason 2", 1, 102_000),
                ("x-1.json", "reason 1", 1, 101_000)
            ]
        );
    }

    #[test]
    fn a_file_named_like_a_reason_takes_no_other_files_reason() {
        let (scratch, disk) = scratch();
        let first = drop_and_reject(scratch.path(), &disk, OsStr::new("x.json.reason"), "odd");
        assert_eq!(first, Path::new("rejected/x.json.reason"));
        let second = drop_and_reject(scratch.path(), &disk, OsStr::new("x.json"), "bad");
        assert_eq!(second, Path::new("rejected/x-1.json"));
        let third = drop_and_reject(scratch.path(), &disk, OsStr::new("x-1.json.reason"), "odd");
        assert_eq!(third, Path::new("rejected/x-1.json-1.reason"));
        assert_eq!(rejected(&disk, 10).unwrap().len(), 3);
    }

    #[test]
    fn a_reason_is_no_file_that_can_be_discarded_or_taken_back() {
        let (scratch, disk) = scratch();
        drop_and_reject(scratch.path(), &disk, OsStr::new("noext"), "odd");
        assert!(!discard(&disk, "noext.reason").unwrap());
        assert!(!take_back(&disk, "noext.reason").unwrap());
        assert_eq!(rejected(&disk, 10).unwrap()[0].reason, "odd");
        drop_and_reject(scratch.path(), &disk, OsStr::new("own.reason"), "odd");
        assert!(!discard(&disk, "own.reason.reason").unwrap());
        assert!(discard(&disk, "own.reason").unwrap());
        assert!(discard(&disk, "noext").unwrap());
        assert!(rejected(&disk, 10).unwrap().is_empty());
    }

    #[test]
    fn the_longest_names_are_cut_between_characters() {
        let (scratch, disk) = scratch();
        let long = format!("{}é.json", "é".repeat(124));
        assert_eq!(long.len(), 255);
        for number in 0..11 {
            let to = drop_and_reject(scratch.path(), &disk, OsStr::new(&long), "long");
            let name = to.file_name().unwrap().to_str().unwrap();
            assert!(name.len() <= MAX_NAME - REASON.len(), "{}", name.len());
            assert_eq!(Path::new(name).extension(), Some(OsStr::new("json")));
            assert_eq!(name.contains('-'), number > 0);
        }
    }

    #[test]
    fn odd_names_are_kept_and_shown_escaped() {
        let (scratch, disk) = scratch();
        let odd = OsStr::from_bytes(b"a\n\xff.json");
        drop_and_reject(scratch.path(), &disk, odd, "odd");
        assert_eq!(rejected(&disk, 10).unwrap()[0].name, "a\\n\\xff.json");
    }

    #[test]
    fn a_file_goes_back_to_where_it_lay_or_is_deleted() {
        let (scratch, disk) = scratch();
        let root = scratch.path();
        fs::create_dir(root.join("tasks/emails")).unwrap();
        fs::write(root.join("tasks/emails/a.json"), "{").unwrap();
        reject(&disk, Path::new("tasks/emails/a.json"), None, "not JSON").unwrap();
        drop_and_reject(root, &disk, OsStr::new("b\n.json"), "not JSON");
        let found = rejected(&disk, 10).unwrap();
        assert!(
            found
                .iter()
                .all(|file| file.reason == "not JSON" && file.beginning == "{")
        );
        fs::remove_dir(root.join("tasks/emails")).unwrap();
        assert!(take_back(&disk, "a.json").unwrap());
        assert!(root.join("tasks/emails/a.json").exists());
        assert!(take_back(&disk, "b\\n.json").unwrap());
        assert!(root.join("tasks/b\n.json").exists());
        assert!(!take_back(&disk, "b\\n.json").unwrap());
        drop_and_reject(root, &disk, OsStr::new("c.json"), "why");
        assert!(discard(&disk, "c.json").unwrap() && !discard(&disk, "c.json").unwrap());
        assert_eq!(fs::read_dir(root.join(DIRECTORY)).unwrap().count(), 0);
    }

    #[test]
    fn a_long_file_shows_its_beginning() {
        let (scratch, disk) = scratch();
        let text = "\u{e4}".repeat(BEGINNING);
        fs::write(scratch.path().join("tasks/a.txt"), format!("x{text}")).unwrap();
        reject(&disk, Path::new("tasks/a.txt"), None, "too large").unwrap();
        let beginning = &rejected(&disk, 1).unwrap()[0].beginning;
        assert_eq!(
            (beginning.len(), beginning.ends_with('\u{e4}')),
            (BEGINNING - 1, true)
        );
    }

    #[test]
    fn a_file_that_went_away_leaves_nothing_behind() {
        let (scratch, disk) = scratch();
        let error = reject(&disk, Path::new("tasks/gone.json"), None, "why").unwrap_err();
        assert!(error.is_missing());
        assert!(rejected(&disk, 10).unwrap().is_empty());
        assert!(!scratch.path().join("rejected/gone.json.reason").exists());
    }

    #[test]
    fn another_file_than_the_one_that_was_judged_stays() {
        let scratch = tempfile::tempdir().unwrap();
        crate::store::prepare(scratch.path()).unwrap();
        let disk = RealDisk::open(scratch.path()).unwrap();
        let path = Path::new("tasks/a.json");
        fs::write(scratch.path().join(path), "bad").unwrap();
        let meta = disk.look(path).unwrap();
        let source = Source {
            path: path.to_owned(),
            inode: meta.inode,
            modified: meta.modified,
            size: meta.size + 1,
        };
        assert_eq!(reject(&disk, path, Some(&source), "bad").unwrap(), None);
        // It came after the first look.
        let (to, beside) = (
            Path::new("rejected/a.json"),
            Path::new("rejected/a.json.reason"),
        );
        for third in [false, true] {
            disk.make_dir(Path::new(DIRECTORY)).unwrap();
            disk.write_new(beside, b"bad").unwrap();
            disk.rename_new(path, to).unwrap();
            if third {
                fs::write(scratch.path().join(path), "third").unwrap();
            }
            assert_eq!(
                checked(&disk, path, to, beside, Some(&source)).unwrap(),
                None
            );
            let text = fs::read_to_string(scratch.path().join(path)).unwrap();
            assert_eq!(text, if third { "third" } else { "bad" });
            assert_eq!(rejected(&disk, 9).unwrap().len(), usize::from(third));
        }
    }
}
