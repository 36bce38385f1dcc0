//! A booted machine with the packages in `/root`, shared by the tests here, one at a time, each from nothing.

use std::{
    collections::BTreeSet,
    ops::Deref,
    process::Output,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::common::{
    container::{Machine, copy, put},
    package::{built, older},
};

/// Where the packages are in the machine.
pub(super) const DEB: &str = "/root/workqueue.deb";
pub(super) const OLDER_DEB: &str = "/root/workqueue-older.deb";
pub(super) const RPM: &str = "/root/workqueue.rpm";
pub(super) const OLDER_RPM: &str = "/root/workqueue-older.rpm";

/// The machine, held by one test.
pub(super) struct Held(MutexGuard<'static, Machine>);

impl Deref for Held {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

/// A machine on which workqueue was never installed. `None` where there can be none.
pub(super) fn bare() -> Option<Held> {
    static MACHINE: LazyLock<Option<Mutex<Machine>>> = LazyLock::new(|| {
        let (built, older) = (built()?, older()?);
        let machine = Machine::boot(|root| {
            copy(root, &built.deb, DEB);
            copy(root, &older.0, OLDER_DEB);
            copy(root, &built.rpm, RPM);
            copy(root, &older.1, OLDER_RPM);
            put(root, "/etc/hostname", "queue\n");
        })?;
        Some(Mutex::new(machine))
    });
    let machine = MACHINE.as_ref()?;
    let held = Held(machine.lock().unwrap_or_else(PoisonError::into_inner));
    held.sh("
        systemctl stop 'workqueue*' 2>/dev/null
        umount -q /var/lib/workqueue
        rm -rf /etc/systemd/system/workqueue*.d /run/systemd/system/workqueue*.d && systemctl daemon-reload
        ! dpkg-query -s workqueue >/dev/null 2>&1 || dpkg --purge workqueue
        ! rpm -q workqueue >/dev/null || rpm -e workqueue
        rm -rf /var/lib/workqueue /var/lib/workqueue-worker /etc/workqueue /run/workqueue
        systemctl reset-failed && journalctl --rotate && journalctl --vacuum-time=1us 2>/dev/null");
    Some(held)
}

/// A machine on which this version was just installed, as an administrator does it.
pub(super) fn installed() -> Option<Held> {
    let machine = bare()?;
    machine.install(DEB);
    Some(machine)
}

impl Held {
    /// `apt install ./PACKAGE`: over an older version, or a newer one. Gives what it says.
    pub(super) fn install(&self, package: &str) -> String {
        self.sh(&format!(
            "apt-get install -y -q --allow-downgrades {package} 2>&1"
        ))
    }

    /// A drop-in for a unit.
    pub(super) fn drop_in(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
        self.sh("systemctl daemon-reload");
    }

    /// curl on the admin socket, as a user.
    pub(super) fn curl_as(&self, user: &str, path: &str) -> Output {
        self.run(&format!(
            "runuser -u {user} -- curl -sS --unix-socket /run/workqueue/admin.sock http://localhost{path}"
        ))
    }

    /// Submits with the command line; gives the id.
    pub(super) fn submit(&self, arguments: &str) -> String {
        self.sh(&format!("workqueuectl submit {arguments}"))
    }

    /// All tasks that the daemon knows.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        let listed = self.sh("workqueuectl list --all --json");
        let id = |line: &str| {
            let task: Value = serde_json::from_str(line).expect("a task");
            task["id"].as_str().expect("an id").to_owned()
        };
        listed.lines().map(id).collect()
    }

    /// What a unit logged so far.
    pub(super) fn log(&self, unit: &str) -> String {
        self.sh(&format!(
            "journalctl --sync; journalctl -q -o cat -u '{unit}'"
        ))
    }

    /// Waits until a unit has logged this.
    pub(super) fn until_logged(&self, unit: &str, text: &str) {
        self.until(&format!("{unit} logs {text:?}"), || {
            self.log(unit).contains(text).then_some(())
        });
    }
}
