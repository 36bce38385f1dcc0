//! The API's description (OpenAPI 3.1), made from the handlers.
//!
//! Handlers say what is theirs: parameters, bodies, answers, and the names of the problems that only they have. What every
//! operation has in common (the guard, the reading of bodies, the state of the daemon) is added here by rules, and each
//! name of a problem becomes a title and an example from the one table, `problem`.
//!
//! `packaging/openapi.json` and `packaging/openapi-admin.json` are the committed copies; a test holds them against this.

use std::sync::LazyLock;

use axum::{http::StatusCode, response::Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, ObjectBuilder, OpenApi as Document, Ref, RefOr,
        Response as Described, ResponseBuilder, Server,
        example::ExampleBuilder,
        link::Link,
        path::{Operation, PathItem},
        schema::Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    answer, claim, docs, events, export, guard, health, import, lease, original, pages, problem,
    queues, scrape, task, tasks,
};
use crate::api::{self, schemas};

/// What `POST /api/v1/tasks` takes as JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(super) enum NewTasks {
    /// One task.
    One(api::NewTask),
    /// All of them, or none.
    Array(NewTaskList),
}

/// Tasks that are all taken, or none of them.
#[derive(Serialize, ToSchema)]
#[schema(min_items = 1)]
pub(super) struct NewTaskList(Vec<api::NewTask>);

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
        description = "A durable work queue for one Linux machine.\n\nLengths of time are seconds, points in time are Unix seconds. \
            Errors are RFC 9457 problem documents: the last part of `type` is a stable name, told at each operation and explained \
            at `/problems/NAME`. A query parameter that is not listed is refused. Limits that the configuration can change are \
            given with their defaults. Where tokens are configured, each request but those for health shows one. \
            What is not HTTP at all, or too long a head, is answered by such a document, too, and ends its connection.",
    ),
    paths(
        tasks::submit, tasks::list, task::show, task::reschedule, task::cancel, task::retry,
        claim::claim, lease::complete, lease::fail, lease::release, lease::extend,
        queues::queues, queues::queue, queues::workers, queues::history, queues::queue_history, queues::troubles, events::events,
        export::export, import::import,
        scrape::metrics, health::alive, health::ready,
        document, docs::show, pages::problem,
    ),
    components(schemas(
        api::Problem, api::Event, api::Reset, schemas::TaskId, schemas::Token, schemas::QueueName, schemas::TaskState, schemas::Span,
        schemas::WorkerName, schemas::UniqueKey, schemas::Cursor, schemas::EventKind, schemas::EventId, schemas::SentEvent,
        api::export::ExportBegin, api::export::ExportTask, api::export::ExportEnd, api::export::ExportFailed,
    )),
    tags(
        (name = "tasks", description = "Submitting, seeing and changing tasks"),
        (name = "leases", description = "What workers do"),
        (name = "queues", description = "Queues, workers and events"),
        (name = "operation", description = "Health, metrics and this description"),
    ),
)]
struct Common;

#[derive(OpenApi)]
#[openapi(
    paths(original::next, original::complete),
    components(schemas(api::OriginalProblem, api::OriginalStatus)),
    tags((name = "original", description = "The API of the program that this one replaces, for its workers as they are")),
)]
struct Original;

/// A description and its JSON text.
pub(crate) struct Description {
    /// What the page of the documentation is made from.
    pub(crate) value: Value,
    /// With a newline at its end.
    pub(crate) json: String,
}

impl Description {
    fn new(mut document: Document, guarded: bool) -> Self {
        for (path, entry) in &mut document.paths.paths {
            for (method, operation) in operations(entry) {
                describe(operation, path, method, guarded);
            }
        }
        link(&mut document);
        // Strings, numbers and lists always have a JSON form.
        let mut value = serde_json::to_value(&document).unwrap_or_default();
        constrain(&mut value["components"]["schemas"]);
        Self {
            json: format!("{value:#}\n"),
            value,
        }
    }
}

/// Says which operations go on with what an answer gave: a new task's id, a claimed task's id and token.
fn link(document: &mut Document) {
    let answer =
        |document: &mut Document, path: &str, status: &str, names: &[&str], of_lease: bool| {
            let operation = document
                .paths
                .paths
                .get_mut(path)
                .and_then(|entry| entry.post.as_mut());
            let response = operation.and_then(|one| one.responses.responses.get_mut(status));
            let Some(RefOr::T(response)) = response else {
                return;
            };
            for name in names {
                let mut link = Link::builder().operation_id(*name);
                if of_lease {
                    let token = json!({"token": "$response.body#/tasks/0/token"});
                    link = link
                        .parameter("id", "$response.body#/tasks/0/id")
                        .request_body(Some(token));
                } else {
                    link = link.parameter("id", "$response.body#/id");
                }
                response
                    .links
                    .insert((*name).to_owned(), RefOr::T(link.build()));
            }
        };
    let of_task = ["show", "reschedule", "cancel"];
    answer(document, "/api/v1/tasks", "201", &of_task, false);
    let of_lease = ["complete", "fail", "release", "extend"];
    answer(document, "/api/v1/claim", "200", &of_lease, true);
}

/// Adds what holds between the members of an object, for which the types have no words.
fn constrain(schemas: &mut Value) {
    let given =
        |name: &str, kind: &str| json!({"required": [name], "properties": {name: {"type": kind}}});
    let (priority, exectime, delay) = (
        given("priority", "integer"),
        given("exectime", "integer"),
        given("delay", "number"),
    );
    let not_both = json!({"allOf": [&exectime, &delay]});
    for name in ["NewTask", "Patch"] {
        if let Some(schema) = schemas.get_mut(name) {
            schema["not"] = not_both.clone();
        }
    }
    if let Some(schema) = schemas.get_mut("Patch") {
        schema["anyOf"] = json!([priority, exectime, delay]);
    }
}

