//! Handlers under a worker to which its control group was delegated, as `Delegate=` of its unit does: what they start ends with
//! them, even where it has shaken off every mark.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    common::{Daemon, mount::skip, until},
    handlers::{Worker, lines, runs, worked_off},
};

/// How many were made: two tests may have one each.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A control group that says of itself that it is delegated; removed at the end, with all that runs in it.
pub(crate) struct Delegated(PathBuf);

impl Delegated {
    /// None where this machine, or this user, can't make one.
    pub(crate) fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let mut mounts = mounts.lines().map(|line| line.split(' '));
        let mount = mounts.find_map(|mut fields| {
            let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        let Some(mount) = mount else {
            return skip("no control groups of the second version");
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("workqueue-test-{}-{number}", std::process::id());
        let directory = mount.join(name);
        if let Err(error) = fs::create_dir(&directory) {
            return skip(&format!("{}: {error}", directory.display()));
        }
        let group = Self(directory);
        let flags = rustix::fs::XattrFlags::empty();
        if !group.0.join("cgroup.kill").exists() {
            return skip("this kernel can't kill control groups");
        }
        match rustix::fs::setxattr(&group.0, "user.delegate", b"1", flags) {
            Ok(()) => Some(group),
            Err(error) => skip(&format!("user.delegate: {error}")),
        }
    }

    /// A command that runs `program` in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(program);
        command
    }

    /// The groups of attempts in it.
    fn attempts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("the group");
        entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir())
            .collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let ended: io::Result<()> = fs::write(self.0.join("cgroup.kill"), "1");
        drop(ended);
        until("the control group is removed", || {
            for attempt in self.attempts() {
                drop(fs::remove_dir(attempt));
            }
            fs::remove_dir(&self.0).ok()
        });
    }
}

/// Whose members a group has.
fn members(group: &Path) -> Vec<String> {
    lines(&group.join("cgroup.procs"))
}

#[test]
fn what_has_shaken_off_every_mark_ends_with_its_control_group() {
    let Some(group) = Delegated::new() else {
        return;
    };
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let scratch = daemon.scratch.path();
    // Started with an environment of its own, in a session of its own, and forked twice: nothing but its group tells whose it is.
    let script = "stray() { (env -i OUT=\"$OUT\" PATH=\"$PATH\" setsid sh \"$0\" stay >&- 2>&- <&- &) ; }\n\
                  stay() { trap '' TERM INT HUP; echo $$ >>\"$OUT/pids\"; while :; do sleep 1000; done; }\n\
                  [ \"$1\" = stay ] && stay\n\
                  read -r how\n\
                  tr '\\0' '\\n' </proc/$$/environ >\"$OUT/environment\"\n\
                  case $how in\n\
                  hangs) stray; stray; stay ;;\n\
                  leaves) stray; while [ ! -s \"$OUT/pids\" ]; do sleep 0.01; done ;;\n\
                  *) echo \"in $(cat /proc/$$/cgroup | grep ^0::)\" ;;\n\
                  esac\n";
    // All three have that time to start.
    let worker = Worker::start_by(&daemon, script, "timeout = \"15s\"\n", "", |program| {
        group.command(program)
    });

    daemon.submit(r#"{"payload": "ends"}"#);
    assert!(worked_off(&daemon).is_empty());
    assert_eq!(group.attempts(), Vec::<PathBuf>::new());
    let environment = fs::read_to_string(scratch.join("environment")).expect("variables");
    assert!(environment.contains("WORKQUEUE_RUN="), "{environment}");
    assert!(!environment.contains("DATABASE_PASSWORD"), "{environment}");

    let id = daemon.submit(r#"{"payload": "hangs", "max_attempts": 1}"#);
    let pids = scratch.join("pids");
    until("all three run", || (lines(&pids).len() == 3).then_some(()));
    let [attempt] = &group.attempts()[..] else {
        panic!("one attempt, one group")
    };
    let inside = members(attempt);
    for pid in lines(&pids) {
        assert!(inside.contains(&pid), "{pid} is not in {inside:?}");
    }
    let dead = worked_off(&daemon);
    assert_eq!(dead[&id]["last_error"], "timeout after 15s", "{dead:?}");
    for pid in lines(&pids) {
        assert!(!runs(&pid), "{pid} goes on");
    }
    until("its group is gone", || {
        group.attempts().is_empty().then_some(())
    });

    // What a program leaves behind when it ends by itself lives on, and its group with it, until the next attempt after that.
    fs::remove_file(&pids).expect("the list");
    daemon.submit(r#"{"payload": "leaves"}"#);
    until("it has ended", || {
        worked_off(&daemon).contains_key(&id).then_some(())
    });
    let [left] = &lines(&pids)[..] else {
        panic!("one was left behind")
    };
    assert!(runs(left));
    let [attempt] = &group.attempts()[..] else {
        panic!("it has its group still")
    };
    fs::write(attempt.join("cgroup.kill"), "1").expect("it is killed");
    until("it has ended", || (!runs(left)).then_some(()));
    daemon.submit(r#"{"payload": "ends"}"#);
    until("no group is left", || {
        group.attempts().is_empty().then_some(())
    });
    worker.stop();
}
