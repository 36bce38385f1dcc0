//! The daemon: puts settings, engine and transports together, and takes them apart again.
//!
//! It decides nothing: what a setting means is `config`'s, what a request means the transports', what a task does the
//! queue's. It knows who starts first and who stops last.

mod access;
mod accounts;
mod admins;
mod announcement;
mod connections;
mod control;
mod in_effect;
mod memory;
mod signs;
mod sockets;
mod stop;

use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use clap::Parser as _;
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    access::{Access, Changed},
    connections::Doors,
    control::Controls,
    in_effect::InEffect,
};
use crate::{
    admin,
    config::{Durability, Flags, Listen, Settings, Surroundings, exit},
    engine::{
        self, Handle, clock,
        driver::{self, OpenError, Opening, Running},
    },
    http::{self, Http, HttpLimits, NewTls},
    queue,
    store::{DataDirError, DropLimits, LockError, RecoverError},
    systemd::{catalog, logging, notify},
    task::{Millis, PayloadLimits, QueueName},
    worker,
};

/// How long the engine may take over bringing files in order when the daemon stops; the next start does the rest.
const CLOSE_PATIENCE: Duration = Duration::from_millis(700);
/// How long the last lines of the log may take.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long open requests may take when the daemon stops; a second signal ends the wait.
const REQUEST_PATIENCE: Duration = Duration::from_secs(20);

/// Why the daemon ends before it was told to: one line, an exit code, and what the system said.
#[derive(Debug)]
pub struct Failure {
    text: String,
    code: u8,
    errno: Option<i32>,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code,
            errno: None,
        }
    }

    /// The same, with the error number that is in `cause` or in what is behind it.
    fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(cause);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                self.errno = error.raw_os_error();
            }
            cause = error.source();
        }
        self
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::DataDir(DataDirError::NoPermission { .. }) => exit::NOPERM,
            OpenError::DataDir(_) | OpenError::Lock(LockError::NoFile { .. }) => exit::CANTCREAT,
            OpenError::Lock(LockError::Held { .. }) => exit::UNAVAILABLE,
            OpenError::Disk { error, .. } | OpenError::Lock(LockError::Disk(error))
                if error.cause.kind() == io::ErrorKind::PermissionDenied =>
            {
                exit::NOPERM
            }
            // Another start would find the same: the units don't try.
            OpenError::Lock(LockError::OtherJournal { .. } | LockError::OlderJournal { .. })
            | OpenError::Recover {
                error:
                    RecoverError::Damaged { .. }
                    | RecoverError::NoFile { .. }
                    | RecoverError::Misnamed { .. }
                    | RecoverError::Version { .. },
                ..
            } => exit::DATAERR,
            OpenError::Lock(_) | OpenError::Recover { .. } | OpenError::Disk { .. } => exit::IOERR,
            OpenError::Watch(_) | OpenError::System { .. } => exit::OSERR,
        };
        Self::new(code, error.to_string()).because(&error)
    }
}

/// The program `workqueued`.
#[must_use]
pub fn main() -> ExitCode {
    let ended = start(&Flags::parse());
    logging::finish(LOG_PATIENCE);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            notify::failed(&failure.text, failure.code, failure.errno);
            // On standard error, whatever the log is: it is the answer to whoever started the program.
            if writeln!(io::stderr().lock(), "workqueued: {}", failure.text).is_err() {
                return ExitCode::from(exit::IOERR);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn start(flags: &Flags) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process();
    let settings = Settings::load(flags, &surroundings)
        .map_err(|error| Failure::new(error.exit_code(), error.to_string()).because(&error))?;
    if flags.check_config {
        if let Some(files) = connections::tls_files(&settings) {
            NewTls::read(&files).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
        }
        access::check(&settings)?;
        return print_settings(&settings);
    }
    let log = logging::init(&settings.log_level, settings.log_format).map_err(|error| {
        let code = if error.is_of_the_system() {
            exit::OSERR
        } else {
            exit::CONFIG
        };
        Failure::new(code, error.to_string())
    })?;
    let hung_up = stop::HungUp::note().map_err(|cause| no_signals(&cause))?;
    take_small_pages();
    if let Err(error) = crate::runtime::outlive_large_files() {
        tracing::warn!(%error, "a file that grows beyond its limit ends the daemon");
    }
    if log.is_for_machines() {
        tracing::info!(
            message_id = catalog::STARTING.id,
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %settings.data_dir.display(),
            "{}",
            catalog::STARTING.line
        );
    }
    if let Err(error) = crate::runtime::raise_limit_of_files() {
        tracing::debug!(%error, "can't raise the limit on open files");
    }
    let mut teller = signs::LoadTeller::default();
    let running = driver::open(opening(&settings), &mut |loading| teller.tell(loading))?;
    let live = live(&settings);
    running
        .handle()
        .set_gate(live.max_memory, live.max_submitting);
    let runtime = runtime().map_err(|cause| {
        Failure::new(exit::OSERR, format!("can't start threads: {cause}")).because(&cause)
    })?;
    let controls = Arc::new(Controls::new(flags.clone(), settings.clone(), log));
    let served = runtime.block_on(serve(&settings, &running, controls, &hung_up));
    // Transports are gone; what they were told is in the journal.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let fault = running.close(CLOSE_PATIENCE);
    served?;
    match fault {
        None => {
            tracing::info!(message_id = catalog::ENDED.id, "{}", catalog::ENDED.line);
            Ok(())
        }
        Some(text) => Err(Failure::new(
            exit::IOERR,
            format!("writes had stopped: {text}"),
        )),
    }
}

fn no_signals(cause: &io::Error) -> Failure {
    Failure::new(exit::OSERR, format!("can't listen to signals: {cause}"))
}

fn print_settings(settings: &Settings) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let rows = settings.settings();
    let width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let mut print = || {
        for row in &rows {
            writeln!(out, "{:width$} = {}  ({})", row.key, row.value, row.source)?;
        }
        out.flush()
    };
    print()
        .map_err(|cause: io::Error| Failure::new(exit::IOERR, format!("standard output: {cause}")))
}

