//! Tasks to look at: `list`, and `show` with all that is known of one.

use jiff::tz::TimeZone;

use super::{
    cli::List,
    console::Colour,
    error::CtlError,
    pager::Pager,
    session::Session,
    table::{Cell, Side, Table, escaped, multiline, shortened},
    tasks::Refused,
    when,
};
use crate::{api, client::TaskQuery, task::State};

/// The most tasks in one page that the API gives.
const PAGE: u64 = 1000;
/// How much of a payload a table shows where its width is not given by a terminal.
const PAYLOAD_WIDTH: usize = 48;
/// What a payload gets on a narrow terminal: its lines are broken then.
const PAYLOAD_LEAST: usize = 16;

pub(super) async fn run(list: List, session: &mut Session<'_>) -> Result<(), CtlError> {
    if session.is_for_programs() || list.no_pager {
        return pages(&list, session).await;
    }
    let pager = Pager::start(session.console)?;
    let done = pages(&list, session).await;
    if let Some(pager) = pager {
        pager.finish(session.console)?;
    }
    done
}

async fn pages(list: &List, session: &mut Session<'_>) -> Result<(), CtlError> {
    let mut left = if list.all { u64::MAX } else { list.limit };
    let mut query = TaskQuery {
        queue: list.queue.clone(),
        state: list.state.map(|name| name.state().as_str().to_owned()),
        id_prefix: list.id.clone(),
        ..TaskQuery::default()
    };
    // The widths of the first page's columns; the pages after it go on below.
    let mut widths: Option<Vec<usize>> = None;
    loop {
        query.limit = Some(left.min(PAGE) as u32);
        let page = match session.client.tasks(&query).await {
            Ok(page) => page,
            Err(error) => return Err(session.guessed(error, list.queue.as_deref()).await),
        };
        left = left.saturating_sub(page.tasks.len() as u64);
        if session.is_for_programs() {
            for task in &page.tasks {
                session.told(task)?;
            }
        } else if !page.tasks.is_empty() {
            let table = table(&page.tasks, session.console.columns);
            let colour = session.console.colour;
            let text = match &widths {
                None => table.render(colour),
                Some(widths) => table.render_below(widths, colour),
            };
            widths = Some(table.widths(&widths.unwrap_or_default()));
            session.console.out.write_all(text.as_bytes())?;
        }
        let is_last = page.next.is_none() || left == 0 || page.tasks.is_empty();
        query.after = page.next;
        if is_last {
            break;
        }
    }
    if session.is_for_programs() {
        return Ok(());
    }
    if widths.is_none() {
        return Ok(session.console.line("no tasks")?);
    }
    if query.after.is_some() {
        let hint = "there are more: --limit NUMBER, or --all";
        session.console.note(hint)?;
    }
    Ok(())
}

fn table(tasks: &[api::Task], columns: Option<usize>) -> Table {
    let mut table = Table::new([
        ("ID", Side::Left),
        ("QUEUE", Side::Left),
        ("STATE", Side::Left),
        ("PRIORITY", Side::Right),
        ("DUE", Side::Left),
        ("ATTEMPTS", Side::Right),
        ("PAYLOAD", Side::Left),
    ]);
    let now = when::now();
    for task in tasks {
        table.row([
            (&task.id).into(),
            (&task.queue).into(),
            Cell::coloured(&task.state, colour(&task.state)),
            task.priority.to_string().into(),
            when::due(task.exectime, now).into(),
            format!("{}/{}", task.attempts, task.max_attempts).into(),
            "".into(),
        ]);
    }
    let taken: usize = table
        .widths(&[])
        .iter()
        .rev()
        .skip(1)
        .map(|width| width + 2)
        .sum();
    let width = columns.map_or(PAYLOAD_WIDTH, |columns| {
        columns.saturating_sub(taken).max(PAYLOAD_LEAST)
    });
    table.fill_last(
        tasks
            .iter()
            .map(|task| shortened(&task.payload.to_display(), width)),
    );
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

pub(super) async fn show(ids: &[String], session: &mut Session<'_>) -> Result<(), CtlError> {
    let mut refused = Refused::default();
    let mut first = true;
    for id in ids {
        let answer = session.client.task(id).await;
        let Some(task) = refused.check(answer, session.console)? else {
            continue;
        };
        if session.told(&task)? {
            continue;
        }
        if !std::mem::take(&mut first) {
            session.console.line("")?;
        }
        let mut text = description(&task, when::now(), &session.zone);
        text.push_str(&history(&task, &session.zone));
        session.console.out.write_all(text.as_bytes())?;
    }
    refused.finish(ids.len())
}

/// What happened to a task, a line each.
fn history(task: &api::Task, zone: &TimeZone) -> String {
    let Some(happenings) = task.history.as_deref().filter(|all| !all.is_empty()) else {
        return String::new();
    };
    let mut lines = vec!["history".to_owned()];
    for (number, one) in happenings.iter().enumerate() {
        if let (1, Some(count)) = (number, task.history_left_out) {
            lines.push(format!("  ... {count} more ..."));
        }
        lines.push(format!("  {}", happening(one, zone)));
    }
    lines.join("\n") + "\n"
}

fn happening(one: &api::Happening, zone: &TimeZone) -> String {
    let at = one.at.map_or_else(
        || "at a time not known".to_owned(),
        |at| when::show(at, zone),
    );
    let exectime = one
        .exectime
        .map(|secs| format!("not before {}", when::show(secs as f64, zone)));
    let parts = [
        one.attempt.map(|number| format!("attempt {number}")),
        one.worker.as_ref().map(|name| format!("by {name}")),
        one.queue.as_ref().map(|name| format!("to {name}")),
        one.priority.map(|number| format!("priority {number}")),
        exectime,
        one.error.clone(),
    ];
    let mut line = format!("{at}  {:<11}", escaped(&one.kind));
    for part in parts.into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&multiline(&part, 4));
    }
    line.truncate(line.trim_end().len());
    line
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
        ("traceparent", task.traceparent.clone()),
        ("tracestate", task.tracestate.clone()),
        ("payload", Some(task.payload.to_display())),
    ];
    lines
        .into_iter()
        .filter_map(|(name, value)| {
            value.map(|value| format!("{name:<12}{}\n", multiline(&value, 12)))
        })
        .collect()
}
