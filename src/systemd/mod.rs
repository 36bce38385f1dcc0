//! The edge to the init system: readiness, sockets that were passed on, and the system log.
//!
//! Everything here does nothing, or the plain thing, where there is no systemd. This floor may not know tasks.

pub mod catalog;
pub mod listen;
pub mod logging;
pub mod notify;
