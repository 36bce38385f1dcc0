//! Verbs of the admin API that are one order and one answer.

use serde::Serialize;

use super::{
    error::CtlError,
    session::Session,
    table::{Side, Table},
};
use crate::{
    api,
    client::{Client, ClientError},
};

/// Something that is on or off for one queue or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    Pause,
    Resume,
    Drain,
    Undrain,
}

impl Switch {
    /// What is true once it was turned.
    const fn text(self) -> &'static str {
        match self {
            Self::Pause => "paused: nothing is handed out; go on with: workqueuectl resume",
            Self::Resume => "handing out again",
            Self::Drain => "draining: nothing new is taken; go on with: workqueuectl undrain",
            Self::Undrain => "taking new tasks again",
        }
    }

    async fn turn(self, client: &Client, choice: &api::QueueChoice) -> Result<(), ClientError> {
        match self {
            Self::Pause => client.pause(choice).await,
            Self::Resume => client.resume(choice).await,
            Self::Drain => client.drain(choice).await,
            Self::Undrain => client.undrain(choice).await,
        }
    }
}

/// The answer to an order that has nothing to tell.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Done {
    /// `ok`.
    status: &'static str,
}

const DONE: Done = Done { status: "ok" };

/// Turns something on or off.
pub(super) async fn switch(
    switch: Switch,
    queue: Option<String>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    let (whose, name) = match &queue {
        Some(name) => (format!("queue {name}"), format!(" {name}")),
        None => ("all queues".to_owned(), String::new()),
    };
    let turned = switch
        .turn(&session.client, &api::QueueChoice { queue })
        .await;
    session.admin(turned)?;
    if session.told(&DONE)? {
        return Ok(());
    }
    let end = match switch {
        Switch::Pause | Switch::Drain => name,
        Switch::Resume | Switch::Undrain => String::new(),
    };
    let text = format!("{whose}: {}{end}", switch.text());
    Ok(session.console.line(&text)?)
}

/// Tells that an order was done, in `text`.
pub(super) fn ordered(
    answer: Result<(), ClientError>,
    text: &str,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    session.admin(answer)?;
    if session.told(&DONE)? {
        return Ok(());
    }
    Ok(session.console.line(text)?)
}

/// The settings, and where each came from.
pub(super) async fn config(session: &mut Session<'_>) -> Result<(), CtlError> {
    let config = session.admin(session.client.config().await)?;
    if session.told_all(&config, &config.settings)? {
        return Ok(());
    }
    let mut table = Table::new([
        ("SETTING", Side::Left),
        ("VALUE", Side::Left),
        ("SOURCE", Side::Left),
    ]);
    for one in config.settings {
        let value = one.told();
        table.row([one.key.into(), value.into(), one.source.into()]);
    }
    let text = table.render(session.console.colour);
    Ok(session.console.out.write_all(text.as_bytes())?)
}
