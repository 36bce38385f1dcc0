//! [`Unmoved`]: bad files that could not be moved to `rejected/`, for want of room above all. They stay where they are, are
//! shown with why, and are tried again.

use std::{
    collections::BTreeMap,
    hash::BuildHasher as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    Engine,
    io::{BadFile, Failed, Output, Response, Ticket},
    lately::Lately,
};
use crate::{
    backend::Error,
    store::{queue_at, shown},
    systemd::catalog,
    task::{EventKind, Millis, Now, Refusal, RejectedView, Source, Tick, WallMillis},
};

/// How many are kept. More are forgotten by the watcher, and found by a look through the directory when these are moved.
const MOST: usize = 10_000;
/// How long the first try is put off, and the longest that one is. On a full disk it stays the first for every 256 files, as
/// for other files; where something else is wrong, each time is twice as long.
const FIRST: Millis = Millis(1000);
const LONGEST: Millis = Millis(60_000);
const TRIES_A_ROUND: u64 = 256;
/// How often a file that is another than was judged is looked at again at once, while less than a minute lies between two looks.
const MOST_LOOKS: u8 = 30;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Unmoved {
    files: BTreeMap<PathBuf, (BadFile, Arc<str>)>,
    due: Option<Tick>,
    pause: Millis,
    passed_over: bool,
    /// How often files that were others than those judged have been looked at again, by hashes of their paths.
    looked_again: Lately<u64, u8>,
}

impl Default for Unmoved {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            due: None,
            pause: FIRST,
            passed_over: false,
            looked_again: Lately::default(),
        }
    }
}

impl Unmoved {
    /// When they are tried again.
    pub(super) const fn due(&self) -> Option<Tick> {
        self.due
    }

    /// There may be room.
    pub(super) fn hurry(&mut self, now: Tick) {
        if self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// Whether a file that is another than was judged is looked at again at once. Not for ever: on some network file systems each look
    /// finds another one, and then the next look through the directory is soon enough.
    fn may_look_again(&mut self, path: &Path, now: Tick) -> bool {
        let key = FixedState::default().hash_one(path);
        let times = self.looked_again.get(&key, now).unwrap_or(0);
        self.looked_again.note(key, times.saturating_add(1), now);
        times < MOST_LOOKS
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What is shown of them.
    pub(super) fn views(&self) -> impl Iterator<Item = RejectedView> + '_ {
        self.files.values().map(|(file, error)| {
            let reason = format!("{}; not moved to rejected/ yet: {error}", file.reason);
            RejectedView {
                size: file.known.as_ref().map(|known| known.size),
                modified: file.known.as_ref().map(written),
                ..left_alone(&file.path, reason)
            }
        })
    }
}

/// When a file was last written, as its file system says.
const fn written(file: &Source) -> WallMillis {
    WallMillis((file.modified / 1_000_000) as i64)
}

/// What is shown of a file that is where it was.
fn left_alone(path: &Path, reason: String) -> RejectedView {
    RejectedView {
        name: shown(path),
        reason,
        size: None,
        modified: None,
        moved: false,
        beginning: String::new(),
    }
}

impl Engine {
    /// A bad file was moved to `rejected/`, was not the one that was judged any more, or could not be moved.
    pub(super) fn rejected(
        &mut self,
        now: Now,
        file: BadFile,
        result: Result<bool, Failed>,
        out: &mut Vec<Output>,
    ) {
        match result {
            Ok(moved) => {
                let was_here = self.unmoved.files.remove(&file.path).is_some();
                if moved {
                    self.tell_rejected(now, &file, out);
                    self.unmoved.pause = FIRST;
                } else if self.unmoved.may_look_again(&file.path, now.tick) {
                    // It was away for a moment, or is another one now: nobody tells of it again.
                    out.push(Output::Again(vec![file.path]));
                } else {
                    out.extend(file.known.map(Output::Forget));
                }
                if was_here && self.unmoved.files.is_empty() {
                    self.unmoved.due = None;
                    if std::mem::take(&mut self.unmoved.passed_over) {
                        out.push(Output::Rescan);
                    }
                }
            }
            Err(failed) => self.not_moved(now, file, failed, out),
        }
    }

