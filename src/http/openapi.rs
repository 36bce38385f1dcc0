//! The API's description (OpenAPI 3.1), made from the handlers.
//!
//! `packaging/openapi.json` is the committed copy; a test holds it against this.

use std::sync::LazyLock;

use axum::{http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
    },
};

use super::{answer, claim, events, health, lease, problem, queues, scrape, task, tasks};
use crate::api;

/// What `POST /api/v1/tasks` takes as JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(super) enum NewTasks {
    /// One task.
    One(api::NewTask),
    /// All of them, or none.
    Array(Vec<api::NewTask>),
}

/// What `POST /api/v1/tasks` answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    clippy::large_enum_variant,
    reason = "a schema, never a value"
)]
pub(super) enum Submitted {
    /// To one task.
    One(api::Task),
    /// To an array, in its order.
    Array(Vec<api::Task>),
    /// To a stream.
    Stream(api::Accepted),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "workqueue",
        description = "A durable work queue for one Linux machine. Lengths of time are seconds, points in time are Unix \
            seconds. Errors are RFC 9457 problem documents; the description of a status lists the last parts of their types.",
    ),
    paths(
        tasks::submit, tasks::list, task::show, task::reschedule, task::cancel, task::retry,
        claim::claim, lease::complete, lease::fail, lease::release, lease::extend,
        queues::queues, queues::queue, queues::workers, queues::history, queues::troubles, events::events,
        scrape::metrics, health::alive, health::ready,
    ),
    components(schemas(api::Problem)),
    modifiers(&Problems),
    tags(
        (name = "tasks", description = "Submitting, seeing and changing tasks"),
        (name = "leases", description = "What workers do"),
        (name = "queues", description = "Queues, workers and events"),
        (name = "operation", description = "Health and metrics"),
    ),
)]
struct Api;

/// Gives every status of an error its document, and every operation those that can always come.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        for (path, entry) in &mut document.paths.paths {
            for operation in operations(entry) {
                describe(operation, path.starts_with("/api/"));
            }
        }
    }
}

fn operations(entry: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        entry.get.as_mut(),
        entry.post.as_mut(),
        entry.patch.as_mut(),
        entry.delete.as_mut(),
    ]
    .into_iter()
    .flatten()
}

fn describe(operation: &mut Operation, of_api: bool) {
    let responses = &mut operation.responses.responses;
    if of_api {
        for (status, names) in [
            ("401", "unauthorized"),
            ("500", "internal"),
            ("503", "draining, busy, stopping, fault"),
        ] {
            let response = ResponseBuilder::new().description(names).build();
            responses
                .entry(status.to_owned())
                .or_insert(RefOr::T(response));
        }
    }
    for (status, response) in responses {
        let is_error = status.starts_with(['4', '5']);
        if let RefOr::T(response) = response
            && is_error
            && response.content.is_empty()
        {
            let schema = Ref::from_schema_name(api::Problem::name());
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response
                .content
                .insert(problem::MEDIA_TYPE.to_owned(), RefOr::T(content));
        }
    }
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    Api::openapi().to_pretty_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the API's description has no JSON form");
        "{}".to_owned()
    })
});

/// The description as JSON, with a newline at its end.
#[must_use]
pub fn openapi_json() -> String {
    format!("{}\n", *DOCUMENT)
}

/// `GET /api/openapi.json`.
pub(crate) async fn document() -> Response {
    answer::json(StatusCode::OK, openapi_json().into_bytes())
}
