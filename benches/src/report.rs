//! What a bench found: rows with a target, printed as they come, and kept in `RESULTS.md` between its marks.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// More than this.
    Above(f64),
    /// At most this.
    AtMost(f64),
    /// None: the number tells something beside the target.
    None,
}

impl Target {
    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(value) => format!(">= {}", show(value, unit)),
            Self::Above(value) => format!("> {}", show(value, unit)),
            Self::AtMost(value) => format!("<= {}", show(value, unit)),
            Self::None => String::new(),
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        let met = match self {
            Self::AtLeast(target) => value >= target,
            Self::Above(target) => value > target,
            Self::AtMost(target) => value <= target,
            Self::None => return "",
        };
        if met { "pass" } else { "MISS" }
    }
}

/// A value for people.
#[must_use]
pub fn show(value: f64, unit: &str) -> String {
    match unit {
        "x" => format!("{value:.2}x"),
        "/s" | "" => format!("{}{unit}", thousands(value)),
        "us" if value >= 10_000.0 => format!("{:.1} ms", value / 1000.0),
        "us" if value >= 100.0 => format!("{value:.0} us"),
        "us" => format!("{value:.1} us"),
        "MiB" => format!("{:.0} MiB", value / f64::from(1 << 20)),
        _ if value >= 1000.0 => format!("{} {unit}", thousands(value)),
        _ if value >= 100.0 => format!("{value:.0} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && digit.is_ascii_digit() {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Microseconds of a duration.
#[must_use]
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The rows of one bench.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<[String; 5]>,
    misses: usize,
}

impl Report {
    /// One number, printed at once.
    pub fn row(&mut self, what: &str, value: f64, unit: &str, target: Target, detail: &str) {
        let verdict = target.verdict(value);
        self.misses += usize::from(verdict == "MISS");
        let row = [
            what.to_owned(),
            show(value, unit),
            target.text(unit),
            verdict.to_owned(),
            detail.to_owned(),
        ];
        println!(
            "  {:<58} {:>12} {:>12} {:<4}  {}",
            row[0], row[1], row[2], row[3], row[4]
        );
        self.rows.push(row);
    }

    /// How many targets were not reached.
    #[must_use]
    pub const fn misses(&self) -> usize {
        self.misses
    }

    fn table(&self) -> String {
        let mut out =
            String::from("| what | measured | target | | beside |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            out.push('|');
            for cell in row {
                let cell = if cell == "MISS" { "**miss**" } else { cell };
                out.push(' ');
                out.push_str(cell);
                out.push_str(" |");
            }
            out.push('\n');
        }
        out
    }

    /// Puts the rows between the marks of this bench; all other text stays.
    pub fn keep(&self, file: &Path, name: &str, how: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let open = format!("<!-- measured: {name} -->\n");
        let close = "<!-- end -->\n";
        let start = text
            .find(&open)
            .with_context(|| format!("{} has no mark for {name}", file.display()))?
            + open.len();
        let end = text[start..]
            .find(close)
            .with_context(|| format!("{name} has no end mark"))?
            + start;
        let table = self.table();
        let new = format!("{}{how}\n\n{table}{}", &text[..start], &text[end..]);
        fs::write(file, new).with_context(|| file.display().to_string())
    }
}
