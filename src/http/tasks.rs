//! `/api/v1/tasks`: submitting and listing.
//!
//! Knows how tasks are written and read, not what becomes of them.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
};

use super::{
    Answer, Http, Pairs, Shared, answer,
    body::{self, MediaType},
    caller::Caller,
    lines, openapi,
    problem::Problem,
    view,
};
use crate::{
    access::Scope,
    api::{self, schemas},
    backend::{Backend, Cursor, PageQuery, SubmitOutcome, TaskView},
    task::{IdPrefix, NewTask, Payload, QueueName, Refusal, State as TaskState, TaskObject, Trace},
};

/// How many tasks a page has that names no limit.
const DEFAULT_PAGE: usize = 100;
/// The most tasks of a page: what is held in memory for one answer.
const MAX_PAGE: usize = 1000;

/// Submit one task, an array of tasks (all or none), or a stream of them.
///
/// A stream (`application/x-ndjson`, one task object a line) is taken in pieces as it comes; its answer is an `Accepted`.
///
/// The headers `traceparent` and `tracestate` (W3C Trace Context) are carried with the tasks that name none themselves, and
/// handed to whoever does them. Malformed ones are passed over.
#[utoipa::path(
    post, path = "/api/v1/tasks", tag = "tasks", operation_id = "submit",
    params(
        ("traceparent" = Option<String>, Header, description = "The trace that this request is part of"),
        ("tracestate" = Option<String>, Header, description = "What tracing systems add to it"),
    ),
    request_body(content(
        (openapi::NewTasks = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 201, description = "Taken: the task, or an array in the order of the request, or the counts of a stream",
            body = openapi::Submitted,
            headers(("Location" = String, description = "The path of the task, for one task"))),
        (status = 200, description = "Nothing new: what was there first; to those who may not read tasks without its payload (null), its last error and its lease", body = openapi::Submitted),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 408, description = "request-timeout"),
        (status = 409, description = "id-in-use, unique-key-in-use"),
        (status = 413, description = "too-large"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-memory, no-room, too-many"),
    )
)]
pub(crate) async fn submit<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Answer {
    match MediaType::of(request.headers(), &[MediaType::Json, MediaType::Lines])? {
        MediaType::Lines => {
            let trace = trace_of(request.headers());
            lines::submit(&http, caller, trace, request).await
        }
        MediaType::Json | MediaType::Form => {
            let trace = trace_of(request.headers());
            let bytes = body::read(request, &http).await?;
            let text = body::text(&bytes)?;
            if text.trim_start().starts_with('[') {
                submit_array(&http, &caller, trace.as_ref(), text).await
            } else {
                submit_one(&http, &caller, trace.as_ref(), text).await
            }
        }
    }
}

/// The trace that a request's headers say it is in. What is malformed there is passed over, as the recommendation wants it:
/// whoever stands in between may have added it, and the task is none the worse.
fn trace_of(headers: &HeaderMap) -> Option<Trace> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?;
    if parents.next().is_some() {
        return None;
    }
    let trace = Trace::parse(parent.to_str().ok()?.trim()).ok()?;
    let states: Result<Vec<&str>, _> = headers
        .get_all("tracestate")
        .iter()
        .map(HeaderValue::to_str)
        .collect();
    let with_state = states.ok().and_then(|states| {
        let state = states.join(",");
        trace.clone().with_state(&state).ok()
    });
    Some(with_state.unwrap_or(trace))
}

/// One task, as `text` has it; `trace` is for one that names none.
pub(crate) fn parse<B>(
    http: &Http<B>,
    trace: Option<&Trace>,
    text: &str,
) -> Result<NewTask, Refusal> {
    let task = TaskObject::parse(text)?.check((http.clock)().wall, http.limits.payloads)?;
    Ok(traced(task, trace))
}

fn traced(mut task: NewTask, trace: Option<&Trace>) -> NewTask {
    if let (None, Some(trace)) = (&task.options.trace, trace) {
        task.options.trace = Some(Box::new(trace.clone()));
    }
    task
}

