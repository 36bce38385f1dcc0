//! What is shown: status, settings, leases, rejected files.
//!
//! Knows how numbers are written, not where they come from.

use axum::extract::{Request, State};

use super::{Control, Shared};
use crate::{
    api,
    backend::{Backend, StatusView},
    http::{Answer, NoQuery, Pairs, Problem, find_troubles, lease_view, ok, rejected_view, totals},
    task::State as TaskState,
};

/// How many tasks are asked for at once while leases are listed.
const PAGE: usize = 1000;
/// How many rejected files are shown that are asked for without a limit.
const DEFAULT_REJECTED: usize = 100;
/// The most of them.
const MAX_REJECTED: usize = 10_000;

/// The whole in numbers.
#[utoipa::path(
    get, path = "/status", tag = "admin", operation_id = "status",
    responses(
        (status = 200, description = "As it is now", body = api::Status),
        (status = 400, description = "invalid-field"),
    )
)]
pub(super) async fn status<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    _: NoQuery,
) -> Answer {
    let view = admin.http.backend.status().await?;
    let facts = admin.control.facts();
    let stopping = admin.http.stop.is_cancelled();
    let started = facts.started;
    let now = (admin.http.clock)().wall;
    let [leased, ready, scheduled, dead] = view.counts;
    ok(&api::Status {
        status: word(&view, stopping).to_owned(),
        fault: view.fault.as_deref().map(str::to_owned),
        version: facts.version,
        pid: facts.pid,
        started: started.as_secs_f64(),
        uptime: (now.0 - started.0) as f64 / 1000.0,
        data_dir: facts.data_dir,
        listen: facts.listen,
        admin_socket: facts.admin_socket,
        durability: facts.durability,
        ready,
        scheduled,
        leased,
        dead,
        queues: view.queues,
        paused: view.paused,
        draining: view.draining,
        waiting_claims: view.waiting_claims,
        totals: totals(view.counters),
        spool_lag_seconds: view.spool_lag.as_secs_f64(),
        spool_pending: view.spool_pending,
        spool_failing: view.spool_failing,
        drops_waiting: view.drops_waiting,
        left_behind: view.left_behind,
        journal_bytes: view.journal_bytes,
        journal_syncs: view.journal_syncs,
        journal_records: view.journal_records,
        rejected: view.rejected,
        disk_free: view.disk.map(|disk| disk.free),
        disk_size: view.disk.map(|disk| disk.size),
        troubles: find_troubles(&admin.http).await?,
    })
}

/// The worst of what is the case.
const fn word(view: &StatusView, stopping: bool) -> &'static str {
    if view.fault.is_some() {
        "failed"
    } else if stopping {
        "stopping"
    } else if view.disk_full {
        "full"
    } else if view.draining {
        "draining"
    } else if view.paused {
        "paused"
    } else {
        "ok"
    }
}

/// All settings and where each comes from; secrets hidden.
#[utoipa::path(
    get, path = "/config", tag = "admin", operation_id = "config",
    responses(
        (status = 200, description = "As it is now", body = api::Config),
        (status = 400, description = "invalid-field"),
    )
)]
pub(super) async fn config<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    _: NoQuery,
) -> Answer {
    ok(&api::Config {
        settings: admin.control.settings(),
    })
}

/// All leases.
#[utoipa::path(
    get, path = "/leases", tag = "admin", operation_id = "leases",
    responses(
        (status = 200, description = "As it is now", body = api::Leases),
        (status = 400, description = "invalid-field"),
    )
)]
pub(super) async fn leases<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    _: NoQuery,
) -> Answer {
    let mut leases = Vec::new();
    let mut after = None;
    loop {
        let page = admin
            .http
            .backend
            .tasks(crate::backend::PageQuery {
                queue: None,
                state: Some(TaskState::Leased),
                id_prefix: None,
                limit: PAGE,
                after,
            })
            .await?;
        leases.extend(page.tasks.iter().filter_map(lease_view));
        after = page.next;
        if after.is_none() {
            return ok(&api::Leases { leases });
        }
    }
}

/// Files that could not be taken in, newest first.
#[utoipa::path(
    get, path = "/rejected", tag = "admin", operation_id = "rejected",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 10_000, description = "At most so many; default 100")),
    responses(
        (status = 200, description = "The files", body = api::Rejected),
        (status = 400, description = "invalid-field"),
    )
)]
pub(super) async fn rejected<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let pairs = Pairs::of_query(request.uri().query(), &["limit"])?;
    pairs.none_blank()?;
    let limit = match pairs.filled("limit") {
        None => DEFAULT_REJECTED,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_REJECTED).contains(limit))
            .ok_or_else(|| Problem::invalid("limit", "not a whole number from 1 to 10000"))?,
    };
    let rejected = admin.http.backend.rejected(limit).await?;
    ok(&api::Rejected {
        rejected: rejected.into_iter().map(rejected_view).collect(),
    })
}
