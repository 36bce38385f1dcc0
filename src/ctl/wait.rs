//! `submit --wait`: submits a task and follows it to its end.
//!
//! It listens before it submits, so that no end is missed however fast it comes. When the stream breaks, it goes on where
//! that stopped; when the daemon can't tell what was missed (it was restarted), the task itself is looked at.

use super::{
    error::{self, CtlError},
    events::again,
    session::Session,
    submit,
    table::multiline,
    when,
};
use crate::{
    api,
    client::{ClientError, EventQuery, Events, Told},
    task::{Millis, State},
};

/// The events that end a task.
const ENDS: [&str; 3] = ["completed", "dead", "cancelled"];

/// How a task ended.
enum End {
    /// As an event tells it.
    Told(Box<api::Event>),
    /// It was found dead.
    Dead(Box<api::Task>),
    /// It is not there any more.
    Gone,
}

pub(super) async fn run(
    task: &api::NewTask,
    timeout: Option<Millis>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    let mut query = EventQuery {
        queues: task.queue.iter().cloned().collect(),
        kinds: ENDS.map(str::to_owned).into(),
        ..EventQuery::default()
    };
    let events = session.client.events(&query).await?;
    let submitted = session.client.submit(task).await?;
    let id = submitted.task.id.clone();
    if session.console.watched {
        submit::tell(&submitted, session)?;
        session
            .console
            .note(&format!("{id} is submitted; waiting for its end"))?;
    }
    if !submitted.created && submitted.task.state == State::Dead.as_str() {
        return told(End::Dead(Box::new(submitted.task)), &id, session);
    }
    let end = follow(events, &mut query, &id, session);
    let end = match timeout {
        None => end.await?,
        Some(limit) => tokio::time::timeout(limit.as_duration(), end)
            .await
            .map_err(|_| CtlError::Ended {
                text: format!("{id} has not ended within {limit}; see: workqueuectl show {id}"),
                code: error::TIMED_OUT,
            })??,
    };
    told(end, &id, session)
}

async fn follow(
    mut events: Events,
    query: &mut EventQuery,
    id: &str,
    session: &Session<'_>,
) -> Result<End, CtlError> {
    loop {
        let missed = match events.next().await {
            Ok(Some(Told::Event(event))) if event.id.as_deref() == Some(id) => {
                return Ok(End::Told(event));
            }
            Ok(Some(Told::Event(_))) => false,
            Ok(Some(Told::Reset(_))) => true,
            // Broken off; a stream that can't be understood will not be later either.
            Ok(None) | Err(ClientError::Unreachable { .. }) => {
                query.after = events.place().map(str::to_owned);
                events = again(query, session).await?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        if missed && let Some(end) = look(id, session).await? {
            return Ok(end);
        }
    }
}

/// Looks whether the task has ended while nobody listened.
async fn look(id: &str, session: &Session<'_>) -> Result<Option<End>, CtlError> {
    match session.client.task(id).await {
        Ok(task) if task.state == State::Dead.as_str() => Ok(Some(End::Dead(Box::new(task)))),
        // It goes on; or the daemon went away once more, which the stream says, too.
        Ok(_) | Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. }) => Ok(None),
        Err(error) if error.status() == Some(404) => Ok(Some(End::Gone)),
        Err(error) => Err(error.into()),
    }
}

/// Prints the result of a task that was completed; an end of another kind is an error with its code.
fn told(end: End, id: &str, session: &mut Session<'_>) -> Result<(), CtlError> {
    let event = match end {
        End::Told(event) => *event,
        End::Dead(task) => found_dead(*task),
        End::Gone => {
            return Err(CtlError::Ended {
                text: format!("{id} has ended while the connection was down; how is not known"),
                code: error::UNKNOWN_END,
            });
        }
    };
    let for_programs = session.told(&event)?;
    let why = event
        .error
        .as_deref()
        .map_or_else(String::new, |error| format!(": {}", multiline(error, 0)));
    match event.kind.as_str() {
        "dead" => Err(CtlError::Ended {
            text: format!("{id} is dead{why}\nbring it back with: workqueuectl retry {id}"),
            code: error::DEAD,
        }),
        "cancelled" => Err(CtlError::Ended {
            text: format!("{id} was cancelled{why}"),
            code: error::CANCELLED,
        }),
        _ => {
            if for_programs {
                return Ok(());
            }
            if let Some(result) = &event.result {
                let text = result.to_display();
                let text = if session.console.terminal {
                    multiline(&text, 0)
                } else {
                    text
                };
                session.console.line(&text)?;
            }
            if let Some(bytes) = event.result_bytes {
                let text = format!("the result is too long to be told: {bytes} bytes");
                session.console.note(&text)?;
            }
            Ok(())
        }
    }
}

/// The event that was missed, as far as the task tells it.
fn found_dead(task: api::Task) -> api::Event {
    api::Event {
        number: 0,
        at: when::now(),
        kind: "dead".to_owned(),
        id: Some(task.id),
        queue: Some(task.queue),
        moved_from: None,
        worker: None,
        attempt: Some(task.attempts),
        error: task.last_error,
        result: None,
        result_bytes: None,
        state: Some(State::Dead.as_str().to_owned()),
    }
}
