//! The benches' program.

use std::process::ExitCode;

/// The ceiling is served by this program, with the allocator that the daemon has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    workqueue_benches::main()
}
