//! The pages: HTML that is whole without a script, and that one small script keeps up to date.
//!
//! A file is a page. All text of tasks, workers and files is escaped, and stands where its direction can't turn the text
//! around it. Forms are sent with POST and answered with a redirect; one that is wrong comes back with its field named and
//! what was filled in.

mod actions;
mod assets;
mod banner;
mod chart;
mod config;
mod confirm;
mod forms;
mod frame;
mod history;
mod list;
mod login;
mod notice;
mod overview;
mod past;
mod queue;
mod rejected;
mod submit;
mod table;
mod task;
mod words;
mod workers;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use super::Http;
use crate::backend::Backend;

pub(crate) use frame::{__path_problem, problem, respond};
pub(super) use frame::{refuse, wants_page};
pub(super) use login::to_login;

/// The paths of all pages, forms, and what they load.
pub(super) fn routes<B: Backend>(http: &Arc<Http<B>>) -> Router {
    Router::new()
        .route("/", get(overview::show::<B>))
        .route("/list", get(list::show::<B>))
        .route("/new", get(submit::show::<B>).post(submit::submit::<B>))
        .route("/delete", post(actions::delete::<B>))
        .route("/queues", get(overview::all_queues::<B>))
        .route("/queues/{queue}", get(queue::show::<B>))
        .route("/queues/{queue}/switch", post(actions::switch::<B>))
        .route(
            "/queues/{queue}/dead",
            get(confirm::dead::<B>).post(actions::dead::<B>),
        )
        .route("/tasks/{id}", get(task::show::<B>).post(actions::task::<B>))
        .route("/tasks/{id}/cancel", get(confirm::cancel::<B>))
        .route("/workers", get(workers::show::<B>))
        .route(
            "/rejected",
            get(rejected::show::<B>).post(actions::rejected::<B>),
        )
        .route("/config", get(config::show::<B>))
        .route("/login", get(login::show::<B>).post(login::login::<B>))
        .route("/logout", post(login::logout::<B>))
        .route("/style.css", get(assets::style))
        .route("/live.js", get(assets::script))
        .route("/icon.svg", get(assets::icon))
        .with_state(Arc::clone(http))
}
