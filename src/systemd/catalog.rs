//! The catalog of log events: each important one with the id by which the journal knows it (`MESSAGE_ID`), its line, the fields
//! that come with it, and what `journalctl -x` explains.
//!
//! The file `packaging/catalog/workqueue.catalog` is made from it ([`text`]); a test holds it current. An id is never
//! changed and never used for another event: people's scripts know it.

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// 128 random bits in hexadecimal: `MESSAGE_ID` of systemd.journal-fields(7).
    pub id: &'static str,
    /// The line of the log.
    pub line: &'static str,
    /// Fields of the journal that come with it.
    pub fields: &'static [&'static str],
    /// What to know and what to do; `@FIELD@` stands for a field.
    pub help: &'static str,
}

/// Workqueued starts.
pub const STARTING: Entry = Entry {
    id: "341993d581af0790d3c4fdc57036f554",
    line: "workqueued starts",
    fields: &[],
    help: "The daemon reads its settings and then the tasks in its data directory. `systemctl status` shows how far it has come. It\n\
            serves when it says that it is ready.",
};

/// Workqueued is ready.
pub const READY: Entry = Entry {
    id: "1478ef682f800c93542326c9eac3c805",
    line: "workqueued is ready",
    fields: &[],
    help: "The tasks are loaded and the sockets serve.",
};

/// Workqueued stops.
pub const STOPPING: Entry = Entry {
    id: "14b4bdf5fa67b81d66934a3288dcb734",
    line: "workqueued stops",
    fields: &[],
    help: "Claims that wait are answered, requests in flight are finished, and what is in memory goes to the disk. Leases go on while\n\
            the daemon is down: workers carry on when it is back.",
};

/// Workqueued has ended.
pub const ENDED: Entry = Entry {
    id: "7fdf0d66b9d0658ae6741669b7934182",
    line: "workqueued has ended",
    fields: &[],
    help: "All that was answered is on the disk.",
};

/// The settings were read again.
pub const RELOADED: Entry = Entry {
    id: "9588d359dd7f238b02d15185b5c25cf9",
    line: "the settings were read again",
    fields: &[],
    help: "What can change while the daemon runs has changed; other settings that differ are named in entries of their own.",
};

/// The settings are not read again: nothing has changed.
pub const RELOAD_REFUSED: Entry = Entry {
    id: "d4d272c2a000565083929affe596555f",
    line: "the settings are not read again: nothing has changed",
    fields: &["ERROR"],
    help: "Something is wrong in the settings: @ERROR@\n\
            The daemon goes on with the settings that it has. Correct the file, check it with `workqueued --check-config`, and reload again.",
};

/// A setting has changed.
pub const SETTING_CHANGED: Entry = Entry {
    id: "f979058cdc179111882d95b0ba99ffc0",
    line: "a setting has changed",
    fields: &["SETTING", "OLD", "NEW"],
    help: "@SETTING@ was @OLD@ and is @NEW@ from now on.",
};

/// A setting takes effect at the next start.
pub const SETTING_WAITS: Entry = Entry {
    id: "d9f8f36a25db1241d8612309d2342be9",
    line: "a setting takes effect at the next start",
    fields: &["SETTING", "OLD", "NEW"],
    help: "@SETTING@ is @OLD@ and will be @NEW@ after `systemctl restart workqueued`. With the sockets of workqueued.socket a restart\n\
            refuses no connection.",
};

/// The engine's thread makes no progress: the watchdog is not told that all is well.
pub const ENGINE_STUCK: Entry = Entry {
    id: "905fddbeaca30a24406b3cdb17885110",
    line: "the engine's thread makes no progress: the watchdog is not told that all is well",
    fields: &[],
    help: "If that goes on, the service manager stops the daemon (WatchdogSec=) and starts it again; nothing that was answered is lost.\n\
            It is a defect of this program, or the machine is stopped or starved: please report it with the core dump, if there is one.",
};

/// The journal can't be written: no more writes are taken.
pub const WRITES_STOPPED: Entry = Entry {
    id: "099cbf09a0111a3f7cc8545b6b61e499",
    line: "the journal can't be written: no more writes are taken",
    fields: &["ERROR"],
    help: "The disk refused: @ERROR@\n\
            Nothing that was answered is lost, and nothing is answered from now on that is not written. What the kernel holds in memory\n\
            after a failed sync can't be trusted, so the daemon does not try again: look at the disk, then restart the daemon.",
};

/// No room for the journal to grow.
pub const NO_ROOM: Entry = Entry {
    id: "8d38e7840da1f41ce9c6877518f10594",
    line: "no room for the journal to grow",
    fields: &["ERROR"],
    help: "New tasks are refused (507) until there is room on the disk. The ends of tasks that are here have their room already, so\n\
            workers go on.",
};

