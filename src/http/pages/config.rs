//! `/config`: the settings that hold, and where each comes from.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{About, Http, Pairs, Problem, Shared, problem},
    frame::{self, Body, Place},
    words,
};
use crate::backend::Backend;

/// The page.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(page(&http, request.uri().query()), request.headers(), "/")
}

fn page<B>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    Pairs::of_query(query, &[])?;
    let about = http
        .about
        .as_ref()
        .ok_or_else(|| problem::NOT_FOUND.problem("the process tells nothing of its settings"))?;
    let content = html! {
        h1 { "Configuration" }
        (process(&**about, (http.clock)().wall))
        h2 { "Settings" }
        p { "Flags beat the environment, which beats the file. Secrets are not shown." }
        div class="scroll" tabindex="0" role="region" aria-label="Settings" {
            table {
                caption class="unseen" { "Settings by key" }
                thead { tr {
                    th scope="col" { "Key" } th scope="col" { "Value" } th scope="col" { "Comes from" }
                } }
                tbody {
                    @for setting in about.settings() {
                        tr {
                            th scope="row" class="code" { (setting.key) }
                            td class="value" data-name="Value" { (setting.told()) }
                            td data-name="Comes from" class=[(setting.source == "default").then_some("quiet")] { (setting.source) }
                        }
                    }
                }
            }
        }
    };
    Ok(Body::still("Configuration", Place::Config, content))
}

fn process(about: &dyn About, now: crate::task::WallMillis) -> Markup {
    let facts = about.facts();
    html! {
        dl class="facts wide" {
            div { dt { "Version" } dd { (facts.version) } }
            div { dt { "Process" } dd { (facts.pid) } }
            div { dt { "Started" } dd { (words::moment_and_distance(facts.started, now)) } }
            div { dt { "Data directory" } dd { code { (facts.data_dir) } } }
            div { dt { "Listens on" } dd { (facts.listen.join(", ")) } }
            @if let Some(socket) = &facts.admin_socket { div { dt { "Admin socket" } dd { code { (socket) } } } }
        }
    }
}
