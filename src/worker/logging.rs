//! Where the worker's log goes: the journal when stderr is the journal, else stderr.

use std::{env, fs::File, io::IsTerminal as _, os::fd::AsFd as _, os::linux::fs::MetadataExt as _};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Sets up the log for the whole process. `level`: a level or directives.
pub(super) fn init(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log_level: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let done = if stderr_is_journal() {
        let journal = tracing_journald::layer().map_err(|error| format!("journal: {error}"))?;
        registry.with(journal.with_field_prefix(None)).try_init()
    } else {
        let stderr = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        registry.with(stderr).try_init()
    };
    done.map_err(|error| format!("log: {error}"))
}

/// `JOURNAL_STREAM` names the device and inode of the stream that the journal reads (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stderr| File::from(stderr).metadata())
        .is_ok_and(|data| format!("{}:{}", data.st_dev(), data.st_ino()) == stream)
}
