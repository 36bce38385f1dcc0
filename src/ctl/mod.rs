//! `workqueuectl`: what people and scripts ask of a daemon.
//!
//! Only speaks HTTP, in the words of [`crate::api`]; it may not know the engine, and looks into the daemon's directory only
//! in `check`, which is for a daemon that does not run. What is shown is text for people, in aligned columns, without
//! control characters from payloads; programs take `--json`.

mod admin;
mod call;
mod check;
mod cli;
mod console;
mod endpoint;
mod error;
mod events;
mod notices;
mod status;
mod submit;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod when;

use std::{ffi::OsString, io};

use clap::{CommandFactory as _, Parser as _};

use self::{
    call::Endpoint,
    cli::{Cli, Verb},
    error::CtlError,
};

pub use console::Console;

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what `args` ask for with this process's input and outputs. Gives the exit code.
pub fn start(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut console = Console::of_process();
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(cause) => return fail(&cause.into(), &mut console),
    };
    let code = runtime.block_on(run(args, &mut console));
    // A thread that still waits for standard input must not keep the program.
    runtime.shutdown_background();
    code
}

/// Does what `args` (the program's name first) ask for. Gives the exit code: see `--help`.
pub async fn run(args: impl IntoIterator<Item = OsString>, console: &mut Console) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, console),
    };
    let done = dispatch(cli, console).await;
    let done = done.and_then(|()| Ok(console.out.flush()?));
    done.map_or_else(|error| fail(&error, console), |()| 0)
}

/// Tells of the error. Gives its exit code.
fn fail(error: &CtlError, console: &mut Console) -> u8 {
    if !error.is_silent() {
        // Nobody is left to be told when stderr is gone as well; the exit code still says it.
        drop(console.note(&format!("workqueuectl: {error}")));
    }
    error.exit_code()
}

/// Help and version are answers, everything else is a mistake.
fn explain(error: &clap::Error, console: &mut Console) -> u8 {
    let text = error.render();
    let text = if console.colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    let written = if error.use_stderr() {
        console.err.write_all(text.as_bytes())
    } else {
        console
            .out
            .write_all(text.as_bytes())
            .and_then(|()| console.out.flush())
    };
    match written {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => crate::config::exit::IOERR,
        _ => error.exit_code() as u8,
    }
}

async fn dispatch(cli: Cli, console: &mut Console) -> Result<(), CtlError> {
    let json = cli.json;
    match cli.verb {
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "workqueuectl", &mut script);
            Ok(console.out.write_all(&script)?)
        }
        Verb::Check(check) => check::run(check.data, check.repair, json, console),
        verb => {
            let endpoint = endpoint::choose(cli.url.as_deref(), cli.socket, &console.surroundings)?;
            ask(verb, &endpoint, json, console).await
        }
    }
}

async fn ask(
    verb: Verb,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    match verb {
        Verb::Submit(submit) => submit::run(*submit, endpoint, json, console).await,
        Verb::List(list) => tasks::list(list, endpoint, json, console).await,
        Verb::Show(ids) => tasks::show(&ids.ids, endpoint, json, console).await,
        Verb::Cancel(ids) => tasks::cancel(&ids.ids, endpoint, json, console).await,
        Verb::Retry(retry) => tasks::retry(retry, endpoint, json, console).await,
        Verb::Purge(purge) => tasks::purge(purge, endpoint, json, console).await,
        Verb::Queues => status::queues(endpoint, json, console).await,
        Verb::Workers => status::workers(endpoint, json, console).await,
        Verb::Status => status::status(endpoint, json, console).await,
        Verb::Top => status::top(endpoint, json, console).await,
        Verb::Events(events) => events::run(events, endpoint, json, console).await,
        Verb::Rejected => admin::rejected(endpoint, json, console).await,
        Verb::Pause(choice) => {
            admin::switch(&admin::PAUSE, choice.queue, endpoint, json, console).await
        }
        Verb::Resume(choice) => {
            admin::switch(&admin::RESUME, choice.queue, endpoint, json, console).await
        }
        Verb::Drain(choice) => {
            admin::switch(&admin::DRAIN, choice.queue, endpoint, json, console).await
        }
        Verb::Undrain(choice) => {
            admin::switch(&admin::UNDRAIN, choice.queue, endpoint, json, console).await
        }
        Verb::Config => admin::config(endpoint, json, console).await,
        Verb::Reload => {
            admin::order(
                "/reload",
                "the settings were read again",
                endpoint,
                json,
                console,
            )
            .await
        }
        Verb::Rescan => {
            admin::order(
                "/rescan",
                "the task directory was looked through",
                endpoint,
                json,
                console,
            )
            .await
        }
        Verb::Checkpoint => {
            admin::order(
                "/checkpoint",
                "a checkpoint was written",
                endpoint,
                json,
                console,
            )
            .await
        }
        // Both need no daemon, and were done before one was looked for.
        Verb::Check(_) | Verb::Completions { .. } => Ok(()),
    }
}
