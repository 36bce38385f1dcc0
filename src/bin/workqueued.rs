//! `workqueued`: the daemon.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Payloads and answers are made on one thread and freed on another, which glibc's allocator serves with locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    workqueue::daemon::main()
}
