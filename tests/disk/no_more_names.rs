//! A directory that holds no more names although the disk has room.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    SMALL, claim,
    common::{
        account::{all, id_of},
        mount::{Mount, ext4, may_mount},
        names, until,
    },
    complete, is_full_answer, line_to, scratch, start, submit, submit_until_refused,
};

/// Fills a directory of ext4 with names until its index holds no more: long ones first, which is quick, then such as ours.
fn fill_directory(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::create_dir_all(dir).expect("a directory");
    let mut made = Vec::new();
    let (mut number, mut links) = (0_u64, 0);
    for length in [250, 72, 44] {
        let mut refused = 0;
        while refused < 400 {
            number += 1;
            let name = format!(".{number:0>length$}");
            // Hard links cost no inode; each inode has at most 65000 of them.
            let path = dir.join(name);
            let result = match made.last().filter(|_| links < 60_000) {
                Some(last) => fs::hard_link(last, &path),
                None => fs::write(&path, ""),
            };
            match result {
                Ok(()) => {
                    refused = 0;
                    links = if links < 60_000 { links + 1 } else { 0 };
                    made.push(path);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::StorageFull => refused += 1,
                Err(cause) => panic!("{}: {cause}", path.display()),
            }
        }
    }
    made
}

#[test]
fn a_directory_that_holds_no_more_names_is_full_for_its_queue_alone() {
    let scratch = scratch(SMALL);
    let image = scratch.path().join("image");
    let data = scratch.path().join("data");
    // Blocks of 1 KiB and no third level of the index: it ends at some ten thousand names, not at ten million.
    let options = ["-b", "1024", "-O", "^large_dir", "-m", "0"];
    if !may_mount() || ext4(&image, 96, &options).is_none() {
        return;
    }
    let Some(_mount) = Mount::image(&data, &image) else {
        return;
    };
    let padding = fill_directory(&data.join("tasks/narrow"));
    let mut daemon = start(scratch);
    let (_, view) = daemon.admin("GET", "/status", "");
    assert!(
        view["disk_free"].as_u64().expect("room") > 20 << 20,
        "{view}"
    );
    let mut line = line_to(&daemon);
    let (there, status, answer) = submit_until_refused(&mut line, "narrow");
    is_full_answer(status, &answer);
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(detail.contains("narrow"), "{detail}");
    assert!(!there.is_empty());

    // The other queues go on, and the journal does not grow on account of this one.
    for number in 0..1000 {
        let (status, answer) = submit(&mut line, "wide", &format!("{number} {}", "x".repeat(500)));
        assert_eq!(status, 201, "{answer}");
        for one in claim(&mut line, "wide", 1) {
            complete(&mut line, &one);
        }
    }
    let (status, answer) = submit(&mut line, "narrow", "more");
    is_full_answer(status, &answer);
    daemon.checkpoint();
    let journal: u64 = names(&daemon.data().join("journal"))
        .iter()
        .map(|name| {
            fs::metadata(daemon.data().join("journal").join(name)).map_or(0, |meta| meta.len())
        })
        .sum();
    assert!(journal < 1 << 20, "{journal} bytes of journal");

    // Claims and ends go on in it.
    let mut held = claim(&mut line, "narrow", 2);
    assert!(!held.is_empty());
    let first = held.remove(0);
    complete(&mut line, &first);
    daemon.crash_and_restart();
    let mut line = line_to(&daemon);
    let found = all(&daemon);
    let rest: BTreeSet<String> = there.iter().filter(|id| **id != first.0).cloned().collect();
    let narrow: BTreeSet<String> = found
        .iter()
        .filter(|(_, task)| task["queue"] == "narrow")
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(narrow, rest, "what was acknowledged, and no more");
    for id in &rest {
        let payload = found[id]["payload"].as_str().expect("a payload");
        assert!(payload.ends_with("xxx"), "{payload}");
    }
    for one in held {
        assert_eq!(found[&one.0]["state"], "leased");
        complete(&mut line, &one);
    }

    // Names go, and it works again. All of them: a name fits only into the one block that its hash says.
    for path in padding {
        fs::remove_file(path).expect("a name less");
    }
    until("a submit is taken", || {
        (submit(&mut line, "narrow", "after").0 == 201).then_some(())
    });
    until("a file for each task", || {
        let files = names(&daemon.tasks().join("narrow"));
        let files: BTreeSet<String> = files.iter().filter_map(|name| id_of(name)).collect();
        let tasks = all(&daemon);
        let tasks = tasks.iter().filter(|(_, task)| task["queue"] == "narrow");
        (files == tasks.map(|(id, _)| id.clone()).collect()).then_some(())
    });
    assert!(daemon.stop().success());
}
