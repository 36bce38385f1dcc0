//! `log`: the payload becomes a line of a file, as in the original.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Untried, try_for};
use crate::{
    api,
    worker::{LogConfig, WorkerError},
};

/// How long a line is tried to be written.
const PATIENCE: Duration = Duration::from_mins(1);

/// Appends `<UTC time>: <payload>` lines.
#[derive(Debug)]
pub(in crate::worker) struct Log {
    sink: Arc<Sink>,
    /// One write at a time: of those that block none piles up behind another.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum Sink {
    /// Without the buffer of [`io::stdout`], so that what a failed write left is known.
    Stdout(File),
    /// Opened for each line, so that it may be rotated under us.
    File(PathBuf),
}

impl Log {
    /// Opens the file once, so that one that can't be written is told at the start.
    pub(super) fn new(config: &LogConfig) -> Result<Self, WorkerError> {
        let sink = match &config.logfile {
            None => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                Sink::Stdout(File::from(stdout.map_err(|error| {
                    WorkerError::Handler(format!("cannot write stdout: {error}"))
                })?))
            }
            Some(path) => {
                open(path).map_err(|error| {
                    WorkerError::Handler(format!("cannot write {}: {error}", path.display()))
                })?;
                Sink::File(path.clone())
            }
        };
        Ok(Self {
            sink: Arc::new(sink),
            turn: Arc::default(),
        })
    }

    /// That nothing can be written, as on a full disk, may pass.
    pub(super) async fn run(&self, task: &api::ClaimedTask, stop: &CancellationToken) -> Outcome {
        let mut is_told = false;
        let may_pass = |error: &io::Error| {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, "the log file can't be written; it is tried again");
            }
            true
        };
        let written = try_for(PATIENCE, stop, may_pass, || {
            let line = line(&now(), &task.task.payload.to_display());
            let (sink, turn) = (Arc::clone(&self.sink), Arc::clone(&self.turn));
            async move {
                let turn = turn.lock_owned().await;
                let write = tokio::task::spawn_blocking(move || {
                    let written = sink.write(&line);
                    drop(turn);
                    written
                });
                write.await.map_err(io::Error::other).flatten()
            }
        });
        // A write that blocks (a pipe that nobody reads) ends with the process at the latest; its line may be there twice then.
        let written = tokio::select! {
            biased;
            written = written => written,
            () = stop.cancelled() => Err(Untried::Stopped),
        };
        match written {
            Ok(()) => Outcome::Completed(None),
            Err(Untried::Stopped) => Outcome::Stopped,
            Err(Untried::Failed(error)) => {
                Outcome::failed(format!("cannot write the log file: {error}"))
            }
        }
    }
}

impl Sink {
    fn write(&self, line: &str) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => append(stdout, line.as_bytes()),
            Self::File(path) => append(&open(path)?, line.as_bytes()),
        }
    }
}

/// Writes a line as a whole, or takes back what was written of it: it is tried again, and a piece of it before it would make a line
/// that nobody sent.
fn append(mut file: &File, line: &[u8]) -> io::Result<()> {
    let mut left = line;
    while !left.is_empty() {
        let failure = match file.write(left) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                left = &left[count..];
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let written = (line.len() - left.len()) as u64;
        if written > 0
            && let Err(error) = take_back(file, written)
        {
            tracing::warn!(%error, "a part of a line stays in the log file");
        }
        return Err(failure);
    }
    Ok(())
}

/// Takes the last bytes that were written back from a regular file, unless somebody else has written behind them.
fn take_back(mut file: &File, written: u64) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    // Also of a file that is appended to this is where our own bytes end.
    let end = file.stream_position()?;
    if file.metadata()?.len() != end {
        return Ok(());
    }
    file.set_len(end - written)?;
    file.seek(SeekFrom::Start(end - written)).map(drop)
}

/// A FIFO that nobody reads would be waited for, and no signal would end that.
fn open(path: &PathBuf) -> io::Result<File> {
    let waits = OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(waits.bits().cast_signed())
        .open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - waits)?;
    Ok(file)
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// One line, whatever is in `text`: control characters and the separators of lines are escaped.
fn line(time: &str, text: &str) -> String {
    let mut line = String::with_capacity(time.len() + text.len() + 3);
    line.push_str(time);
    line.push_str(": ");
    for letter in text.chars() {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            // Writing to a string has no error.
            write!(line, "{}", letter.escape_default()).unwrap_or_default();
        } else {
            line.push(letter);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_line_whatever_it_holds() {
        assert_eq!(
            line("2026-11-24T20:10:48Z", "a\nb\tc\u{1b}[0m \u{2028}é"),
            "2026-11-24T20:10:48Z: a\\nb\\tc\\u{1b}[0m \\u{2028}é\n"
        );
    }

    #[test]
    fn the_time_is_utc_to_the_second() {
        let time = now();
        assert_eq!(time.len(), 20, "{time}");
        let civil = crate::task::ExecTime::from_civil(time.strip_suffix('Z').unwrap()).unwrap();
        assert!((jiff::Timestamp::now().as_second() - civil.get()).abs() < 60);
    }
}
