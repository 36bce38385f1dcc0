//! What the service manager is told: `sd_notify(3)`. Without `NOTIFY_SOCKET` each of these does nothing.
//!
//! A manager that can't be told is logged and no reason to stop: it will notice by its own timeouts.

use std::{io, time::Duration};

use sd_notify::NotifyState;

/// The sockets serve and the tasks are loaded.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The settings are being read again; [`reloaded`] ends it. The time stamp is what `Type=notify-reload` asks for.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(cause) => warn(&cause),
    }
}

/// The settings were read again, or not; what [`status`] said last still holds.
pub fn reloaded() {
    send(&[NotifyState::Ready]);
}

/// The end has begun.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// A start or a stop goes on, and is to be given `time` from now.
pub fn extend_timeout(time: Duration) {
    // As text, because the crate's own number ends at 71 minutes.
    let text = format!("EXTEND_TIMEOUT_USEC={}", time.as_micros());
    send(&[NotifyState::Custom(&text)]);
}

/// The program ends although nobody asked it to: why, the exit status that it will have, and the system's own error number
/// where there is one.
pub fn failed(text: &str, status: u8, errno: Option<i32>) {
    let status = format!("EXIT_STATUS={status}");
    let mut states = vec![NotifyState::Status(text), NotifyState::Custom(&status)];
    if let Some(errno) = errno {
        states.push(NotifyState::Errno(errno.unsigned_abs()));
    }
    send(&states);
}

/// A sign of life; to be given only when the engine has made progress since the last one.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be called: half of what the unit's `WatchdogSec=` allows. `None`: nobody watches.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(states) {
        warn(&cause);
    }
}

fn warn(cause: &io::Error) {
    tracing::warn!(error = %cause, "the service manager could not be told");
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
