//! The command line of `workqueuectl`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::engine::ArgValueCompleter;

use super::{complete, shape::Template};
use crate::access::Scope;
use crate::task::{EventKind, Millis, Options, Priority, QueueName, State, TaskId, Trace};

/// See and lead the work queue of this machine.
///
/// Speaks to the admin socket of workqueued: the system's if you may use it, else that of a daemon of your own. With --url
/// it speaks to a daemon's HTTP address, which serves tasks, queues, workers and events, and no admin verb.
#[derive(Debug, Parser)]
#[command(name = "workqueuectl", version, after_help = AFTER, arg_required_else_help = true)]
#[allow(
    clippy::doc_markdown,
    reason = "these docs are also the help text, which shows backticks as they are"
)]
pub(super) struct Cli {
    /// Speak to the daemon at URL: http://HOST:PORT, https://HOST or unix:PATH
    #[arg(
        long,
        short,
        global = true,
        value_name = "URL",
        conflicts_with = "socket",
        help_heading = GLOBAL
    )]
    pub(super) url: Option<String>,
    /// Trust the certificates in FILE (PEM) and no others, where the URL begins with https://
    #[arg(long, global = true, value_name = "FILE", env = "WORKQUEUE_CA_FILE", hide_env = true, help_heading = GLOBAL)]
    pub(super) ca_file: Option<PathBuf>,
    /// Show the certificate in FILE (PEM) to a daemon whose URL begins with https://
    #[arg(long, global = true, value_name = "FILE", env = "WORKQUEUE_CERTIFICATE_FILE", hide_env = true, help_heading = GLOBAL)]
    pub(super) certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "WORKQUEUE_KEY_FILE", hide_env = true, help_heading = GLOBAL)]
    pub(super) key_file: Option<PathBuf>,
    /// Show the token in FILE, where the URL is that of a daemon that asks for one
    #[arg(long, global = true, value_name = "FILE", env = "WORKQUEUE_TOKEN_FILE", hide_env = true, help_heading = GLOBAL)]
    pub(super) token_file: Option<PathBuf>,
    /// Speak to the daemon at this Unix socket
    #[arg(long, short, global = true, value_name = "PATH", help_heading = GLOBAL)]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON: what the API answers; one line for each task or event
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,
    /// Print a line for each, made from TEMPLATE: --format '{id} {state} {payload}'
    ///
    /// The fields are those that --json shows; {payload.to.0} reaches into a value. {payload:json} is always JSON,
    /// {exectime:time} a time in the local zone, {exectime:rfc3339} one for programs. {{ and }} are braces, \t and \n a tab and
    /// a line end. A time that is 0 is empty.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "TEMPLATE", conflicts_with = "json", value_parser = Template::parse)]
    pub(super) format: Option<Template>,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Under which head the options of every verb stand.
const GLOBAL: &str = "Options of every verb";

const AFTER: &str = "\
Exit codes: 0 done, 1 refused by the daemon (no such task, wrong state, draining) or not all well (check, retry --dead), 2 wrong \
arguments, 69 no daemon answers, 70 the answer is not understood, 74 a file can't be read or written. submit --wait: 0 \
completed, 3 dead, 4 cancelled, 5 ended while the connection was down and how is not known, 124 not ended in time.

Environment: WORKQUEUE_URL stands for --url, WORKQUEUE_ADMIN_SOCKET for --socket, WORKQUEUE_CA_FILE for --ca-file, \
WORKQUEUE_CERTIFICATE_FILE for --certificate-file, WORKQUEUE_KEY_FILE for --key-file, WORKQUEUE_TOKEN_FILE for --token-file, WORKQUEUE_TOKENS for the --file of token. NO_COLOR turns colours off. PAGER is what long \
lists on a terminal are shown with (default: less); PAGER=cat shows them without.

Try: workqueuectl submit hello; workqueuectl list; workqueuectl status";

