//! What the daemon's hands do to the disk, an order at a time: what the threads of [`hands`](crate::engine::hands) do.

use super::world::World;
use crate::{
    engine::{BadFile, Failed, FileWork, Input},
    store::{Checkpoint, DiskError, FileOp, Group, NewSegment, free, reject},
    task::WallMillis,
};

#[derive(Debug)]
pub(super) enum JournalOrder {
    Write(Group),
    Make(NewSegment),
    Forget(Vec<u64>),
}

#[derive(Debug)]
pub(super) enum KeeperOrder {
    Checkpoint(Checkpoint),
    SetAside(u64),
}

#[derive(Debug)]
pub(super) enum FilesOrder {
    Change(Vec<FileWork>),
    Reject(BadFile),
    PurgeDone(WallMillis),
}

fn failed(error: &DiskError) -> Failed {
    Failed {
        full: error.is_full(),
        text: error.to_string().into(),
    }
}

impl World {
    pub(super) fn journal(&mut self) {
        let Some(life) = &mut self.life else { return };
        let input = match life.journal_orders.pop_front() {
            None => return,
            Some(JournalOrder::Forget(numbers)) => return life.journal.forget(&numbers),
            Some(JournalOrder::Make(new)) => match life.journal.make_segment(&new) {
                Ok(bytes) => {
                    self.oracle.has_segment = true;
                    Input::SegmentMade(new.number, bytes, free(&self.disk))
                }
                Err(error) => Input::SegmentFailed(failed(&error)),
            },
            Some(JournalOrder::Write(group)) => match life.journal.write(&group) {
                Ok(()) => {
                    if !self.disk.stopped() {
                        self.oracle.synced = group.seq.0;
                    }
                    Input::Written(group.seq)
                }
                Err(error) => Input::WriteFailed(error.to_string().into()),
            },
        };
        self.trace.note(|| format!("journal: {input:?}"));
        life.inbox.push_back(input);
    }

    pub(super) fn keep(&mut self) {
        let Some(life) = &mut self.life else { return };
        let order = match life.keeper_orders.pop_front() {
            None => return,
            Some(KeeperOrder::Checkpoint(order)) => order,
            Some(KeeperOrder::SetAside(bytes)) => {
                self.trace.note(|| format!("set aside {bytes}"));
                return life.keeper.set_aside(bytes);
            }
        };
        let result = life.keeper.checkpoint(&order);
        self.trace.note(|| {
            format!(
                "checkpoint {} without {:?}: {result:?}",
                order.cut, order.delete
            )
        });
        let is_full = result.as_ref().is_err_and(DiskError::is_full);
        self.oracle.may_be_brief |= is_full;
        if result.is_ok() {
            life.journal_orders
                .push_back(JournalOrder::Forget(order.delete));
        }
        let result = result.map_err(|error| failed(&error));
        life.inbox.push_back(Input::CheckpointDone(result));
    }

    pub(super) fn files(&mut self) {
        let Some(life) = &mut self.life else { return };
        match life.files_orders.pop_front() {
            None => {}
            Some(FilesOrder::Change(work)) => {
                let mut done = Vec::new();
                for one in work {
                    let result = life.spool.run_all(&one.ops);
                    self.trace
                        .note(|| format!("file of {}: {:?}: {result:?}", one.id, view_ops(&one)));
                    done.push((one.id, result.map_err(|error| failed(&error))));
                }
                life.inbox.push_back(Input::FilesDone(done));
                life.inbox.push_back(Input::Free(free(&self.disk)));
            }
            Some(FilesOrder::Reject(file)) => {
                let result = reject(&self.disk, &file.path, file.known.as_ref(), &file.reason);
                self.trace.note(|| {
                    format!(
                        "reject {}: {}: {result:?}",
                        file.path.display(),
                        file.reason
                    )
                });
                let result = match result {
                    Ok(to) => Ok(to.is_some()),
                    Err(error) if error.is_missing() => Ok(false),
                    Err(error) => Err(failed(&error)),
                };
                life.inbox.push_back(Input::Rejected(file, result));
            }
            Some(FilesOrder::PurgeDone(before)) => {
                let result = life.spool.purge_done(before);
                self.trace.note(|| format!("purge: {result:?}"));
            }
        }
    }

    pub(super) fn load(&mut self) {
        let Some(life) = &mut self.life else { return };
        let Some(places) = life.loads.pop_front() else {
            return;
        };
        let wall = self.now.wall;
        let read = places.into_iter().map(|(id, place)| {
            let result = life.spool.load(&place, wall);
            (id, result)
        });
        let read: Vec<_> = read.collect();
        self.trace.note(|| format!("loaded: {read:?}"));
        life.inbox.push_back(Input::Loaded(read));
    }
}

fn view_ops(work: &FileWork) -> Vec<String> {
    let op = |op: &FileOp| match op {
        FileOp::Put { old, at, .. } => format!(
            "put {} from {}",
            at.path().display(),
            old.as_ref()
                .map(|old| old.path().display().to_string())
                .unwrap_or_default()
        ),
        FileOp::Remove { at, .. } => format!("remove {}", at.path().display()),
        FileOp::RemoveSource(source) => format!("remove source {}", source.path.display()),
    };
    work.ops.iter().map(op).collect()
}
