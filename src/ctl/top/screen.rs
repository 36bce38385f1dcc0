//! Draws a [`Model`]. Made for 80 columns and 24 lines; a larger screen shows more rows and longer names.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span, Text},
    widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table},
};

use super::model::{Column, Look, Model};
use crate::{
    api,
    ctl::{table::escaped, when},
};

/// How many lines the workers get at most, with their head, for one that the queues get.
const WORKERS: u16 = 3;

pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let Some(look) = model.last.take() else {
        return;
    };
    let workers = (look.workers.len() as u16)
        .saturating_add(2)
        .clamp(3, (frame.area().height / WORKERS).max(3));
    let [head, curve, trouble, queues, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(workers),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(&look, model), head);
    draw_curve(frame, curve, model);
    frame.render_widget(worst(&look, model), trouble);
    draw_queues(frame, queues, &look, model);
    draw_workers(frame, below, &look, model);
    frame.render_widget(help(model), keys);
    model.last = Some(look);
}

fn headline(look: &Look, model: &Model) -> Line<'static> {
    let sum = |of: fn(&api::Queue) -> u64| look.queues.iter().map(of).sum::<u64>();
    let (state, colour) = match &look.status {
        _ if model.missed.is_some() => ("unreachable", Color::Red),
        Some(status) if status.status == "ok" => ("ok", Color::Green),
        Some(status) if status.status == "failed" => ("failed", Color::Red),
        Some(status) if status.status == "full" => ("disk full", Color::Red),
        Some(status) if status.status == "paused" => ("paused", Color::Yellow),
        Some(status) if status.status == "draining" => ("draining", Color::Yellow),
        Some(_) => ("stopping", Color::Yellow),
        None => ("ok", Color::Green),
    };
    let dead = sum(|queue| queue.dead);
    let mut spans = vec![
        Span::from("workqueue ").bold(),
        Span::from(state).fg(colour).bold(),
        Span::from(format!(
            "  {} ready  {} scheduled  {} leased  ",
            sum(|queue| queue.ready),
            sum(|queue| queue.scheduled),
            sum(|queue| queue.leased),
        )),
        Span::styled(format!("{dead} dead"), of_dead(dead)),
    ];
    spans.push(match &look.status {
        Some(status) => Span::from(format!("  up {}", when::length(status.uptime))).dim(),
        None => Span::from(format!("  {}", escaped(&model.place))).dim(),
    });
    Line::from(spans)
}

/// Rates in numbers, and how the completed ones went.
fn draw_curve(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let [numbers, curve] =
        Layout::horizontal([Constraint::Length(24), Constraint::Fill(1)]).areas(area);
    let rates = model.all_rates();
    let text = Text::from(vec![
        Line::from(format!("in  {:>9}/s", rate(rates.submitted))),
        Line::from(format!("out {:>9}/s", rate(rates.completed))),
    ]);
    frame.render_widget(text, numbers);
    let newest = model
        .curve
        .iter()
        .rev()
        .take(curve.width.into())
        .copied()
        .collect::<Vec<u64>>();
    let oldest_first: Vec<u64> = newest.into_iter().rev().collect();
    let line = Sparkline::default()
        .data(&oldest_first)
        .style(Style::new().fg(Color::Green));
    frame.render_widget(line, curve);
}

