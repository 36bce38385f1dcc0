//! Verbs of the admin API that are one order and one answer.

use http::Method;
use jiff::tz::TimeZone;

use super::{
    call::{Body, Endpoint, ask, ask_raw, read},
    console::{Colour, Console},
    error::CtlError,
    table::{Side, Table},
    when,
};
use crate::api;

/// Something that is on or off for one queue or all: its path, and what is true once it was called.
pub(super) struct Switch(&'static str, &'static str);

pub(super) const PAUSE: Switch = Switch(
    "/pause",
    "paused: nothing is handed out; go on with: workqueuectl resume",
);
pub(super) const RESUME: Switch = Switch("/resume", "handing out again");
pub(super) const DRAIN: Switch = Switch(
    "/drain",
    "draining: nothing new is taken; go on with: workqueuectl undrain",
);
pub(super) const UNDRAIN: Switch = Switch("/undrain", "taking new tasks again");

/// Turns something on or off.
pub(super) async fn switch(
    Switch(path, text): &Switch,
    queue: Option<String>,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let whose = queue
        .as_ref()
        .map_or_else(|| "all queues".to_owned(), |name| format!("queue {name}"));
    let body = Body::json(&api::QueueChoice { queue })?;
    let answer = ask_raw(endpoint, Method::POST, path, Some(body)).await?;
    if json {
        console.raw(&answer)?;
    } else {
        console.line(&format!("{whose}: {text}"))?;
    }
    Ok(())
}

/// Has something done now.
pub(super) async fn order(
    path: &str,
    text: &str,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::POST, path, None).await?;
    if json {
        console.raw(&answer)?;
    } else {
        console.line(text)?;
    }
    Ok(())
}

/// The settings, and where each came from.
pub(super) async fn config(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::GET, "/config", None).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let config: api::Config = read(&answer)?;
    let mut table = Table::new([
        ("SETTING", Side::Left),
        ("VALUE", Side::Left),
        ("SOURCE", Side::Left),
    ]);
    for one in config.settings {
        table.row([one.key.into(), one.value.into(), one.source.into()]);
    }
    let text = table.render(console.colour);
    Ok(console.out.write_all(text.as_bytes())?)
}

/// Dropped files that could not be taken in.
pub(super) async fn rejected(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::GET, "/rejected", None).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let files = read::<api::Rejected>(&answer)?.rejected;
    if files.is_empty() {
        return Ok(console.line("no dropped file was rejected")?);
    }
    let mut table = Table::new([
        ("WHEN", Side::Left),
        ("SIZE", Side::Right),
        ("NAME", Side::Left),
        ("REASON", Side::Left),
    ]);
    let zone = TimeZone::system();
    for file in &files {
        let reason = if file.moved {
            file.reason.clone()
        } else {
            format!("{} (left where it is)", file.reason)
        };
        table.row([
            when::show(file.modified, &zone).into(),
            file.size.to_string().into(),
            (&file.name).into(),
            reason.into(),
        ]);
    }
    let text = table.render(console.colour);
    console.out.write_all(text.as_bytes())?;
    let hint = console.paint(
        Colour::Dim,
        "correct a file in rejected/ and move it back into tasks/",
    );
    Ok(console.line(&hint)?)
}

/// What the daemon says of itself.
pub(super) async fn status(endpoint: &Endpoint) -> Result<api::Status, CtlError> {
    ask(endpoint, Method::GET, "/status", None).await
}