#[derive(Debug, Subcommand)]
#[allow(
    clippy::doc_markdown,
    reason = "these docs are also the help text, which shows backticks as they are"
)]
pub(super) enum Verb {
    /// Submit a task, or a stream of them; prints the id
    Submit(Box<Submit>),
    /// List tasks in the order in which they are handed out
    List(List),
    /// Show tasks with all that is known of them
    Show(Ids),
    /// Cancel tasks that are not leased
    Cancel(Ids),
    /// Bring dead tasks back, with all their attempts before them
    Retry(Retry),
    /// Give tasks another place: another queue, priority or time
    Move(Move),
    /// Cancel all tasks of a state, after asking
    Purge(Purge),
    /// Show the queues in numbers
    Queues,
    /// Show who claims tasks, and what they hold
    Workers,
    /// Say on one screen what is well, what is not, and what to type next
    Status,
    /// Show queues and workers live, on the whole screen; q ends it
    Top,
    /// Show what happens, as it happens, until interrupted
    Events(Events),
    /// Show dropped files that could not be taken in, and why; or try one again, or delete it
    Rejected(Rejected),
    /// Hand out nothing, from one queue or from all
    Pause(Choice),
    /// Hand out again
    Resume(Choice),
    /// Take no new tasks, in one queue or in all; workers go on
    Drain(Choice),
    /// Take new tasks again
    Undrain(Choice),
    /// Show the daemon's settings, and where each came from
    Config,
    /// Have the daemon read its settings again; fails with the reason when they are wrong, and nothing has changed
    Reload,
    /// Have the daemon look through the task directory now
    Rescan,
    /// Have the daemon write a checkpoint now
    Checkpoint,
    /// Write all unfinished tasks as they are now into a file, while work goes on
    Export(ExportTo),
    /// Take back what export wrote; what is there already is passed over
    Import(ImportFrom),
    /// Make, list or revoke the tokens that a daemon asks for on TCP
    #[command(arg_required_else_help = true)]
    Token(Token),
    /// Look through a data directory without a daemon
    Check(Check),
    /// Print the completion script for a shell; names and ids come from the running daemon
    #[command(after_help = AFTER_COMPLETIONS)]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

const AFTER_COMPLETIONS: &str = "\
The packages install these. By hand, for this session:

