//! What an administrator sees who installs the .deb: everything where it belongs, started by policy, and gone when told to.

use super::machine::{DEB, bare, installed};

const UNITS: [&str; 3] = [
    "workqueued.socket",
    "workqueued-admin.socket",
    "workqueued.service",
];

#[test]
fn an_installation_starts_the_daemon_and_leaves_the_worker_to_the_administrator() {
    let Some(machine) = installed() else { return };
    for unit in UNITS {
        assert_eq!(machine.show(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.show(unit, "UnitFileState"), "enabled", "{unit}");
    }
    assert_eq!(machine.show("workqueue-worker", "ActiveState"), "inactive");
    assert_eq!(
        machine.show("workqueue-worker", "UnitFileState"),
        "disabled"
    );

    machine.submit("'hello from a package'");
    machine.sh("systemctl start workqueue-worker");
    machine.until_logged("workqueue-worker", "hello from a package");
    machine.until("the task is gone", || {
        machine.ids().is_empty().then_some(())
    });

    // Each file is as it was packed; users, directories and pages are where they belong.
    assert_eq!(machine.sh("dpkg --verify workqueue"), "");
    assert_eq!(
        machine.sh("stat -c '%A %U:%G %n' /run/workqueue/admin.sock /var/lib/workqueue /var/lib/workqueue/tasks"),
        "srw-rw---- root:workqueue /run/workqueue/admin.sock\n\
         drwxr-x--- workqueue:workqueue /var/lib/workqueue\n\
         drwxrws--- workqueue:workqueue /var/lib/workqueue/tasks"
    );
    machine.sh("man -w workqueued.8 workqueue-worker.8 workqueuectl.1");
    machine.sh("workqueued --check-config && workqueue-worker --check-config");
}

#[test]
fn a_policy_that_starts_nothing_is_kept() {
    let Some(machine) = bare() else { return };
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    machine.sh("chmod 755 /usr/sbin/policy-rc.d");
    machine.install(DEB);
    for unit in UNITS {
        assert_eq!(machine.show(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(machine.show(unit, "UnitFileState"), "enabled", "{unit}");
    }
    machine.sh("rm /usr/sbin/policy-rc.d");
}

#[test]
fn the_admin_socket_is_for_root_and_members_of_the_group() {
    let Some(machine) = installed() else { return };
    machine.sh("id ada >/dev/null 2>&1 || useradd -m -G workqueue ada
                id eve >/dev/null 2>&1 || useradd -m eve
                usermod -a -G workqueue ada");
    for user in ["root", "ada"] {
        let answer = machine.curl_as(user, "/status");
        let text = String::from_utf8_lossy(&answer.stdout);
        assert!(
            answer.status.success() && text.contains("\"version\""),
            "{user}: {text}{}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
    let refused = machine.curl_as("eve", "/status");
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(
        refused.status.code(),
        Some(7),
        "curl can't connect: {errors}"
    );
    assert!(machine.is("runuser -u eve -- sh -c '! ls /var/lib/workqueue 2>/dev/null'"));
    // The page and the API are for all on this machine.
    assert!(machine.is("runuser -u eve -- curl -sSf http://127.0.0.1:5000/healthz"));

    // A member may make a task of a file: written in the task directory it gets that directory's group, also when it is renamed.
    machine.sh("runuser -u ada -- sh -c '
        umask 027
        cd /var/lib/workqueue/tasks
        echo \"{\\\"payload\\\": \\\"dropped by ada\\\"}\" > .drop.json
        mv .drop.json drop.json'");
    machine.until("the file is a task", || {
        (machine.ids().len() == 1).then_some(())
    });
}

#[test]
fn removing_stops_all_and_a_second_installation_finds_the_tasks() {
    let Some(machine) = installed() else { return };
    let task = machine.submit("--in 1h 'later'");
    machine.sh("systemctl enable --now workqueue-worker workqueue-worker@mail");
    machine.sh("echo '# mine' >> /etc/workqueue/workqueued.toml");
    machine.sh("apt-get remove -y -q workqueue 2>&1");
    let left = machine
        .sh("systemctl list-units --no-legend --plain 'workqueue*' | grep -v 'not-found' || true");
    assert_eq!(left, "");
    assert!(!machine.is("pgrep workqueue"));
    assert!(!machine.is("curl -s http://127.0.0.1:5000/healthz"));
    assert!(!machine.path("/run/workqueue/admin.sock").exists());

    machine.install(DEB);
    assert!(machine.ids().contains(&task), "it came back");
    assert!(
        machine
            .read("/etc/workqueue/workqueued.toml")
            .contains("# mine")
    );
    for unit in UNITS {
        assert_eq!(machine.show(unit, "ActiveState"), "active", "{unit}");
    }
    // The administrator had enabled it, so it is.
    assert_eq!(machine.show("workqueue-worker", "UnitFileState"), "enabled");
}

#[test]
fn purging_keeps_tasks_and_says_so() {
    let Some(machine) = installed() else { return };
    let task = machine.submit("--in 1h 'later'");
    let said = machine.sh("apt-get purge -y -q workqueue 2>&1");
    let told =
        "left /var/lib/workqueue, which is not empty; to delete it: rm -r /var/lib/workqueue";
    assert!(said.contains(told), "{said}");
    assert!(!machine.path("/etc/workqueue").exists());
    let links = machine.sh(
        "find /etc/systemd/system /var/lib/systemd/deb-systemd-helper-enabled -name 'workqueue*'",
    );
    assert_eq!(links, "");

    machine.install(DEB);
    assert!(machine.ids().contains(&task), "it came back");
}

#[test]
fn purging_takes_a_queue_that_holds_nothing() {
    let Some(machine) = installed() else { return };
    machine.submit("'soon done'");
    machine.sh("systemctl start workqueue-worker");
    machine.until("the task is gone", || {
        machine.ids().is_empty().then_some(())
    });
    let said = machine.sh("apt-get purge -y -q workqueue 2>&1");
    assert!(!said.contains("left /"), "{said}");
    assert!(!machine.path("/var/lib/workqueue").exists(), "{said}");
}

#[test]
fn purging_takes_tasks_when_it_is_told_to() {
    let Some(machine) = installed() else { return };
    machine.submit("--in 1h 'later'");
    machine.sh("WORKQUEUE_PURGE=state apt-get purge -y -q workqueue 2>&1");
    assert!(!machine.path("/var/lib/workqueue").exists());
}

#[test]
fn a_worker_for_each_file_in_workers() {
    let Some(machine) = installed() else { return };
    machine.write(
        "/etc/workqueue/workers/mail.toml",
        "queues = [\"emails\"]\n[handler]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"cat >> mails\"]\n",
    );
    machine.sh("systemctl start workqueue-worker@mail");
    machine.submit("--queue emails 'to ada'");
    machine.submit("'not a mail'");
    machine.until("the handler ran", || {
        (machine.read("/var/lib/workqueue-worker/mail/mails") == "to ada").then_some(())
    });
    assert_eq!(machine.ids().len(), 1, "the other queue's is still there");
}

#[test]
fn the_calendar_submits_tasks() {
    let Some(machine) = installed() else { return };
    machine.write(
        "/etc/workqueue/submit/report.json",
        "{\"payload\":\"daily report\",\"queue\":\"reports\",\"unique_key\":\"report\"}\n",
    );
    machine.drop_in(
        "workqueue-submit@report.timer",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\n",
    );
    machine.sh("systemctl start workqueue-submit@report.timer");
    let finished = "Finished workqueue-submit@report.service";
    machine.until("the timer went off twice", || {
        (machine
            .log("workqueue-submit@report.service")
            .matches(finished)
            .count()
            > 1)
        .then_some(())
    });
    machine.sh("systemctl stop workqueue-submit@report.timer");
    assert_eq!(machine.ids().len(), 1, "one at a time, by its key");
}

#[test]
fn the_journal_tells_a_tasks_life_and_explains_it() {
    let Some(machine) = installed() else { return };
    let task = machine.submit("'a life'");
    machine.sh("systemctl start workqueue-worker");
    machine.until_logged("workqueue-worker", "a life");
    let told = machine.until("its end is told", || {
        let told = machine.sh(&format!(
            "journalctl --sync; journalctl -q -x -u workqueued TASK_ID={task}"
        ));
        told.contains("completed").then_some(told)
    });
    // Lines of the catalog, which the installation has had compiled.
    assert!(told.contains("Defined-By: workqueue"), "{told}");
}
