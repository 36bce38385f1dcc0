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

mod chromium;
mod tab;

use chromium::Browser;
use common::Daemon;

#[test]
fn a_first_page() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let tab = browser.open();
    tab.go(&format!("http://{}/", daemon.address));
    tab.fill("[name=payload]", "first");
    tab.click_through("form.submit button", "Submit");
    assert_eq!(tab.path(), "/");
    tab.go(&format!("http://{}/list", daemon.address));
    tab.until_text("first");
    let (bytes, what) = tab.transferred(0);
    eprintln!("{bytes} {what:?} {:?}", tab.complaints(0));
    eprintln!("{}", tab.picture(true).len());
}