/// The worst thing that is not well, and what to type next; the rest is told by `status`.
fn worst(look: &Look, model: &Model) -> Paragraph<'static> {
    if let Some(missed) = &model.missed {
        return Paragraph::new(Text::from(vec![
            Line::from(escaped(missed)).fg(Color::Red),
            Line::from("    what is shown is from before; looking again each second").dim(),
        ]));
    }
    let Some(first) = look.troubles.first() else {
        return Paragraph::new(Line::from("all is well").fg(Color::Green));
    };
    let more = match look.troubles.len() {
        1 => String::new(),
        count => format!(" (and {} more: workqueuectl status)", count - 1),
    };
    let colour = match first.severity {
        api::Severity::Critical => Color::Red,
        api::Severity::Warning | api::Severity::Notice => Color::Yellow,
    };
    Paragraph::new(Text::from(vec![
        Line::from(format!("{}{more}", escaped(&first.what))).fg(colour),
        Line::from(format!("    {}", escaped(&first.next))).dim(),
    ]))
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, look: &Look, model: &mut Model) {
    let heads = Column::ALL.map(|column| {
        let text = if column == model.column {
            let arrow = if model.descending { '▼' } else { '▲' };
            format!("{}{arrow}", column.head())
        } else {
            column.head().to_owned()
        };
        let line = Line::from(text);
        Cell::from(if column == Column::Name {
            line
        } else {
            line.right_aligned()
        })
    });
    let head = Row::new(heads.into_iter().chain([Cell::from("STATE")])).style(heading());
    let rows = look.queues.iter().map(|queue| {
        let rates = model.rates(&queue.queue);
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        let (state, colour) = match (queue.paused, queue.draining) {
            (true, true) => ("paused, draining", Color::Yellow),
            (true, false) => ("paused", Color::Yellow),
            (false, true) => ("draining", Color::Yellow),
            (false, false) => ("", Color::Reset),
        };
        Row::new([
            Cell::from(escaped(&queue.queue)),
            right(number(queue.ready)),
            right(number(queue.scheduled)),
            right(number(queue.leased)),
            right(number(queue.dead)).style(of_dead(queue.dead)),
            right(
                queue
                    .oldest_due_age
                    .map_or_else(|| "-".to_owned(), when::length),
            ),
            right(rate(rates.submitted)),
            right(rate(rates.completed)),
            Cell::from(state).style(Style::new().fg(colour)),
        ])
    });
    let table = Table::new(
        rows,
        [
            Constraint::Fill(1),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(8),
        ],
    )
    .header(head)
    .row_highlight_style(chosen(!model.on_workers));
    frame.render_stateful_widget(table, area, &mut model.queues);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, look: &Look, model: &mut Model) {
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let head = Row::new([
        Cell::from("WORKER"),
        right("HOLDS".to_owned()),
        right("CLAIMED".to_owned()),
        right("COMPLETED".to_owned()),
        right("FAILED".to_owned()),
        Cell::from("LAST SEEN"),
    ])
    .style(heading());
    let rows = look.workers.iter().map(|worker| {
        let seen = if worker.waiting {
            "waits for a task".to_owned()
        } else {
            format!("{} ago", when::length(look.at - worker.last_seen))
        };
        Row::new([
            Cell::from(escaped(&worker.worker)),
            right(worker.holds.len().to_string()),
            right(number(worker.claimed)),
            right(number(worker.completed)),
            right(number(worker.failed)),
            Cell::from(seen),
        ])
    });
    let table = Table::new(
        rows,
        [
            Constraint::Fill(1),
            Constraint::Length(6),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(7),
            Constraint::Length(16),
        ],
    )
    .header(head)
    .block(
        Block::new()
            .borders(Borders::TOP)
            .border_style(Style::new().dim()),
    )
    .row_highlight_style(chosen(model.on_workers));
    if look.workers.is_empty() {
        let text = Text::from(vec![
            Line::default(),
            Line::from(
                "no worker has asked for tasks; start one: systemctl start workqueue-worker",
            ),
        ]);
        frame.render_widget(text, area);
    } else {
        frame.render_stateful_widget(table, area, &mut model.workers);
    }
}

fn help(model: &Model) -> Line<'static> {
    let table = if model.on_workers {
        "workers"
    } else {
        "queues"
    };
    Line::from(format!(
        "q end   ↑↓ move   ←→ sort (by {})   r turn around   Tab other table (now {table})",
        model.column.head()
    ))
    .dim()
}

