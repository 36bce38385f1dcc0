//! What happened lately, as charts: how much came and went, and how long it took.
//!
//! Knows which numbers are drawn, not how.

use maud::{Markup, html};

use super::{
    chart::{self, Caption, Series},
    words,
};
use crate::{
    backend::{HistorySlot, HistoryView, Quantiles, Span},
    task::Millis,
};

/// The charts of all queues together, and the way to the other spans.
pub(super) fn charts(view: &HistoryView) -> Markup {
    html! {
        section aria-labelledby="history-title" id="history" {
            h2 id="history-title" { "Lately" }
            nav class="spans" aria-label="How far back" {
                @for (span, text) in [(Span::Minute, "Minute"), (Span::Hour, "Hour"), (Span::Day, "Day")] {
                    a href={ "/?span=" (span.as_str()) } aria-current=[(span == view.span).then_some("true")] { (text) }
                }
            }
            div class="charts" {
                (throughput(view))
                (lengths(view, "wait", "How long tasks waited for a worker", |slot| slot.wait))
                (lengths(view, "run", "How long workers held them", |slot| slot.run))
            }
        }
    }
}

/// What came and went.
pub(super) fn throughput(view: &HistoryView) -> Markup {
    let (span, from) = spans(view.span);
    let caption = Caption {
        id: "throughput",
        title: "Tasks a second",
        span,
        from,
        write: per_second,
    };
    chart::chart(
        &caption,
        &[
            Series {
                name: "submitted",
                class: "one",
                values: rates(view, |slot| slot.submitted),
            },
            Series {
                name: "completed",
                class: "two",
                values: rates(view, |slot| slot.completed),
            },
        ],
    )
}

fn lengths(
    view: &HistoryView,
    id: &str,
    title: &str,
    pick: fn(&HistorySlot) -> Option<Quantiles>,
) -> Markup {
    let (span, from) = spans(view.span);
    let caption = Caption {
        id,
        title,
        span,
        from,
        write: millis,
    };
    let values = |of: fn(Quantiles) -> Millis| {
        let one = |slot: &HistorySlot| pick(slot).map(|quantiles| of(quantiles).0 as f64);
        view.slots.iter().map(one).collect()
    };
    chart::chart(
        &caption,
        &[
            Series {
                name: "half at most",
                class: "one",
                values: values(|quantiles| quantiles.p50),
            },
            Series {
                name: "99 of 100 at most",
                class: "two",
                values: values(|quantiles| quantiles.p99),
            },
        ],
    )
}

/// What came into a queue within the last hour, and what went out, without a scale.
pub(super) fn sparklines(view: &HistoryView) -> Markup {
    html! {
        div class="sparks" {
            (chart::sparkline(
                "Submitted and completed a second in the last hour",
                &[("one", &rates(view, |slot| slot.submitted)), ("two", &rates(view, |slot| slot.completed))],
                per_second,
            ))
        }
    }
}

/// Counts as rates. The slot of now counts when enough of it has passed to tell a rate.
fn rates(view: &HistoryView, pick: fn(&HistorySlot) -> u64) -> Vec<Option<f64>> {
    let last = view.slots.len().saturating_sub(1);
    let rate = |(index, slot): (usize, &HistorySlot)| {
        let length = if index == last {
            view.elapsed
        } else {
            view.step
        };
        let is_told = length.0 * 4 >= view.step.0 && length.0 > 0;
        is_told.then(|| pick(slot) as f64 / length.as_secs_f64())
    };
    view.slots.iter().enumerate().map(rate).collect()
}

const fn spans(span: Span) -> (&'static str, &'static str) {
    match span {
        Span::Minute => ("the last minute", "1 minute ago"),
        Span::Hour => ("the last hour", "1 hour ago"),
        Span::Day => ("the last day", "1 day ago"),
    }
}

fn per_second(rate: f64) -> String {
    format!("{} /s", words::rate(rate))
}

fn millis(value: f64) -> String {
    if value > 0.0 && value < 1.0 {
        "< 1 ms".to_owned()
    } else if value < 1000.0 {
        format!("{value:.0} ms")
    } else if value < 60_000.0 {
        format!("{:.1} s", value / 1000.0)
    } else {
        words::length(Millis(value as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::WallMillis;

    #[test]
    fn the_slot_of_now_is_drawn_when_it_tells_a_rate() {
        let slot = HistorySlot {
            submitted: 30,
            ..HistorySlot::default()
        };
        let mut view = HistoryView {
            span: Span::Hour,
            step: Millis(60_000),
            start: WallMillis(0),
            elapsed: Millis(30_000),
            slots: vec![slot; 2],
        };
        assert_eq!(rates(&view, |slot| slot.submitted), [Some(0.5), Some(1.0)]);
        view.elapsed = Millis(500);
        assert_eq!(rates(&view, |slot| slot.submitted), [Some(0.5), None]);
    }

    #[test]
    fn a_length_of_time_is_written_in_its_own_unit() {
        for (value, text) in [
            (0.0, "0 ms"),
            (0.5, "< 1 ms"),
            (20.0, "20 ms"),
            (1500.0, "1.5 s"),
            (90_000.0, "1 min 30 s"),
        ] {
            assert_eq!(millis(value), text);
        }
    }
}
