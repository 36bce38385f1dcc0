//! Points in time as people write and read them. What time it is comes in as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Now, in Unix seconds.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line is an edge: it shows times relative to the wall clock"
)]
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Reads Unix seconds, RFC 3339 (`2026-11-24T20:00:00Z`), or `YYYY-MM-DD HH:MM[:SS]` in `zone`, to Unix seconds.
pub(super) fn parse(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let wrong = || {
        "write Unix seconds, 2026-11-24T20:00:00Z, or \"2026-11-24 20:00\" (local time)".to_owned()
    };
    if let Ok(secs) = text.parse::<i64>() {
        return Ok(secs);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_second());
    }
    let civil: DateTime = [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
    ]
    .into_iter()
    .find_map(|format| DateTime::strptime(format, text).ok())
    .ok_or_else(wrong)?;
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    // An hour that a clock change skips or repeats: the usual reading, that of RFC 5545.
    ambiguous
        .compatible()
        .map(Timestamp::as_second)
        .map_err(|_| wrong())
}

/// When a task is due, seen from `now`: `now`, `in 5m`, `3m ago`.
pub(super) fn due(exectime: i64, now: f64) -> String {
    if exectime == 0 {
        return "now".to_owned();
    }
    let ahead = exectime as f64 - now;
    if ahead > 0.0 {
        format!("in {}", length(ahead))
    } else {
        format!("{} ago", length(-ahead))
    }
}

/// A length of time in its two largest units: `250ms`, `42s`, `3m 20s`, `2h 5m`, `4d 1h`.
pub(super) fn length(secs: f64) -> String {
    if secs < 1.0 {
        return format!("{}ms", (secs.max(0.0) * 1000.0).round() as u64);
    }
    let whole = secs.round() as u64;
    let pair = |large: u64, small: u64, names: [&str; 2]| {
        let (first, second) = (whole / large, whole % large / small);
        match second {
            0 => format!("{first}{}", names[0]),
            _ => format!("{first}{} {second}{}", names[0], names[1]),
        }
    };
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => pair(60, 1, ["m", "s"]),
        3600..86_400 => pair(3600, 60, ["h", "m"]),
        _ => pair(86_400, 3600, ["d", "h"]),
    }
}

/// A point in time in `zone`, for people.
pub(super) fn show(secs: f64, zone: &TimeZone) -> String {
    Timestamp::from_second(secs as i64).map_or_else(
        |_| secs.to_string(),
        |timestamp| {
            let zoned = timestamp.to_zoned_datetime(zone.clone());
            zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read_in_three_ways() {
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        for (text, secs) in [
            ("0", 0),
            ("1795551048", 1_795_551_048),
            ("2026-11-24T20:10:48Z", 1_795_551_048),
            ("2026-11-24T21:10:48+01:00", 1_795_551_048),
            ("2026-11-24 21:10:48", 1_795_551_048),
            ("2026-11-24 21:10", 1_795_551_000),
        ] {
            assert_eq!(parse(text, &berlin), Ok(secs), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-13-01 10:00",
            "10:00",
            "2026-11-24 25:00",
        ] {
            assert!(parse(text, &berlin).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_due_is_told_relative_to_now() {
        assert_eq!(due(0, 100.0), "now");
        assert_eq!(due(400, 100.0), "in 5m");
        assert_eq!(due(10, 100.0), "1m 30s ago");
        assert_eq!(length(0.25), "250ms");
        assert_eq!(length(7_500.0), "2h 5m");
        assert_eq!(length(349_200.0), "4d 1h");
    }
}
