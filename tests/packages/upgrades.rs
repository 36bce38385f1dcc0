//! From one version to another, up and down, while people use the queue.

use std::{collections::BTreeSet, fs, path::Path, sync::atomic::Ordering};

use super::{
    common::{load, package::OLDER},
    machine::{DEB, Held, OLDER_DEB, bare, installed},
};

fn version(machine: &Held) -> String {
    machine.sh("dpkg-query -W -f '${Version}' workqueue")
}

#[test]
fn an_upgrade_under_load_refuses_nobody_and_loses_nothing() {
    let Some(machine) = bare() else { return };
    machine.install(OLDER_DEB);
    assert_eq!(version(&machine), OLDER);
    machine.write(
        "/etc/workqueue/workers/slow.toml",
        "queues = [\"slow\"]\nconcurrency = 4\n[handler]\ntype = \"exec\"\n\
         command = [\"/bin/sh\", \"-c\", \"task=$(cat); echo $task >> seen\"]\n",
    );
    machine.sh("systemctl start workqueue-worker@slow");
    machine.sh("seq 300 | sed 's/.*/{\"payload\":\"slow-&\",\"queue\":\"slow\"}/' | workqueuectl submit --ndjson - >/dev/null");
    let pid = machine.show("workqueued", "MainPID");
    let sockets = || {
        machine.sh("systemctl show -p ActiveEnterTimestampMonotonic workqueued.socket workqueued-admin.socket")
    };
    let before = sockets();

    let (account, ()) = machine.network(|| {
        load::submit_while(64, "127.0.0.1:5000", |answered| {
            let more = |goal: u64| {
                let goal = answered.load(Ordering::Relaxed) + goal;
                machine.until("clients are answered", || {
                    (answered.load(Ordering::Relaxed) >= goal).then_some(())
                });
            };
            more(64);
            machine.install(DEB);
            more(64);
        })
    });
    assert_eq!(account.errors, Vec::<String>::new());
    assert_eq!(version(&machine), env!("CARGO_PKG_VERSION"));
    assert_ne!(
        machine.show("workqueued", "MainPID"),
        pid,
        "it was restarted"
    );
    assert_eq!(sockets(), before, "and its sockets were not");

    machine.until("the worker has done its part", || {
        let left = machine.sh("workqueuectl list --all --json --queue slow | wc -l");
        (left == "0").then_some(())
    });
    let there = machine.ids();
    let answered: BTreeSet<String> = account.ids.iter().cloned().collect();
    assert_eq!(there, answered, "what was answered is what is there");
    let seen = machine.read("/var/lib/workqueue-worker/slow/seen");
    let seen: BTreeSet<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(seen.len(), 300, "each of the worker's tasks was handled");
}

/// The journal's files with what they hold.
fn journal(machine: &Held) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> =
        fs::read_dir(machine.path("/var/lib/workqueue/journal"))
            .expect("the journal")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let name = entry.file_name().into_string().expect("a name");
                (name, fs::read(entry.path()).expect("a file"))
            })
            .collect();
    files.sort();
    files
}

#[test]
fn a_downgrade_with_a_newer_journal_refuses_to_start_and_says_why() {
    let Some(machine) = installed() else { return };
    let task = machine.submit("--in 1h 'from the future'");
    machine.sh("systemctl stop workqueued.socket workqueued-admin.socket workqueued.service");
    // What a later version's journal begins with: the number of the format is at byte 8.
    let set_format = |format: u8| {
        // What only keeps room has no head.
        let files = journal(&machine).into_iter();
        for (name, mut content) in files.filter(|(name, _)| !name.starts_with("reserve")) {
            content[8] = format;
            let path = machine.path(&format!("/var/lib/workqueue/journal/{name}"));
            write_over(&path, &content);
        }
    };
    set_format(2);
    let before = journal(&machine);

    let said = machine.run(&format!(
        "apt-get install -y -q --allow-downgrades {OLDER_DEB} 2>&1"
    ));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(version(&machine), OLDER, "{said}");
    let why = "is of format version 2, this program knows 1: was it written by a newer one?";
    assert!(said.contains(why), "the installation says so: {said}");
    machine.until_logged("workqueued", why);
    assert_ne!(machine.show("workqueued", "ActiveState"), "active");
    assert_eq!(journal(&machine), before, "nothing was touched");

    machine.sh("systemctl stop workqueued.socket workqueued-admin.socket workqueued.service");
    set_format(1);
    machine.install(DEB);
    assert!(
        machine.ids().contains(&task),
        "and the newer one finds its tasks"
    );
}

/// Puts `content` into a file that is there, which keeps its owner.
fn write_over(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("write");
}