/// The description of what TCP listeners serve.
pub(crate) static OF_TCP: LazyLock<Description> = LazyLock::new(|| {
    let mut document = Common::openapi();
    document.merge(Original::openapi());
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of the file that the setting `tokens` names. Where none is set, none is asked for. Tokens have the scopes `submit`, `work`, `read` and `admin`"))
        .build();
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("token", SecurityScheme::Http(scheme));
    let none: [&str; 0] = [];
    document.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("token", none),
    ]);
    Description::new(document, true)
});

/// The description of what the admin socket serves: what TCP does, without tokens and the original's API, and `own`.
pub(crate) fn of_admin(own: Document) -> Description {
    let mut document = Common::openapi();
    document.merge(own);
    let mut server = Server::new("http://localhost");
    server.description =
        Some("On the admin socket: curl --unix-socket PATH http://localhost/status".to_owned());
    document.servers = Some(vec![server]);
    Description::new(document, false)
}

fn operations(entry: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", entry.get.as_mut()),
        ("post", entry.post.as_mut()),
        ("patch", entry.patch.as_mut()),
        ("delete", entry.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// Adds what every operation of its kind can meet, and gives every error its document.
fn describe(operation: &mut Operation, path: &str, method: &str, guarded: bool) {
    let is_health = matches!(path, "/healthz" | "/readyz");
    let mut names = vec!["internal", "invalid-field", "malformed-text"];
    if !is_health {
        names.push("forbidden");
    }
    if guarded {
        names.push("wrong-host");
        if is_health {
            operation.security = Some(vec![SecurityRequirement::default()]);
        } else {
            names.extend(["unauthorized", "too-many-with-token"]);
        }
    }
    if method != "get" || guard::is_more_than_read(path) {
        names.push("cross-site");
    }
    if !is_health && !is_about_itself(path) {
        names.extend(["busy", "stopping", "fault", "out-of-reach"]);
    }
    if operation.request_body.is_some() {
        names.extend([
            "malformed-json",
            "unreadable-body",
            "request-timeout",
            "too-large",
            "unsupported-media-type",
        ]);
    }
    for name in names {
        add(operation, name);
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            explain(response, status, path);
        }
    }
}

/// Whether the engine is not asked.
fn is_about_itself(path: &str) -> bool {
    path.starts_with("/api/openapi")
        || path.starts_with("/api/docs")
        || path.starts_with("/problems")
}

/// Adds a problem to the names under its status.
fn add(operation: &mut Operation, name: &str) {
    let Some(kind) = problem::ALL.iter().find(|kind| kind.name == name) else {
        return;
    };
    let status = kind.status.as_u16().to_string();
    let responses = &mut operation.responses.responses;
    let entry = responses
        .entry(status)
        .or_insert_with(|| RefOr::T(ResponseBuilder::new().build()));
    if let RefOr::T(response) = entry
        && response.content.is_empty()
        && !names_of(response).any(|one| one == name)
    {
        if !response.description.is_empty() {
            response.description.push_str(", ");
        }
        response.description.push_str(name);
    }
}

fn names_of(response: &Described) -> impl Iterator<Item = &str> {
    response.description.split(", ")
}

/// Makes an error's list of names a text, examples, and headers.
fn explain(response: &mut Described, status: &str, path: &str) {
    // The guard comes before the original's API, and speaks the same language everywhere.
    let is_original =
        matches!(path, "/api/next" | "/api/complete") && !matches!(status, "401" | "403" | "421");
    let kinds: Vec<_> = problem::ALL
        .iter()
        .filter(|kind| names_of(response).any(|name| name == kind.name))
        .collect();
    let examples = kinds.iter().map(|kind| {
        let problem = kind.problem(kind.about);
        let document = if is_original {
            serde_json::to_value(problem.original())
        } else {
            serde_json::to_value(problem.document())
        };
        let example = ExampleBuilder::new()
            .summary(kind.title)
            .value(document.ok())
            .build();
        (kind.name, example)
    });
    let schema = if is_original {
        Ref::from_schema_name(api::OriginalProblem::name())
    } else {
        Ref::from_schema_name(api::Problem::name())
    };
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples)
        .build();
    let lines: Vec<_> = kinds
        .iter()
        .map(|kind| format!("`{}`: {}", kind.name, kind.title))
        .collect();
    if kinds.iter().any(|kind| kind.retry_after.is_some()) {
        let header = header(
            Type::Integer,
            "Seconds after which asking again may help, where it may",
        );
        response
            .headers
            .insert("Retry-After".to_owned(), RefOr::T(header));
    }
    if status == "401" {
        let header = header(Type::String, "`Bearer`");
        response
            .headers
            .insert("WWW-Authenticate".to_owned(), RefOr::T(header));
    }
    response.description = lines.join("\n\n");
    response
        .content
        .insert(problem::MEDIA_TYPE.to_owned(), RefOr::T(content));
}

fn header(kind: Type, about: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
        .description(Some(about))
        .build()
}

/// The description of what TCP listeners serve, as JSON with a newline at its end.
#[must_use]
pub fn openapi_json() -> String {
    OF_TCP.json.clone()
}

/// This description.
#[utoipa::path(
    get, path = "/api/openapi.json", tag = "operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json"))
)]
pub(crate) async fn document() -> Response {
    answer::json(StatusCode::OK, OF_TCP.json.clone().into_bytes())
}
