//! A machine that runs out of something: what is refused, that the rest goes on, and that nothing acknowledged is lost.

use std::{collections::BTreeSet, fs};

use serde_json::json;

use crate::{
    common::account::all,
    limits::{complete_all, refusals, with},
};

/// Memory of its own that a process has, in bytes.
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a number").parse::<u64>().expect("kB") << 10
}

#[test]
fn memory_stays_near_its_limit_and_what_was_taken_can_end() {
    const LIMIT: u64 = 96 << 20;
    // The disk never slows this down: all payloads stay in memory.
    let daemon = with(&format!(
        "max_memory = {LIMIT}\npayload_cache = \"4GiB\"\ndurability = \"none\"\n"
    ));
    let payload = "x".repeat(500_000);
    let body = json!({"payload": payload}).to_string();
    let mut taken = BTreeSet::new();
    let (mut refused, mut most) = (0, 0);
    for _ in 0..600 {
        let (status, answer) = daemon.post("/api/v1/tasks", &body);
        match status {
            201 => {
                taken.insert(answer["id"].as_str().expect("an id").to_owned());
            }
            507 => {
                assert_eq!(answer["type"], json!("/problems/no-memory"));
                assert!(
                    answer["detail"]
                        .as_str()
                        .expect("why")
                        .contains("max_memory")
                );
                refused += 1;
            }
            other => panic!("{other}: {answer}"),
        }
        most = most.max(memory(daemon.pid()));
    }
    assert!(refused > 0 && !taken.is_empty(), "{refused} of 600 refused");
    assert_eq!(refusals(&daemon, "max_memory"), refused);
    assert!(most < LIMIT + (64 << 20), "{most} bytes of memory");
    assert_eq!(all(&daemon).len(), taken.len());
    assert_eq!(complete_all(&daemon, "default"), taken);
    assert_eq!(daemon.get("/healthz").0, 200);
}
