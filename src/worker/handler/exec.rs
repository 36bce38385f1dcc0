//! `exec`: one program per task, no shell.
//!
//! The payload is its stdin (the text of a JSON string, else the JSON text), the task is in its environment, and its exit
//! status says how the attempt ended: 0 completes, with what it wrote to stdout as the result; 75 (`EX_TEMPFAIL`) releases;
//! 64 and 65 (`EX_USAGE`, `EX_DATAERR`) make the task dead; anything else fails with the tail of stderr.
//!
//! It is started through the worker's own executable (see [`entrance`]), and leads a process group, in a control group of its
//! own where there are such (see [`cgroup`]). A timeout or a stop ends the whole group: SIGTERM, then SIGKILL, and SIGKILL for
//! what it has started and what has left the group (see [`strays`]). A process that a program left behind when it ended by
//! itself is let live, unless it holds on to stdout or stderr.

use std::{
    ffi::OsString,
    io,
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{FusedFuture, FutureExt as _, join3};
use rustix::{
    fd::{AsFd as _, OwnedFd},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
    },
};
use std::os::unix::process::ExitStatusExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest, unix::AsyncFd},
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Outcome, Untried, cgroup,
    entrance::{self, Entrance, SHORTAGE, is_shortage, is_want},
    strays, try_for,
};
use crate::{
    api,
    task::{Payload, PayloadLimits},
    worker::ExecConfig,
};

/// How long a group may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long pipes may stay open after the program has ended.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// The longest result, in bytes.
const RESULT_LIMIT: usize = 64 << 10;
/// How much of the end of stderr is told, in bytes.
const ERROR_TAIL: usize = 2 << 10;
/// Where programs are looked for when the worker itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a program gets of the worker's own environment, beside `LC_*`.
const KEPT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

const EX_USAGE: i32 = 64;
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;
const NOT_STARTED: i32 = entrance::NOT_STARTED as i32;

/// Runs a program.
#[derive(Debug)]
pub(in crate::worker) struct Exec {
    config: ExecConfig,
    /// Without one, as in tests, programs are started right from here.
    entrance: Option<Entrance>,
    cgroups: Option<cgroup::Delegated>,
}

/// How a program ended.
enum End {
    Exited,
    TimedOut,
    Stopped,
    Lost(io::Error),
}

impl Exec {
    pub(super) fn new(config: ExecConfig) -> Self {
        let entrance = Entrance::find();
        let cgroups = entrance.and_then(|_| cgroup::Delegated::find());
        tracing::debug!(
            found = cgroups.is_some(),
            "looked for a delegated control group"
        );
        Self {
            config,
            entrance,
            cgroups,
        }
    }

    pub(super) async fn run(&self, task: &api::ClaimedTask, stop: &CancellationToken) -> Outcome {
        let mark = uuid::Uuid::now_v7().to_string();
        let cgroup = self.cgroup(&mark);
        let mut child = match self.start(task, &mark, cgroup.as_ref(), stop).await {
            Ok(child) => child,
            Err(outcome) => return outcome,
        };
        let group = Group::of(&child, mark, cgroup);
        let exit = Exit::of(&group);
        let mut output = Head::default();
        let mut errors = Tail::default();
        let end = {
            let pipes = join3(
                feed(child.stdin.take(), task.task.payload.to_display()),
                output.fill(child.stdout.take()),
                errors.fill(child.stderr.take()),
            );
            let mut pipes = std::pin::pin!(pipes.fuse());
            let end = self.watch(&exit, &mut child, pipes.as_mut(), stop).await;
            match end {
                End::Exited => linger(pipes.as_mut(), &group).await,
                _ => terminate(&exit, &mut child, pipes.as_mut(), &group).await,
            }
            end
        };
        group.let_live();
        match end {
            End::Exited => {
                let has_begun = child.id().is_none_or(has_begun);
                match child.wait().await {
                    Ok(status) if !has_begun && is_for_all(status) => Outcome::Stopped,
                    Ok(status) => outcome(status, output, &errors),
                    Err(error) => Outcome::lost(&error),
                }
            }
            End::TimedOut => {
                let limit = self.config.timeout.unwrap_or_default();
                Outcome::failed(errors.after(&format!("timeout after {limit}")))
            }
            End::Stopped => Outcome::Stopped,
            End::Lost(error) => Outcome::lost(&error),
        }
    }

