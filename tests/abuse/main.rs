//! People who wish the daemon ill: each of their ways in has an answer, and the answer is never lost work.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod http;
mod tls;
