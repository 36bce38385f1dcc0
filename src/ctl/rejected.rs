//! `rejected`: dropped files that could not be taken in: why, and what is to become of them.

use super::{
    cli::RejectedVerb,
    console::Colour,
    error::CtlError,
    session::Session,
    table::{Side, Table, multiline},
    tasks::Refused,
    when,
};
use crate::{
    api,
    client::{Client, ClientError},
};

pub(super) async fn run(
    what: Option<RejectedVerb>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    match what {
        None => list(session).await,
        Some(RejectedVerb::Show(names)) => show(&names.names, session).await,
        Some(RejectedVerb::Retry(names)) => {
            let act = async |client: &Client, name: &str| client.retry_rejected(name).await;
            let text = "is back in tasks/, and is looked at anew";
            each(&names.names, text, act, session).await
        }
        Some(RejectedVerb::Discard(names)) => {
            let act = async |client: &Client, name: &str| client.discard_rejected(name).await;
            each(&names.names, "deleted", act, session).await
        }
    }
}

async fn each(
    names: &[String],
    text: &str,
    act: impl AsyncFn(&Client, &str) -> Result<(), ClientError>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    // Asked first, so that an address without the admin API is told as that, not as a file that is not there.
    session.admin(session.client.rejected().await)?;
    let mut refused = Refused::default();
    for name in names {
        let answer = act(&session.client, name).await;
        if refused.check(answer, session.console)?.is_some()
            && !session.told(&api::RejectedName { name: name.clone() })?
        {
            session.console.line(&format!("{name} {text}"))?;
        }
    }
    refused.finish(names.len())
}

async fn list(session: &mut Session<'_>) -> Result<(), CtlError> {
    let answer = session.admin(session.client.rejected().await)?;
    if session.told_all(&answer, &answer.rejected)? {
        return Ok(());
    }
    let files = answer.rejected;
    if files.is_empty() {
        return Ok(session.console.line("no dropped file was rejected")?);
    }
    let mut table = Table::new([
        ("WHEN", Side::Left),
        ("SIZE", Side::Right),
        ("NAME", Side::Left),
        ("REASON", Side::Left),
    ]);
    for file in &files {
        table.row([
            written(file, session).into(),
            file.size
                .map_or_else(unknown, |size| size.to_string())
                .into(),
            (&file.name).into(),
            reason(file).into(),
        ]);
    }
    let text = table.render(session.console.colour);
    session.console.out.write_all(text.as_bytes())?;
    let hint = session.console.paint(
        Colour::Dim,
        "correct a file, then: workqueuectl rejected retry NAME; or: workqueuectl rejected discard NAME",
    );
    Ok(session.console.line(&hint)?)
}

fn written(file: &api::RejectedFile, session: &Session<'_>) -> String {
    file.modified
        .map_or_else(unknown, |at| when::show(at, &session.zone))
}

/// Stands where nobody looked.
fn unknown() -> String {
    "-".to_owned()
}

fn reason(file: &api::RejectedFile) -> String {
    if file.moved {
        file.reason.clone()
    } else {
        format!("{} (left where it is)", file.reason)
    }
}

async fn show(names: &[String], session: &mut Session<'_>) -> Result<(), CtlError> {
    let files = session.admin(session.client.rejected().await)?.rejected;
    let mut missing = Vec::new();
    let mut first = true;
    for name in names {
        let Some(file) = files.iter().find(|file| file.name == *name) else {
            missing.push(name.as_str());
            continue;
        };
        if session.told(file)? {
            continue;
        }
        if !std::mem::take(&mut first) {
            session.console.line("")?;
        }
        for (label, value) in [
            ("name", file.name.clone()),
            (
                if file.moved { "rejected" } else { "written" },
                written(file, session),
            ),
            (
                "size",
                file.size
                    .map_or_else(unknown, |size| format!("{size} bytes")),
            ),
            ("reason", reason(file)),
            ("begins", file.beginning.clone()),
        ] {
            let line = format!("{label:<12}{}", multiline(&value, 12));
            session.console.line(line.trim_end())?;
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CtlError::NotWell(format!(
        "no rejected file {}; see: workqueuectl rejected",
        missing.join(", ")
    )))
}