    /// A control group for a run, where there are such. Without one the run goes on all the same.
    fn cgroup(&self, mark: &str) -> Option<cgroup::Group> {
        match self.cgroups.as_ref()?.group(mark) {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::warn!(%error, "there is no control group for an attempt");
                None
            }
        }
    }

    /// Starts the program; where the machine has no process, descriptor or memory left, in a while. Where it has none for longer, the
    /// task is given back.
    async fn start(
        &self,
        task: &api::ClaimedTask,
        mark: &str,
        cgroup: Option<&cgroup::Group>,
        stop: &CancellationToken,
    ) -> Result<Child, Outcome> {
        let spawned = try_for(SHORTAGE, stop, is_shortage, || {
            std::future::ready(self.spawn(task, mark, cgroup))
        });
        spawned.await.map_err(|untried| match untried {
            Untried::Stopped => Outcome::Stopped,
            Untried::Failed(error) => {
                let program = self.config.command.first().map_or("", String::as_str);
                Outcome::not_started(program, &error)
            }
        })
    }

    fn spawn(
        &self,
        task: &api::ClaimedTask,
        mark: &str,
        cgroup: Option<&cgroup::Group>,
    ) -> io::Result<Child> {
        let (program, arguments) =
            self.config.command.split_first().ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "no program is named")
            })?;
        let spawn = |mut command: Command| {
            command.args(arguments);
            self.prepare(&mut command, task, mark);
            command.spawn()
        };
        if let Some(entrance) = self.entrance {
            let procs = cgroup.map(cgroup::Group::procs);
            return spawn(entrance.command(procs.as_deref(), program));
        }
        entrance::along(&self.path(), program.as_ref(), |file| {
            let mut command = Command::new(file);
            command.arg0(program);
            spawn(command)
        })
    }

    /// Where a program is looked for that is named without a directory.
    fn path(&self) -> OsString {
        let own = self.config.environment.get("PATH").map(OsString::from);
        own.or_else(|| std::env::var_os("PATH"))
            .unwrap_or_else(|| DEFAULT_PATH.into())
    }

    fn prepare(&self, command: &mut Command, task: &api::ClaimedTask, mark: &str) {
        let kept = std::env::vars_os().filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| KEPT.contains(&name) || name.starts_with("LC_"))
        });
        command
            .env_clear()
            .envs(kept)
            .envs(&self.config.environment)
            .env("PATH", self.path())
            .env(strays::MARK, mark)
            .env("WORKQUEUE_TASK_ID", &task.task.id)
            .env("WORKQUEUE_QUEUE", &task.task.queue)
            .env("WORKQUEUE_ATTEMPT", task.attempt.to_string())
            .env("WORKQUEUE_PRIORITY", task.task.priority.to_string())
            .envs(
                task.task
                    .traceparent
                    .iter()
                    .map(|parent| ("TRACEPARENT", parent)),
            )
            .envs(
                task.task
                    .tracestate
                    .iter()
                    .map(|state| ("TRACESTATE", state)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
    }

    /// Waits for the first of: the program's end, the timeout, a stop. The pipes flow meanwhile.
    async fn watch<P: FusedFuture>(
        &self,
        exit: &Exit,
        child: &mut Child,
        mut pipes: Pin<&mut P>,
        stop: &CancellationToken,
    ) -> End {
        let deadline = async {
            match self.config.timeout {
                Some(limit) => tokio::time::sleep(limit.as_duration()).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = std::pin::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                seen = exit.seen(child) => return seen.map_or_else(End::Lost, |()| End::Exited),
                () = stop.cancelled() => return End::Stopped,
                () = &mut deadline => return End::TimedOut,
                _ = pipes.as_mut(), if !pipes.is_terminated() => {}
            }
        }
    }
}

