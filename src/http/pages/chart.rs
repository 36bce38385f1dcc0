//! Charts: lines over time as SVG in the page, each with what it shows in words.
//!
//! Knows numbers, not what they count. Nothing here has a style of its own: a series is coloured by its class, as the
//! Content-Security-Policy wants it.

use std::fmt::Write as _;

use maud::{Markup, html};

/// The width of a drawing, in its own units; the page stretches it.
const WIDTH: f64 = 600.0;
/// Its height.
const HEIGHT: f64 = 120.0;
/// The size of a sparkline.
const SMALL_WIDTH: f64 = 120.0;
const SMALL_HEIGHT: f64 = 24.0;

/// One line of a chart, oldest value first.
#[derive(Debug)]
pub(super) struct Series {
    /// What it is, in the legend.
    pub(super) name: &'static str,
    /// Its class, which gives its colour.
    pub(super) class: &'static str,
    /// Its values; `None`: nothing is known of that time.
    pub(super) values: Vec<Option<f64>>,
}

impl Series {
    fn last(&self) -> Option<f64> {
        self.values.iter().rev().find_map(|value| *value)
    }

    fn highest(&self) -> f64 {
        self.values
            .iter()
            .flatten()
            .fold(0.0, |most, value| value.max(most))
    }
}

/// What a chart says besides its lines.
#[derive(Debug)]
pub(super) struct Caption<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    /// Its heading.
    pub(super) title: &'a str,
    /// What time it spans: `the last hour`.
    pub(super) span: &'a str,
    /// The time at its left end: `1 hour ago`.
    pub(super) from: &'a str,
    /// How a value is written, unit included.
    pub(super) write: fn(f64) -> String,
}

/// A chart with its legend, which says the values of now and the highest in words.
pub(super) fn chart(caption: &Caption<'_>, series: &[Series]) -> Markup {
    let known = series.iter().any(|one| one.last().is_some());
    let top = nice(series.iter().map(Series::highest).fold(0.0, f64::max));
    let spoken = format!(
        "{}, {}: {}",
        caption.title,
        caption.span,
        spoken(caption, series)
    );
    html! {
        figure class="chart" id=(caption.id) {
            figcaption {
                h3 { (caption.title) }
                ul class="legend" {
                    @for one in series {
                        li {
                            span class={ "swatch " (one.class) } aria-hidden="true" {}
                            (one.name) " "
                            b { (one.last().map_or_else(|| "–".to_owned(), caption.write)) }
                        }
                    }
                }
            }
            @if known {
                div class="plot" {
                    div class="scale" aria-hidden="true" {
                        span { ((caption.write)(top)) } span { ((caption.write)(top / 2.0)) } span { "0" }
                    }
                    svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(spoken) {
                        path class="grid" d={ "M0 .5H" (WIDTH) "M0 " (HEIGHT / 2.0) "H" (WIDTH) "M0 " (HEIGHT - 0.5) "H" (WIDTH) } {}
                        @for one in series {
                            path class={ "line " (one.class) } d=(path(&one.values, top, WIDTH, HEIGHT)) {}
                        }
                    }
                    div class="span" aria-hidden="true" { span { (caption.from) } span { "now" } }
                }
            } @else {
                p class="quiet" { "Nothing is known yet of " (caption.span) "." }
            }
        }
    }
}

/// Small lines without a scale, each with its class, and what they show in words.
pub(super) fn sparkline(
    what: &str,
    lines: &[(&str, &[Option<f64>])],
    write: fn(f64) -> String,
) -> Markup {
    let values = lines.iter().flat_map(|(_, values)| values.iter().flatten());
    let top = values.fold(0.0_f64, |most, value| value.max(most));
    let spoken = if top > 0.0 {
        format!("{what}: at most {}", write(top))
    } else {
        format!("{what}: none")
    };
    html! {
        svg class="spark" viewBox={ "0 0 " (SMALL_WIDTH) " " (SMALL_HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(spoken) {
            @for (class, values) in lines {
                path class={ "line " (class) } d=(path(values, top.max(f64::MIN_POSITIVE), SMALL_WIDTH, SMALL_HEIGHT)) {}
            }
        }
    }
}

fn spoken(caption: &Caption<'_>, series: &[Series]) -> String {
    let one = |one: &Series| match one.last() {
        None => format!("{} not known", one.name),
        Some(last) => format!(
            "{} {} now, at most {}",
            one.name,
            (caption.write)(last),
            (caption.write)(one.highest())
        ),
    };
    series.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The next number of 1, 2 or 5 times a power of ten: a scale that can be read.
fn nice(highest: f64) -> f64 {
    if highest <= 0.0 || !highest.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(highest.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= highest)
        .unwrap_or(highest)
}

/// The path through all known values; where nothing is known the line is broken.
fn path(values: &[Option<f64>], top: f64, width: f64, height: f64) -> String {
    let step = width / (values.len().max(2) - 1) as f64;
    let mut out = String::with_capacity(values.len() * 8);
    let mut is_down = false;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let (x, y) = (
            index as f64 * step,
            height - 1.0 - (value / top).clamp(0.0, 1.0) * (height - 2.0),
        );
        let is_alone = !is_down && values.get(index + 1).is_none_or(Option::is_none);
        let letter = if is_down { 'L' } else { 'M' };
        // A tenth of a unit is less than a pixel. Writing to a string can't fail.
        if write!(out, "{letter}{x:.0} {y:.1}").is_err() {
            break;
        }
        if is_alone {
            // Seen as a short line: a dot is lost among dashes.
            out.push_str("h-6");
        }
        is_down = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_number_that_can_be_read() {
        for (highest, top) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (7.0, 10.0),
            (1234.0, 2000.0),
        ] {
            assert!(
                (nice(highest) - top).abs() < 1e-9,
                "{highest}: {}",
                nice(highest)
            );
        }
    }

    #[test]
    fn a_line_is_broken_where_nothing_is_known_and_stays_inside() {
        let values = [Some(0.0), Some(2.0), None, Some(1.0)];
        assert_eq!(
            path(&values, 2.0, 300.0, 100.0),
            "M0 99.0L100 1.0M300 50.0h-6"
        );
    }

    #[test]
    fn a_chart_says_what_it_shows() {
        let caption = Caption {
            id: "throughput",
            title: "Throughput",
            span: "the last hour",
            from: "1 hour ago",
            write: |value| format!("{value}/s"),
        };
        let series = [Series {
            name: "in",
            class: "in",
            values: vec![Some(4.0), Some(2.0)],
        }];
        let text = chart(&caption, &series).into_string();
        assert!(
            text.contains("Throughput, the last hour: in 2/s now, at most 4/s"),
            "{text}"
        );
        assert!(!text.contains("style="), "{text}");
    }
}
