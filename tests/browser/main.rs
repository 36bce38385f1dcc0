//! The pages in a real browser: Debian's chromium, driven by its own protocol. What a user sees, clicks and types; never how
//! a page is made.

#![allow(
    unreachable_pub,
    reason = "a test program has no outside: `pub` says what its own modules give each other"
)]
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

#[path = "../common/mod.rs"]
mod common;

mod acts;
mod axe;
mod chromium;
mod every_page;
mod live;
mod pictures;
mod scene;
mod tab;