fn heading() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn chosen(has_keys: bool) -> Style {
    if has_keys {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        Style::new()
    }
}

fn of_dead(dead: u64) -> Style {
    if dead > 0 {
        Style::new().fg(Color::Red)
    } else {
        Style::new()
    }
}

/// A count in at most seven columns.
fn number(count: u64) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        10_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

/// A rate in at most seven columns.
fn rate(rate: f64) -> String {
    if rate < 1000.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::ctl::tests::{queue_of, status_of, worker_of};

    fn look(at: f64, queues: Vec<api::Queue>) -> Look {
        Look {
            status: Some(status_of()),
            troubles: status_of().troubles,
            queues,
            workers: vec![worker_of("host:7\u{1b}[2J")],
            at,
        }
    }

    /// What stands on a screen of this size.
    fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        (0..height)
            .map(|y| {
                let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn all_that_matters_fits_on_80_by_24() {
        let mut model = Model::new("here".to_owned());
        model.see(look(
            0.0,
            vec![queue_of("default", 3, 0), queue_of("emails", 40, 0)],
        ));
        model.see(look(
            2.0,
            vec![queue_of("default", 3, 50), queue_of("emails", 40, 0)],
        ));
        let lines = drawn(&mut model, 80, 24);
        assert!(lines[0].starts_with("workqueue ok  43 ready"), "{lines:#?}");
        assert!(lines[2].starts_with("out      25.0/s"), "{lines:#?}");
        assert_eq!(
            lines[5],
            "QUEUE▲             READY   SCHED  LEASED   DEAD  OLDEST    IN/S   OUT/S STATE"
        );
        assert!(
            lines[6].starts_with("default                3       0"),
            "{lines:#?}"
        );
        assert!(lines[6].contains("25.0"), "{lines:#?}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("host:7\\u{1b}[2J")),
            "{lines:#?}"
        );
        assert!(lines[3].starts_with("2 dead tasks"), "{lines:#?}");
        assert!(lines[23].starts_with("q end"), "{lines:#?}");
    }

    #[test]
    fn queues_are_sorted_by_what_the_keys_say_and_the_selection_stays_with_its_queue() {
        let mut model = Model::new("here".to_owned());
        model.see(look(0.0, vec![queue_of("a", 3, 0), queue_of("b", 40, 0)]));
        model.select(1);
        model.sort(1);
        let lines = drawn(&mut model, 100, 24);
        assert!(
            lines[6].starts_with('b') && lines[7].starts_with('a'),
            "{lines:#?}"
        );
        assert_eq!(model.queues.selected(), Some(0));
        model.turn();
        let lines = drawn(&mut model, 100, 24);
        assert!(
            lines[6].starts_with('a') && lines[7].starts_with('b'),
            "{lines:#?}"
        );
        assert_eq!(model.queues.selected(), Some(1));
    }

    #[test]
    fn a_daemon_that_went_away_is_said_and_the_last_picture_stays() {
        let mut model = Model::new("here".to_owned());
        model.see(look(0.0, vec![queue_of("a", 3, 0)]));
        model.miss(&crate::client::ClientError::BadUrl("it is gone".to_owned()));
        let lines = drawn(&mut model, 80, 24);
        assert!(
            lines[0].contains("unreachable") && lines[3].contains("it is gone"),
            "{lines:#?}"
        );
        assert!(lines[6].starts_with('a'), "{lines:#?}");
    }

    #[test]
    fn a_screen_that_is_far_too_small_is_no_panic() {
        let mut model = Model::new("here".to_owned());
        model.see(look(
            0.0,
            (0..50).map(|n| queue_of(&format!("q{n}"), n, 0)).collect(),
        ));
        for (width, height) in [(1, 1), (10, 3), (30, 8), (200, 60)] {
            assert_eq!(drawn(&mut model, width, height).len(), usize::from(height));
        }
    }
}
