//! What is going on: queues, workers, and the status screen.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::{
    console::{Colour, paint},
    error::CtlError,
    session::Session,
    table::{Cell, Side, Table, escaped},
    when,
};
use crate::{api, client::Endpoint};

pub(super) async fn queues(session: &mut Session<'_>) -> Result<(), CtlError> {
    let answer = session.client.queues().await?;
    if session.told_all(&answer, &answer.queues)? {
        return Ok(());
    }
    if answer.queues.is_empty() {
        let text = "no queue yet; the first task makes one: workqueuectl submit hello";
        return Ok(session.console.line(text)?);
    }
    let text = queue_table(&answer.queues).render(session.console.colour);
    Ok(session.console.out.write_all(text.as_bytes())?)
}

pub(super) async fn workers(session: &mut Session<'_>) -> Result<(), CtlError> {
    let answer = session.client.workers().await?;
    if session.told_all(&answer, &answer.workers)? {
        return Ok(());
    }
    if answer.workers.is_empty() {
        let text = "no worker has asked for tasks; start one: systemctl start workqueue-worker";
        return Ok(session.console.line(text)?);
    }
    let text = worker_table(&answer.workers, when::now()).render(session.console.colour);
    Ok(session.console.out.write_all(text.as_bytes())?)
}

fn queue_table(queues: &[api::Queue]) -> Table {
    let mut table = Table::new([
        ("QUEUE", Side::Left),
        ("READY", Side::Right),
        ("SCHEDULED", Side::Right),
        ("LEASED", Side::Right),
        ("DEAD", Side::Right),
        ("OLDEST", Side::Right),
        ("SUBMITTED/S", Side::Right),
        ("COMPLETED/S", Side::Right),
        ("STATE", Side::Left),
    ]);
    for queue in queues {
        let (state, colour) = match (queue.paused, queue.draining) {
            (true, true) => ("paused, draining", Colour::Yellow),
            (true, false) => ("paused", Colour::Yellow),
            (false, true) => ("draining", Colour::Yellow),
            (false, false) => ("", Colour::Plain),
        };
        let dead = if queue.dead > 0 {
            Colour::Red
        } else {
            Colour::Plain
        };
        table.row([
            (&queue.queue).into(),
            queue.ready.to_string().into(),
            queue.scheduled.to_string().into(),
            queue.leased.to_string().into(),
            Cell::coloured(queue.dead.to_string(), dead),
            queue
                .oldest_due_age
                .map_or_else(|| "-".to_owned(), when::length)
                .into(),
            format!("{:.1}", queue.submitted_per_second).into(),
            format!("{:.1}", queue.completed_per_second).into(),
            Cell::coloured(state, colour),
        ]);
    }
    table
}

fn worker_table(workers: &[api::Worker], now: f64) -> Table {
    let mut table = Table::new([
        ("WORKER", Side::Left),
        ("HOLDS", Side::Right),
        ("CLAIMED", Side::Right),
        ("COMPLETED", Side::Right),
        ("FAILED", Side::Right),
        ("LAST SEEN", Side::Left),
    ]);
    for worker in workers {
        let seen = if worker.waiting {
            "waits for a task".to_owned()
        } else {
            format!("{} ago", when::length(now - worker.last_seen))
        };
        table.row([
            (&worker.worker).into(),
            worker.holds.len().to_string().into(),
            worker.claimed.to_string().into(),
            worker.completed.to_string().into(),
            worker.failed.to_string().into(),
            seen.into(),
        ]);
    }
    table
}