  bash:  source <(workqueuectl completions bash)
  zsh:   source <(workqueuectl completions zsh)
  fish:  workqueuectl completions fish | source";

/// A shell that has completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

const AFTER_SUBMIT: &str = "\
Examples:
  workqueuectl submit 'hello'
  workqueuectl submit --queue emails --json-payload '{\"to\": \"ada\"}' --priority 200
  date | workqueuectl submit --in 10m
  workqueuectl submit --at 'tomorrow 07:00' --unique-key report 'daily report'
  workqueuectl submit --wait --timeout 5m 'convert a.png'
  workqueuectl submit --ndjson tasks.ndjson

WHEN is 18:00 (the next time it is that late), \"tomorrow 07:00\", \"monday 9:00\" (the next one), \"2026-12-24 18:00\", all in the \
local time zone; or RFC 3339 (2026-12-24T18:00:00+01:00), or Unix seconds.

With --wait the result that the worker gave is printed and the exit code says how the task ended: 0 completed, 3 dead, 4 \
cancelled, 5 ended while the connection was down and how is not known, 124 not ended within --timeout (it stays in its queue).

A line of --ndjson is a task object: {\"payload\": ..., \"queue\": ..., \"priority\": ..., \"exectime\" or \"delay\": ..., \"id\": ..., \
\"unique_key\": ..., \"max_attempts\": ..., \"lease\": ...}; only the payload is required. A wrong line ends it; the lines before \
it were taken.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_SUBMIT)]
pub(super) struct Submit {
    /// The payload, as text; "-" or none reads it from standard input, without its last line end
    #[arg(allow_hyphen_values = true)]
    pub(super) payload: Option<String>,
    /// The payload, as JSON; "-" reads it from standard input
    #[arg(long, short, value_name = "JSON", conflicts_with = "payload")]
    pub(super) json_payload: Option<String>,
    /// The payload is the text of FILE, unchanged
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["payload", "json_payload"])]
    pub(super) file: Option<PathBuf>,
    /// Submit many: each line of FILE is a task object as the API takes it; "-" is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "json_payload", "file", "queue", "priority",
        "delay", "at", "id", "unique_key", "max_attempts", "lease", "traceparent", "wait"])]
    pub(super) ndjson: Option<PathBuf>,
    /// Into which queue [default: default]
    #[arg(long, short, value_name = "NAME", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
    /// A higher number is handed out first [default: 100]
    #[arg(long, short, value_name = "NUMBER", allow_hyphen_values = true, value_parser = priority)]
    pub(super) priority: Option<i32>,
    /// Not before so long from now: 90s, 10m, 1h30m, 2d
    #[arg(long = "in", value_name = "TIME", value_parser = length, conflicts_with = "at")]
    pub(super) delay: Option<Millis>,
    /// Not before this moment: 18:00, "tomorrow 07:00", "monday 9:00", "2026-12-24 18:00"; see below
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(super) at: Option<String>,
    /// A UUID of your own, so that submitting again is safe
    #[arg(long, value_name = "UUID", value_parser = id)]
    pub(super) id: Option<String>,
    /// At most one unfinished task per key and queue; the one that is there is answered
    #[arg(long, value_name = "KEY")]
    pub(super) unique_key: Option<String>,
    /// Attempts until it is dead [default: 5]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(Options::MAX_ATTEMPTS)))]
    pub(super) max_attempts: Option<u32>,
    /// How long its claims last without a sign of life [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub(super) lease: Option<Millis>,
    /// The trace that it is part of (W3C Trace Context) [default: the environment's TRACEPARENT, if that is well formed]
    #[arg(long, value_name = "TRACEPARENT", value_parser = traceparent)]
    pub(super) traceparent: Option<String>,
    /// Wait until the task ends; prints its result
    #[arg(long, short)]
    pub(super) wait: bool,
    /// With --wait: at most so long [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = length, requires = "wait")]
    pub(super) timeout: Option<Millis>,
}

const AFTER_EXPORT: &str = "\
Examples:
  workqueuectl export tasks.ndjson
  workqueuectl export | gzip > tasks.ndjson.gz
  workqueuectl export | jq -r 'select(.dead) | .task.id'

