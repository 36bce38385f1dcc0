//! `workqueue-worker`: the worker.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    workqueue::worker::main()
}
