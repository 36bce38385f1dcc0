//! The thread that writes lines: to stderr, or to the journal's socket.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    sync::atomic::Ordering,
};

use crossbeam_channel::{Receiver, Sender};
use rustix::time::{ClockId, clock_gettime};

use super::{DROPPED, Format, Missing, line, missing};
use crate::systemd::catalog;

const JOURNAL: &str = "/run/systemd/journal/socket";
/// How often, at most, it is told that something is missing. Seconds.
const TELL_EVERY: i64 = 10;

/// What the writer is sent.
pub(super) enum Post {
    /// To be written.
    Line(Vec<u8>),
    /// To be told when all before it is written.
    Flush(Sender<()>),
}

enum Sink {
    Journal(UnixDatagram),
    Stderr,
}

impl Sink {
    fn write(&self, line: &[u8]) -> io::Result<()> {
        match self {
            // Each to the path, not on a connection: a journal that was restarted has another socket there.
            Self::Journal(socket) => socket.send_to(line, JOURNAL).map(drop),
            Self::Stderr => io::stderr().lock().write_all(line),
        }
    }
}

/// Starts the thread.
pub(super) fn start(format: Format, colour: bool, lines: Receiver<Post>) -> io::Result<()> {
    let sink = match format {
        Format::Journal => Sink::Journal(UnixDatagram::unbound()?),
        _ => Sink::Stderr,
    };
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&sink, format, colour, &lines))
        .map(drop)
}

fn write(sink: &Sink, format: Format, colour: bool, lines: &Receiver<Post>) {
    let mut told = Missing::default();
    let mut next_telling = 0;
    // Ends with the process: the other end is never dropped. Without lines it sleeps.
    while let Ok(post) = lines.recv() {
        let written = match post {
            Post::Line(line) => sink.write(&line),
            Post::Flush(done) => {
                next_telling = 0;
                // Whoever waited may have given up.
                done.try_send(()).unwrap_or_default();
                Ok(())
            }
        };
        if written.is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        let now = clock_gettime(ClockId::MonotonicCoarse).tv_sec;
        if missing() != told && now >= next_telling {
            told = tell(sink, format, colour, told);
            next_telling = now + TELL_EVERY;
        }
    }
}

/// Tells what is missing more than was told. Gives what is told now.
fn tell(sink: &Sink, format: Format, colour: bool, told: Missing) -> Missing {
    let now = missing();
    let kinds = [
        (catalog::LINES_DROPPED, now.dropped - told.dropped),
        (
            catalog::LINES_PASSED_OVER,
            now.passed_over - told.passed_over,
        ),
    ];
    for (entry, count) in kinds {
        let is_written = count == 0
            || sink
                .write(&line::missing(entry, count, format, colour))
                .is_ok();
        if !is_written {
            // Told with the next ones.
            return told;
        }
    }
    now
}
