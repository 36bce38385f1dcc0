//! `submit --wait`: submits a task and follows it to its end.
//!
//! It listens before it submits, so that no end is missed however fast it comes. When the stream breaks (the daemon
//! restarts, or drops a listener that is too slow) it listens again first and then looks at the task itself.

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
    client::{ClientError, Events},
    task::{Millis, State},
};

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
    let events = session.client.events().await?;
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
    let end = follow(events, &id, session);
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

async fn follow(mut events: Events, id: &str, session: &Session<'_>) -> Result<End, CtlError> {
    loop {
        match listen(&mut events, id).await {
            Ok(Some(event)) => return Ok(End::Told(Box::new(event))),
            // Broken off; a stream that can't be understood will not be later either.
            Ok(None) | Err(ClientError::Unreachable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        events = again(session).await?;
        match session.client.task(id).await {
            Ok(task) if task.state == State::Dead.as_str() => return Ok(End::Dead(Box::new(task))),
            // It goes on; or the daemon went away once more, which the stream says, too.
            Ok(_) | Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. }) => {}
            Err(error) if error.status() == Some(404) => return Ok(End::Gone),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The event that ends the task; `None`: the stream has ended before.
async fn listen(events: &mut Events, id: &str) -> Result<Option<api::Event>, ClientError> {
    while let Some(event) = events.next().await? {
        let ends = matches!(event.kind.as_str(), "completed" | "dead" | "cancelled");
        if ends && event.id.as_deref() == Some(id) {
            return Ok(Some(event));
        }
    }
    Ok(None)
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
            let _later = for_programs;
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
        worker: None,
        attempt: Some(task.attempts),
        error: task.last_error,
    }
}
