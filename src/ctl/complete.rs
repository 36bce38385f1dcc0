//! Completions: names of queues and ids of tasks, asked of the daemon while a command line is being typed.
//!
//! The shell's script calls this program with `COMPLETE=SHELL` for each completion, so that words and names are always
//! those of the program and the daemon that are there. A daemon that can't be asked completes nothing and says nothing: a
//! person is in the middle of a line.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    time::Duration,
};

use clap_complete::{
    CompleteEnv,
    engine::CompletionCandidate,
    env::{Bash, EnvCompleter, Fish, Zsh},
};

use super::{cli::Shell, endpoint, table::shortened};
use crate::{
    api,
    client::{Client, ClientError, TaskQuery, TlsFiles},
    config::Surroundings,
    runtime,
    task::State,
};

/// The variable by which the shell's script asks for completions.
const VARIABLE: &str = "COMPLETE";
/// How long a person waits for a completion before it is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many tasks are offered.
const TASKS: u32 = 100;
/// How much of a payload is shown beside an id.
const PAYLOAD: usize = 40;

/// Answers the shell's script, if it was that who asked. Gives whether it was.
pub(super) fn answer(args: &[OsString]) -> Result<bool, clap::Error> {
    if env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let here = env::current_dir().ok();
    CompleteEnv::with_factory(super::command)
        .var(VARIABLE)
        .try_complete(args.iter().cloned(), here.as_deref())
}

/// The script for a shell, which calls `program`.
pub(super) fn script(shell: Shell, program: &str) -> io::Result<Vec<u8>> {
    let writer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    writer.write_registration(VARIABLE, program, program, program, &mut script)?;
    Ok(script)
}

/// Names of queues that begin with `typed`.
pub(super) fn queues(typed: &OsStr) -> Vec<CompletionCandidate> {
    ask(async |client: Client| client.queues().await)
        .map(|answer| answer.queues)
        .unwrap_or_default()
        .into_iter()
        .filter(|queue| queue.queue.starts_with(&*typed.to_string_lossy()))
        .map(|queue| {
            let help = format!("{} ready, {} dead", queue.ready, queue.dead);
            CompletionCandidate::new(queue.queue).help(Some(help.into()))
        })
        .collect()
}

/// Ids of tasks that begin with `typed`.
pub(super) fn tasks(typed: &OsStr) -> Vec<CompletionCandidate> {
    listed(typed, None)
}

/// Ids of dead tasks that begin with `typed`.
pub(super) fn dead_tasks(typed: &OsStr) -> Vec<CompletionCandidate> {
    listed(typed, Some(State::Dead))
}

/// Names of rejected files that begin with `typed`.
pub(super) fn rejected(typed: &OsStr) -> Vec<CompletionCandidate> {
    ask(async |client: Client| client.rejected().await)
        .map(|answer| answer.rejected)
        .unwrap_or_default()
        .into_iter()
        .filter(|file| file.name.starts_with(&*typed.to_string_lossy()))
        .map(|file| {
            let reason = shortened(&file.reason, PAYLOAD);
            CompletionCandidate::new(file.name).help(Some(reason.into()))
        })
        .collect()
}

fn listed(typed: &OsStr, state: Option<State>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    let query = TaskQuery {
        state: state.map(|state| state.as_str().to_owned()),
        limit: Some(TASKS),
        id_prefix: Some(typed.clone()).filter(|typed| !typed.is_empty()),
        ..TaskQuery::default()
    };
    let found: Option<api::TaskPage> = ask(async |client: Client| client.tasks(&query).await);
    found
        .map(|page| page.tasks)
        .unwrap_or_default()
        .into_iter()
        .filter(|task| task.id.starts_with(&typed))
        .map(|task| {
            let payload = shortened(&task.payload.to_display(), PAYLOAD);
            let help = format!("{} {}: {payload}", task.queue, task.state);
            CompletionCandidate::new(task.id).help(Some(help.into()))
        })
        .collect()
}

/// Asks the daemon that the command line being typed is about.
fn ask<T>(question: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Option<T> {
    let args: Vec<OsString> = env::args_os().collect();
    let url = named(&args, "--url", "-u").map(|url| url.to_string_lossy().into_owned());
    let socket = named(&args, "--socket", "-s").map(PathBuf::from);
    let endpoint = endpoint::choose(url.as_deref(), socket, &Surroundings::of_process()).ok()?;
    let file = |flag: &str, variable: &str| {
        let given = named(&args, flag, flag).or_else(|| env::var_os(variable));
        given.map(PathBuf::from)
    };
    let files = TlsFiles {
        authorities: file("--ca-file", "WORKQUEUE_CA_FILE"),
        certificate: file("--certificate-file", "WORKQUEUE_CERTIFICATE_FILE"),
        key: file("--key-file", "WORKQUEUE_KEY_FILE"),
    };
    let client = Client::over(endpoint, &files).ok()?;
    runtime::of_one().ok()?.block_on(async {
        tokio::time::timeout(PATIENCE, question(client))
            .await
            .ok()?
            .ok()
    })
}

/// The value of an option on a command line that is not finished, so that clap can't read it yet.
fn named(args: &[OsString], long: &str, short: &str) -> Option<OsString> {
    args.iter().enumerate().find_map(|(index, arg)| {
        if arg == long || arg == short {
            return args.get(index + 1).cloned();
        }
        let text = arg.to_str()?;
        let value = text.strip_prefix(long)?.strip_prefix('=')?;
        Some(value.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_read_from_an_unfinished_line() {
        let args = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        let socket = |line: &str| named(&args(line), "--socket", "-s");
        assert_eq!(
            socket("ctl -- ctl --socket /q.sock show"),
            Some("/q.sock".into())
        );
        assert_eq!(socket("ctl -- ctl -s /q.sock show"), Some("/q.sock".into()));
        assert_eq!(
            socket("ctl -- ctl show --socket=/q.sock"),
            Some("/q.sock".into())
        );
        assert_eq!(socket("ctl -- ctl show --socket"), None);
        assert_eq!(socket("ctl -- ctl show"), None);
    }

    #[test]
    fn each_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell, "workqueuectl").unwrap()).unwrap();
            assert!(
                script.contains(VARIABLE) && script.contains("workqueuectl"),
                "{script}"
            );
        }
    }
}