fn opening(settings: &Settings) -> Opening {
    let live = live(settings);
    let bounds = &settings.bounds;
    Opening {
        root: settings.data_dir.clone(),
        settings: engine::Settings {
            durability: match settings.durability {
                Durability::Sync => engine::Durability::Sync,
                Durability::Interval(every) => engine::Durability::Interval(every),
                Durability::None => engine::Durability::None,
            },
            spool_delay: live.spool_delay,
            payload_cache: live.payload_cache,
            checkpoint_bytes: live.checkpoint_bytes,
            segment_bytes: settings.journal_segment,
            max_pending_files: crate::config::limits::MAX_PENDING_FILES,
            retain_done: live.retain_done,
            max_waiting: live.max_waiting,
            max_waiting_bytes: live.max_waiting_bytes,
            max_workers: live.max_workers,
            max_spool: (bounds.max_spool > 0).then_some(bounds.max_spool),
            limits: live.limits,
        },
        drops: live.drops,
        rescan_every: (settings.rescan_every > Millis(0))
            .then(|| settings.rescan_every.as_duration()),
    }
}

/// What the engine can change while it runs.
fn live(settings: &Settings) -> engine::Live {
    let bounds = &settings.bounds;
    let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let in_effect = InEffect::of(settings);
    engine::Live {
        spool_delay: settings.spool_delay,
        payload_cache: in_effect.payload_cache,
        checkpoint_bytes: settings.checkpoint_bytes,
        retain_done: settings.retention_done,
        max_waiting: count(bounds.max_waiting),
        max_waiting_bytes: in_effect.waiting,
        max_workers: count(bounds.max_workers),
        max_memory: in_effect.max_memory,
        max_submitting: in_effect.max_submitting,
        limits: queue::Limits {
            max_queues: count(settings.max_queues),
            max_tasks: count(bounds.max_tasks),
            max_queue_tasks: count(bounds.max_queue_tasks),
            max_unique_keys: count(bounds.max_unique_keys),
            max_attempts: settings.defaults.max_attempts,
            lease: settings.defaults.lease,
            backoff: settings.defaults.backoff,
        },
        // A file holds the payload and a few fields beside it.
        drops: DropLimits {
            payloads: payload_limits(settings),
            max_file: settings.max_payload.saturating_add(64 << 10),
        },
    }
}

/// Has the kernel give memory by small pages. The allocator asks for huge ones, which it clears as a whole when the first byte is
/// touched: on a virtual machine whose host has to find the memory that held up the engine for 5 ms, ten times a second.
fn take_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory comes by huge pages");
    }
}

/// The threads that serve: one for each core but one, which is the engine's and its hands'.
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    crate::runtime::of_many(cores.saturating_sub(1).max(1))
}

