//! [`Exposition`]: numbers in Prometheus' text format, or in `OpenMetrics`.
//!
//! The formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>. Written here and not by an exporter
//! crate: those fill a registry, one entry for each label set, before they write it. With ten thousand queues that is
//! 180 000 entries, and takes many times what the writing takes.
//!
//! Knows how numbers are written, not which there are.

use std::fmt::{Display, Write as _};

use crate::backend::Distribution;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What `Accept` prefers. `OpenMetrics` has to be named: what accepts anything gets the older format.
    pub(super) fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let name = parts.next()?;
                let weight = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(Some(1.0), |text| text.parse::<f64>().ok());
                name.eq_ignore_ascii_case(wanted).then_some(weight?)
            });
            ranges.fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// What a number means over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only rises. Its name is written without `_total`, which is added where the formats want it.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How lengths are distributed.
    Histogram,
}

/// Numbers of one name: what is said of them before they come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

impl Family {
    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            help,
        }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            help,
        }
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Histogram,
            help,
        }
    }

    const fn suffix(self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    /// The unit that the name ends in: a base unit, by the conventions.
    fn unit(self) -> Option<&'static str> {
        ["seconds", "bytes"].into_iter().find(|unit| {
            self.name
                .strip_suffix(unit)
                .is_some_and(|rest| rest.ends_with('_'))
        })
    }
}

/// A text that grows.
#[derive(Debug)]
pub(super) struct Exposition {
    text: String,
    format: Format,
}

impl Exposition {
    /// Nothing yet, with room for so many bytes.
    pub(super) fn new(format: Format, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            format,
        }
    }

    /// Says what a family is. Its numbers come next, before another family's.
    pub(super) fn family(&mut self, family: Family) {
        let Family { name, kind, help } = family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics names a counter's family without the suffix of its numbers.
        let suffix = match self.format {
            Format::Prometheus => family.suffix(),
            Format::OpenMetrics => "",
        };
        self.line(format_args!("# HELP {name}{suffix} {help}"));
        self.line(format_args!("# TYPE {name}{suffix} {kind}"));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, family.unit()) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
    }

    /// A number of a family. `labels` is what [`labels`] makes, or empty.
    pub(super) fn number(&mut self, family: Family, labels: &str, value: impl Number) {
        self.text.push_str(family.name);
        self.text.push_str(family.suffix());
        if !labels.is_empty() {
            self.text.push('{');
            self.text.push_str(labels);
            self.text.push('}');
        }
        self.text.push(' ');
        value.write(&mut self.text);
        self.text.push('\n');
    }

    /// A family of one number without labels.
    pub(super) fn plain(&mut self, family: Family, value: impl Number) {
        self.family(family);
        self.number(family, "", value);
    }

    /// A histogram of a family.
    pub(super) fn histogram(&mut self, family: Family, labels: &str, of: &Distribution) {
        let name = family.name;
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in of.up_to() {
            match self.format {
                Format::Prometheus => self.line(format_args!(
                    "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
                )),
                // Here a bound always has a fraction.
                Format::OpenMetrics => self.line(format_args!(
                    "{name}_bucket{{{labels}{comma}le=\"{bound:?}\"}} {count}"
                )),
            }
        }
        let (count, sum) = (of.count(), of.sum());
        self.line(format_args!(
            "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"
        ));
        let braced = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        self.line(format_args!("{name}_sum{braced} {sum}"));
        self.line(format_args!("{name}_count{braced} {count}"));
    }

    /// The whole.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _unfailing = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

/// Below this, a whole number is exactly itself as a fraction too, and written faster: most of a scrape's are 0.
const WHOLE: f64 = 9e15;

/// A number as both formats write it.
pub(super) trait Number {
    fn write(self, text: &mut String);
}

impl Number for u64 {
    fn write(self, text: &mut String) {
        // By hand: this is most of a scrape of many queues, and formatting costs three times as much.
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = self;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        // Digits are always text.
        text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
    }
}

impl Number for bool {
    fn write(self, text: &mut String) {
        text.push(if self { '1' } else { '0' });
    }
}

impl Number for f64 {
    fn write(self, text: &mut String) {
        if (0.0..WHOLE).contains(&self) && self.fract() == 0.0 {
            return (self as u64).write(text);
        }
        // Writing to a String can't fail.
        let _unfailing = write!(text, "{self}");
    }
}

/// Labels as they stand between the braces; values escaped.
pub(super) fn labels<const N: usize>(pairs: [(&str, &dyn Display); N]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.to_string().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Family = Family::counter("taken", "Tasks taken.");
    const FREE: Family = Family::gauge("free_bytes", "Room.");
    const TOOK: Family = Family::histogram("took_seconds", "How long.");

    fn written(format: Format) -> String {
        let mut out = Exposition::new(format, 0);
        out.family(TAKEN);
        out.number(TAKEN, &labels([("queue", &"a")]), 12_u64);
        out.number(TAKEN, &labels([("queue", &"b"), ("how", &"so")]), 0_u64);
        out.plain(FREE, 1.5);
        out.family(TOOK);
        let of = Distribution::of(&[1_000, 2_000_000], [1, 2, 3], 4_500_000);
        out.histogram(TOOK, "", &of);
        out.histogram(TOOK, "a=\"b\"", &of);
        out.end()
    }

    #[test]
    fn prometheus_text_is_as_its_format_has_it() {
        let wanted = r#"# HELP taken_total Tasks taken.
# TYPE taken_total counter
taken_total{queue="a"} 12
taken_total{queue="b",how="so"} 0
# HELP free_bytes Room.
# TYPE free_bytes gauge
free_bytes 1.5
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.001"} 1
took_seconds_bucket{le="2"} 3
took_seconds_bucket{le="+Inf"} 6
took_seconds_sum 4.5
took_seconds_count 6
took_seconds_bucket{a="b",le="0.001"} 1
took_seconds_bucket{a="b",le="2"} 3
took_seconds_bucket{a="b",le="+Inf"} 6
took_seconds_sum{a="b"} 4.5
took_seconds_count{a="b"} 6
"#;
        assert_eq!(written(Format::Prometheus), wanted);
    }

    #[test]
    fn open_metrics_names_families_and_units_and_ends() {
        let text = written(Format::OpenMetrics);
        for line in [
            "# TYPE taken counter",
            "taken_total{queue=\"a\"} 12",
            "# UNIT free_bytes bytes",
            "# UNIT took_seconds seconds",
            "took_seconds_bucket{le=\"2.0\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\nin\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn numbers_and_labels_of_any_kind_are_written() {
        let write = |number: u64| {
            let mut text = String::new();
            number.write(&mut text);
            text
        };
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(write(number), number.to_string());
        }
        for number in [0.0, 1.5, -3.0, 1e300, 86_400.0] {
            let mut text = String::new();
            Number::write(number, &mut text);
            assert_eq!(text.parse::<f64>().ok(), Some(number), "{text}");
        }
        assert_eq!(
            labels([("a", &"back\\slash \"quoted\"\nline")]),
            r#"a="back\\slash \"quoted\"\nline""#
        );
    }

    #[test]
    fn the_format_is_what_accept_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; version=1.0.0",
                Format::OpenMetrics,
            ),
            (prometheus, Format::OpenMetrics),
            (
                "application/openmetrics-text;q=0.2, text/plain;q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
