//! `/list`: the tasks of all queues.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::html;

use super::{
    super::{Http, Problem, Shared, pairs},
    frame::{self, Body},
    notice,
    table::{self, Place},
};
use crate::{backend::Backend, task::QueueName};

/// The page.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(
        page(&http, request.uri().query()).await,
        request.headers(),
        "/list",
    )
}

async fn page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    let (query, pairs) = table::query(query, None)?;
    let (page, _share) = http.page(query.clone()).await?;
    let place = Place {
        path: "/list",
        is_queue: false,
        id: pairs.filled("id").unwrap_or_default(),
    };
    let live = query
        .queue
        .as_ref()
        .map_or_else(String::new, |queue: &QueueName| {
            format!("queue={}", pairs::encode(queue.as_str()))
        });
    Ok(Body {
        title: "Tasks".to_owned(),
        place: frame::Place::Tasks,
        live: Some(live),
        content: html! {
            (notice::of(&pairs))
            h1 { "Tasks" }
            (table::filter(&place, &query))
            (table::table(&place, &query, &page))
        },
    })
}