/// Serves until a signal or the admin API says stop.
async fn serve(
    settings: &Settings,
    running: &Running,
    controls: Arc<Controls>,
    hung_up: &stop::HungUp,
) -> Result<(), Failure> {
    let sockets = sockets::open(settings)?;
    let addresses = sockets.addresses();
    // Its file goes with this function, while the data directory's lock is held: who waits for that finds nothing of ours.
    let own_socket = sockets.own_admin;
    let has_own_socket = own_socket.is_some();
    let handle = running.handle();
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let doors = Arc::new(Doors::open(settings)?);
    let access = Arc::new(Access::open(settings)?);
    let around = Around {
        handle: Arc::clone(&handle),
        stop: stop.clone(),
        controls: Arc::clone(&controls),
        doors: Arc::clone(&doors),
        access: Arc::clone(&access),
    };
    let routers = Arc::new(Routers::new(settings, around));
    controls.serving(&addresses, {
        let (routers, handle) = (Arc::clone(&routers), Arc::clone(&handle));
        let (doors, access) = (Arc::clone(&doors), Arc::clone(&access));
        let (addresses, socket) = (addresses.clone(), settings.admin_socket.clone());
        let group = settings.admin_group.clone();
        Box::new(move |settings| {
            // First what may refuse, and reading changes nothing yet: then nothing has changed.
            let door = access.read_again(settings, &addresses)?;
            let certificate = Doors::read_certificate(settings)?;
            if !handle.set_live(live(settings)) {
                return Err("the engine has no time just now: try again".to_owned());
            }
            doors.set_bounds(settings);
            let mut changed = access.renew(door, settings);
            changed.tokens |= doors.renew_certificate(certificate);
            // Who tells of it may have been away at the start.
            if has_own_socket {
                sockets::give_to_group(&socket, &group);
            }
            if changed.users
                && has_own_socket
                && let Err(error) = sockets::let_in(&socket, settings)
            {
                tracing::warn!(%error, path = %socket.display(), "the mode of the admin socket can't be changed");
            }
            routers.renew(settings, changed);
            Ok(())
        })
    });
    for (listener, tls) in sockets.http {
        let serving = doors.pages(routers.pages.subscribe(), &stop);
        servers.spawn(http::serve_tcp(listener, serving, doors.tls_for(tls)));
    }
    for listener in sockets.admin {
        let admins = access.admins();
        let admit = move |peer| Arc::clone(&admins).standing(peer);
        let serving = doors.admin(routers.admin.subscribe(), &stop);
        servers.spawn(http::serve_unix(listener, serving, admit));
    }
    let signals =
        stop::Signals::listen(Arc::clone(&controls)).map_err(|cause| no_signals(&cause))?;
    access.tell(&addresses);
    if controls.logs_for_machines() {
        tracing::info!(
            message_id = catalog::READY.id,
            version = env!("CARGO_PKG_VERSION"),
            "{}: {}",
            catalog::READY.line,
            ready_text(&addresses)
        );
    } else {
        announcement::make(settings, &addresses).map_err(|cause| {
            Failure::new(exit::OSERR, format!("can't start threads: {cause}")).because(&cause)
        })?;
    }
    let work = settings
        .with_worker
        .then(|| with_worker(settings, &controls));
    notify::ready(&ready_text(&addresses));
    signals.catch_up(hung_up);
    let status = tokio::spawn(signs::keep_status(Arc::clone(&handle)));
    let watch = tokio::spawn(signs::keep_watch(Arc::clone(&handle)));

    controls.stopping().await;
    tracing::info!(
        message_id = catalog::STOPPING.id,
        "{}",
        catalog::STOPPING.line
    );
    notify::stopping();
    status.abort();
    // Claims that wait are answered, so that the worker here ends with what it has, and not with what may yet come.
    if let Some((worker_stop, worker)) = work {
        worker_stop.cancel();
        running.stop();
        finish("the worker", &controls, worker).await;
    }
    // In this order: the answers to claims that wait are to say that their connections end.
    stop.cancel();
    running.stop();
    let servers = tokio::spawn(async move { while servers.join_next().await.is_some() {} });
    finish("open requests", &controls, servers).await;
    watch.abort();
    drop(signals);
    drop(own_socket);
    Ok(())
}

/// What routers are made of, besides the settings.
struct Around {
    handle: Arc<Handle>,
    stop: CancellationToken,
    controls: Arc<Controls>,
    doors: Arc<Doors>,
    access: Arc<Access>,
}

/// The routers of the moment, which a reload replaces.
struct Routers {
    around: Around,
    pages: watch::Sender<Router>,
    admin: watch::Sender<Router>,
    streams: Mutex<Streams>,
}

/// What ends the streams of events, and the claims that wait, of those who were let in by what held before.
struct Streams {
    pages: CancellationToken,
    admin: CancellationToken,
}