The tasks are those of one moment, whatever happens while they are written: ready, scheduled and dead ones, and leased ones as \
ready, without their leases. A file has the name FILE.part until it is whole. A stream is whole when its last line says so, which \
`import` looks for; the exit code is 1 where it is not.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_EXPORT)]
pub(super) struct ExportTo {
    /// Into FILE, for its owner alone; "-" or none: standard output
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

const AFTER_IMPORT: &str = "\
Examples:
  workqueuectl import tasks.ndjson
  gunzip < tasks.ndjson.gz | workqueuectl import -

Tasks keep their ids, attempts and errors; dead ones are dead. A task that has been completed since it was exported comes back: \
nothing here remembers it. Queues that were paused when they were exported are paused.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_IMPORT)]
pub(super) struct ImportFrom {
    /// From FILE; "-" is standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this queue
    #[arg(long, short, value_name = "NAME", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
    /// Only this state
    #[arg(long, short = 't', value_enum)]
    pub(super) state: Option<StateName>,
    /// Only tasks whose ids begin so
    #[arg(long, value_name = "PREFIX", add = ArgValueCompleter::new(complete::tasks))]
    pub(super) id: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: u64,
    /// All of them
    #[arg(long, short, conflicts_with = "limit")]
    pub(super) all: bool,
    /// Not through a pager
    #[arg(long)]
    pub(super) no_pager: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ids {
    /// Which tasks
    #[arg(required = true, value_name = "ID", value_parser = id, add = ArgValueCompleter::new(complete::tasks))]
    pub(super) ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Retry {
    /// Which tasks
    #[arg(required_unless_present = "dead", conflicts_with = "dead", value_name = "ID", value_parser = id, add = ArgValueCompleter::new(complete::dead_tasks))]
    pub(super) ids: Vec<String>,
    /// All dead tasks
    #[arg(long)]
    pub(super) dead: bool,
    /// With --dead: only those of this queue
    #[arg(long, short, requires = "dead", value_name = "NAME", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("place").args(["to", "priority", "delay", "at"]).required(true).multiple(true))]
pub(super) struct Move {
    /// Which tasks; leased ones are their workers'
    #[arg(required = true, value_name = "ID", value_parser = id, add = ArgValueCompleter::new(complete::tasks))]
    pub(super) ids: Vec<String>,
    /// Into this queue
    #[arg(long, value_name = "QUEUE", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) to: Option<String>,
    /// With this priority
    #[arg(long, short, value_name = "NUMBER", allow_hyphen_values = true, value_parser = priority)]
    pub(super) priority: Option<i32>,
    /// Not before so long from now; 0s: as soon as possible
    #[arg(long = "in", value_name = "TIME", value_parser = length, conflicts_with = "at")]
    pub(super) delay: Option<Millis>,
    /// Not before this moment; as submit takes it
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(super) at: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Purge {
    /// Only this queue
    #[arg(long, short, value_name = "NAME", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
    /// Tasks in this state; leased tasks are their workers'
    #[arg(long, short = 't', value_enum, default_value_t = Purged::Dead)]
    pub(super) state: Purged,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on until interrupted, also when the daemon restarts; without it, the end of the stream is the end
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Only those of this queue, and what is done to all
    #[arg(long, short, value_name = "NAME", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
    /// Only those that bring a task to this state
    #[arg(long, short = 't', value_enum)]
    pub(super) state: Option<StateName>,
    /// Only events of this kind, like completed or dead; may be repeated
    #[arg(long, short, value_name = "KIND", value_parser = PossibleValuesParser::new(
        EventKind::ALL.map(EventKind::as_str)))]
    pub(super) kind: Vec<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Rejected {
    #[command(subcommand)]
    pub(super) what: Option<RejectedVerb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RejectedVerb {
    /// Show files with their reasons and how they begin
    Show(Names),
    /// Take files back into the task directory, once they or the limits are corrected
    Retry(Names),
    /// Delete files, for good
    Discard(Names),
}

#[derive(Debug, Args)]
pub(super) struct Names {
    /// Which files, as the list names them
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete::rejected))]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Choice {
    /// Which queue [default: all]
    #[arg(value_name = "QUEUE", value_parser = queue, add = ArgValueCompleter::new(complete::queues))]
    pub(super) queue: Option<String>,
}

const AFTER_TOKEN: &str = "\
Examples:
  workqueuectl token new deploy --scope submit > deploy.token
  workqueuectl token new mailer --scope work --queue 'mail-*'
  workqueuectl token list
  workqueuectl token revoke deploy && workqueuectl reload

The daemon asks for tokens when its setting `tokens` names the file, and reads it at its start and at each reload. Programs show one \
as \"Authorization: Bearer TOKEN\"; workqueuectl with --token-file, workqueue-worker with token_file.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_TOKEN)]
pub(super) struct Token {
    #[command(subcommand)]
    pub(super) what: TokenVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make a token; prints it, this once
    New(NewToken),
    /// List the tokens in the file, without what they are
    List(TokensFile),
    /// Remove a token from the file
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[allow(
    clippy::doc_markdown,
    reason = "these docs are also the help text, which shows backticks as they are"
)]
pub(super) struct NewToken {
    /// What the log calls whoever shows it: letters, digits, '.', '_' and '-'
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// What it allows: submit, work (claim and end leases), read, admin (everything); may be repeated
    #[arg(
        long = "scope",
        required = true,
        value_name = "SCOPE",
        value_enum,
        value_delimiter = ','
    )]
    pub(super) scopes: Vec<ScopeName>,
    /// Only these queues: a name, in which * stands for any letters; may be repeated
    #[arg(long = "queue", value_name = "PATTERN", value_delimiter = ',')]
    pub(super) queues: Vec<String>,
    #[command(flatten)]
    pub(super) place: TokensFile,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Which token
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) place: TokensFile,
}

