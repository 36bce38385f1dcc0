//! Files and directories of the simulated disk: what they are now, what of that is durable, and what a power cut makes of
//! the difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use super::{chance::Chance, disk::State};

/// The data directory's number.
pub(super) const ROOT: u64 = 1;
/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

pub(super) enum Node {
    File(File),
    Dir(Dir),
}

/// One change of a file that is not durable.
#[derive(Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Size(usize),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Size(size) => to.resize(*size, 0),
            Self::Bytes(at, bytes) => put(to, *at, bytes),
        }
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[at..end].copy_from_slice(bytes);
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) now: Vec<u8>,
    stable: Vec<u8>,
    pending: Vec<Write>,
    pub(super) modified_ms: i64,
}

impl File {
    pub(super) fn new(modified_ms: i64) -> Self {
        Self {
            modified_ms,
            ..Self::default()
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        if at + bytes.len() > self.now.len() {
            self.resize(at + bytes.len());
        }
        let write = Write::Bytes(at, bytes.to_vec());
        write.apply(&mut self.now);
        self.pending.push(write);
    }

    pub(super) fn resize(&mut self, size: usize) {
        let write = Write::Size(size);
        write.apply(&mut self.now);
        self.pending.push(write);
    }

    pub(super) fn sync(&mut self) {
        for write in self.pending.drain(..) {
            write.apply(&mut self.stable);
        }
    }

    /// What is read when the kernel forgets all that it has written, or takes for written.
    pub(super) fn on_disk(&self) -> Vec<u8> {
        let mut bytes = self.stable.clone();
        for write in &self.pending {
            write.apply(&mut bytes);
        }
        bytes
    }

    /// What was to be written is in part on the disk, and the kernel forgets that the rest is not.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance) {
        self.tear(chance);
    }

    pub(super) fn cut_power(&mut self, chance: &mut Chance) {
        self.tear(chance);
        self.now.clone_from(&self.stable);
    }

    pub(super) fn rot(&mut self, at: usize) -> bool {
        for bytes in [&mut self.now, &mut self.stable] {
            let Some(byte) = bytes.get_mut(at) else {
                return false;
            };
            *byte ^= 0x20;
        }
        true
    }

    fn tear(&mut self, chance: &mut Chance) {
        let pending = std::mem::take(&mut self.pending);
        match chance.below(6) {
            0 => {}
            1 => pending
                .iter()
                .for_each(|write| write.apply(&mut self.stable)),
            2 | 3 => self.keep_prefix(&pending, chance),
            _ => self.keep_sectors(&pending, chance),
        }
    }

    fn keep_prefix(&mut self, pending: &[Write], chance: &mut Chance) {
        let whole = chance.index(pending.len() + 1);
        for write in &pending[..whole] {
            write.apply(&mut self.stable);
        }
        if let Some(Write::Bytes(at, bytes)) = pending.get(whole) {
            let part = chance.index(bytes.len() + 1);
            put(&mut self.stable, *at, &bytes[..part]);
        }
    }

