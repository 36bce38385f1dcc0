//! `events`: what happens, a line each, until interrupted. And the interruption itself, which `top` shares.

use std::{future, io, time::Duration};

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{io::Interest, net::unix::pipe};

use super::{
    cli,
    console::{Colour, Console},
    error::CtlError,
    session::Session,
    shape::Shape,
    table::escaped,
    when,
};
use crate::{
    api,
    client::{ClientError, EventQuery, Events, Told},
};

/// The first and the longest wait before a daemon that went away is called again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The first Ctrl-C, SIGTERM or loss of the terminal, as a value to wait for.
pub(super) struct Interrupt(Signals);

impl Interrupt {
    pub(super) fn new() -> io::Result<Self> {
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map(Self)
    }

    pub(super) async fn wait(&mut self) {
        self.0.next().await;
    }
}

/// Whoever reads what is written, through a pipe: that it is gone shows to a writer only when it writes, and the next event may
/// be hours away.
struct Reader(Option<pipe::Sender>);

impl Reader {
    /// A file, which nobody need read, can't be waited for: there is none.
    fn of(console: &mut Console) -> Self {
        let outlet = console.outlet.take();
        // Unchecked: it is not written to, so it may block like any standard output.
        Self(outlet.and_then(|outlet| pipe::Sender::from_owned_fd_unchecked(outlet).ok()))
    }

    /// That it is gone, as the error that a writer would meet.
    async fn gone(&self) -> CtlError {
        if let Some(outlet) = &self.0
            && outlet.ready(Interest::ERROR).await.is_ok()
        {
            return CtlError::Io(io::ErrorKind::BrokenPipe.into());
        }
        future::pending().await
    }
}

pub(super) async fn run(wanted: cli::Events, session: &mut Session<'_>) -> Result<(), CtlError> {
    let mut interrupt = Interrupt::new()?;
    let reader = Reader::of(session.console);
    let mut query = EventQuery {
        queues: wanted.queue.into_iter().collect(),
        kinds: wanted.kind,
        states: wanted
            .state
            .map(|name| name.state().as_str().to_owned())
            .into_iter()
            .collect(),
        after: None,
    };
    let mut stream = session.client.events(&query).await?;
    loop {
        let told = tokio::select! {
            () = interrupt.wait() => return Ok(()),
            gone = reader.gone() => return Err(gone),
            told = stream.next() => told,
        };
        match told {
            Ok(Some(told)) => show(&told, session)?,
            // The daemon stops, or we were too slow for it; what came was whole.
            Ok(None) | Err(ClientError::Unreachable { .. }) if wanted.follow => {
                query.after = stream.place().map(str::to_owned);
                session
                    .console
                    .note("the stream has ended; listening again as soon as the daemon answers")?;
                tokio::select! {
                    () = interrupt.wait() => return Ok(()),
                    gone = reader.gone() => return Err(gone),
                    again = again(&query, session) => stream = again?,
                }
                session.console.note("listening again")?;
            }
            Ok(None) => return Ok(session.console.note("the stream has ended")?),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Listens again, as soon as the daemon is back. Not at once: a stream that ends at once would be asked for without end.
pub(super) async fn again(query: &EventQuery, session: &Session<'_>) -> Result<Events, CtlError> {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match session.client.events(query).await {
            Ok(events) => return Ok(events),
            Err(error) if error.is_final() => return Err(error.into()),
            Err(_) => {}
        }
    }
}

fn show(told: &Told, session: &mut Session<'_>) -> Result<(), CtlError> {
    match told {
        Told::Event(event) => {
            if !session.told(event)? {
                let line = line(event, session);
                session.console.line(&line)?;
            }
        }
        Told::Reset(reset) if matches!(session.shape, Shape::Json) => {
            session.told(reset)?;
        }
        Told::Reset(reset) => {
            let text = format!("some events were missed: {}", escaped(&reset.detail));
            session.console.note(&text)?;
        }
    }
    // Whoever reads a live stream wants each line at once, also through a pipe.
    Ok(session.console.out.flush()?)
}

fn line(event: &api::Event, session: &Session<'_>) -> String {
    let kind = session.console.paint(
        colour(&event.kind),
        &format!("{:<11}", escaped(&event.kind)),
    );
    let mut line = format!("{}  {kind}", when::show(event.at, &session.zone));
    let attempt = event.attempt.map(|number| format!("attempt {number}"));
    let worker = event.worker.as_ref().map(|name| format!("by {name}"));
    for part in [
        event.queue.as_ref(),
        event.id.as_ref(),
        worker.as_ref(),
        attempt.as_ref(),
        event.error.as_ref(),
    ]
    .into_iter()
    .flatten()
    {
        line.push_str("  ");
        line.push_str(&escaped(part));
    }
    line.truncate(line.trim_end().len());
    line
}

fn colour(kind: &str) -> Colour {
    match kind {
        "completed" => Colour::Green,
        "failed" | "expired" | "released" | "paused" | "draining" => Colour::Yellow,
        "dead" | "rejected" => Colour::Red,
        _ => Colour::Plain,
    }
}