async fn submit_one<B: Backend>(
    http: &Http<B>,
    caller: &Caller,
    trace: Option<&Trace>,
    text: &str,
) -> Answer {
    let task = parse(http, trace, text)?;
    caller.reach(&task.queue)?;
    let outcomes = http.backend.submit(vec![task]).await?;
    let Some(outcome) = outcomes.first() else {
        return Err(super::problem::INTERNAL.problem("the task has no outcome"));
    };
    let mut out = Vec::new();
    write_outcome(&mut out, caller, outcome)?;
    let mut response = answer::json(created(outcome.created), out);
    let location = format!("/api/v1/tasks/{}", outcome.task.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn submit_array<B: Backend>(
    http: &Http<B>,
    caller: &Caller,
    trace: Option<&Trace>,
    text: &str,
) -> Answer {
    let objects = TaskObject::parse_array(text)?;
    if objects.is_empty() {
        return Err(Problem::invalid("body", "an array of no tasks"));
    }
    let wall = (http.clock)().wall;
    let tasks = objects
        .into_iter()
        .enumerate()
        .map(|(index, object)| {
            object
                .check(wall, http.limits.payloads)
                .map(|task| traced(task, trace))
                .map_err(|refusal| refusal.within(&format!("[{index}]")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    caller.reach_all(tasks.iter().map(|task| &task.queue))?;
    let outcomes = http.backend.submit(tasks).await?;
    let mut out = Vec::new();
    view::write_array(&mut out, &outcomes, |out, outcome| {
        write_outcome(out, caller, outcome)
    })?;
    let any_new = outcomes.iter().any(|outcome| outcome.created);
    Ok(answer::json(created(any_new), out))
}

/// The task that came of a submit. Of one that was there first, what others put in it is for those who may read tasks.
fn write_outcome(
    out: &mut Vec<u8>,
    caller: &Caller,
    outcome: &SubmitOutcome,
) -> serde_json::Result<()> {
    if outcome.created || caller.may(Scope::Read) {
        return view::write_task(out, &outcome.task);
    }
    let shown = TaskView {
        payload: Payload::null(),
        last_error: None,
        lease: None,
        ..outcome.task.clone()
    };
    view::write_task(out, &shown)
}

const fn created(new: bool) -> StatusCode {
    if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}

/// A page of tasks in hand-out order.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", operation_id = "list",
    params(
        ("queue" = Option<schemas::QueueName>, Query, description = "Of one queue"),
        ("state" = Option<schemas::TaskState>, Query, description = "In one state"),
        ("id_prefix" = Option<schemas::IdPrefix>, Query, description = "Whose ids begin so"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most so many, and fewer where payloads are large; default 100"),
        ("after" = Option<schemas::Cursor>, Query, description = "The `next` of the page before"),
    ),
    responses(
        (status = 200, description = "The page", body = api::TaskPage),
        (status = 404, description = "no-such-queue"),
    )
)]
pub(crate) async fn list<B: Backend>(State(http): Shared<B>, request: Request) -> Answer {
    Pairs::parse(request.uri().query().unwrap_or_default())?.none_blank()?;
    let (page, _share) = http.page(page_query(request.uri().query())?).await?;
    let mut out = br#"{"tasks":"#.to_vec();
    view::write_array(&mut out, &page.tasks, view::write_task)?;
    out.extend_from_slice(br#","next":"#);
    serde_json::to_writer(&mut out, &page.next.map(|next| next.to_string()))?;
    out.push(b'}');
    Ok(answer::json(StatusCode::OK, out))
}

/// What a query string asks of a list; empty values (a form's) ask for nothing.
pub(crate) fn page_query(query: Option<&str>) -> Result<PageQuery, Problem> {
    let pairs = Pairs::of_query(query, &["queue", "state", "id_prefix", "limit", "after"])?;
    let limit = match pairs.filled("limit") {
        None => DEFAULT_PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| Problem::invalid("limit", "not a whole number from 1 to 1000"))?,
    };
    Ok(PageQuery {
        queue: pairs.filled("queue").map(QueueName::parse).transpose()?,
        state: pairs.filled("state").map(TaskState::parse).transpose()?,
        id_prefix: pairs.filled("id_prefix").map(IdPrefix::parse).transpose()?,
        limit,
        after: pairs.filled("after").map(Cursor::parse).transpose()?,
    })
}