/// After the program's end: takes what is still in the pipes. A process that it left behind and that holds them open is
/// killed, or the attempt would never end.
async fn linger<P: FusedFuture>(pipes: Pin<&mut P>, group: &Group) {
    if !pipes.is_terminated() && timeout(PIPE_GRACE, pipes).await.is_err() {
        group.signal(Signal::KILL);
        group.kill_strays().await;
    }
}

/// Ends the group: asks it to, and when it has not ended in time, or has left something behind, kills it.
async fn terminate<P: FusedFuture>(
    exit: &Exit,
    child: &mut Child,
    pipes: Pin<&mut P>,
    group: &Group,
) {
    group.signal(Signal::TERM);
    let quiet = async {
        let seen = exit.seen(child).await;
        if !pipes.is_terminated() {
            pipes.await;
        }
        seen
    };
    let ended = timeout(TERM_GRACE, quiet).await;
    group.signal(Signal::KILL);
    if ended.is_err() && timeout(TERM_GRACE, exit.seen(child)).await.is_err() {
        tracing::error!("a program can't be killed: it waits for a device");
    }
    group.kill_strays().await;
}

/// The payload goes in; a program that does not want all of it is right, too.
async fn feed(stdin: Option<ChildStdin>, input: String) {
    let Some(mut stdin) = stdin else { return };
    match stdin.write_all(input.as_bytes()).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::warn!(%error, "a program's stdin can't be written");
        }
        Ok(()) | Err(_) => {}
    }
}

/// The end of a program, seen while its status is still to be taken. Until that is taken, its number stays its own, and with it its
/// group's: no signal to the group reaches another that the system has given the number meanwhile.
struct Exit(Option<AsyncFd<OwnedFd>>);

impl Exit {
    fn of(group: &Group) -> Self {
        let leader = group.leader.ok_or(Errno::SRCH).map_err(io::Error::from);
        match leader.and_then(Self::registered) {
            Ok(process) => Self(Some(process)),
            Err(error) => {
                tracing::debug!(%error, "a program's status is taken as soon as it has ended");
                Self(None)
            }
        }
    }

