//! [`Controls`]: what the admin API may do to the daemon itself.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{Addresses, in_effect::InEffect};
use crate::{
    admin::Control,
    api,
    config::{Durability, Flags, Settings, Surroundings},
    engine::clock,
    http::{About, Facts},
    systemd::{catalog, logging::LogHandle, notify},
    task::WallMillis,
};

/// Settings that a reload changes while the daemon runs; the others wait for the next start, and are named in the log.
const LIVE: [&str; 45] = [
    "admin.users",
    "body_timeout",
    "checkpoint_bytes",
    "defaults.backoff.base",
    "defaults.backoff.max",
    "defaults.lease",
    "defaults.max_attempts",
    "header_timeout",
    "hosts",
    "idle_timeout",
    "insecure",
    "legacy_lease",
    "log_level",
    "max_body",
    "max_connections",
    "max_connections_per_address",
    "max_depth",
    "max_head",
    "max_headers",
    "max_in_flight",
    "max_listeners",
    "max_memory",
    "max_payload",
    "max_queue_tasks",
    "max_queues",
    "max_submitting",
    "max_tasks",
    "max_unique_keys",
    "max_url",
    "max_wait",
    "max_waiting",
    "max_workers",
    "payload_cache",
    "reader_timeout",
    "request_burst",
    "request_rate",
    "retention.done",
    "spool_delay",
    "tls.certificate",
    "tls.client_ca",
    "tls.handshake_timeout",
    "tls.key",
    "token_burst",
    "token_rate",
    "tokens",
];

/// Has the engine and the transports hold themselves to new settings; the error says why that can't be done now.
type Renew = Box<dyn Fn(&Settings) -> Result<(), String> + Send + Sync>;

/// The daemon's own switches.
pub(super) struct Controls {
    flags: Flags,
    settings: Settings,
    /// The settings that hold, each with its source.
    shown: Mutex<Vec<api::Setting>>,
    log: LogHandle,
    started: WallMillis,
    addresses: Mutex<Addresses>,
    renew: OnceLock<Renew>,
    /// One reload at a time: what the first has read would take the place of what the second has.
    reloading: Mutex<()>,
    stop: CancellationToken,
    hurry: CancellationToken,
}

impl Controls {
    pub(super) fn new(flags: Flags, settings: Settings, log: LogHandle) -> Self {
        let mut shown = settings.settings();
        InEffect::of(&settings).tell(&mut shown);
        Self {
            flags,
            shown: Mutex::new(shown),
            settings,
            log,
            started: clock::now().wall,
            addresses: Mutex::default(),
            renew: OnceLock::new(),
            reloading: Mutex::new(()),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
        }
    }

    pub(super) fn serving(&self, addresses: &Addresses, renew: Renew) {
        // A panic elsewhere while this was held leaves two lists of addresses as right as before.
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses.clone();
        if self.renew.set(renew).is_err() {
            tracing::error!("the daemon began to serve twice");
        }
    }

    pub(super) fn logs_for_machines(&self) -> bool {
        self.log.is_for_machines()
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

impl About for Controls {
    fn facts(&self) -> Facts {
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

    fn settings(&self) -> Vec<api::Setting> {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Control for Controls {
    fn set_log_level(&self, directives: &str) -> Result<(), String> {
        self.log
            .set(directives)
            .map_err(|error| error.to_string())?;
        tracing::info!(level = directives, "the log level was set");
        Ok(())
    }

    fn reload(&self) -> Result<(), String> {
        let _one = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        notify::reloading();
        let result = self.read_again();
        match &result {
            Ok(()) => tracing::info!(
                message_id = catalog::RELOADED.id,
                "{}",
                catalog::RELOADED.line
            ),
            Err(error) => tracing::error!(
                message_id = catalog::RELOAD_REFUSED.id,
                error,
                "{}",
                catalog::RELOAD_REFUSED.line
            ),
        }
        notify::reloaded();
        result
    }

    fn shutdown(&self) {
        self.stop.cancel();
    }
}

impl Controls {
    /// Reads the settings again. What can change while the daemon runs changes; the rest is named. An error, and nothing has
    /// changed.
    fn read_again(&self) -> Result<(), String> {
        let new = Settings::load(&self.flags, &Surroundings::of_process())
            .map_err(|error| error.to_string())?;
        let renew = self
            .renew
            .get()
            .ok_or("the daemon does not serve yet: try again")?;
        renew(&new)?;
        self.log
            .set(&new.log_level)
            .map_err(|error| error.to_string())?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (old, new) in shown.iter_mut().zip(new.settings()) {
            let is_live = LIVE.contains(&old.key.as_str());
            if old.value != new.value && is_live {
                tracing::info!(
                    message_id = catalog::SETTING_CHANGED.id,
                    setting = old.key,
                    old = old.value,
                    new = new.value,
                    "{}",
                    catalog::SETTING_CHANGED.line
                );
            } else if old.value != new.value {
                tracing::warn!(
                    message_id = catalog::SETTING_WAITS.id,
                    setting = old.key,
                    old = old.value,
                    new = new.value,
                    "{}",
                    catalog::SETTING_WAITS.line
                );
            }
            if is_live {
                *old = new;
            }
        }
        InEffect::of(&new).tell(&mut shown);
        Ok(())
    }
}

/// An [`io::Error`] with what was tried.
pub(super) fn tried(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
