//! Verbs that change tasks: cancel, retry, move, purge.

use std::io::BufRead as _;

use serde::Serialize;

use super::{
    cli::{Move, Purge, Retry},
    console::Console,
    error::CtlError,
    session::Session,
    submit,
};
use crate::{
    api,
    client::{Client, ClientError},
    task::{Millis, State, shown_text},
};

/// The answer to an order that leaves no task to be shown.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Which {
    id: String,
}

pub(super) async fn cancel(ids: &[String], session: &mut Session<'_>) -> Result<(), CtlError> {
    let act = async |client: &Client, id: &str| {
        client.cancel(id).await?;
        Ok(Which { id: id.to_owned() })
    };
    each(ids, "cancelled", act, session).await
}

pub(super) async fn retry(retry: Retry, session: &mut Session<'_>) -> Result<(), CtlError> {
    if !retry.dead {
        let act = async |client: &Client, id: &str| client.retry(id).await;
        return each(&retry.ids, "ready again", act, session).await;
    }
    let choice = api::QueueChoice { queue: retry.queue };
    let answer = session.client.retry_dead(&choice).await;
    let answer = session.admin(answer)?;
    if !session.told(&answer)? {
        let text = format!("{} brought back", tasks(answer.count, "dead"));
        session.console.line(&text)?;
    }
    let Some(problem) = answer.problem else {
        return Ok(());
    };
    let detail = shown_text(&problem.detail);
    Err(CtlError::NotWell(match answer.left {
        0 => format!("not all were looked at: {detail}"),
        left => format!("{} left: {detail}", tasks(left, "dead")),
    }))
}

pub(super) async fn r#move(order: Move, session: &mut Session<'_>) -> Result<(), CtlError> {
    let exectime = match &order.at {
        None => None,
        Some(text) => Some(submit::moment(text, session)?),
    };
    let change = api::Patch {
        queue: order.to,
        priority: order.priority,
        exectime,
        delay: order.delay.map(Millis::as_secs_f64),
    };
    let act = async |client: &Client, id: &str| client.patch(id, &change).await;
    each(&order.ids, "moved", act, session).await
}

/// Does the same to each task; one that is refused does not keep the others from it.
async fn each<T: Serialize>(
    ids: &[String],
    text: &str,
    act: impl AsyncFn(&Client, &str) -> Result<T, ClientError>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    let mut refused = Refused::default();
    for id in ids {
        let answer = act(&session.client, id).await;
        if let Some(answer) = refused.check(answer, session.console)?
            && !session.told(&answer)?
        {
            session.console.line(&format!("{id} {text}"))?;
        }
    }
    refused.finish(ids.len())
}

/// Counts refusals among several tasks, telling each as it comes.
#[derive(Default)]
pub(super) struct Refused {
    last: Option<CtlError>,
    count: usize,
}

impl Refused {
    pub(super) fn check<T>(
        &mut self,
        answer: Result<T, ClientError>,
        console: &mut Console,
    ) -> Result<Option<T>, CtlError> {
        let error = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => CtlError::from(error),
        };
        if !error.is_refusal() {
            return Err(error);
        }
        if let Some(before) = self.last.replace(error) {
            console.note(&format!("workqueuectl: {before}"))?;
        }
        self.count += 1;
        Ok(None)
    }

    /// The one refusal there was, or how many of several.
    pub(super) fn finish(self, asked: usize) -> Result<(), CtlError> {
        match self.last {
            None => Ok(()),
            Some(error) if self.count == 1 => Err(error),
            Some(error) => Err(CtlError::NotWell(format!(
                "{error}\n{} of {asked} were refused",
                self.count
            ))),
        }
    }
}

pub(super) async fn purge(purge: Purge, session: &mut Session<'_>) -> Result<(), CtlError> {
    let state = purge.state.state();
    if !purge.yes {
        let count = purged(&purge, session).await?;
        if count == 0 {
            return Ok(session.console.line(&format!(
                "no {} tasks; nothing was cancelled",
                state.as_str()
            ))?);
        }
        let of = purge
            .queue
            .as_ref()
            .map_or_else(String::new, |name| format!(" of queue {name}"));
        let what = format!("{}{of}", tasks(count, state.as_str()));
        if !confirmed(&what, session.console)? {
            return Ok(session.console.line("nothing was cancelled")?);
        }
    }
    let order = api::Purge {
        queue: purge.queue,
        state: Some(state.as_str().to_owned()),
    };
    let answer = session.client.purge(&order).await;
    let answer = session.admin(answer)?;
    if session.told(&answer)? {
        return Ok(());
    }
    let text = format!("{} cancelled", tasks(answer.count, state.as_str()));
    Ok(session.console.line(&text)?)
}

/// How many tasks a purge would cancel now.
async fn purged(purge: &Purge, session: &Session<'_>) -> Result<u64, CtlError> {
    let of = |ready: u64, scheduled: u64, dead: u64| match purge.state.state() {
        State::Ready => ready,
        State::Scheduled => scheduled,
        State::Dead => dead,
        State::Leased => 0,
    };
    if let Some(name) = &purge.queue {
        let queue = match session.client.queue(name).await {
            Ok(queue) => queue,
            Err(error) => return Err(session.guessed(error, Some(name)).await),
        };
        return Ok(of(queue.ready, queue.scheduled, queue.dead));
    }
    let all = session.admin(session.client.status().await)?;
    Ok(of(all.ready, all.scheduled, all.dead))
}

fn confirmed(what: &str, console: &mut Console) -> Result<bool, CtlError> {
    if !console.interactive {
        return Err(CtlError::Usage(format!(
            "{what} would be cancelled, for good; say --yes if that is meant"
        )));
    }
    write!(console.err, "Cancel {what}, for good? [y/N] ")?;
    console.err.flush()?;
    let mut answer = String::new();
    if let Some(input) = console.input.take() {
        std::io::BufReader::new(input).read_line(&mut answer)?;
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tasks(count: u64, state: &str) -> String {
    let plural = if count == 1 { "task" } else { "tasks" };
    format!("{count} {state} {plural}")
}
