//! The packages: what is in them, that two builds are the same bytes, and what they do on a really booted machine. They are
//! built once, in release, for all tests here.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

#[path = "../common/mod.rs"]
mod common;

mod contents;
mod installed;
mod limits;
mod list;
mod machine;
mod red_hat;
mod upgrades;

use std::{path::Path, process::Command};

use common::package::succeeded;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a tool prints that must succeed.
fn output(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    succeeded(tool, &output);
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
