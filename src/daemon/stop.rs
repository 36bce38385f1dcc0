//! Signals: SIGTERM and SIGINT stop, a second one hurries; SIGHUP reads the settings again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::Notify;

use super::control::Controls;
use crate::admin::Control as _;

/// That SIGHUP came before there was somebody to read the settings again: by itself it would end the process.
#[derive(Debug)]
pub(super) struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// From now on it is noted.
    pub(super) fn note() -> io::Result<Self> {
        let noted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&noted))?;
        Ok(Self(noted))
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Signals {
    tasks: [tokio::task::JoinHandle<()>; 2],
    handle: signal_hook_tokio::Handle,
    hung_up: Arc<Notify>,
}

impl Signals {
    pub(super) fn listen(controls: Arc<Controls>) -> io::Result<Self> {
        let mut signals = signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        // A reload may wait for a slow disk or database; a signal that stops is heeded meanwhile, and those that come before the
        // next reload begins are one.
        let hung_up = Arc::new(Notify::new());
        let reloads = {
            let (controls, hung_up) = (Arc::clone(&controls), Arc::clone(&hung_up));
            tokio::spawn(async move {
                loop {
                    hung_up.notified().await;
                    let controls = Arc::clone(&controls);
                    let reload = tokio::task::spawn_blocking(move || controls.reload());
                    // Why a reload was refused is in the log already.
                    drop(reload.await);
                }
            })
        };
        let asked = Arc::clone(&hung_up);
        let heard = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                if signal == SIGHUP {
                    asked.notify_one();
                } else {
                    controls.signalled();
                }
            }
        });
        let tasks = [heard, reloads];
        Ok(Self {
            tasks,
            handle,
            hung_up,
        })
    }

    /// Does what a SIGHUP asked for that came before this listened.
    pub(super) fn catch_up(&self, HungUp(noted): &HungUp) {
        if noted.load(Ordering::Relaxed) {
            self.hung_up.notify_one();
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
