//! What happens at the limits that an administrator sets: memory and disk.

use std::collections::BTreeSet;

use super::{
    common::package::skipped,
    machine::{Held, installed},
};

/// Submits payloads of 1 MB until one is not taken: the ids of those that were, and the last status (0: no answer).
fn submit_until_refused(machine: &Held) -> (BTreeSet<String>, u32) {
    machine.sh("{ printf '{\"delay\":3600,\"payload\":\"'; head -c 1000000 /dev/zero | tr '\\0' x; printf '\"}'; } > /tmp/large.json");
    let mut ids = BTreeSet::new();
    for _ in 0..1000 {
        let said = machine.run(
            "curl -s -m 60 -w '\\n%{http_code}' -H 'Content-Type: application/json' -d @/tmp/large.json \
             http://127.0.0.1:5000/api/v1/tasks | cut -c 1-200",
        );
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let status: u32 = said
            .lines()
            .last()
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(0);
        if status != 201 {
            return (ids, status);
        }
        let id = said
            .split("\"id\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        ids.insert(id.unwrap_or_else(|| panic!("{said}")).to_owned());
    }
    panic!("{} MB were taken", ids.len());
}

/// After memory ran out: it is back, and all that it had promised is there.
fn comes_back(machine: &Held, promised: &BTreeSet<String>) {
    machine.until("the daemon is there again", || {
        let up = machine.show("workqueued", "ActiveState") == "active"
            && machine.show("workqueued", "NRestarts") != "0";
        up.then_some(())
    });
    let there = machine.ids();
    let lost: Vec<&String> = promised.difference(&there).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn a_daemon_without_memory_ends_and_comes_back_with_every_task() {
    let Some(machine) = installed() else { return };
    // An address space limit works also where the memory of a group can't be limited. Payloads are kept in memory without a bound,
    // or it would not run out: what waits for its file is bounded otherwise.
    machine.drop_in(
        "workqueued.service",
        "[Service]\nLimitAS=400M\nEnvironment=WORKQUEUE_PAYLOAD_CACHE=8GiB\n",
    );
    machine.sh("systemctl restart workqueued");
    let (promised, status) = submit_until_refused(&machine);
    assert_eq!(status, 0, "it ended, after {}", promised.len());
    // With more room again.
    machine.drop_in("workqueued.service", "");
    comes_back(&machine, &promised);
}

#[test]
fn a_daemon_at_its_memory_limit_is_restarted_with_every_task() {
    let Some(machine) = installed() else { return };
    if !machine
        .read("/sys/fs/cgroup/cgroup.subtree_control")
        .contains("memory")
    {
        skipped("MemoryMax=, because the memory of a group can't be limited in a container here");
        return;
    }
    machine.drop_in(
        "workqueued.service",
        "[Service]\nMemoryHigh=infinity\nMemoryMax=48M\nMemorySwapMax=0\n",
    );
    machine.sh("systemctl restart workqueued");
    let (promised, status) = submit_until_refused(&machine);
    assert_eq!(status, 0, "it was ended, after {}", promised.len());
    machine.drop_in("workqueued.service", "");
    comes_back(&machine, &promised);
    machine.until_logged("workqueued", "oom-kill");
}

#[test]
fn a_full_disk_refuses_tasks_and_finishes_those_it_has() {
    let Some(machine) = installed() else { return };
    machine.sh(
        "systemctl stop workqueued.socket workqueued-admin.socket workqueued.service
        mount -t tmpfs -o size=24m,mode=750,uid=workqueue,gid=workqueue tmpfs /var/lib/workqueue
        systemctl start workqueued",
    );
    let first = machine.submit("'small'");
    let (taken, status) = submit_until_refused(&machine);
    assert_eq!(status, 507, "after {}", taken.len());
    assert!(!taken.is_empty());
    assert_eq!(machine.show("workqueued", "ActiveState"), "active");
    machine.sh("workqueuectl status || true");

    // What it has taken, it can finish.
    machine.sh("systemctl start workqueue-worker");
    machine.until("the small one is done", || {
        (!machine.ids().contains(&first)).then_some(())
    });
    assert_eq!(machine.ids(), taken);

    // With room again it goes on by itself.
    machine.sh("mount -o remount,size=200m /var/lib/workqueue");
    let more = machine.until("tasks are taken again", || {
        let said = machine.run("workqueuectl submit --in 1h 'more'");
        said.status
            .success()
            .then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    });
    machine.sh("systemctl restart workqueued");
    let mut all = taken;
    all.insert(more);
    assert_eq!(machine.ids(), all);
    machine.sh("systemctl stop 'workqueue*'; umount /var/lib/workqueue");
}
