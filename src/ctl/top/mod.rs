//! `top`: queues, rates and workers, live on the whole screen.
//!
//! [`model`] keeps what was seen and what the keys have set, [`screen`] draws it; here is the loop between daemon, keys and
//! terminal. However it ends (a key, a signal, an error, a panic), the terminal is as it was before.

mod model;
mod screen;

use std::{io, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::model::{Look, Model};
use super::{error::CtlError, events::Interrupt, session::Session, status, when};
use crate::client::{Client, ClientError, Endpoint};

/// How often the daemon is looked at.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn run(session: &mut Session<'_>) -> Result<(), CtlError> {
    if session.is_for_programs() || !session.console.terminal {
        return once(session).await;
    }
    // A daemon that can't be reached at all is told plainly, before the screen is taken.
    let first = look(&session.client).await?;
    let mut interrupt = Interrupt::new()?;
    let mut screen = Screen::take()?;
    let mut model = Model::new(session.client.endpoint().to_string());
    model.see(first);
    watch(&session.client, &mut interrupt, &mut screen.0, model).await
}

/// The terminal while it is ours; dropping it gives it back. A panic gives it back, too: ratatui's hook sees to that.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone can't be given back; nobody is left to be told.
        drop(ratatui::try_restore());
    }
}

async fn watch(
    client: &Client,
    interrupt: &mut Interrupt,
    terminal: &mut DefaultTerminal,
    mut model: Model,
) -> Result<(), CtlError> {
    let mut keys = keys();
    let mut looks = looks(client.clone());
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut model))?;
        tokio::select! {
            () = interrupt.wait() => return Ok(()),
            event = keys.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if !press(key, &mut model) {
                        return Ok(());
                    }
                }
                // Another size, which the next drawing takes in.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            seen = looks.recv() => match seen {
                Some(Ok(seen)) => model.see(seen),
                // A daemon that restarts is waited for.
                Some(Err(error @ (ClientError::Unreachable { .. } | ClientError::Timeout { .. }))) => {
                    model.miss(&error);
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
        }
    }
}

/// Does what a key asks for; false: it asks for the end.
fn press(key: KeyEvent, model: &mut Model) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if control => return false,
        KeyCode::Up | KeyCode::Char('k') => model.select(-1),
        KeyCode::Down | KeyCode::Char('j') => model.select(1),
        KeyCode::PageUp => model.select(-10),
        KeyCode::PageDown => model.select(10),
        KeyCode::Home => model.select(isize::MIN),
        KeyCode::End => model.select(isize::MAX),
        KeyCode::Left => model.sort(-1),
        KeyCode::Right => model.sort(1),
        KeyCode::Char('r') => model.turn(),
        KeyCode::Tab | KeyCode::BackTab => model.switch(),
        _ => {}
    }
    true
}

/// What is typed. Reading blocks, so it has a thread; that ends with the program.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        loop {
            let read = event::read();
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// What the daemon shows, again and again; a slow answer keeps no key waiting.
fn looks(client: Client) -> mpsc::Receiver<Result<Look, ClientError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if sender.send(look(&client).await).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The queues and the workers; with the status, where the endpoint serves it.
async fn look(client: &Client) -> Result<Look, ClientError> {
    let status = match client.endpoint() {
        Endpoint::Unix(_) => Some(client.status().await?),
        Endpoint::Http(_) => None,
    };
    let troubles = match &status {
        Some(status) => status.troubles.clone(),
        None => client.troubles().await?.troubles,
    };
    Ok(Look {
        status,
        troubles,
        queues: client.queues().await?.queues,
        workers: client.workers().await?.workers,
        at: when::now(),
    })
}

/// One picture, for a program or a pipe.
async fn once(session: &mut Session<'_>) -> Result<(), CtlError> {
    let Look {
        status,
        troubles: _,
        queues,
        workers,
        at,
    } = look(&session.client).await?;
    let whole = serde_json::json!({"status": status, "queues": queues, "workers": workers});
    if session.told_all(&whole, &queues)? {
        return Ok(());
    }
    let text = status::picture(status.as_ref(), &queues, &workers, at, session);
    Ok(session.console.out.write_all(text.as_bytes())?)
}