/// Cut off a torn tail: nothing in it was answered.
pub const TORN_TAIL: Entry = Entry {
    id: "2eba602a86c0b00beb3176df6b139111",
    line: "cut off a torn tail of the journal",
    fields: &["FILE", "OFFSET", "REASON"],
    help: "The last writes before a crash did not reach @FILE@ whole. They were not answered, so their clients know that they may\n\
            not have happened.",
};

/// A task was submitted.
pub const TASK_SUBMITTED: Entry = Entry {
    id: "c857a53088f6826d28eab99ea3825ad2",
    line: "a task was submitted",
    fields: &["TASK_ID", "QUEUE"],
    help: "Task @TASK_ID@ is in queue @QUEUE@. `workqueuectl show @TASK_ID@` shows it, and `journalctl TASK_ID=@TASK_ID@` its life.",
};

/// A task was claimed.
pub const TASK_CLAIMED: Entry = Entry {
    id: "0237e8944475ddf435dcf479900e3cd8",
    line: "a task was claimed",
    fields: &["TASK_ID", "QUEUE", "WORKER", "ATTEMPT"],
    help: "Worker @WORKER@ holds task @TASK_ID@ of queue @QUEUE@, in attempt @ATTEMPT@.",
};

/// A task was completed.
pub const TASK_COMPLETED: Entry = Entry {
    id: "c453f738c39b182adc23e9b70e0d9904",
    line: "a task was completed",
    fields: &["TASK_ID", "QUEUE", "WORKER", "ATTEMPT", "DURATION_USEC"],
    help: "Task @TASK_ID@ of queue @QUEUE@ was done by @WORKER@ in attempt @ATTEMPT@.",
};

/// An attempt failed.
pub const ATTEMPT_FAILED: Entry = Entry {
    id: "f4c650c388741d5c4ddfe351eeb07c59",
    line: "an attempt failed",
    fields: &[
        "TASK_ID",
        "QUEUE",
        "WORKER",
        "ATTEMPT",
        "DURATION_USEC",
        "ERROR",
    ],
    help: "Attempt @ATTEMPT@ of task @TASK_ID@ failed: @ERROR@\n\
            There will be another, after the task's backoff.",
};

/// A task was given back.
pub const TASK_RELEASED: Entry = Entry {
    id: "22499afac6b91cfc02d5fe446b9167d6",
    line: "a task was given back",
    fields: &["TASK_ID", "QUEUE", "WORKER"],
    help: "Its worker did not finish task @TASK_ID@ and gave it back; no attempt was counted.",
};

/// A lease expired.
pub const LEASE_EXPIRED: Entry = Entry {
    id: "0ac38c43d08ea62762c7ffbb9bbb03d8",
    line: "a lease expired",
    fields: &["TASK_ID", "QUEUE", "WORKER", "ATTEMPT"],
    help: "Worker @WORKER@ gave no sign of life in time, so task @TASK_ID@ is handed out again. Did the worker die? Is the lease too\n\
            short for what it does? Then give the task, or the claim, a longer one.",
};

/// A task is out of attempts.
pub const TASK_DEAD: Entry = Entry {
    id: "159807baecfd07ae26058be09258afae",
    line: "a task is out of attempts",
    fields: &["TASK_ID", "QUEUE", "WORKER", "ATTEMPT", "ERROR"],
    help: "Task @TASK_ID@ of queue @QUEUE@ is dead after attempt @ATTEMPT@: @ERROR@\n\
            Its file is in dead/. When the reason is gone: `workqueuectl retry @TASK_ID@`; if it is not wanted any more:\n\
            `workqueuectl cancel @TASK_ID@`.",
};

/// A task was cancelled.
pub const TASK_CANCELLED: Entry = Entry {
    id: "6d2fedf7776ed850a530f5174e01a160",
    line: "a task was cancelled",
    fields: &["TASK_ID", "QUEUE"],
    help: "Task @TASK_ID@ of queue @QUEUE@ is gone, by somebody's request or because its file was removed.",
};

/// A task has changed.
pub const TASK_CHANGED: Entry = Entry {
    id: "54028292221fe9472b1b8647c21b0af8",
    line: "a task has changed",
    fields: &["TASK_ID", "QUEUE", "CHANGE"],
    help: "Task @TASK_ID@ was @CHANGE@.",
};

/// A queue has changed.
pub const QUEUE_CHANGED: Entry = Entry {
    id: "78f12bfefd990cafb31dfcc92fb4838f",
    line: "a queue has changed",
    fields: &["QUEUE", "CHANGE"],
    help: "Queue @QUEUE@ was @CHANGE@. A paused queue hands out nothing (`workqueuectl resume`), a draining one takes nothing new\n\
            (`workqueuectl undrain`).",
};

