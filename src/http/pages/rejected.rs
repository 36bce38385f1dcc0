//! `/rejected`: files that could not be taken in, why, and what to do with them.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared},
    frame::{self, Body, Place},
    notice, words,
};
use crate::{
    backend::{Backend, RejectedView},
    task::WallMillis,
};

/// How many files a page shows: with the beginning of each it stays below 60 KB.
const PAGE: usize = 25;
/// How much of a file's beginning is shown, in bytes of HTML.
const BEGINNING: usize = 1000;

/// The page.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(
        page(&http, request.uri().query()).await,
        request.headers(),
        "/rejected",
    )
}

async fn page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    let pairs = Pairs::of_query(query, &notice::KEYS)?;
    let mut files = http.backend.rejected(PAGE + 1).await?;
    let is_cut = files.len() > PAGE;
    files.truncate(PAGE);
    let now = (http.clock)().wall;
    let content = html! {
        (notice::of(&pairs))
        h1 { "Rejected files" }
        p {
            "Files that were dropped into the task directory and are no tasks. Correct one in "
            code { "rejected/" } ", then retry it."
        }
        div id="rejected" {
            @if files.is_empty() { p class="empty" { "None. Every file was taken in." } }
            @for file in &files { (one(file, now)) }
            @if is_cut { p class="quiet" { "These are the newest " (PAGE) ". Settle some, and older ones show." } }
        }
    };
    Ok(Body {
        title: "Rejected files".to_owned(),
        place: Place::Rejected,
        live: Some(String::new()),
        content,
    })
}

fn one(file: &RejectedView, now: WallMillis) -> Markup {
    let shown = words::visible(&file.beginning, BEGINNING, true);
    html! {
        article class="panel" {
            h2 { bdi { (file.name) } }
            p class="wrong" dir="auto" {
                @if file.reason.is_empty() { "No reason was kept." } @else { (words::visible(&file.reason, 1000, true).markup) }
            }
            @if file.moved {
                p class="quiet" {
                    @if let Some(size) = file.size { (words::bytes(size)) ", " }
                    "rejected" @if let Some(at) = file.modified { " " (words::moment_and_distance(at, now)) }
                }
                @if !file.beginning.is_empty() {
                    pre class="text" dir="auto" tabindex="0" role="group" aria-label={ "The beginning of " (file.name) } {
                        (shown.markup) @if !shown.whole || file.size > Some(file.beginning.len() as u64) { "…" }
                    }
                }
                form method="post" action="/rejected" class="actions" {
                    input type="hidden" name="name" value=(file.name);
                    button class="plain" name="do" value="retry" aria-label={ "Retry " (file.name) } { "Retry" }
                    button class="plain danger" name="do" value="discard" aria-label={ "Discard " (file.name) } { "Discard" }
                }
            } @else {
                p class="quiet" { "It was left where it is. Remove it by hand, or mend what keeps it from being taken." }
            }
        }
    }
}
