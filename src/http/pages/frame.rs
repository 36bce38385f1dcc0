//! The frame of every page, and the small pages: errors and kinds of problem.
//!
//! Knows HTML, not tasks.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{
    super::{
        answer,
        path::Path,
        problem::{self, Problem},
    },
    assets,
};

pub(super) const HTML: &str = "text/html; charset=utf-8";

/// The pages of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `/`.
    Overview,
    /// `/list`.
    Tasks,
    /// `/new`.
    New,
    /// `/workers`.
    Workers,
    /// `/rejected`.
    Rejected,
    /// `/config`.
    Config,
    /// A page that the navigation has no word for.
    Other,
}

const PLACES: [(Place, &str, &str); 6] = [
    (Place::Overview, "/", "Overview"),
    (Place::Tasks, "/list", "Tasks"),
    (Place::New, "/new", "New task"),
    (Place::Workers, "/workers", "Workers"),
    (Place::Rejected, "/rejected", "Rejected files"),
    (Place::Config, "/config", "Configuration"),
];

/// A page before it has its frame.
#[derive(Debug)]
pub(super) struct Body {
    /// What the browser's tab says.
    pub(super) title: String,
    /// Where in the navigation it is.
    pub(super) place: Place,
    /// Which events make it old, as the query of `/api/v1/events` (`queue=emails`, or nothing for all); `None`: it stays.
    pub(super) live: Option<String>,
    /// What stands in it.
    pub(super) content: Markup,
}

impl Body {
    /// A page that stays as it is.
    pub(super) fn still(title: impl Into<String>, place: Place, content: Markup) -> Self {
        Self {
            title: title.into(),
            place,
            live: None,
            content,
        }
    }

    /// The page with the house's head, navigation and foot.
    pub(super) fn into_html(self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · workqueue" }
                    link rel="icon" href=(*assets::ICON_PATH) type="image/svg+xml";
                    link rel="stylesheet" href=(*assets::STYLE_PATH);
                    script src=(*assets::SCRIPT_PATH) defer {}
                }
                body data-live=[self.live] {
                    a class="skip" href="#main" { "Skip to the content" }
                    header class="top" {
                        div class="bar" {
                            a class="brand" href="/" { "workqueue" }
                            nav aria-label="Pages" {
                                ul {
                                    @for (place, path, name) in PLACES {
                                        li { a href=(path) aria-current=[(place == self.place).then_some("page")] { (name) } }
                                    }
                                }
                            }
                            // The script says here whether the page is live; it is spoken when it changes.
                            p id="connection" role="status" {}
                        }
                    }
                    main id="main" tabindex="-1" { (self.content) }
                    footer {
                        p { span id="zone" { "Times are in UTC." } }
                        p {
                            "workqueue " (env!("CARGO_PKG_VERSION")) " · "
                            a href="/api/docs" { "API" } " · " a href="/metrics" { "Metrics" }
                            " · " a href="/login" { "Log in or out" }
                        }
                    }
                }
            }
        }
        .into_string()
    }

    /// The page as an answer.
    pub(super) fn respond(self) -> Response {
        answer::of_type(HTML, StatusCode::OK, self.into_html())
    }
}

/// Whether the client is a browser that shows pages.
pub(in crate::http) fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"))
}

/// The page, or the problem: as a page for browsers, as a document for everyone else.
pub(super) fn answer(result: Result<Body, Problem>, headers: &HeaderMap, back: &str) -> Response {
    match result {
        Ok(body) => body.respond(),
        Err(problem) => refuse(problem, headers, back),
    }
}

/// A problem as a page for browsers, as a document for everyone else.
pub(in crate::http) fn refuse(problem: Problem, headers: &HeaderMap, back: &str) -> Response {
    if !wants_page(headers) {
        return problem.into_response();
    }
    let document = problem.document();
    let content = html! {
        h1 { (document.title) }
        p class="wrong" role="alert" dir="auto" { (document.detail) }
        p { a href=(back) { "Go back" } }
        p class="quiet" { "What this means: " a href=(document.kind) { (document.kind) } }
    };
    let body = Body::still(document.title.clone(), Place::Other, content).into_html();
    problem.respond(HTML, body)
}

/// 303: the browser is to get `path` now. A form that was sent is not sent again by a reload.
pub(super) fn see_other(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::try_from(path) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        // Paths are made of queue names, ids and encoded text, which all fit into a header.
        Err(_) => problem::INTERNAL
            .problem("the address of the next page can't be written")
            .into_response(),
    }
}

/// A page that is no part of this module, as an answer.
pub(crate) fn respond(title: &str, content: &Markup) -> Response {
    Body::still(title, Place::Other, content.clone()).respond()
}

/// What a kind of problem means, at the address that is its `type`.
#[utoipa::path(
    get, path = "/problems/{name}", tag = "operation", operation_id = "problem",
    params(("name" = String, Path, description = "The last part of a problem's `type`", example = "stale-token")),
    responses(
        (status = 200, description = "A page", body = String, content_type = "text/html"),
        (status = 404, description = "not-found"),
    )
)]
pub(crate) async fn problem(Path(name): Path<String>) -> Result<Response, Problem> {
    let kind = problem::ALL
        .iter()
        .find(|kind| kind.name == name)
        .ok_or_else(|| {
            problem::NOT_FOUND.problem(format!("no kind of problem is called {name}"))
        })?;
    let content = html! {
        h1 { (kind.title) }
        p class="quiet" { "Status " (kind.status.as_u16()) " · " code { "/problems/" (kind.name) } }
        p { (kind.about) }
    };
    Ok(Body::still(kind.title, Place::Other, content).respond())
}
