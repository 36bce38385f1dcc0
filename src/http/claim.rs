//! `POST /api/v1/claim`: the worker's round trip.
//!
//! Knows how a claim is written. Which tasks it gets, and when, is the backend's matter; that it is withdrawn when its
//! client goes away comes from hyper, which drops the handler's future then: nothing here may spawn it away. Over HTTP/1.1 hyper
//! sees that only while it has read nothing behind the request.

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use futures_util::future::join_all;

use super::{
    Answer, Http, HttpLimits, Problem, Shared, answer, body,
    caller::Caller,
    flight::{self, Share},
    lease, view,
};
use crate::{
    api,
    backend::{Backend, ClaimAnswer, ClaimRequest, Completion, Error},
    task::{LeaseKind, Millis, QueueName, Refusal, TaskId, Token, WorkerName, seconds},
};

/// The most tasks that one claim gets: they are in memory at once, and their leases begin together.
const MAX_TASKS: u32 = 1000;
/// The most queues that one claim looks at.
const MAX_QUEUES: usize = 100;
/// The most tasks that one claim completes.
const MAX_COMPLETIONS: usize = 1000;
/// With more completions than these a claim does not wait: what became of them would be kept in memory as long.
const MAX_KEPT: usize = 100;

/// Complete what was done, then take up to `max` due tasks, waiting up to `wait` seconds for the first.
///
/// The request may be dropped at any time: a claim that waits is withdrawn. One with more than 100 completions does not wait.
#[utoipa::path(
    post, path = "/api/v1/claim", tag = "leases", operation_id = "claim",
    request_body = api::Claim,
    responses(
        (status = 200, description = "The tasks (none, when none became due in time), and what became of the completions",
            body = api::ClaimAnswer),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 408, description = "request-timeout"),
        (status = 413, description = "too-large"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn claim<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Answer {
    let claim: api::Claim = body::json(request, &http).await?;
    let request = parse(claim, &http.limits)?;
    caller.reach_all(&request.queues)?;
    for one in &request.complete {
        caller.reach_held(&*http.backend, one.id).await?;
    }
    let answer = while_let_in(&http, &caller, request).await?;
    let (answer, _share) = while_there_is_room(&http, answer).await?;
    Ok(answer::json(StatusCode::OK, render(answer)?))
}

/// The answer, and the share that lets it be written. Where too much waits for slow readers its tasks go back, no attempt
/// counted: others read faster, or the same client later.
pub(super) async fn while_there_is_room<B: Backend>(
    http: &Http<B>,
    mut answer: ClaimAnswer,
) -> Result<(ClaimAnswer, Share), Error> {
    let weight = flight::weight(answer.tasks.iter().map(|(task, _)| task));
    let refusal = match http.flight.take(weight) {
        Ok(share) => return Ok((answer, share)),
        Err(refusal) => refusal,
    };
    let tasks = std::mem::take(&mut answer.tasks).into_iter();
    // Together, so that they share a sync.
    let given_back = tasks.map(|(task, token)| http.backend.release(task.id, token));
    for given_back in join_all(given_back).await {
        match given_back {
            // It has come to another end meanwhile.
            Ok(()) | Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if answer.completed.is_empty() {
        return Err(refusal.into());
    }
    // What became of its completions is told in any case.
    Ok((answer, Share::none(&http.flight)))
}

/// A claim that waits only as long as who may come in stays the same: then it ends with nothing, and whoever still may comes
/// again.
///
/// What became of its completions is told in any case, so they are not part of what waits.
async fn while_let_in<B: Backend>(
    http: &Http<B>,
    caller: &Caller,
    mut request: ClaimRequest,
) -> Result<ClaimAnswer, Error> {
    if request.wait == Millis(0) {
        return http.backend.claim(request).await;
    }
    let mut answer = ClaimAnswer::default();
    if !request.complete.is_empty() {
        let at_once = ClaimRequest {
            wait: Millis(0),
            complete: std::mem::take(&mut request.complete),
            ..request.clone()
        };
        answer = http.backend.claim(at_once).await?;
        if !answer.tasks.is_empty() || answer.completed.len() > MAX_KEPT {
            return Ok(answer);
        }
    }
    let waited = tokio::select! {
        biased;
        waited = http.backend.claim(request) => waited,
        () = http.stop.cancelled() => Ok(ClaimAnswer::default()),
        () = caller.ended() => Ok(ClaimAnswer::default()),
    };
    match waited {
        // It is told when the client comes again.
        Err(Error::Refused(_)) if !answer.completed.is_empty() => Ok(answer),
        Err(error) => Err(error),
        // It had no completions of its own.
        Ok(ClaimAnswer { tasks, .. }) => {
            answer.tasks = tasks;
            Ok(answer)
        }
    }
}

fn parse(claim: api::Claim, limits: &HttpLimits) -> Result<ClaimRequest, Refusal> {
    if claim.queues.is_empty() || claim.queues.len() > MAX_QUEUES {
        return Err(Refusal::invalid("queues", "must name 1 to 100 queues"));
    }
    if claim.max > MAX_TASKS {
        return Err(Refusal::invalid("max", "must be 0 to 1000"));
    }
    if claim.complete.len() > MAX_COMPLETIONS {
        return Err(Refusal::invalid("complete", "must name at most 1000 tasks"));
    }
    let wait = seconds("wait", claim.wait)?;
    if wait > limits.max_wait {
        return Err(Refusal::invalid(
            "wait",
            format!("must be 0 to {} seconds", limits.max_wait.as_secs_f64()),
        ));
    }
    let queues = claim
        .queues
        .iter()
        .enumerate()
        .map(|(index, name)| {
            QueueName::parse(name).map_err(|refusal| renamed(refusal, &format!("queues[{index}]")))
        })
        .collect::<Result<_, _>>()?;
    let complete = claim
        .complete
        .into_iter()
        .enumerate()
        .map(|(index, one)| {
            completion(one, limits).map_err(|refusal| refusal.within(&format!("complete[{index}]")))
        })
        .collect::<Result<_, _>>()?;
    Ok(ClaimRequest {
        queues,
        max: claim.max,
        wait,
        lease: lease::lease_length(claim.lease)?,
        kind: LeaseKind::V1,
        worker: claim.worker.as_deref().map(WorkerName::parse).transpose()?,
        complete,
    })
}

fn completion(one: api::Completion, limits: &HttpLimits) -> Result<Completion, Refusal> {
    lease::check_result(one.result.as_ref(), limits)?;
    Ok(Completion {
        id: TaskId::parse(&one.id)?,
        token: Token::parse(&one.token)?,
        result: one.result,
    })
}

/// The refusal of a value that stands in a field of another name.
fn renamed(refusal: Refusal, field: &str) -> Refusal {
    match refusal {
        Refusal::Invalid { reason, .. } => Refusal::invalid(field, reason),
        other => other,
    }
}

/// An [`api::ClaimAnswer`], payloads copied once.
fn render(answer: ClaimAnswer) -> serde_json::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut out = br#"{"tasks":"#.to_vec();
    view::write_array(&mut out, &answer.tasks, |out, (task, token)| {
        out.push(b'{');
        view::write_task_fields(out, task)?;
        write!(out, r#","attempt":{},"token":"{token}"}}"#, task.attempts)
            .map_err(serde_json::Error::io)
    })?;
    out.extend_from_slice(br#","completed":"#);
    view::write_array(&mut out, answer.completed, |out, (id, outcome)| {
        let outcome = api::CompletionOutcome {
            id: id.to_string(),
            problem: outcome
                .err()
                .map(|refusal| Problem::from(refusal).into_document()),
        };
        serde_json::to_writer(out, &outcome)
    })?;
    out.push(b'}');
    Ok(out)
}
