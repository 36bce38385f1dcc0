//! `workqueued`: the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    workqueue::daemon::main()
}
