//! Full disks of file systems that find room in their own ways: btrfs, which copies on write, and XFS, which has no room for a
//! name in a directory.
//!
//! Their tools are not everywhere: where one is missing, the test says loudly that it was skipped.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::json;

use crate::{
    common::mount::{Mount, ext4, may_mount, skip},
    full::{a_full_disk, fail_many},
    ids, line_to, scratch, start, submit_with,
};

/// An image of so many MiB with a file system that `mkfs` makes, mounted where the data will be.
fn scratch_on(mkfs: &str, mib: u64, settings: &str) -> Option<(tempfile::TempDir, Mount)> {
    if !may_mount() {
        return None;
    }
    let scratch = scratch(settings);
    let image = scratch.path().join("image");
    make(mkfs, &image, mib)?;
    let mount = Mount::image(&scratch.path().join("data"), &image)?;
    Some((scratch, mount))
}

fn make(mkfs: &str, image: &Path, mib: u64) -> Option<()> {
    let file = fs::File::create(image).expect("an image");
    file.set_len(mib << 20).expect("its size");
    match Command::new(mkfs).args(["-q", "-f"]).arg(image).output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
        Err(cause) => skip(&format!("{mkfs}: {cause}")),
    }
}

/// A frame is written over room that was set aside: with copies on write that would need as much again.
#[test]
fn a_full_btrfs_refuses_submits_and_nothing_else() {
    if let Some((scratch, mount)) = scratch_on("mkfs.btrfs", 128, crate::SMALL) {
        a_full_disk(scratch, &mount);
    }
}

/// One more name in a small directory takes a block there, and many have to be free for that: a checkpoint's is made all the same.
#[test]
fn a_full_xfs_makes_checkpoints_and_goes_on_handing_out() {
    let settings = "journal_segment = \"256KiB\"\n";
    let Some((scratch, mount)) = scratch_on("mkfs.xfs", 320, settings) else {
        return;
    };
    let mut daemon = start(scratch);
    let mut line = line_to(&daemon);
    let mut there = BTreeSet::new();
    for _ in 0..200 {
        let task = json!({"payload": "x".repeat(2000), "max_attempts": 1_000_000});
        there.insert(submit_with(&mut line, &task));
    }
    daemon.until_files_are_written();
    mount.fill();
    // More than all segments hold, several times.
    for _ in 0..4 {
        fail_many(&mut line, 400, 3000);
        fail_many(&mut line, 1000, 10);
        mount.fill();
    }
    daemon.crash_and_restart();
    assert_eq!(ids(&daemon), there);
    assert!(daemon.stop().success());
}

/// Room is set aside by zeros there: ext2 has no call for it.
#[test]
fn a_full_ext2_refuses_submits_and_nothing_else() {
    if !may_mount() {
        return;
    }
    let scratch = scratch(crate::SMALL);
    let image = scratch.path().join("image");
    let mount = ext4(&image, 64, &["-t", "ext2"])
        .and_then(|()| Mount::image(&scratch.path().join("data"), &image));
    if let Some(mount) = mount {
        a_full_disk(scratch, &mount);
    }
}
