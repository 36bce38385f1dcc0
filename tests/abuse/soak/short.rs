//! What a machine runs short of in a soak, each for a while: room on the disk, inodes, descriptors, and a disk that answers.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::Soak;
use crate::common::mount::{Frozen, Mount, ext4, has, limit_descriptors};

/// How long one of them lasts at most; work that is done meanwhile ends it sooner.
const WHILE: Duration = Duration::from_secs(2);
/// How many descriptors are left to a daemon beside those that it has.
const LEFT: usize = 3;

/// The file system that the data lies on: one that is soon full.
pub(super) fn small_disk(scratch: &Path, data: &Path) -> Option<Mount> {
    let image = scratch.join("image");
    ext4(&image, 128, &["-N", "8192"])?;
    Mount::image(data, &image)
}

impl Soak<'_> {
    /// Takes the last of the room for a while.
    pub(super) fn fill(&mut self) {
        let Some(mount) = self.mount else { return };
        let ballast = mount.fill();
        self.ledger.fault("disk full");
        self.ledger.wait_for(2000, WHILE);
        fs::remove_file(ballast).expect("the room is given back");
    }

    /// Takes the last of the inodes: files can be changed, and none be made.
    pub(super) fn without_inodes(&mut self) {
        let Some(mount) = self.mount else { return };
        let taken = mount.take_inodes();
        self.ledger.fault("no inodes");
        self.ledger.wait_for(2000, WHILE);
        fs::remove_dir_all(taken).expect("the inodes are given back");
    }

    /// The disk answers no write for a while.
    pub(super) fn stuck(&mut self) {
        let Some(_) = self.mount.filter(|_| has("fsfreeze")) else {
            return;
        };
        // Nothing can be waited for: what is done rests on the disk.
        let end = Instant::now() + WHILE.mul_f64(self.chance.below(100) as f64 / 100.0);
        let frozen = Frozen::new(self.daemon.data());
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        drop(frozen);
        self.ledger.fault("disk stuck");
    }

    /// The daemon may open next to nothing more for a while: neither files nor connections.
    pub(super) fn without_descriptors(&mut self) {
        let pid = self.daemon.pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let before = self.daemon.descriptor_limit();
        limit_descriptors(pid, &(open + LEFT).to_string());
        self.ledger.fault("no descriptors");
        self.ledger.wait_for(2000, WHILE);
        limit_descriptors(pid, &before);
    }
}
