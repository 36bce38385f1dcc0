//! Verbs on tasks: list, show, cancel, retry, purge.

use std::io::BufRead as _;

use http::Method;
use jiff::tz::TimeZone;

use super::{
    admin,
    call::{Body, Endpoint, ask, ask_raw, read},
    cli::{List, Purge, Retry},
    console::{Colour, Console},
    error::CtlError,
    table::{Cell, Side, Table, escaped, shortened},
    when,
};
use crate::{api, task::State};

/// The most tasks in one page that the API gives.
const PAGE: u64 = 1000;
/// How much of a payload a table shows.
const PAYLOAD_WIDTH: usize = 48;

pub(super) async fn list(
    list: List,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut left = if list.all { u64::MAX } else { list.limit };
    let mut after = None;
    let mut shown = false;
    loop {
        let path = page_path(&list, left.min(PAGE), after.as_deref());
        let page: api::TaskPage = ask(endpoint, Method::GET, &path, None).await?;
        left = left.saturating_sub(page.tasks.len() as u64);
        if json {
            for task in &page.tasks {
                console.json(task)?;
            }
        } else if !page.tasks.is_empty() {
            let text = table(&page.tasks, when::now()).render(console.colour);
            console.out.write_all(text.as_bytes())?;
        }
        shown |= !page.tasks.is_empty();
        after = page.next;
        if after.is_none() || left == 0 || page.tasks.is_empty() {
            break;
        }
    }
    if json {
        return Ok(());
    }
    if !shown {
        console.line("no tasks")?;
    } else if after.is_some() {
        console.note("there are more: --limit NUMBER, or --all")?;
    }
    Ok(())
}

fn page_path(list: &List, limit: u64, after: Option<&str>) -> String {
    let mut path = format!("/api/v1/tasks?limit={limit}");
    let pairs = [
        ("queue", list.queue.as_deref()),
        ("state", list.state.map(|name| name.state().as_str())),
        ("after", after),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            path.extend(["&", name, "=", &encoded(value)]);
        }
    }
    path
}

/// Percent-encoding of RFC 3986, section 2: all but the unreserved characters.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn table(tasks: &[api::Task], now: f64) -> Table {
    let mut table = Table::new([
        ("ID", Side::Left),
        ("QUEUE", Side::Left),
        ("STATE", Side::Left),
        ("PRIORITY", Side::Right),
        ("DUE", Side::Left),
        ("ATTEMPTS", Side::Right),
        ("PAYLOAD", Side::Left),
    ]);
    for task in tasks {
        table.row([
            (&task.id).into(),
            (&task.queue).into(),
            Cell::coloured(&task.state, colour(&task.state)),
            task.priority.to_string().into(),
            when::due(task.exectime, now).into(),
            format!("{}/{}", task.attempts, task.max_attempts).into(),
            shortened(&task.payload.to_display(), PAYLOAD_WIDTH).into(),
        ]);
    }
    table
}

fn colour(state: &str) -> Colour {
    match State::parse(state) {
        Ok(State::Dead) => Colour::Red,
        Ok(State::Leased) => Colour::Green,
        Ok(State::Scheduled) => Colour::Dim,
        Ok(State::Ready) | Err(_) => Colour::Plain,
    }
}

pub(super) async fn show(
    ids: &[String],
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut refused = Refused::default();
    for (index, id) in ids.iter().enumerate() {
        let path = format!("/api/v1/tasks/{id}");
        let Some(answer) =
            refused.check(ask_raw(endpoint, Method::GET, &path, None).await, console)?
        else {
            continue;
        };
        if json {
            console.raw(&answer)?;
            continue;
        }
        if index > 0 {
            console.line("")?;
        }
        let text = description(&read(&answer)?, when::now(), &TimeZone::system());
        console.out.write_all(text.as_bytes())?;
    }
    refused.finish(ids.len())
}

/// All that is known of a task, a line each, the payload last.
fn description(task: &api::Task, now: f64, zone: &TimeZone) -> String {
    let exectime = match task.exectime {
        0 => "as soon as possible".to_owned(),
        secs => format!(
            "{} ({})",
            when::show(secs as f64, zone),
            when::due(secs, now)
        ),
    };
    let lease_expires = task.lease_expires.map(|secs| {
        format!(
            "{} ({})",
            when::show(secs, zone),
            when::due(secs as i64, now)
        )
    });
    let backoff = task.backoff.map(|backoff| {
        let max = backoff
            .max
            .map(|secs| format!(", at most {}", when::length(secs)));
        format!("{}{}", when::length(backoff.base), max.unwrap_or_default())
    });
    let lines = [
        ("id", Some(task.id.clone())),
        ("queue", Some(task.queue.clone())),
        ("state", Some(task.state.clone())),
        ("priority", Some(task.priority.to_string())),
        ("exectime", Some(exectime)),
        (
            "attempts",
            Some(format!("{} of {}", task.attempts, task.max_attempts)),
        ),
        ("worker", task.worker.clone()),
        ("lease ends", lease_expires),
        ("last error", task.last_error.clone()),
        ("unique key", task.unique_key.clone()),
        ("lease", task.lease.map(when::length)),
        ("backoff", backoff),
        ("payload", Some(task.payload.to_display())),
    ];
    lines
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name:<12}{}\n", multiline(&value))))
        .collect()
}

