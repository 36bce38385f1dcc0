//! What people who wish ill, and machines that run out of things, are answered: a module a subject. Nothing that was
//! acknowledged is lost by it.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod access;
mod cgroups;
mod clocks;
#[path = "../common/mod.rs"]
mod common;
mod drops;
mod flight;
mod handlers;
mod held;
mod http;
mod http2;
mod limits;
mod out_of;
mod refusals;
mod scarce;
mod soak;
mod tls;
mod told;
