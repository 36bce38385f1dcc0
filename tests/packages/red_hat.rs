//! The .rpm, as far as a Debian machine can tell: rpm itself installs, upgrades, verifies and removes it.

use super::machine::{OLDER_RPM, RPM, bare};

#[test]
fn the_rpm_installs_serves_upgrades_and_goes() {
    let Some(machine) = bare() else { return };
    // Debian's libraries are not in rpm's own books.
    machine.sh(&format!("rpm -i --nodeps {OLDER_RPM}"));
    assert_eq!(
        machine.show("workqueued", "ActiveState"),
        "inactive",
        "rpm starts nothing"
    );
    assert_eq!(
        machine.show("workqueued", "UnitFileState"),
        "enabled",
        "Debian's preset"
    );
    machine.sh("systemctl start workqueued workqueue-worker");
    machine.submit("'hello from an rpm'");
    machine.until_logged("workqueue-worker", "hello from an rpm");
    let task = machine.submit("--in 1h 'later'");

    machine.sh("echo '# mine' >> /etc/workqueue/workqueued.toml");
    let pid = machine.show("workqueued", "MainPID");
    machine.sh(&format!("rpm -U --nodeps {RPM}"));
    assert_eq!(
        machine.sh("rpm -q --qf '%{VERSION}' workqueue"),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(machine.show("workqueued", "ActiveState"), "active");
    assert_ne!(
        machine.show("workqueued", "MainPID"),
        pid,
        "it was restarted"
    );
    assert!(
        machine
            .read("/etc/workqueue/workqueued.toml")
            .contains("# mine")
    );
    assert!(machine.ids().contains(&task));
    let changed = machine.run("rpm -V --nodeps workqueue");
    let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
    let others: Vec<&str> = changed
        .lines()
        .filter(|line| !line.ends_with("c /etc/workqueue/workqueued.toml"))
        .collect();
    assert!(others.is_empty(), "{changed}");

    machine.sh("rpm -e workqueue");
    assert!(!machine.is("pgrep workqueue"));
    assert!(!machine.path("/usr/bin/workqueued").exists());
    assert!(
        machine.path("/var/lib/workqueue/tasks").exists(),
        "the state stays"
    );
    assert!(!machine.path("/run/workqueue/admin.sock").exists());
}
