//! Signals: SIGTERM and SIGINT stop, a second one hurries; SIGHUP reads the settings again.

use std::{io, sync::Arc};

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::control::Controls;
use crate::admin::Control as _;

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Signals {
    task: tokio::task::JoinHandle<()>,
    handle: signal_hook_tokio::Handle,
}

impl Signals {
    pub(super) fn listen(controls: Arc<Controls>) -> io::Result<Self> {
        let mut signals = signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let task = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                if signal == SIGHUP {
                    let controls = Arc::clone(&controls);
                    let reload = tokio::task::spawn_blocking(move || controls.reload());
                    // Why a reload was refused is in the log already.
                    drop(reload.await);
                } else {
                    controls.signalled();
                }
            }
        });
        Ok(Self { task, handle })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        self.task.abort();
    }
}
