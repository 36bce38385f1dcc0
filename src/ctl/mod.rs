//! `workqueuectl`: what people and scripts ask of a daemon.
//!
//! Only speaks HTTP, in the words of [`crate::api`]; it may not know the engine, and looks into the daemon's directory only
//! in `check`, which is for a daemon that does not run. What is shown is text for people, in aligned columns, without
//! control characters from payloads; programs take `--json`.

mod admin;
mod check;
mod cli;
mod complete;
mod console;
mod endpoint;
mod error;
mod events;
mod export;
mod guess;
mod list;
mod pager;
mod progress;
mod rejected;
mod session;
mod shape;
mod status;
mod submit;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod token;
mod top;
mod wait;
mod when;

use std::{ffi::OsString, io, path::PathBuf, sync::Arc};

use clap::{CommandFactory as _, Parser as _};
use jiff::tz::TimeZone;

use self::{
    admin::Switch,
    cli::{Cli, RejectedVerb, Verb},
    error::CtlError,
    session::Session,
    shape::Shape,
};
use crate::{
    access::token_in,
    api,
    client::{Client, TlsFiles},
    config::text,
    runtime,
};

pub use console::Console;

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The completion script for `bash`, `zsh` or `fish`; none for another shell.
#[must_use]
pub fn completions(shell: &str) -> Option<Vec<u8>> {
    let shell = <cli::Shell as clap::ValueEnum>::from_str(shell, false).ok()?;
    complete::script(shell, command().get_name()).ok()
}

/// Does what `args` ask for with this process's input and outputs. Gives the exit code.
pub fn start(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut console = Console::of_process();
    match complete::answer(&args) {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(error) => return explain(&error, &mut console),
    }
    let runtime = match runtime::outlive_large_files().and_then(|()| runtime::of_one()) {
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
    let shape = match cli.format {
        Some(template) => {
            template
                .check(&fields(&cli.verb))
                .map_err(|reason| CtlError::Usage(format!("--format: {reason}")))?;
            Shape::Template(template)
        }
        None if cli.json => Shape::Json,
        None => Shape::People,
    };
    match cli.verb {
        Verb::Completions { shell } => {
            let script = complete::script(shell, command().get_name())?;
            Ok(console.out.write_all(&script)?)
        }
        Verb::Token(token) => token::run(token.what, &shape, console),
        Verb::Check(check) => check::run(check.data, check.repair, &shape, console),
        verb => {
            let endpoint = endpoint::choose(cli.url.as_deref(), cli.socket, &console.surroundings)?;
            let files = TlsFiles {
                authorities: cli.ca_file,
                certificate: cli.certificate_file,
                key: cli.key_file,
            };
            let mut client = Client::over(endpoint, &files)?;
            if let Some(path) = cli.token_file {
                client = client.with_bearer(&shown_token(path)?);
            }
            let mut session = Session {
                client,
                shape,
                console,
                zone: TimeZone::system(),
            };
            ask(verb, &mut session).await
        }
    }
}

fn shown_token(path: PathBuf) -> Result<Arc<str>, CtlError> {
    let text = match text::read(&path) {
        Ok(text) => text,
        Err(cause) => return Err(CtlError::File { path, cause }),
    };
    token_in(&text).map_err(|reason| CtlError::Usage(format!("{} {reason}", path.display())))
}

/// The fields that `--format` may name: those of what the verb shows.
fn fields(verb: &Verb) -> Vec<String> {
    match verb {
        Verb::Submit(submit) if submit.ndjson.is_some() => shape::fields::<api::Accepted>(),
        Verb::Import(_) => shape::fields::<api::Accepted>(),
        Verb::Submit(submit) if submit.wait => shape::fields::<api::Event>(),
        Verb::Retry(retry) if retry.dead => shape::fields::<api::RetriedDead>(),
        Verb::Submit(_) | Verb::List(_) | Verb::Show(_) | Verb::Retry(_) | Verb::Move(_) => {
            shape::fields::<api::Task>()
        }
        Verb::Cancel(_) => shape::fields::<tasks::Which>(),
        Verb::Purge(_) => shape::fields::<api::Count>(),
        Verb::Queues | Verb::Top => shape::fields::<api::Queue>(),
        Verb::Workers => shape::fields::<api::Worker>(),
        Verb::Status => shape::fields::<api::Status>(),
        Verb::Events(_) => shape::fields::<api::Event>(),
        Verb::Rejected(rejected) => match rejected.what {
            None | Some(RejectedVerb::Show(_)) => shape::fields::<api::RejectedFile>(),
            Some(_) => shape::fields::<api::RejectedName>(),
        },
        Verb::Config => shape::fields::<api::Setting>(),
        Verb::Check(_) => check::fields(),
        Verb::Token(_) => token::fields(),
        Verb::Pause(_)
        | Verb::Resume(_)
        | Verb::Drain(_)
        | Verb::Undrain(_)
        | Verb::Reload
        | Verb::Rescan
        | Verb::Checkpoint => shape::fields::<admin::Done>(),
        // The lines of an export are JSON as they are.
        Verb::Export(_) | Verb::Completions { .. } => Vec::new(),
    }
}

async fn ask(verb: Verb, session: &mut Session<'_>) -> Result<(), CtlError> {
    match verb {
        Verb::Submit(submit) => submit::run(*submit, session).await,
        Verb::List(list) => list::run(list, session).await,
        Verb::Show(ids) => list::show(&ids.ids, session).await,
        Verb::Cancel(ids) => tasks::cancel(&ids.ids, session).await,
        Verb::Retry(retry) => tasks::retry(retry, session).await,
        Verb::Move(order) => tasks::r#move(order, session).await,
        Verb::Purge(purge) => tasks::purge(purge, session).await,
        Verb::Queues => status::queues(session).await,
        Verb::Workers => status::workers(session).await,
        Verb::Status => status::status(session).await,
        Verb::Top => top::run(session).await,
        Verb::Events(events) => events::run(events, session).await,
        Verb::Rejected(rejected) => rejected::run(rejected.what, session).await,
        Verb::Pause(choice) => admin::switch(Switch::Pause, choice.queue, session).await,
        Verb::Resume(choice) => admin::switch(Switch::Resume, choice.queue, session).await,
        Verb::Drain(choice) => admin::switch(Switch::Drain, choice.queue, session).await,
        Verb::Undrain(choice) => admin::switch(Switch::Undrain, choice.queue, session).await,
        Verb::Config => admin::config(session).await,
        Verb::Reload => {
            let done = session.client.reload().await;
            admin::ordered(done, "the settings were read again", session)
        }
        Verb::Export(to) => export::export(to.file.as_deref(), session).await,
        Verb::Import(from) => export::import(&from.file, session).await,
        Verb::Rescan => {
            let done = session.client.rescan().await;
            admin::ordered(done, "the task directory was looked through", session)
        }
        Verb::Checkpoint => {
            let done = session.client.checkpoint().await;
            admin::ordered(done, "a checkpoint was written", session)
        }
        // These need no daemon, and were done before one was looked for.
        Verb::Check(_) | Verb::Token(_) | Verb::Completions { .. } => Ok(()),
    }
}
