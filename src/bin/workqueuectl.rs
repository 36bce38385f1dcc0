//! `workqueuectl`: the command line.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    workqueue::ctl::start(std::env::args_os()).into()
}
