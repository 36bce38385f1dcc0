//! What is going on: queues, workers, the status screen, and `top`, which shows them again and again.

use std::{fmt::Write as _, time::Duration};

use http::Method;
use jiff::tz::TimeZone;

use super::{
    admin,
    call::{Endpoint, ask, ask_raw, read},
    console::{Colour, Console, paint},
    error::CtlError,
    events::Interrupt,
    notices::{self, Notice},
    table::{Cell, Side, Table, escaped},
    when,
};
use crate::api;

const QUEUES: &str = "/api/v1/queues";
const WORKERS: &str = "/api/v1/workers";
/// How often `top` looks.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn queues(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::GET, QUEUES, None).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let queues = read::<api::Queues>(&answer)?.queues;
    if queues.is_empty() {
        return Ok(
            console.line("no queue yet; the first task makes one: workqueuectl submit hello")?
        );
    }
    let text = queue_table(&queues).render(console.colour);
    Ok(console.out.write_all(text.as_bytes())?)
}

pub(super) async fn workers(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::GET, WORKERS, None).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let workers = read::<api::Workers>(&answer)?.workers;
    if workers.is_empty() {
        return Ok(console
            .line("no worker has asked for tasks; start one: systemctl start workqueue-worker")?);
    }
    let text = worker_table(&workers, when::now()).render(console.colour);
    Ok(console.out.write_all(text.as_bytes())?)
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

pub(super) async fn status(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = ask_raw(endpoint, Method::GET, "/status", None).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let status: api::Status = read(&answer)?;
    let queues: api::Queues = ask(endpoint, Method::GET, QUEUES, None).await?;
    let workers: api::Workers = ask(endpoint, Method::GET, WORKERS, None).await?;
    let text = screen(&status, &queues.queues, &workers.workers, console.colour);
    Ok(console.out.write_all(text.as_bytes())?)
}

/// The screen: the head, the queues, and what is not well with what to type.
fn screen(
    status: &api::Status,
    queues: &[api::Queue],
    workers: &[api::Worker],
    colour: bool,
) -> String {
    let mut text = head(status, workers.len(), colour);
    if !queues.is_empty() {
        text.push('\n');
        text.push_str(&queue_table(queues).render(colour));
    }
    text.push('\n');
    let notices = notices::of(status, queues, workers);
    if notices.is_empty() {
        text.push_str(&paint(colour, Colour::Green, "all is well"));
        text.push('\n');
    }
    for Notice {
        colour: tint,
        what,
        next,
    } in notices
    {
        text.push_str(&paint(colour, tint, &escaped(&what)));
        text.push('\n');
        if !next.is_empty() {
            text.extend(["    ", next, "\n"]);
        }
    }
    text
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
            .map(|address| format!("http://{address}"))
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

pub(super) async fn top(
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    if json || !console.terminal {
        let (text, value) = look(endpoint, console.colour).await?;
        if json {
            console.json(&value)?;
        } else {
            console.out.write_all(text.as_bytes())?;
        }
        return Ok(());
    }
    let mut interrupt = Interrupt::new()?;
    // The alternate screen, so that what stood there comes back; the cursor hidden.
    console.out.write_all(b"\x1b[?1049h\x1b[?25l")?;
    let ended = watch(endpoint, &mut interrupt, console).await;
    console.out.write_all(b"\x1b[?25h\x1b[?1049l")?;
    console.out.flush()?;
    ended
}

async fn watch(
    endpoint: &Endpoint,
    interrupt: &mut Interrupt,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            () = interrupt.wait() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let text = match look(endpoint, console.colour).await {
            Ok((text, _)) => text,
            // A daemon that restarts is waited for.
            Err(error @ CtlError::Unreachable { .. }) => format!("{error}\n"),
            Err(error) => return Err(error),
        };
        let lines = text
            .lines()
            .fold(String::new(), |all, line| all + line + "\x1b[K\n");
        write!(console.out, "\x1b[H{lines}\x1b[J\nCtrl-C ends")?;
        console.out.flush()?;
    }
}

/// One picture: the queues and the workers; with the status, where the endpoint serves it.
async fn look(endpoint: &Endpoint, colour: bool) -> Result<(String, serde_json::Value), CtlError> {
    let queues: api::Queues = ask(endpoint, Method::GET, QUEUES, None).await?;
    let workers: api::Workers = ask(endpoint, Method::GET, WORKERS, None).await?;
    let status = match endpoint {
        Endpoint::Socket(_) => Some(admin::status(endpoint).await?),
        Endpoint::Tcp { .. } => None,
    };
    let head = status
        .as_ref()
        .map(|status| head(status, workers.workers.len(), colour) + "\n");
    let text = format!(
        "{}{}\n{}",
        head.unwrap_or_default(),
        queue_table(&queues.queues).render(colour),
        worker_table(&workers.workers, when::now()).render(colour)
    );
    let value = serde_json::json!({
        "status": status,
        "queues": queues.queues,
        "workers": workers.workers,
    });
    Ok((text, value))
}
