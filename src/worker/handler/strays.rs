//! Processes that a program has started and that have left its group, as daemons do (`setsid`, two forks).
//!
//! They are found by the mark in the environment that each process inherits. One that has changed its environment or its
//! user is not found: only a control group, such as the worker's own unit, holds those.

use std::{fs, io, os::fd::AsFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::time::Instant;

/// The variable that holds the mark.
pub(super) const MARK: &str = "WORKQUEUE_RUN";

/// How often is looked again for what was started meanwhile.
const ROUNDS: usize = 50;
/// And how often in a row where none was found, but some other process ended while it was looked at: perhaps one of them.
const EMPTY_LOOKS: usize = 20;
/// How long those that were killed may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Kills all processes with this mark, and those that they start meanwhile. Blocks until they have ended.
pub(super) fn kill(mark: &str) {
    let sought = format!("{MARK}={mark}");
    let mut empty = 0;
    for _ in 0..ROUNDS {
        let (found, has_missed) = match find(sought.as_bytes()) {
            Ok(found) => found,
            Err(error) => {
                return tracing::error!(%error, "what a program left behind can't be looked for");
            }
        };
        if found.is_empty() {
            empty += 1;
            if has_missed && empty < EMPTY_LOOKS {
                continue;
            }
            return;
        }
        empty = 0;
        for process in &found {
            match pidfd_send_signal(process, Signal::KILL) {
                // No such process: it has ended.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => tracing::error!(%error, "a process left behind can't be killed"),
            }
        }
        await_end(&found);
    }
    tracing::error!("a program has left processes behind that can't be killed");
}

/// Processes are held by descriptors from before the look, so that no other one can take over a number. Also whether one ended
/// while it was looked at: it may have been of those that leave a child and go, and the child have come behind the look. Those that
/// had ended before and still have a number (zombies) say nothing.
fn find(sought: &[u8]) -> io::Result<(Vec<OwnedFd>, bool)> {
    let (mut found, mut has_missed) = (Vec::new(), false);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            has_missed = true;
            continue;
        };
        if has_ended(&process) {
            continue;
        }
        // Another user's, and none of ours; or it has ended.
        let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
            has_missed |= has_ended(&process);
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|one| one == sought)
        {
            found.push(process);
        }
    }
    Ok((found, has_missed))
}

fn has_ended(process: &OwnedFd) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // One that can't be asked is looked at like one that lives.
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
}

fn await_end(processes: &[OwnedFd]) {
    let end = Instant::now() + PATIENCE;
    for process in processes {
        wait(process, PollFlags::IN, end);
    }
}

/// Waits for a sign of processes, at most until `end`. An interrupted or late wait is made good by the next look.
pub(super) fn wait(sign: &impl AsFd, kind: PollFlags, end: Instant) {
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: left.as_secs().cast_signed(),
        tv_nsec: left.subsec_nanos().into(),
    };
    if let Err(error) = poll(&mut [PollFd::new(sign, kind)], Some(&left)) {
        tracing::debug!(%error, "the wait for a process was cut short");
    }
}
