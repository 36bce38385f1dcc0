//! Settings of the daemon: flags, environment and a TOML file to one checked value, and where each setting came from.
//!
//! Flags beat the environment, which beats the file, which beats the defaults. What is wrong is told in one line that names
//! the place and the key. This floor may not know sockets or tasks; it only says what others are to do with them.
//!
//! - [`limits`]: every default and every range, with its reason
//! - [`exit`]: exit codes of the programs
//! - [`text`]: reads the small files that are named to the programs
//! - [`Flags`], [`Surroundings`]: what the process was started with
//! - [`Settings`]: what comes out

mod access;
mod bounds;
mod connections;
mod error;
pub mod exit;
mod flags;
mod layer;
pub mod limits;
mod reader;
mod size;
mod surroundings;
#[cfg(test)]
mod tests;
pub mod text;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use access::Access;
pub use bounds::Bounds;
pub use connections::{Connections, Listen, TlsSettings};
pub use error::{ConfigError, Origin};
pub use flags::{Flags, command};
pub(crate) use size::show as shown_size;
pub use surroundings::Surroundings;

use self::{
    layer::Layer,
    reader::{Reader, invalid},
};
use crate::{
    api,
    systemd::logging,
    task::{Backoff, Millis},
};

/// When a reply is sent, seen from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the sync that covers it: a crash of the machine takes nothing back.
    Sync,
    /// Before it; a crash of the machine may take back what happened in this interval. A crash of the daemon takes nothing.
    Interval(Millis),
    /// Nothing is synced but checkpoints; a crash of the machine may take back what the kernel had not written yet.
    None,
}

/// What tasks that ask for nothing get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskDefaults {
    /// Attempts until a task is dead.
    pub max_attempts: u32,
    /// The lease of a claim.
    pub lease: Millis,
    /// The wait between attempts.
    pub backoff: Backoff,
}

