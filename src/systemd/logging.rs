//! Where log lines go: with structured fields to the journal under systemd, as lines for people or as JSON to stderr elsewhere.
//!
//! Nobody who logs waits for whoever reads: an event becomes a line where it happens, and a thread of its own writes lines.
//! When that one is behind by `QUEUE` lines, further ones are dropped and counted. Events of each task's ordinary life
//! (target [`LIFE`]) are logged up to `LIFE_A_SECOND`, refusals of a credential ([`REFUSED`]) up to `REFUSED_A_SECOND`, and what
//! libraries say, whom a client may have warn of each of its requests, up to `OTHERS_A_SECOND`; the rest of a second is counted and
//! passed over, so neither a busy queue nor somebody who guesses floods the journal or pushes what matters out of it.

mod line;
mod writer;

use std::{
    env, fmt, io,
    io::IsTerminal as _,
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    layer::{Context, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use self::writer::Post;

/// The target of events of a task's ordinary life: submitted, claimed, completed. `workqueue::life=off` silences them.
pub const LIFE: &str = "workqueue::life";
/// The target of refusals of a credential.
pub const REFUSED: &str = "workqueue::refused";
/// How many lines may wait to be written: some megabytes.
const QUEUE: usize = 8192;
/// How many events of tasks' ordinary lives are logged in a second: below the 10 000 in 30 s that journald takes of one
/// service by default, so that it never drops what matters for what does not.
const LIFE_A_SECOND: u64 = 200;
/// How many refusals.
const REFUSED_A_SECOND: u64 = 100;
/// How many events of libraries: all three together stay below that.
const OTHERS_A_SECOND: u64 = 30;
/// How the targets of our own events begin.
const OWN: &str = "workqueue";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// [`Format::Journal`] where stderr is the journal, else [`Format::Text`].
    #[default]
    Auto,
    /// Structured fields, to the journal's socket.
    Journal,
    /// For people, to stderr; in colour on a terminal without `NO_COLOR`.
    Text,
    /// One JSON object a line, to stderr.
    Json,
}

impl Format {
    /// What a setting names.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "journal" => Ok(Self::Journal),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "{text:?} is not one of \"auto\", \"journal\", \"text\", \"json\""
            )),
        }
    }

    /// `JOURNAL_STREAM` says which descriptor is the journal (systemd.exec(5)); a unit whose stderr was redirected is heard
    /// where its owner looks.
    fn decided(self) -> Self {
        match self {
            Self::Auto
                if is_journal(
                    env::var("JOURNAL_STREAM").ok().as_deref(),
                    stderr_identity(),
                ) =>
            {
                Self::Journal
            }
            Self::Auto => Self::Text,
            decided => decided,
        }
    }
}

/// Why logging can't be set up, or its level can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none, and no directives.
    #[error(
        "{level:?} is no log level: error, warn, info, debug, trace, off, or directives like info,workqueue::engine=debug"
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
    /// The journal's socket can't be used, or no thread started.
    #[error("the log: {0}")]
    Output(io::Error),
    /// The subscriber is gone.
    #[error("logging has ended")]
    Gone,
}

impl LogError {
    /// Whether the system refused something that another start may get, and no setting is wrong.
    #[must_use]
    pub const fn is_of_the_system(&self) -> bool {
        matches!(self, Self::Output(_))
    }
}

/// Changes what is logged while the program runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    format: Format,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Whether lines are for machines, and not for somebody who sees standard output as well.
    #[must_use]
    pub fn is_for_machines(&self) -> bool {
        self.format != Format::Text
    }

    /// Logs `level` and above from now on.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level, self.format)?;
        self.filter.reload(filter).map_err(|_| LogError::Gone)
    }
}

/// Whether `level` is a level or directives.
pub fn check(level: &str) -> Result<(), LogError> {
    parse(level).map(drop)
}

/// What did not reach the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// Lines dropped because the log was not written as fast as they came.
    pub dropped: u64,
    /// Events of tasks' ordinary lives, refusals, and events of libraries, passed over because there were too many in a second.
    pub passed_over: u64,
}

static DROPPED: AtomicU64 = AtomicU64::new(0);
static PASSED_OVER: AtomicU64 = AtomicU64::new(0);
static LINES: OnceLock<Sender<Post>> = OnceLock::new();

/// What did not reach the log since the program started.
#[must_use]
pub fn missing() -> Missing {
    Missing {
        dropped: DROPPED.load(Ordering::Relaxed),
        passed_over: PASSED_OVER.load(Ordering::Relaxed),
    }
}

/// Sets up logging for the whole process, once. [`finish`] is to be called before the process ends.
pub fn init(level: &str, format: Format) -> Result<LogHandle, LogError> {
    let format = format.decided();
    let (filter, handle) = reload::Layer::new(filter(level, format)?);
    let colour =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (lines, written) = bounded(QUEUE);
    let layer = Lines::new(format, colour, lines.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|_| LogError::Twice)?;
    writer::start(format, colour, written).map_err(LogError::Output)?;
    LINES.set(lines).map_err(|_| LogError::Twice)?;
    Ok(LogHandle {
        filter: handle,
        format,
    })
}

/// Waits until all lines are written, for at most `patience`.
pub fn finish(patience: Duration) {
    let Some(lines) = LINES.get() else { return };
    let (tell, told) = bounded(1);
    // A writer that does not write in this time has nobody who reads it.
    if lines.send_timeout(Post::Flush(tell), patience).is_ok() {
        told.recv_timeout(patience).unwrap_or_default();
    }
}