/// A dropped file is rejected.
pub const FILE_REJECTED: Entry = Entry {
    id: "ddb5457c04e436e13b4fc5f2cd77da23",
    line: "a dropped file is rejected",
    fields: &["FILE", "REASON"],
    help: "@FILE@ is no task: @REASON@\n\
            It is moved to rejected/, beside a file with the reason. Correct it and move it into tasks/ again.",
};

/// Left alone in the task directory.
pub const FILE_LEFT_ALONE: Entry = Entry {
    id: "2b964be80f44535ee403ea48a3341846",
    line: "left alone in the task directory",
    fields: &["FILE", "REASON"],
    help: "@FILE@ is not opened: @REASON@",
};

/// Log lines were dropped.
pub const LINES_DROPPED: Entry = Entry {
    id: "903338d60a7ce20089741f7ea189ee48",
    line: "log lines were dropped",
    fields: &["COUNT"],
    help: "The log could not be written as fast as it came, and work does not wait for it: @COUNT@ lines are missing before this one.",
};

/// Events were passed over.
pub const LINES_PASSED_OVER: Entry = Entry {
    id: "66d9c415c648a35653db2cfa650b2157",
    line: "events were passed over",
    fields: &["COUNT"],
    help: "More tasks were submitted, claimed and completed, more credentials refused, or more said by the libraries that speak HTTP and\n\
            TLS, in a second than are logged one by one: @COUNT@ such events are missing before this one. Failures of tasks are always\n\
            logged; /metrics has all the counts.",
};

/// Workqueue-worker starts.
pub const WORKER_STARTS: Entry = Entry {
    id: "0611ceb7a13c9c7afaaee07830325e1a",
    line: "workqueue-worker starts",
    fields: &["URL"],
    help: "It claims tasks from the daemon at @URL@.",
};

/// Stopping: running tasks may finish.
pub const WORKER_STOPS: Entry = Entry {
    id: "140f9df9178cad38e7e57a574ad19116",
    line: "stopping: running tasks may finish",
    fields: &["RUNNING"],
    help: "Nothing new is claimed. Handlers that run have shutdown_grace to finish; then they are stopped and their tasks given back.",
};

/// Running handlers are stopped and their tasks released.
pub const WORKER_KILLS: Entry = Entry {
    id: "3c93c6700d8055b3660d84ff4f2fe6e2",
    line: "running handlers are stopped and their tasks released",
    fields: &["RUNNING", "WHY"],
    help: "Their process groups get SIGTERM, and SIGKILL 5 s later. The tasks are handed out again, no attempt counted. If handlers need\n\
            longer, raise shutdown_grace.",
};

/// Workqueue-worker ends.
pub const WORKER_ENDS: Entry = Entry {
    id: "7fe912f585dbeaf8c1a88be907dd9ab3",
    line: "workqueue-worker ends",
    fields: &[],
    help: "All that it did is reported.",
};

/// Task failed.
pub const TASK_FAILED: Entry = Entry {
    id: "60f7e74b26dc67d6d7ae86274a9f916b",
    line: "task failed",
    fields: &["TASK_ID", "QUEUE", "ATTEMPT", "DURATION_USEC", "ERROR"],
    help: "The handler failed task @TASK_ID@ in attempt @ATTEMPT@: @ERROR@",
};

/// The daemon does not answer; trying again.
pub const DAEMON_SILENT: Entry = Entry {
    id: "ff3a06d756fe152c7c6b49ceadba8f0d",
    line: "the daemon does not answer; trying again",
    fields: &["ERROR"],
    help: "@ERROR@\n\
            The worker keeps what it has done, and tries with growing waits of at most 10 s.",
};

/// The daemon refuses what it is asked; trying again.
pub const DAEMON_REFUSES: Entry = Entry {
    id: "b598bde428d440f78141456d1d234aa6",
    line: "the daemon refuses what it is asked; trying again",
    fields: &["ERROR"],
    help: "@ERROR@\n\
            The worker keeps what it has done, and tries with growing waits of at most 10 s.",
};

/// The daemon answers again.
pub const DAEMON_BACK: Entry = Entry {
    id: "926d9af4b22601c0171b8560f6b245d7",
    line: "the daemon answers again",
    fields: &[],
    help: "What was kept is reported now.",
};

/// The lease was lost; the handler was stopped.
pub const LEASE_LOST: Entry = Entry {
    id: "b0b9c78db55e24fcf7707c1b8460764d",
    line: "the lease was lost; the handler was stopped",
    fields: &["TASK_ID", "QUEUE"],
    help: "The daemon says that somebody else has task @TASK_ID@, or that it is gone. Was this worker stopped, or cut off, for longer than\n\
            the lease?",
};