/// All settings of the daemon, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where tasks are kept. Absolute.
    pub data_dir: PathBuf,
    /// Where HTTP is served; empty: not on TCP. Port 0 stands for one that is free.
    pub listen: Vec<Listen>,
    /// Certificate and key, where TLS is spoken.
    pub tls: Option<TlsSettings>,
    /// The Unix socket of the admin API. Absolute.
    pub admin_socket: PathBuf,
    /// The group that may use it. It need not exist.
    pub admin_group: String,
    /// Whether addresses that other machines reach are allowed.
    pub insecure: bool,
    /// Who may do what.
    pub access: Access,
    /// A `log` worker in this process.
    pub with_worker: bool,
    /// What is logged: a level, or directives.
    pub log_level: String,
    /// How lines of the log look, and where they go.
    pub log_format: logging::Format,
    /// When replies are sent.
    pub durability: Durability,
    /// How long finished work may stay only in the journal before its file changes follow; 0 to 60 s.
    pub spool_delay: Millis,
    /// The lease that `GET /api/next` takes.
    pub legacy_lease: Millis,
    /// How often the task directory is looked through; zero: never.
    pub rescan_every: Millis,
    /// The largest payload in bytes.
    pub max_payload: u64,
    /// How many arrays and objects may be in each other in a payload or a result.
    pub max_depth: u64,
    /// The largest request body in bytes.
    pub max_body: u64,
    /// The longest that a claim may wait.
    pub max_wait: Millis,
    /// What connections are held to.
    pub connections: Connections,
    /// The length of a journal segment in bytes.
    pub journal_segment: u64,
    /// Bytes of journal after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Bytes of payloads kept in memory; none: as many as there is memory for.
    pub payload_cache: Option<u64>,
    /// How many queues there may be.
    pub max_queues: u64,
    /// How much is held in all.
    pub bounds: Bounds,
    /// What tasks that ask for nothing get.
    pub defaults: TaskDefaults,
    /// How long finished tasks are kept in `done/`; zero: not at all.
    pub retention_done: Millis,
    shown: Vec<api::Setting>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Reads the file, the environment and the flags, and checks them.
    pub fn load(flags: &Flags, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let file = settings_file(flags, surroundings)?;
        let mut layer = match &file {
            Some((path, text)) => Layer::from_toml(text, path)?,
            None => Layer::default(),
        };
        layer.cover(Layer::from_environment(surroundings)?);
        layer.cover(flags.layer());
        let mut settings = Self::read(Reader::new(layer), surroundings)?;
        settings.file = file.map(|(path, _)| path);
        Ok(settings)
    }

    /// Whether addresses that other machines reach may be listened on: tokens are asked for, or the user wants it so.
    #[must_use]
    pub const fn may_be_reached(&self) -> bool {
        self.insecure || self.access.tokens.is_some()
    }

    /// Each setting with its value and its source, by key.
    #[must_use]
    pub fn settings(&self) -> Vec<api::Setting> {
        self.shown.clone()
    }

    /// What `--check-config` prints: each setting, its value and its source, a line each.
    #[must_use]
    pub fn report(&self) -> String {
        let line = |one: &api::Setting| {
            let assigned = format!("{} = {}", one.key, one.value);
            format!("{assigned:<56}  # {}\n", one.source)
        };
        self.shown.iter().map(line).collect()
    }

    /// The file that was read, if there was one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn read(mut from: Reader, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let (data_dir, admin_socket) = places(&mut from, surroundings)?;
        let insecure = from.flag("insecure")?;
        let sync_interval = from.length(
            "sync_interval",
            limits::SYNC_INTERVAL,
            limits::SYNC_INTERVALS,
        )?;
        let access = Access::read(&mut from, surroundings)?;
        let (listen, wanted) = listen(&mut from, insecure || access.tokens.is_some())?;
        let (max_payload, max_body) = bodies(&mut from)?;
        let (journal_segment, checkpoint_bytes) = journal(&mut from)?;
        let mut settings = Self {
            data_dir,
            tls: connections::tls(&mut from, surroundings, (&listen, wanted))?,
            listen,
            admin_socket,
            admin_group: from.word("admin_group", limits::ADMIN_GROUP, group)?,
            insecure,
            access,
            with_worker: from.flag("with_worker")?,
            log_level: from.word("log_level", limits::LOG_LEVEL, level)?,
            log_format: from.word("log_format", limits::LOG_FORMAT, logging::Format::parse)?,
            durability: from.word("durability", "sync", |text| {
                durability(text, sync_interval.0)
            })?,
            spool_delay: from
                .length("spool_delay", limits::SPOOL_DELAY, limits::SPOOL_DELAYS)?
                .0,
            legacy_lease: from
                .length("legacy_lease", limits::LEGACY_LEASE, limits::LEASES)?
                .0,
            rescan_every: from.length_or_never(
                "rescan_every",
                limits::RESCAN_EVERY,
                limits::RESCANS,
            )?,
            max_payload,
            max_depth: from.number("max_depth", limits::MAX_DEPTH, limits::MAX_DEPTHS)?,
            max_body,
            max_wait: from
                .length("max_wait", limits::MAX_WAIT, limits::MAX_WAITS)?
                .0,
            connections: Connections::read(&mut from)?,
            journal_segment,
            checkpoint_bytes,
            payload_cache: payload_cache(&mut from)?,
            max_queues: from.number("max_queues", limits::MAX_QUEUES, limits::MAX_QUEUES_RANGE)?,
            bounds: Bounds::read(&mut from, max_payload)?,
            defaults: defaults(&mut from)?,
            retention_done: from
                .length("retention.done", limits::RETENTION_DONE, limits::RETENTIONS)?
                .0,
            shown: Vec::new(),
            file: None,
        };
        settings.shown = from.finish();
        Ok(settings)
    }
}

/// The file to read and its text; none where none was named and the usual one is not there.
fn settings_file(
    flags: &Flags,
    surroundings: &Surroundings,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = flags
        .config
        .clone()
        .or_else(|| surroundings.var("WORKQUEUE_SETTINGS").map(PathBuf::from));
    let path = match (&named, surroundings.config_file()) {
        (Some(path), _) => path.clone(),
        (None, Ok(path)) => path,
        // No home, no file; whether that matters is seen when the data directory is asked for.
        (None, Err(_)) => return Ok(None),
    };
    match text::read(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(cause) if named.is_none() && cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ConfigError::Unreadable { path, cause }),
    }
}

/// The data directory and the admin socket. Where both are said, the user's directories are not asked for: a system without
/// a HOME needs none.
fn places(
    from: &mut Reader,
    surroundings: &Surroundings,
) -> Result<(PathBuf, PathBuf), ConfigError> {
    let (data_dir, data_origin) = from.path_or("data_dir", || surroundings.data_dir())?;
    let (admin_socket, origin) =
        from.path_or("admin_socket", || Ok(surroundings.admin_socket(&data_dir)))?;
    if admin_socket.as_os_str().len() > limits::MAX_SOCKET_PATH {
        // Who set only the directory did not ask for that socket.
        let of_data = matches!(origin, Origin::Default) && admin_socket.starts_with(&data_dir);
        let (key, origin) = if of_data {
            ("data_dir", data_origin)
        } else {
            ("admin_socket", origin)
        };
        let reason = format!(
            "the path of a Unix socket has at most {} bytes, and {} has {}; give a shorter --admin-socket",
            limits::MAX_SOCKET_PATH,
            admin_socket.display(),
            admin_socket.as_os_str().len()
        );
        return Err(invalid(key, origin, reason));
    }
    Ok((data_dir, admin_socket))
}