/// The layer that makes lines.
struct Lines {
    format: Format,
    colour: bool,
    waiting: Sender<Post>,
    life: Second,
    refused: Second,
    others: Second,
}

impl Lines {
    fn new(format: Format, colour: bool, waiting: Sender<Post>) -> Self {
        Self {
            format,
            colour,
            waiting,
            life: Second::default(),
            refused: Second::default(),
            others: Second::default(),
        }
    }

    /// Whether one more event of this target is logged in this second.
    fn has_room(&self, target: &str) -> bool {
        match target {
            LIFE => self.life.has_room(LIFE_A_SECOND),
            REFUSED => self.refused.has_room(REFUSED_A_SECOND),
            _ if target.starts_with(OWN) => true,
            _ => self.others.has_room(OTHERS_A_SECOND),
        }
    }
}

/// How many events of a kind came in the second of now.
#[derive(Debug, Default)]
struct Second {
    number: AtomicI64,
    count: AtomicU64,
}

impl Second {
    /// Whether one more is within `most`. Two threads at the turn of a second may let a few more through.
    fn has_room(&self, most: u64) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse).tv_sec;
        if self.number.swap(now, Ordering::Relaxed) != now {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < most
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !self.has_room(event.metadata().target()) {
            PASSED_OVER.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = line::make(event, self.format, self.colour);
        if self.waiting.try_send(Post::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The filter for `level`. Tasks' ordinary lives are for those who search; on a terminal they would bury everything else, so
/// they come there from `debug` on, or when they are asked for.
fn filter(level: &str, format: Format) -> Result<EnvFilter, LogError> {
    let filter = parse(level)?;
    let is_quiet = ["error", "warn", "info", "off"]
        .iter()
        .any(|word| level.eq_ignore_ascii_case(word));
    if format == Format::Text && is_quiet {
        return parse(&format!("{level},{LIFE}=off"));
    }
    Ok(filter)
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Level {
        level: level.to_owned(),
    };
    let known = ["error", "warn", "info", "debug", "trace", "off"];
    // `EnvFilter` takes any lone word for the name of a module, so a misspelt level would silence all.
    for directive in level.split(',').map(str::trim) {
        let lone = !directive.contains(['=', '[', ':']);
        if lone && !known.contains(&directive.to_ascii_lowercase().as_str()) {
            return Err(wrong());
        }
    }
    EnvFilter::try_new(level).map_err(|_| wrong())
}

/// Device and inode of stderr.
fn stderr_identity() -> Option<(u64, u64)> {
    rustix::fs::fstat(io::stderr())
        .ok()
        .map(|stat| (stat.st_dev, stat.st_ino))
}

fn is_journal(variable: Option<&str>, stderr: Option<(u64, u64)>) -> bool {
    let named = variable.and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    });
    named.is_some() && named == stderr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_known_and_misspelt_ones_are_not() {
        for level in [
            "info",
            "WARN",
            "off",
            "info,workqueue::engine=debug",
            "workqueue=trace",
        ] {
            assert!(check(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,verbos", "workqueue=loud"] {
            assert!(check(level).is_err(), "{level}");
        }
    }

    #[test]
    fn the_journal_is_used_only_when_stderr_is_it() {
        assert!(is_journal(Some("8:42"), Some((8, 42))));
        assert!(!is_journal(Some("8:42"), Some((8, 43))));
        assert!(!is_journal(None, Some((8, 42))));
        assert!(!is_journal(Some("nonsense"), None));
    }

    #[test]
    fn a_level_changes_while_the_program_runs_and_logging_is_set_up_once() {
        let handle = init("warn", Format::Text).unwrap();
        assert!(handle.set("debug").is_ok());
        assert!(handle.set("off").is_ok());
        assert!(matches!(handle.set("loud"), Err(LogError::Level { .. })));
        assert!(matches!(init("info", Format::Text), Err(LogError::Twice)));
        finish(Duration::from_secs(10));
    }

    #[test]
    fn ordinary_lives_have_a_bounded_share_and_nobody_who_logs_waits() {
        // A writer that never writes: as when the disk of the journal, or a pipe's reader, stands still.
        let (lines, unread) = bounded(4);
        let layer = Lines::new(Format::Json, false, lines);
        let before = missing();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..10 {
                tracing::warn!(number, "not ordinary");
            }
            for _ in 0..10 * LIFE_A_SECOND {
                tracing::info!(target: LIFE, "ordinary");
            }
        });
        let after = missing();
        assert_eq!(unread.len(), 4);
        assert!(after.dropped - before.dropped >= 6, "{after:?}");
        assert!(
            after.passed_over - before.passed_over >= LIFE_A_SECOND,
            "{after:?}"
        );
    }

    #[test]
    fn what_a_client_has_a_library_say_is_bounded_and_what_we_say_is_not() {
        let (lines, unread) = bounded(QUEUE);
        let layer = Lines::new(Format::Json, false, lines);
        let before = missing();
        let sent = 20 * OTHERS_A_SECOND;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..sent {
                tracing::warn!(target: "h2::proto::streams::recv", number, "recv_reset");
                tracing::warn!(target: "workqueue::http::serve", number, "ours");
            }
        });
        let passed_over = missing().passed_over - before.passed_over;
        assert!(passed_over >= sent / 2, "{passed_over}");
        let kept = unread.len() as u64;
        assert!((sent + 1..=sent + sent / 2).contains(&kept), "{kept}");
    }
}
