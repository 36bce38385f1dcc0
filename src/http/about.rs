//! [`About`]: the process, as pages and the admin API tell of it.
//!
//! Knows what is told, not how it is found out.

use crate::{api, task::WallMillis};

/// What the process tells of itself.
pub trait About: Send + Sync + 'static {
    /// The process in a few facts.
    fn facts(&self) -> Facts;
    /// All settings, secrets hidden, by key.
    fn settings(&self) -> Vec<api::Setting>;
}

/// The process in a few facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: WallMillis,
    /// Its data directory.
    pub data_dir: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Its admin socket.
    pub admin_socket: Option<String>,
    /// `sync`, `interval` or `none`.
    pub durability: String,
}