    fn keep_sectors(&mut self, pending: &[Write], chance: &mut Chance) {
        let likely = chance.pick(&[20, 50, 80, 95]);
        for write in pending {
            match write {
                Write::Size(_) if chance.percent(likely) => write.apply(&mut self.stable),
                Write::Size(_) => {}
                Write::Bytes(at, bytes) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                        if chance.percent(likely) {
                            put(&mut self.stable, at + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
    }
}

/// One change of a directory.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Add(OsString, u64),
    Remove(OsString),
    Move(OsString, OsString, u64),
}

impl Change {
    fn apply(&self, to: &mut BTreeMap<OsString, u64>) {
        match self {
            Self::Add(name, number) => {
                to.insert(name.clone(), *number);
            }
            Self::Remove(name) => {
                to.remove(name);
            }
            Self::Move(from, name, number) => {
                if to.get(from) == Some(number) {
                    to.remove(from);
                }
                to.insert(name.clone(), *number);
            }
        }
    }

    const fn adds(&self) -> bool {
        !matches!(self, Self::Remove(_))
    }
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<OsString, u64>,
    stable: BTreeMap<OsString, u64>,
    /// What is not durable, each with its moment: changes of one moment are kept or lost together.
    pending: Vec<(u64, Change)>,
}

impl Dir {
    pub(super) fn change(&mut self, moment: u64, change: Change) {
        change.apply(&mut self.now);
        self.pending.push((moment, change));
    }

    /// Makes the changes of these moments durable, and forgets none of the others.
    fn keep(&mut self, moments: &BTreeSet<u64>) {
        let stable = &mut self.stable;
        self.pending.retain(|(moment, change)| {
            let kept = moments.contains(moment);
            if kept {
                change.apply(stable);
            }
            !kept
        });
    }
}

/// Which changes of names a power cut keeps.
enum Kept {
    None,
    All,
    /// Those up to this moment: what a journalling file system does.
    Before(u64),
    Additions,
    Removals,
    /// Each with this chance, in percent.
    Some(u64),
}

impl State {
    fn dirs(&mut self) -> impl Iterator<Item = &mut Dir> {
        self.nodes.values_mut().filter_map(|node| match node {
            Node::Dir(dir) => Some(dir),
            Node::File(_) => None,
        })
    }

    fn keep(&mut self, moments: &BTreeSet<u64>) {
        for dir in self.dirs() {
            dir.keep(moments);
        }
    }

    /// A sync of a directory: its changes, and the other halves of renames across two.
    pub(super) fn sync_names(&mut self, number: u64) {
        let Some(Node::Dir(dir)) = self.nodes.get(&number) else {
            return;
        };
        let moments = dir.pending.iter().map(|(moment, _)| *moment).collect();
        self.keep(&moments);
    }

    pub(super) fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.sync(),
                Node::Dir(dir) => {
                    for (_, change) in dir.pending.drain(..) {
                        change.apply(&mut dir.stable);
                    }
                }
            }
        }
        self.sweep();
    }

    pub(super) fn lose_what_is_not_synced(&mut self) {
        let mut chance = self.chance.clone();
        let mut moments: BTreeMap<u64, bool> = BTreeMap::new();
        for dir in self.dirs() {
            for (moment, change) in &dir.pending {
                *moments.entry(*moment).or_default() |= change.adds();
            }
        }
        let first = moments.keys().next().copied().unwrap_or(0);
        let last = moments.keys().next_back().copied().unwrap_or(0);
        let kept = match chance.below(8) {
            0 => Kept::None,
            1 => Kept::All,
            2 | 3 => Kept::Before(first + chance.below(last - first + 2)),
            4 => Kept::Additions,
            5 => Kept::Removals,
            _ => Kept::Some(chance.pick(&[20, 50, 80])),
        };
        let survives = |(moment, adds): (u64, bool), chance: &mut Chance| match kept {
            Kept::None => false,
            Kept::All => true,
            Kept::Before(end) => moment < end,
            Kept::Additions => adds,
            Kept::Removals => !adds,
            Kept::Some(likely) => chance.percent(likely),
        };
        let surviving = moments
            .into_iter()
            .filter(|one| survives(*one, &mut chance))
            .map(|(moment, _)| moment)
            .collect();
        self.keep(&surviving);
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.cut_power(&mut chance),
                Node::Dir(dir) => {
                    dir.pending.clear();
                    dir.now.clone_from(&dir.stable);
                }
            }
        }
        self.chance = chance;
        self.sweep();
    }

    /// Forgets files without a name, now or on the disk.
    fn sweep(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for dir in self.dirs() {
            named.extend(dir.now.values().chain(dir.stable.values()));
            let pending = dir.pending.iter();
            named.extend(pending.filter_map(|(_, change)| match change {
                Change::Add(_, number) | Change::Move(_, _, number) => Some(*number),
                Change::Remove(_) => None,
            }));
        }
        self.nodes.retain(|number, _| named.contains(number));
    }
}
