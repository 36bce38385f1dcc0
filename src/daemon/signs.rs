//! What the service manager is told while the daemon runs: how far a start has come, how things stand, and that the engine
//! makes progress.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::Backend as _,
    engine::{Handle, clock, driver::Loading},
    systemd::{catalog, notify},
    task::{StatusView, Tick},
};

/// How often the status line is renewed, where there is a service manager to show it.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// How long it may take to learn the status, until it is said that it takes long.
const STATUS_PATIENCE: Duration = Duration::from_secs(6);
/// How often progress of a start is told.
const LOADING_EVERY: Duration = Duration::from_millis(500);
/// How much time a start is given from each telling on: what one step of it may take on a slow disk.
const LOADING_PATIENCE: Duration = Duration::from_mins(1);

/// Tells how far a start has come, not too often, and asks for time.
#[derive(Debug, Default)]
pub(super) struct LoadTeller {
    next: Tick,
    percent: Option<u64>,
}

impl LoadTeller {
    pub(super) fn tell(&mut self, loading: Loading) {
        let now = clock::now().tick;
        if now < self.next {
            return;
        }
        self.next = Tick(now.0.saturating_add(LOADING_EVERY.as_nanos() as u64));
        if let Loading::Journal { done, of } = loading {
            self.percent = (done * 100).checked_div(of);
        }
        notify::status(&loading_text(loading, self.percent));
        notify::extend_timeout(LOADING_PATIENCE);
    }
}

fn loading_text(loading: Loading, percent: Option<u64>) -> String {
    match (loading, percent) {
        (_, Some(percent)) => format!("loading the journal: {percent} %"),
        (Loading::Read(count), None) => format!("loading: {count} records and files read"),
        (Loading::Journal { .. }, None) => "loading the journal".to_owned(),
    }
}

/// Tells the service manager that the daemon lives, as long as the engine's thread makes turns: that the other threads run
/// says nothing, for they would serve errors for ever.
pub(super) async fn keep_watch(handle: Arc<Handle>) {
    let Some(pace) = notify::watchdog_interval() else {
        return;
    };
    let mut was_stuck = false;
    loop {
        let before = handle.turns();
        handle.nudge();
        tokio::time::sleep(pace).await;
        let is_stuck = handle.turns() == before;
        if !is_stuck {
            notify::watchdog();
        } else if !was_stuck {
            tracing::error!(
                message_id = catalog::ENGINE_STUCK.id,
                "{}",
                catalog::ENGINE_STUCK.line
            );
        }
        was_stuck = is_stuck;
    }
}

/// Keeps the service manager's status line true.
pub(super) async fn keep_status(handle: Arc<Handle>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut before = String::new();
    loop {
        let text = match tokio::time::timeout(STATUS_PATIENCE, handle.status()).await {
            Ok(Ok(view)) => status_text(&view),
            Ok(Err(error)) => format!("{error}"),
            // The status waits for the disk like all else; that it waits does not.
            Err(_) => match handle.health().silence() {
                Some(silence) => silence,
                None => continue,
            },
        };
        if text != before {
            notify::status(&text);
            before = text;
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

fn status_text(view: &StatusView) -> String {
    if let Some(fault) = &view.fault {
        return format!("FAILED, no writes are taken: {fault}");
    }
    let [leased, ready, scheduled, dead] = view.counts;
    let lag = view.spool_lag.as_secs_f64();
    format!(
        "{ready} ready, {scheduled} scheduled, {leased} leased, {dead} dead; files lag {lag:.1} s"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_how_far_it_has_come() {
        let journal = Loading::Journal { done: 3, of: 12 };
        assert_eq!(loading_text(journal, Some(25)), "loading the journal: 25 %");
        assert_eq!(
            loading_text(Loading::Read(8192), None),
            "loading: 8192 records and files read"
        );
    }
}