#[derive(Debug, Args)]
pub(super) struct TokensFile {
    /// The file of tokens
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "WORKQUEUE_TOKENS",
        hide_env = true,
        default_value = "/etc/workqueue/tokens.toml"
    )]
    pub(super) file: PathBuf,
}

/// A scope, as `--scope` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ScopeName {
    Submit,
    Work,
    Read,
    Admin,
}

impl ScopeName {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => Scope::Submit.as_str(),
            Self::Work => Scope::Work.as_str(),
            Self::Read => Scope::Read.as_str(),
            Self::Admin => Scope::Admin.as_str(),
        }
    }
}

const AFTER_CHECK: &str = "\
Exit codes: 0 all is well, 1 something is not, as where it is no data directory, or a repair was refused (a daemon runs, a file is \
of another version), 74 the directory can't be read.

Read without --repair: nothing is changed, also beside a running daemon, whose journal is then left out. --repair needs the \
daemon to be stopped. It moves a damaged journal file aside and keeps what stands in it before the damage; what comes behind \
the damage goes aside too, since records build on each other. Tasks with files are kept; attempts, leases, completions and \
tasks without a file that only these pieces knew are lost to the next start.

Where a checkpoint is damaged and the journal goes on from it without a gap, only the checkpoint is lost: an empty one takes \
its place, and the next start reads the tasks' files and all that the journal tells. What only the checkpoint told is lost: \
attempts and errors, leases (such a task is handed out again), what is paused or draining, tasks whose files were not written \
yet, and that tasks had ended whose files were not removed yet (they come back). A unique key is known again once its task's \
file is read.";

#[derive(Debug, Args)]
#[command(after_long_help = AFTER_CHECK)]
pub(super) struct Check {
    /// The data directory [default: that of your daemon]
    #[arg(value_name = "DATA")]
    pub(super) data: Option<PathBuf>,
    /// Set damaged pieces of the journal aside (as NAME.damaged, nothing is deleted), so that the daemon starts again
    #[arg(long)]
    pub(super) repair: bool,
}

/// A state of tasks, as `--state` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StateName {
    Ready,
    Scheduled,
    Leased,
    Dead,
}

impl StateName {
    pub(super) const fn state(self) -> State {
        match self {
            Self::Ready => State::Ready,
            Self::Scheduled => State::Scheduled,
            Self::Leased => State::Leased,
            Self::Dead => State::Dead,
        }
    }
}

/// A state that can be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Purged {
    Dead,
    Ready,
    Scheduled,
}

impl Purged {
    pub(super) const fn state(self) -> State {
        match self {
            Self::Dead => State::Dead,
            Self::Ready => State::Ready,
            Self::Scheduled => State::Scheduled,
        }
    }
}

fn queue(text: &str) -> Result<String, String> {
    QueueName::parse(text)
        .map(|name| name.to_string())
        .map_err(|refusal| refusal.to_string())
}

fn id(text: &str) -> Result<String, String> {
    TaskId::parse(text)
        .map(|id| id.to_string())
        .map_err(|refusal| refusal.to_string())
}

fn priority(text: &str) -> Result<i32, String> {
    Priority::parse(text)
        .map(Priority::get)
        .map_err(|refusal| refusal.to_string())
}

fn traceparent(text: &str) -> Result<String, String> {
    Trace::parse(text)
        .map(|trace| trace.parent())
        .map_err(|refusal| refusal.to_string())
}

fn length(text: &str) -> Result<Millis, String> {
    Millis::parse(text).ok_or_else(|| "write it with units, like 90s, 10m or 1h30m".to_owned())
}
