//! `workqueuectl`: the command line.

use std::process::ExitCode;

use workqueue::{config::exit, ctl};

fn main() -> ExitCode {
    let mut console = ctl::Console::of_process();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::from(exit::UNAVAILABLE),
    };
    let code = runtime.block_on(ctl::run(std::env::args_os(), &mut console));
    // A thread that still waits for standard input must not keep the program.
    runtime.shutdown_background();
    ExitCode::from(code)
}