impl Routers {
    fn new(settings: &Settings, around: Around) -> Self {
        let streams = Streams {
            pages: around.stop.child_token(),
            admin: around.stop.child_token(),
        };
        let (pages, admin) = around.routers(settings, &streams);
        Self {
            around,
            pages: watch::Sender::new(pages),
            admin: watch::Sender::new(admin),
            streams: Mutex::new(streams),
        }
    }

    /// Where others may come in, streams of events end, and who listens has to come in again.
    fn renew(&self, settings: &Settings, changed: Changed) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = &self.around.stop;
        let next = |of: &mut _| std::mem::replace(of, stop.child_token());
        let before = [
            changed.tokens.then(|| next(&mut streams.pages)),
            changed.users.then(|| next(&mut streams.admin)),
        ];
        let (pages, admin) = self.around.routers(settings, &streams);
        drop(self.pages.send_replace(pages));
        drop(self.admin.send_replace(admin));
        for before in before.into_iter().flatten() {
            before.cancel();
        }
    }
}

impl Around {
    /// What is served on TCP, and on the admin socket.
    fn routers(&self, settings: &Settings, streams: &Streams) -> (Router, Router) {
        let mut http = http_state(settings, &self.handle, &self.stop);
        http.tally = self.doors.tally();
        let (pages_flight, admin_flight) = self.doors.flights();
        http.about = Some(Arc::clone(&self.controls) as Arc<dyn http::About>);
        let mut own = http.clone();
        own.flight = admin_flight;
        own.stop = streams.admin.clone();
        self.access.guard_admin(&mut own);
        http.flight = pages_flight;
        http.stop = streams.pages.clone();
        self.access.guard(&mut http, settings);
        (
            http::router(http),
            admin::router(own, Arc::clone(&self.controls)),
        )
    }
}

fn payload_limits(settings: &Settings) -> PayloadLimits {
    let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
    PayloadLimits {
        max_payload: count(settings.max_payload),
        max_depth: count(settings.max_depth),
    }
}

fn http_state(settings: &Settings, handle: &Arc<Handle>, stop: &CancellationToken) -> Http<Handle> {
    let limits = HttpLimits {
        max_body: usize::try_from(settings.max_body).unwrap_or(usize::MAX),
        payloads: payload_limits(settings),
        max_wait: settings.max_wait,
        legacy_lease: settings.legacy_lease,
        body_timeout: settings.connections.body_timeout,
        max_listeners: settings.bounds.max_listeners,
        ..HttpLimits::default()
    };
    Http::new(
        Arc::clone(handle),
        limits,
        Arc::new(clock::now),
        stop.clone(),
    )
}

/// A `log` worker in this process. It speaks HTTP like any other, over the admin socket.
fn with_worker(
    settings: &Settings,
    controls: &Arc<Controls>,
) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let config = worker::Config {
        url: crate::client::Endpoint::Unix(settings.admin_socket.clone()),
        queues: vec![QueueName::default()],
        ..worker::Config::default()
    };
    let stop = CancellationToken::new();
    let hurry = controls.hurry();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            if let Err(error) = worker::run(config, stop, hurry).await {
                tracing::error!(%error, "the worker in this process has ended");
            }
        }
    });
    (stop, task)
}

/// Waits for something to finish, not forever, and not past a second signal.
async fn finish(what: &'static str, controls: &Controls, task: tokio::task::JoinHandle<()>) {
    let abort = task.abort_handle();
    tokio::select! {
        ended = task => {
            if ended.is_err() {
                tracing::error!(what, "did not end well");
            }
        }
        () = tokio::time::sleep(REQUEST_PATIENCE) => {
            tracing::warn!(what, seconds = REQUEST_PATIENCE.as_secs(), "took too long to finish: left behind");
            abort.abort();
        }
        () = controls.hurried() => {
            tracing::warn!(what, "left behind at a second signal");
            abort.abort();
        }
    }
}

/// Where the daemon is reached.
#[derive(Debug, Clone, Default)]
struct Addresses {
    http: Vec<Listen>,
    admin: Option<PathBuf>,
}

fn url(one: Listen) -> String {
    let scheme = if one.tls { "https" } else { "http" };
    format!("{scheme}://{}/", one.address)
}

fn ready_text(addresses: &Addresses) -> String {
    let http: Vec<String> = addresses.http.iter().map(|one| url(*one)).collect();
    if http.is_empty() {
        "serving the admin socket".to_owned()
    } else {
        format!("serving {}", http.join(", "))
    }
}