/// A value of several lines keeps them, set in; nothing else that could drive a terminal passes.
fn multiline(value: &str) -> String {
    let lines: Vec<String> = value.lines().map(escaped).collect();
    lines.join(&format!("\n{:12}", ""))
}

pub(super) async fn cancel(
    ids: &[String],
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    each(
        ids,
        Method::DELETE,
        "",
        "cancelled",
        endpoint,
        json,
        console,
    )
    .await
}

pub(super) async fn retry(
    retry: Retry,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    if !retry.dead {
        return each(
            &retry.ids,
            Method::POST,
            "/retry",
            "ready again",
            endpoint,
            json,
            console,
        )
        .await;
    }
    let body = Body::json(&api::QueueChoice { queue: retry.queue })?;
    let answer = ask_raw(endpoint, Method::POST, "/retry-dead", Some(body)).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let count = read::<api::Count>(&answer)?.count;
    Ok(console.line(&format!("{} brought back", tasks(count, "dead")))?)
}

/// Does the same to each task; one that is refused does not keep the others from it.
async fn each(
    ids: &[String],
    method: Method,
    end: &str,
    text: &str,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut refused = Refused::default();
    for id in ids {
        let path = format!("/api/v1/tasks/{id}{end}");
        let answer = ask_raw(endpoint, method.clone(), &path, None).await;
        match refused.check(answer, console)? {
            None => {}
            // A cancelled task is gone: the answer has no body.
            Some(answer) if json && answer.is_empty() => {
                console.json(&serde_json::json!({ "id": id }))?;
            }
            Some(answer) if json => console.raw(&answer)?,
            Some(_) => console.line(&format!("{id} {text}"))?,
        }
    }
    refused.finish(ids.len())
}

/// Counts refusals among several tasks, telling each as it comes.
#[derive(Default)]
struct Refused {
    last: Option<CtlError>,
    count: usize,
}

impl Refused {
    fn check<T>(
        &mut self,
        answer: Result<T, CtlError>,
        console: &mut Console,
    ) -> Result<Option<T>, CtlError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ CtlError::Refused(_)) => {
                if let Some(before) = self.last.replace(error) {
                    console.note(&format!("workqueuectl: {before}"))?;
                }
                self.count += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The one refusal there was, or how many of several.
    fn finish(self, asked: usize) -> Result<(), CtlError> {
        match self.last {
            None => Ok(()),
            Some(error) if self.count == 1 => Err(error),
            Some(error) => Err(CtlError::NotWell(format!(
                "{error}\n{} of {asked} were refused",
                self.count
            ))),
        }
    }
}

pub(super) async fn purge(
    purge: Purge,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let state = purge.state.state();
    if !purge.yes {
        let count = purged(&purge, endpoint).await?;
        let of = purge
            .queue
            .as_ref()
            .map_or_else(String::new, |name| format!(" of queue {name}"));
        let what = format!("{}{of}", tasks(count, state.as_str()));
        if !confirmed(&what, console)? {
            return Ok(console.line("nothing was cancelled")?);
        }
    }
    let body = Body::json(&api::Purge {
        queue: purge.queue,
        state: Some(state.as_str().to_owned()),
    })?;
    let answer = ask_raw(endpoint, Method::POST, "/purge", Some(body)).await?;
    if json {
        return Ok(console.raw(&answer)?);
    }
    let count = read::<api::Count>(&answer)?.count;
    Ok(console.line(&format!("{} cancelled", tasks(count, state.as_str())))?)
}

/// How many tasks a purge would cancel now.
async fn purged(purge: &Purge, endpoint: &Endpoint) -> Result<u64, CtlError> {
    let of = |state: State, ready: u64, scheduled: u64, dead: u64| match state {
        State::Ready => ready,
        State::Scheduled => scheduled,
        State::Dead => dead,
        State::Leased => 0,
    };
    let state = purge.state.state();
    if let Some(name) = &purge.queue {
        let path = format!("/api/v1/queues/{name}");
        let queue: api::Queue = ask(endpoint, Method::GET, &path, None).await?;
        return Ok(of(state, queue.ready, queue.scheduled, queue.dead));
    }
    let all = admin::status(endpoint).await?;
    Ok(of(state, all.ready, all.scheduled, all.dead))
}

fn confirmed(what: &str, console: &mut Console) -> Result<bool, CtlError> {
    if !console.interactive {
        return Err(CtlError::Usage(format!(
            "{what} would be cancelled, for good; say --yes if that is meant"
        )));
    }
    write!(console.err, "Cancel {what}, for good? [y/N] ")?;
    console.err.flush()?;
    let mut answer = String::new();
    if let Some(input) = console.input.take() {
        std::io::BufReader::new(input).read_line(&mut answer)?;
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tasks(count: u64, state: &str) -> String {
    let plural = if count == 1 { "task" } else { "tasks" };
    format!("{count} {state} {plural}")
}
