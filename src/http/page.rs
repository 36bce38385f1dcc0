//! The frame of every page, its stylesheet, and the small pages: errors and kinds of problem.
//!
//! Knows HTML, not tasks.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{
    answer,
    problem::{self, Problem},
};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("style.css");
/// The stylesheet may be kept for good: its address carries its version.
const STYLE_PATH: &str = concat!("/style.css?", env!("CARGO_PKG_VERSION"));
const STYLE_TAG: &str = concat!("\"", env!("CARGO_PKG_VERSION"), "\"");
const STYLE_CACHE: &str = "public, max-age=31536000";

/// A page with the house's head and navigation.
pub(crate) fn page(title: &str, content: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · workqueue" }
                link rel="stylesheet" href=(STYLE_PATH);
            }
            body {
                header {
                    nav aria-label="Pages" {
                        a href="/" { "workqueue" }
                        a href="/list" { "Tasks" }
                    }
                }
                main { (content) }
            }
        }
    }
    .into_string()
}

/// A page as an answer.
pub(crate) fn respond(title: &str, content: &Markup) -> Response {
    answer::of_type(HTML, StatusCode::OK, page(title, content))
}

/// Whether the client is a browser that shows pages.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"))
}

/// A problem as a page for browsers, as a document for everyone else.
pub(crate) fn refuse(problem: Problem, headers: &HeaderMap, back: &str) -> Response {
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
    let body = page(&document.title, &content);
    problem.respond(HTML, body)
}

/// The stylesheet of all pages.
pub(crate) async fn style(headers: HeaderMap) -> Response {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tag| tag == STYLE_TAG);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        answer::of_type("text/css; charset=utf-8", StatusCode::OK, STYLE)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_static(STYLE_TAG));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(STYLE_CACHE));
    response
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
    Ok(respond(kind.title, &content))
}
