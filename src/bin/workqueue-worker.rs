//! `workqueue-worker`: the worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    workqueue::worker::main()
}
