//! [`Controls`]: what the admin API may do to the daemon itself, and the line that `systemctl status` shows.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Addresses;
use crate::{
    admin::{Control, Facts},
    api,
    backend::Backend,
    config::{Durability, Flags, Settings, Surroundings},
    engine::{Handle, clock},
    systemd::{logging::LogHandle, notify},
    task::{StatusView, WallMillis},
};

/// How often the status line is renewed, where there is a service manager to show it.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The daemon's own switches.
#[derive(Debug)]
pub(super) struct Controls {
    flags: Flags,
    settings: Settings,
    log: LogHandle,
    started: WallMillis,
    addresses: Mutex<Addresses>,
    stop: CancellationToken,
    hurry: CancellationToken,
}

impl Controls {
    pub(super) fn new(flags: Flags, settings: Settings, log: LogHandle) -> Self {
        Self {
            flags,
            settings,
            log,
            started: clock::now().wall,
            addresses: Mutex::default(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
        }
    }

    pub(super) fn serving(&self, addresses: &Addresses) {
        // A panic elsewhere while this was held leaves two lists of addresses as right as before.
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses.clone();
    }

    /// Ready when the daemon is to stop.
    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Ready when it is to stop at once.
    pub(super) async fn hurried(&self) {
        self.hurry.cancelled().await;
    }

    pub(super) fn hurry(&self) -> CancellationToken {
        self.hurry.clone()
    }

    /// A signal came: the first stops, the second hurries.
    pub(super) fn signalled(&self) {
        if self.stop.is_cancelled() {
            self.hurry.cancel();
        }
        self.stop.cancel();
    }
}

impl Control for Controls {
    fn status_facts(&self) -> Facts {
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            data_dir: self.settings.data_dir.display().to_string(),
            listen: addresses.http.iter().map(ToString::to_string).collect(),
            admin_socket: addresses.admin.map(|path| path.display().to_string()),
            durability: match self.settings.durability {
                Durability::Sync => "sync",
                Durability::Interval(_) => "interval",
                Durability::None => "none",
            }
            .to_owned(),
        }
    }

    fn config(&self) -> Vec<api::Setting> {
        self.settings.settings()
    }

    fn set_log_level(&self, directives: &str) -> Result<(), String> {
        self.log
            .set(directives)
            .map_err(|error| error.to_string())?;
        tracing::info!(level = directives, "the log level was set");
        Ok(())
    }

    fn reload(&self) -> Result<(), String> {
        notify::reloading();
        let result = self.read_again();
        match &result {
            Ok(()) => tracing::info!("read the settings again"),
            Err(error) => tracing::error!(
                error,
                "the settings are not read again: nothing has changed"
            ),
        }
        notify::ready("serving");
        result
    }

    fn shutdown(&self) {
        self.stop.cancel();
    }
}

impl Controls {
    /// Reads the settings again. What can change while the daemon runs changes; the rest is named.
    fn read_again(&self) -> Result<(), String> {
        let new = Settings::load(&self.flags, &Surroundings::of_process())
            .map_err(|error| error.to_string())?;
        self.log
            .set(&new.log_level)
            .map_err(|error| error.to_string())?;
        let before = self.settings.settings();
        for (old, new) in before.iter().zip(new.settings()) {
            if old.key != "log_level" && old.value != new.value {
                tracing::warn!(
                    setting = old.key,
                    old = old.value,
                    new = new.value,
                    "takes effect at the next start"
                );
            }
        }
        Ok(())
    }
}

/// Keeps the service manager's status line true. A fault is told at once, and is the last word.
pub(super) async fn keep_status(handle: Arc<Handle>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut before = String::new();
    loop {
        let text = match handle.status().await {
            Ok(view) => status_text(&view),
            Err(error) => format!("{error}"),
        };
        if text != before {
            notify::status(&text);
            before = text;
        }
        tokio::select! {
            fault = handle.faulted() => return notify::status(&fault_text(&fault)),
            () = tokio::time::sleep(STATUS_EVERY) => {}
        }
    }
}

fn fault_text(fault: &str) -> String {
    format!("FAILED, no writes are taken: {fault}")
}

fn status_text(view: &StatusView) -> String {
    if let Some(fault) = &view.fault {
        return fault_text(fault);
    }
    let [leased, ready, scheduled, dead] = view.counts;
    let lag = view.spool_lag.as_secs_f64();
    format!(
        "{ready} ready, {scheduled} scheduled, {leased} leased, {dead} dead; files lag {lag:.1} s"
    )
}

/// An [`io::Error`] with what was tried.
pub(super) fn tried(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
