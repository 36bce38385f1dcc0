//! The benches' program.

use std::process::ExitCode;

fn main() -> ExitCode {
    workqueue_benches::main()
}