    #[expect(
        deprecated,
        reason = "what takes its place is unsafe for types that change their descriptor: this one does not"
    )]
    fn registered(leader: Pid) -> io::Result<AsyncFd<OwnedFd>> {
        let process = pidfd_open(leader, PidfdFlags::empty())?;
        AsyncFd::with_interest(process, Interest::READABLE)
    }

    /// Waits for it. Afterwards `child` gives its status at once.
    async fn seen(&self, child: &mut Child) -> io::Result<()> {
        let Some(process) = &self.0 else {
            return child.wait().await.map(drop);
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let mut ready = process.readable().await?;
            if waitid(WaitId::PidFd(process.get_ref().as_fd()), look)?.is_some() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// The bit of a process's flags (proc(5), `/proc/PID/stat`) that says that it was forked and has become no program yet.
const PF_FORKNOEXEC: u64 = 0x40;

/// Whether a process has become a program, or has begun to. Until then it was in the worker's own process group for a moment, and a
/// signal to all of that, as Ctrl-C is, was for it, too. It may have ended, but its status is still to be taken; else it has begun.
pub(super) fn has_begun(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    let Ok(stat) = stat else { return true };
    // The name, in parentheses, may have any sign in it.
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(6));
    flags
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_none_or(|flags| flags & PF_FORKNOEXEC == 0)
}

/// Whether a process was ended by one of the signals that a terminal or a shell sends to a whole process group.
fn is_for_all(status: ExitStatus) -> bool {
    let signals = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
    let signal = status.signal();
    signals.iter().any(|one| signal == Some(one.as_raw()))
}

/// A process group and what has left it, killed when this is dropped before it has ended.
struct Group {
    leader: Option<Pid>,
    strays: Arc<Strays>,
}

/// What a run has started and what has left its process group.
struct Strays {
    mark: String,
    cgroup: Option<cgroup::Group>,
}

impl Strays {
    /// Blocks until they have ended.
    fn kill(&self) {
        if let Some(group) = &self.cgroup {
            group.kill();
        }
        strays::kill(&self.mark);
    }
}

impl Group {
    fn of(child: &Child, mark: String, cgroup: Option<cgroup::Group>) -> Self {
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let strays = Arc::new(Strays { mark, cgroup });
        Self { leader, strays }
    }

    /// Kills what has left the group. Not on this thread, which has other tasks to look after.
    async fn kill_strays(&self) {
        let strays = Arc::clone(&self.strays);
        if let Err(error) = tokio::task::spawn_blocking(move || strays.kill()).await {
            tracing::error!(%error, "what a program left behind was not killed");
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(group) = self.leader else { return };
        match kill_process_group(group, signal) {
            // No such process: all have ended.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::error!(%error, "a program's group can't be signalled"),
        }
    }

    fn let_live(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.leader.is_none() {
            return;
        }
        self.signal(Signal::KILL);
        self.strays.kill();
    }
}

impl Outcome {
    /// What the machine lacks uses up no attempt: a queue that waits is better than one whose tasks are dead without having run.
    pub(super) fn not_started(program: &str, error: &io::Error) -> Self {
        if is_want(error) {
            return Self::no_room(&format!("cannot start {program}: {error}"));
        }
        Self::failed(format!("cannot start {program}: {error}"))
    }

    fn no_room(error: &str) -> Self {
        tracing::warn!(%error, "a handler can't be started for want of room; its task is given back");
        Self::Released
    }

    fn lost(error: &io::Error) -> Self {
        Self::failed(format!("cannot wait for the program: {error}"))
    }
}

fn outcome(status: ExitStatus, output: Head, errors: &Tail) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Completed(output.into_result()),
        (Some(EX_TEMPFAIL), _) => match entrance::why_not(&errors.text()) {
            Some(why) => Outcome::no_room(why),
            None => Outcome::Released,
        },
        (Some(NOT_STARTED), _) => {
            let told = errors.after(&format!("exit status {NOT_STARTED}"));
            let why = entrance::why_not(&errors.text()).map(str::to_owned);
            Outcome::failed(why.unwrap_or(told))
        }
        (Some(code), _) => Outcome::Failed(Failure {
            error: errors.after(&format!("exit status {code}")),
            retry_in: None,
            dead: matches!(code, EX_USAGE | EX_DATAERR),
        }),
        (None, Some(signal)) => {
            Outcome::failed(errors.after(&format!("killed by signal {signal}")))
        }
        (None, None) => Outcome::failed(errors.after("ended in an unknown way")),
    }
}

/// Reads `pipe` to its end in pieces.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; 8 << 10];
    loop {
        match pipe.read(&mut piece).await {
            Ok(0) => return,
            Ok(count) => take(&piece[..count]),
            Err(error) => {
                tracing::warn!(%error, "a program's output can't be read");
                return;
            }
        }
    }
}

/// The first bytes of a stream.
#[derive(Default)]
struct Head(Vec<u8>);

impl Head {
    async fn fill(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        drain(pipe, |piece| self.take(piece)).await;
    }

    fn take(&mut self, piece: &[u8]) {
        let room = RESULT_LIMIT - self.0.len();
        self.0.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// What was written, as a result: JSON where it is JSON that the daemon takes, else text.
    fn into_result(self) -> Option<Payload> {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim_end();
        if text.is_empty() {
            return None;
        }
        let json = Payload::from_json(text.trim_start()).ok();
        let json = json.filter(|json| !json.is_deeper_than(PayloadLimits::MAX_DEPTH));
        Some(json.unwrap_or_else(|| Payload::from_text(text)))
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    async fn fill(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        drain(pipe, |piece| self.take(piece)).await;
    }

    fn take(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        let excess = self.bytes.len().saturating_sub(ERROR_TAIL);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.is_cut = true;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }

    /// `what`, and what was written.
    fn after(&self, what: &str) -> String {
        let text = self.text();
        let mark = if self.is_cut { "…" } else { "" };
        if text.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {mark}{text}")
        }
    }
}