fn defaults(from: &mut Reader) -> Result<TaskDefaults, ConfigError> {
    let attempts = from.number(
        "defaults.max_attempts",
        limits::MAX_ATTEMPTS,
        limits::ATTEMPTS,
    )?;
    Ok(TaskDefaults {
        max_attempts: attempts as u32,
        lease: from
            .length("defaults.lease", limits::LEASE, limits::LEASES)?
            .0,
        backoff: backoff(from)?,
    })
}

fn listen(from: &mut Reader, is_allowed: bool) -> Result<(Vec<Listen>, Origin), ConfigError> {
    let (listen, origin) = from.list("listen", vec![limits::LISTEN.to_string()], Listen::parse)?;
    if listen.len() > limits::MAX_LISTEN {
        let reason = format!("more than {} addresses", limits::MAX_LISTEN);
        return Err(invalid("listen", origin, reason));
    }
    match listen.iter().find(|one| one.is_reachable()) {
        Some(one) if !is_allowed => Err(invalid(
            "listen",
            origin,
            format!(
                "{one} can be reached from other machines, and there are no tokens; listen on 127.0.0.1, \
                 set tokens, or set insecure = true if everybody may do everything"
            ),
        )),
        _ => Ok((listen, origin)),
    }
}

fn group(text: &str) -> Result<String, String> {
    if is_account(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of a group"))
    }
}

/// Whether `text` may be the name of a user or a group of the system (useradd(8)).
fn is_account(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.$".contains(c);
    !text.is_empty() && text.len() <= 32 && text.chars().all(letters)
}

fn level(text: &str) -> Result<String, String> {
    logging::check(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn durability(text: &str, interval: Millis) -> Result<Durability, String> {
    match text {
        "sync" => Ok(Durability::Sync),
        "interval" => Ok(Durability::Interval(interval)),
        "none" => Ok(Durability::None),
        _ => Err(format!(
            "{text:?} is not one of \"sync\", \"interval\", \"none\""
        )),
    }
}

fn backoff(from: &mut Reader) -> Result<Backoff, ConfigError> {
    let (base, origin) = from.length(
        "defaults.backoff.base",
        limits::BACKOFF.base,
        limits::BACKOFFS,
    )?;
    let (max, limited) = from.length(
        "defaults.backoff.max",
        limits::BACKOFF.max,
        limits::BACKOFFS,
    )?;
    if base > max {
        let reason = format!("{base} is more than defaults.backoff.max, which is {max}");
        return Err(invalid("defaults.backoff.base", origin.or(limited), reason));
    }
    Ok(Backoff { base, max })
}

/// None for the default, also where it is written down, as in the file that packages bring: then it depends on the memory that
/// there is.
fn payload_cache(from: &mut Reader) -> Result<Option<u64>, ConfigError> {
    let (default, range) = (limits::PAYLOAD_CACHE, limits::PAYLOAD_CACHES);
    let (bytes, _) = from.size("payload_cache", default, range)?;
    Ok((bytes != default).then_some(bytes))
}

/// A payload has to fit into a body; with `max_body` alone set, the payload's default goes along.
fn bodies(from: &mut Reader) -> Result<(u64, u64), ConfigError> {
    let (max_body, _) = from.size("max_body", limits::MAX_BODY, limits::MAX_BODIES)?;
    let default = limits::MAX_PAYLOAD.min(max_body);
    let (max_payload, origin) = from.size("max_payload", default, limits::MAX_PAYLOADS)?;
    if max_payload > max_body {
        let reason = format!(
            "{} is more than max_body, which is {}",
            size::show(max_payload),
            size::show(max_body)
        );
        return Err(invalid("max_payload", origin, reason));
    }
    Ok((max_payload, max_body))
}

fn journal(from: &mut Reader) -> Result<(u64, u64), ConfigError> {
    let (segment, _) = from.size(
        "journal_segment",
        limits::JOURNAL_SEGMENT,
        limits::JOURNAL_SEGMENTS,
    )?;
    let default = limits::CHECKPOINT_BYTES.max(segment);
    let (checkpoint, origin) = from.size("checkpoint_bytes", default, limits::CHECKPOINTS)?;
    if checkpoint < segment {
        let reason = format!(
            "{} is less than journal_segment, which is {}",
            size::show(checkpoint),
            size::show(segment)
        );
        return Err(invalid("checkpoint_bytes", origin, reason));
    }
    Ok((segment, checkpoint))
}