pub(super) async fn status(session: &mut Session<'_>) -> Result<(), CtlError> {
    // TCP serves no status of the daemon itself, but all that tells whether work is done.
    let status = match session.client.endpoint() {
        Endpoint::Unix(_) => Some(session.client.status().await?),
        Endpoint::Http(_) => None,
    };
    let troubles = match &status {
        Some(status) => status.troubles.clone(),
        None => session.client.troubles().await?.troubles,
    };
    match &status {
        Some(status) if session.told(status)? => return Ok(()),
        None if session.is_for_programs() => {
            return Err(CtlError::Usage(format!(
                "{} does not serve the status; the admin API is on the Unix socket: leave --url out, or give --socket PATH",
                session.client.endpoint()
            )));
        }
        _ => {}
    }
    let queues = session.client.queues().await?.queues;
    let workers = session.client.workers().await?.workers;
    let colour = session.console.colour;
    let mut text = match &status {
        Some(status) => head(status, workers.len(), colour),
        None => short_head(session.client.endpoint(), &workers),
    };
    if !queues.is_empty() {
        text.push('\n');
        text.push_str(&queue_table(&queues).render(colour));
    }
    text.push('\n');
    text.push_str(&told(&troubles, colour));
    Ok(session.console.out.write_all(text.as_bytes())?)
}

/// What is not well, the worst first, each with what to type next.
fn told(troubles: &[api::Trouble], colour: bool) -> String {
    if troubles.is_empty() {
        return paint(colour, Colour::Green, "all is well") + "\n";
    }
    let mut text = String::new();
    for trouble in troubles {
        let tint = match trouble.severity {
            api::Severity::Critical => Colour::Red,
            api::Severity::Warning | api::Severity::Notice => Colour::Yellow,
        };
        text.push_str(&paint(colour, tint, &escaped(&trouble.what)));
        text.push('\n');
        if !trouble.next.is_empty() {
            text.extend(["    ", &escaped(&trouble.next), "\n"]);
        }
    }
    text
}

/// What TCP tells of the daemon.
fn short_head(endpoint: &Endpoint, workers: &[api::Worker]) -> String {
    format!(
        "{:<12}{endpoint}\n{:<12}{} known\n",
        "daemon",
        "workers",
        workers.len()
    )
}

/// One picture of what `top` shows, as text.
pub(super) fn picture(
    status: Option<&api::Status>,
    queues: &[api::Queue],
    workers: &[api::Worker],
    now: f64,
    session: &Session<'_>,
) -> String {
    let colour = session.console.colour;
    let head = status.map(|status| head(status, workers.len(), colour) + "\n");
    format!(
        "{}{}\n{}",
        head.unwrap_or_default(),
        queue_table(queues).render(colour),
        worker_table(workers, now).render(colour)
    )
}

fn head(status: &api::Status, workers: usize, colour: bool) -> String {
    let tint = match status.status.as_str() {
        "ok" => Colour::Green,
        "failed" | "full" => Colour::Red,
        _ => Colour::Yellow,
    };
    let listen = if status.listen.is_empty() {
        "no TCP address".to_owned()
    } else {
        status
            .listen
            .iter()
            .map(|address| {
                if address.contains("://") {
                    address.clone()
                } else {
                    format!("http://{address}")
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let since = when::show(status.started, &TimeZone::system());
    let lines = [
        ("status", paint(colour, tint, &escaped(&status.status))),
        (
            "daemon",
            format!(
                "workqueued {}, pid {}, up {} (since {since})",
                status.version,
                status.pid,
                when::length(status.uptime)
            ),
        ),
        ("serves", escaped(&listen)),
        (
            "data",
            format!(
                "{} (durability {})",
                escaped(&status.data_dir),
                status.durability
            ),
        ),
        (
            "tasks",
            format!(
                "{} ready, {} scheduled, {} leased, {} dead",
                status.ready, status.scheduled, status.leased, status.dead
            ),
        ),
        (
            "workers",
            format!("{workers} known, {} waiting claims", status.waiting_claims),
        ),
        (
            "since start",
            format!(
                "{} submitted, {} completed, {} failed attempts, {} expired leases",
                status.totals.submitted,
                status.totals.completed,
                status.totals.failed,
                status.totals.expired
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a String can't fail.
        let _unfailing = writeln!(text, "{name:<12}{value}");
    }
    text
}