/// An admin has changed something.
pub const ADMIN_ACTION: Entry = Entry {
    id: "e4c6fa855d54aa8c687395d3d1977a99",
    line: "an admin's request was answered",
    fields: &["BY", "PEER", "METHOD", "PATH", "ASKED", "STATUS"],
    help: "@BY@ (@PEER@) sent @METHOD@ @PATH@, and was answered @STATUS@. ASKED is the beginning of\n\
            what the request had for a body. BY is the name of a token or of a user, or \"anybody\" where no tokens are configured.",
};

/// A credential was refused.
pub const CREDENTIAL_REFUSED: Entry = Entry {
    id: "d0ccffdb906ca03cd3dffa67eaf6b309",
    line: "a credential was refused",
    fields: &["BY", "PEER", "METHOD", "PATH", "REASON"],
    help: "@PEER@ sent @METHOD@ @PATH@: @REASON@\n\
            A token that is unknown was revoked, mistyped or guessed at. One that is known lacks a scope or a queue: workqueuectl token\n\
            makes another.",
};

/// Somebody has logged in.
pub const LOGIN: Entry = Entry {
    id: "1f6dc01bfe6c7764650a85ecdc24b181",
    line: "somebody logged in on the pages",
    fields: &["BY", "PEER"],
    help: "@PEER@ showed the token @BY@ and has a session of the pages now.",
};

/// Everybody who reaches the port may do everything.
pub const NO_TOKENS: Entry = Entry {
    id: "75ed0441c3d9217c4c2a6a1ecc538452",
    line: "no tokens are configured: every process of this machine may submit, work, read and administer",
    fields: &[],
    help: "Set `tokens` in workqueued.toml to a file that `workqueuectl token new` writes, and each request has to show a token. Without\n\
            it the daemon listens on loopback addresses only.",
};

/// Everybody in the network may do everything.
pub const OPEN_TO_ALL: Entry = Entry {
    id: "7283dd3ad1c0e4d036e6cbecf9063dd2",
    line: "no tokens are configured and other machines can connect: whoever does may submit, work, read and administer",
    fields: &["ADDRESSES"],
    help: "The daemon listens on @ADDRESSES@, since `insecure` is true. Set `tokens` in workqueued.toml to a file that `workqueuectl token\n\
            new` writes, and each request has to show a token; or listen on loopback addresses only.",
};

/// All of them.
pub const ALL: [Entry; 40] = [
    STARTING,
    READY,
    STOPPING,
    ENDED,
    RELOADED,
    RELOAD_REFUSED,
    SETTING_CHANGED,
    SETTING_WAITS,
    ENGINE_STUCK,
    WRITES_STOPPED,
    NO_ROOM,
    TORN_TAIL,
    TASK_SUBMITTED,
    TASK_CLAIMED,
    TASK_COMPLETED,
    ATTEMPT_FAILED,
    TASK_RELEASED,
    LEASE_EXPIRED,
    TASK_DEAD,
    TASK_CANCELLED,
    TASK_CHANGED,
    QUEUE_CHANGED,
    FILE_REJECTED,
    FILE_LEFT_ALONE,
    LINES_DROPPED,
    LINES_PASSED_OVER,
    WORKER_STARTS,
    WORKER_STOPS,
    WORKER_KILLS,
    WORKER_ENDS,
    TASK_FAILED,
    DAEMON_SILENT,
    DAEMON_REFUSES,
    DAEMON_BACK,
    LEASE_LOST,
    ADMIN_ACTION,
    CREDENTIAL_REFUSED,
    LOGIN,
    NO_TOKENS,
    OPEN_TO_ALL,
];

/// The catalog as systemd reads it (<https://systemd.io/CATALOG/>).
#[must_use]
pub fn text() -> String {
    let mut text = String::from(
        "# Message catalog of workqueue, made from src/systemd/catalog.rs: UPDATE=1 cargo test --test generated\n",
    );
    for entry in ALL {
        let Entry { id, line, help, .. } = entry;
        let entry = format!(
            "\n-- {id}\nSubject: {line}\nDefined-By: workqueue\nDocumentation: man:workqueued(8)\n\n{help}\n"
        );
        text.push_str(&entry);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_ids_and_each_is_used_once() {
        let ids: HashSet<_> = ALL.iter().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for entry in ALL {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            assert!(
                entry.id.len() == 32 && entry.id.bytes().all(hex),
                "{}",
                entry.line
            );
        }
    }

    #[test]
    fn help_names_only_fields_that_come_along() {
        for entry in ALL {
            for name in entry.help.split('@').skip(1).step_by(2) {
                assert!(entry.fields.contains(&name), "{}: {name}", entry.line);
            }
        }
    }
}