    fn tell_rejected(&mut self, now: Now, file: &BadFile, out: &mut Vec<Output>) {
        let (path, reason) = (shown(&file.path), &*file.reason);
        tracing::warn!(message_id = catalog::FILE_REJECTED.id, file = %path, reason, "{}", catalog::FILE_REJECTED.line);
        self.rejected += 1;
        let text = format!("{path}: {reason}");
        let queue = queue_at(&file.path);
        self.tell(
            now,
            EventKind::Rejected,
            None,
            queue,
            Some(text.into()),
            out,
        );
    }

    fn not_moved(&mut self, now: Now, file: BadFile, failed: Failed, out: &mut Vec<Output>) {
        let is_known = self.unmoved.files.contains_key(&file.path);
        if !is_known {
            if self.unmoved.files.len() == MOST {
                self.unmoved.passed_over = true;
                out.extend(file.known.map(Output::Forget));
                return;
            }
            tracing::error!(file = %shown(&file.path), error = %failed.text, "can't move a file to rejected/; it is tried again");
        }
        let path = file.path.clone();
        self.unmoved.files.insert(path, (file, failed.text));
        let rounds = 1 + self.unmoved.files.len() as u64 / TRIES_A_ROUND;
        let pause = if failed.full {
            Millis((FIRST.0 * rounds).min(LONGEST.0))
        } else {
            self.unmoved.pause
        };
        self.unmoved.due.get_or_insert(now.tick.plus(pause));
    }

    /// Tries those that are due again.
    pub(super) fn retry_unmoved(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.unmoved.due.is_none_or(|due| due > now.tick) {
            return;
        }
        self.unmoved.due = None;
        self.unmoved.pause = Millis((self.unmoved.pause.0 * 2).min(LONGEST.0));
        let files = self.unmoved.files.values();
        out.extend(files.map(|(file, _)| Output::Reject(file.clone())));
    }

    /// Answers with what lies in `rejected/`, and with what could not be moved there.
    pub(super) fn rejected_listed(
        &mut self,
        ticket: Ticket,
        list: Result<Vec<RejectedView>, Arc<str>>,
        out: &mut Vec<Output>,
    ) {
        let result = match list {
            Ok(mut list) => {
                list.extend(self.unmoved.views());
                let left = self.irregular.iter();
                list.extend(left.map(|(path, reason)| left_alone(path, reason.clone())));
                Ok(Response::Rejected(list))
            }
            Err(reason) => Err(Error::Refused(Refusal::OutOfReach {
                what: "rejected files can't be listed".into(),
                reason: (*reason).into(),
            })),
        };
        out.push(Output::Reply(ticket, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_where_it_was_is_shown_as_it_was_judged() {
        let file = BadFile {
            path: "tasks/a.json".into(),
            known: Some(Source {
                path: "tasks/a.json".into(),
                inode: 1,
                modified: 1_800_000_000_250_000_000,
                size: 7,
            }),
            reason: "not JSON".to_owned(),
        };
        let unseen = BadFile {
            path: "tasks/b.json".into(),
            known: None,
            ..file.clone()
        };
        let mut unmoved = Unmoved::default();
        for file in [file, unseen] {
            let path = file.path.clone();
            unmoved.files.insert(path, (file, "no room".into()));
        }
        let shown: Vec<_> = unmoved
            .views()
            .map(|view| (view.name, view.size, view.modified, view.moved))
            .collect();
        let written = WallMillis(1_800_000_000_250);
        assert_eq!(
            shown,
            [
                ("tasks/a.json".to_owned(), Some(7), Some(written), false),
                ("tasks/b.json".to_owned(), None, None, false)
            ]
        );
    }
}
