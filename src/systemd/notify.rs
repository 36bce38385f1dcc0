//! What the service manager is told: `sd_notify(3)`. Without `NOTIFY_SOCKET` each of these does nothing.
//!
//! Nobody waits for the manager here. One that can't be told is logged, once, and no reason to stop: it will notice by its own
//! timeouts.

mod manager;

use std::{
    env,
    fmt::{Display, Write as _},
    sync::{Arc, OnceLock},
    time::Duration,
};

use sd_notify::NotifyState;

use self::manager::{Kind, Manager};

/// How long a program that ends waits until the manager has heard why.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// The sockets serve and the tasks are loaded.
pub fn ready(status: &str) {
    tell(
        Kind::Ready,
        &[NotifyState::Ready, NotifyState::Status(status)],
    );
}

/// The settings are being read again; [`reloaded`] ends it. The time stamp is what `Type=notify-reload` asks for.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(Kind::Reloading, &[NotifyState::Reloading, now]),
        Err(cause) => warn(cause),
    }
}

/// The settings were read again, or not; what [`status`] said last still holds.
pub fn reloaded() {
    tell(Kind::Ready, &[NotifyState::Ready]);
}

/// The end has begun.
pub fn stopping() {
    tell(Kind::Stopping, &[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(Kind::Status, &[NotifyState::Status(text)]);
}

/// A start or a stop goes on, and is to be given `time` from now.
pub fn extend_timeout(time: Duration) {
    // As text, because the crate's own number ends at 71 minutes.
    let text = format!("EXTEND_TIMEOUT_USEC={}", time.as_micros());
    tell(Kind::Patience, &[NotifyState::Custom(&text)]);
}

/// The program ends although nobody asked it to: why, the exit status that it will have, and the system's own error number
/// where there is one. Waits a moment until the manager has heard it.
pub fn failed(text: &str, status: u8, errno: Option<i32>) {
    let status = format!("EXIT_STATUS={status}");
    let mut states = vec![NotifyState::Status(text), NotifyState::Custom(&status)];
    if let Some(errno) = errno {
        states.push(NotifyState::Errno(errno.unsigned_abs()));
    }
    tell(Kind::Failure, &states);
    if let Some(manager) = manager() {
        manager.finish(LAST_PATIENCE);
    }
}

/// A sign of life; to be given only when the engine has made progress since the last one. One that finds no room is not told later,
/// when it may not be true any more.
pub fn watchdog() {
    if let Some(manager) = manager() {
        manager.tell_now(&written(&[NotifyState::Watchdog]));
    }
}

/// How often [`watchdog`] is to be called: half of what the unit's `WatchdogSec=` allows. `None`: nobody watches.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(kind: Kind, states: &[NotifyState<'_>]) {
    if let Some(manager) = manager() {
        manager.tell(kind, written(states));
    }
}

/// One state a line.
fn written(states: &[NotifyState<'_>]) -> String {
    let mut text = String::new();
    for state in states {
        let written = writeln!(text, "{state}");
        // Writing to a string cannot fail.
        debug_assert!(written.is_ok());
    }
    text
}

/// The manager that started this process, if there is one.
fn manager() -> Option<&'static Arc<Manager>> {
    static MANAGER: OnceLock<Option<Arc<Manager>>> = OnceLock::new();
    let find = || {
        let name = env::var_os("NOTIFY_SOCKET")?;
        Manager::at(&name).map(Arc::new).map_err(warn).ok()
    };
    MANAGER.get_or_init(find).as_ref()
}

fn warn(why: impl Display) {
    tracing::warn!(error = %why, "the service manager could not be told");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_manager_nothing_happens() {
        ready("serving");
        status("0 ready");
        reloading();
        extend_timeout(Duration::from_secs(u64::MAX));
        watchdog();
        stopping();
    }
}
