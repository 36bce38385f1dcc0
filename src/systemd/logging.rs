//! Where log lines go: with structured fields to the journal under systemd, as lines for people to stderr elsewhere.

use std::{
    env, fmt,
    io::{self, IsTerminal as _},
};

use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

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
    /// The journal's socket can't be used.
    #[error("the journal: {0}")]
    Journal(io::Error),
    /// The subscriber is gone.
    #[error("logging has ended")]
    Gone,
}

/// Changes what is logged while the program runs.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Logs `level` and above from now on.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        self.0.reload(filter).map_err(|_| LogError::Gone)
    }
}

/// Whether `level` is a level or directives.
pub fn check(level: &str) -> Result<(), LogError> {
    parse(level).map(drop)
}

/// Sets up logging for the whole process, once.
///
/// To the journal when `JOURNAL_STREAM` says that stderr is the journal (systemd.exec(5)), so that a unit whose stderr was
/// redirected is still heard where its owner looks; else to stderr, in colour only on a terminal without `NO_COLOR`.
pub fn init(level: &str) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let done = if is_journal(
        env::var("JOURNAL_STREAM").ok().as_deref(),
        stderr_identity(),
    ) {
        // No prefix: the fields are TASK_ID, QUEUE, WORKER, as `journalctl TASK_ID=...` finds them.
        let journal = tracing_journald::layer()
            .map_err(LogError::Journal)?
            .with_field_prefix(None);
        registry.with(journal).try_init()
    } else {
        let colour = io::stderr().is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(colour);
        registry.with(lines).try_init()
    };
    done.map_err(|_| LogError::Twice)?;
    Ok(LogHandle(handle))
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
        let handle = init("warn").unwrap();
        assert!(handle.set("debug").is_ok());
        assert!(matches!(handle.set("loud"), Err(LogError::Level { .. })));
        assert!(matches!(init("info"), Err(LogError::Twice)));
    }
}
