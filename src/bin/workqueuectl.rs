//! `workqueuectl`: the command line.

fn main() -> std::process::ExitCode {
    workqueue::ctl::start(std::env::args_os()).into()
}
