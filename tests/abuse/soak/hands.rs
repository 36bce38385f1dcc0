//! The worker of a soak: a real one, whose handler keeps a book of what it has ended, and which is killed, stopped and
//! suspended like the daemon.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::ledger::{Ledger, number};
use crate::common::{account::Chance, until, wait};

/// Does what its payload asks, and writes the task's id as the last of it.
const HANDLER: &str = r#"#!/bin/sh
payload=$(cat)
case $payload in
*'"act":"fail"'*) if [ "$WORKQUEUE_ATTEMPT" -lt 2 ]; then echo "not yet" >&2; exit 1; fi ;;
*'"act":"flood"'*) head -c 2000000 /dev/zero | tr '\0' x >&2; head -c 2000000 /dev/zero | tr '\0' x ;;
*'"act":"daemonise"'*) setsid sh -c 'setsid sleep 600 & exit 0' & ;;
*'"act":"deaf"'*) trap '' TERM INT HUP; (sleep 1 & sleep 1) ;;
*'"act":"close"'*) exec 0<&- 1>&- 2>&- ;;
esac
echo "$WORKQUEUE_TASK_ID" >>"$BOOK"
"#;

/// The lease of the worker's tasks: shorter than it is suspended for.
const LEASE: Duration = Duration::from_secs(3);

pub(super) struct Hands {
    child: Child,
    settings: PathBuf,
    book: PathBuf,
    log: PathBuf,
}

impl Hands {
    pub(super) fn start(scratch: &Path, socket: &Path) -> Self {
        let handler = scratch.join("handler");
        fs::write(&handler, HANDLER).expect("a handler");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&handler, mode).expect("a program");
        let settings = scratch.join("worker.toml");
        let book = scratch.join("book");
        let text = format!(
            "url = \"unix:{}\"\nqueues = [\"hands\"]\nconcurrency = 3\nlease = \"{}s\"\nshutdown_grace = \"1s\"\n\
             log_level = \"error\"\n[handler]\ntype = \"exec\"\ncommand = [\"{}\"]\ntimeout = \"30s\"\n\
             environment = {{ BOOK = \"{}\" }}\n",
            socket.display(),
            LEASE.as_secs(),
            handler.display(),
            book.display(),
        );
        fs::write(&settings, text).expect("settings");
        let log = scratch.join("worker.log");
        Self {
            child: spawn(&settings, &log),
            settings,
            book,
            log,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the handler has ended.
    pub(super) fn ran(book: &Path) -> HashSet<u128> {
        let text = fs::read_to_string(book).unwrap_or_default();
        text.lines().filter_map(number).collect()
    }

    pub(super) fn book(&self) -> PathBuf {
        self.book.clone()
    }

    pub(super) fn stop(&mut self, ledger: &Ledger) {
        // Before that it ends by the signal itself, with nothing to give back.
        until("the worker takes signals", || takes_signals(self.pid()));
        signal(self.pid(), "-TERM");
        let status = wait(&mut self.child);
        if !status.success() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            ledger.wrong(format!("the worker ended with {status}: {log}"));
        }
    }

    /// One fault.
    pub(super) fn suffer(&mut self, ledger: &Ledger, chance: &mut Chance, pid: &AtomicU32) {
        match chance.below(3) {
            0 => {
                self.child.kill().expect("kill -9");
                self.child.wait().expect("it is dead");
                ledger.fault("worker: kill -9");
                self.child = spawn(&self.settings, &self.log);
            }
            1 => {
                self.stop(ledger);
                ledger.fault("worker: restart");
                self.child = spawn(&self.settings, &self.log);
            }
            _ => {
                signal(self.pid(), "-STOP");
                // Its leases expire meanwhile.
                std::thread::sleep(LEASE + Duration::from_secs(1));
                signal(self.pid(), "-CONT");
                ledger.fault("worker: suspended longer than its leases");
            }
        }
        pid.store(self.pid(), Ordering::Relaxed);
    }
}

/// Whether a process has a handler for SIGTERM (`proc_pid_status(5)`).
fn takes_signals(pid: u32) -> Option<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))?;
    let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
    let of_term = 1 << (rustix::process::Signal::TERM.as_raw() - 1);
    (caught & of_term != 0).then_some(())
}

impl Drop for Hands {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn spawn(settings: &Path, log: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(log);
    Command::new(env!("CARGO_BIN_EXE_workqueue-worker"))
        .arg("--config")
        .arg(settings)
        .env_remove("WORKQUEUE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log"))
        .spawn()
        .expect("the worker starts")
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name}");
}
