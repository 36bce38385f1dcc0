//! Points in time as people write and read them. What time it is comes in as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{
    Timestamp, ToSpan as _, ZonedDateTime,
    civil::{Date, DateTime, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

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

/// What `--at` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// Unix seconds.
    pub(super) secs: i64,
    /// What a person should know about it: the clocks change at that hour.
    pub(super) note: Option<String>,
}

const FORMS: &str = "write 18:00, \"tomorrow 07:00\", \"monday 9:00\", \"2026-12-24 18:00\" (all local time), \
    2026-12-24T18:00:00Z, or Unix seconds";

/// Reads a moment as people write it, in `zone`, seen from `now` (Unix seconds).
pub(super) fn parse(text: &str, zone: &TimeZone, now: f64) -> Result<Moment, String> {
    let text = text.trim();
    let exact = |secs| Moment { secs, note: None };
    if let Ok(secs) = text.parse::<i64>() {
        return Ok(exact(secs));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(exact(timestamp.as_second()));
    }
    if let Ok(zoned) = text.parse::<ZonedDateTime>() {
        return Ok(exact(zoned.timestamp().as_second()));
    }
    let today = Timestamp::from_second(now as i64)
        .map_err(|_| FORMS.to_owned())?
        .to_zoned_datetime(zone.clone())
        .datetime();
    settle(civil(&text.to_ascii_lowercase(), today)?, zone)
}

/// A day and a time of day, without a zone.
fn civil(text: &str, today: DateTime) -> Result<DateTime, String> {
    let words: Vec<&str> = text
        .split([' ', 't'].as_slice())
        .filter(|word| !word.is_empty())
        .collect();
    // Only a date is split at its T; the words for days have one, too.
    let words: Vec<&str> = if words.first().is_some_and(|word| date(word).is_some()) {
        words
    } else {
        text.split_whitespace().collect()
    };
    let (day, time) = match words[..] {
        [one] if time_of_day(one).is_some() => (None, one),
        [one] if date(one).is_some() || is_day(one) => {
            return Err(format!("at what time? Write \"{one} 07:00\""));
        }
        [day, time] => (Some(day), time),
        _ => return Err(FORMS.to_owned()),
    };
    let time = time_of_day(time).ok_or_else(|| FORMS.to_owned())?;
    let ahead = time > today.time();
    let days = match day {
        // The next time that it is that late.
        None => i64::from(!ahead),
        Some("today") => 0,
        Some("tomorrow") => 1,
        Some(day) => match (weekday(day), date(day)) {
            (Some(weekday), _) => {
                let days = i64::from(today.weekday().until(weekday));
                if days == 0 && !ahead { 7 } else { days }
            }
            (None, Some(date)) => return Ok(date.to_datetime(time)),
            (None, None) => return Err(FORMS.to_owned()),
        },
    };
    let date = today.date().checked_add(days.days());
    Ok(date.map_err(|_| FORMS.to_owned())?.to_datetime(time))
}

fn is_day(word: &str) -> bool {
    matches!(word, "today" | "tomorrow") || weekday(word).is_some()
}

fn date(word: &str) -> Option<Date> {
    Date::strptime("%Y-%m-%d", word).ok()
}

/// `7:00`, `07:00`, `07:00:30`.
fn time_of_day(word: &str) -> Option<Time> {
    ["%H:%M", "%H:%M:%S"]
        .into_iter()
        .find_map(|format| Time::strptime(format, word).ok())
}

/// A weekday's whole name, or its first three letters.
fn weekday(word: &str) -> Option<Weekday> {
    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    NAMES
        .into_iter()
        .find(|(name, _)| *name == word || name.get(..3) == Some(word))
        .map(|(_, weekday)| weekday)
}

/// The moment of `civil` in `zone`. An hour that a clock change skips or repeats has the usual reading, that of RFC 5545:
/// skipped, it is as much later as the clocks go forward; repeated, it is the first one. Either is said.
fn settle(civil: DateTime, zone: &TimeZone) -> Result<Moment, String> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let offset = ambiguous.offset();
    let timestamp = ambiguous.compatible().map_err(|_| FORMS.to_owned())?;
    let secs = timestamp.as_second();
    let shown = show(secs as f64, zone);
    let wanted = civil.strftime("%Y-%m-%d %H:%M");
    let note = match offset {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some(format!(
            "{wanted} does not exist here, the clocks go forward over it; {shown} is meant"
        )),
        AmbiguousOffset::Fold { after, .. } => {
            let second = after
                .to_timestamp(civil)
                .map(|at| at.display_with_offset(after).to_string());
            Some(format!(
                "{wanted} comes twice here, the clocks go back over it; the first is meant, {shown}. The second is {}",
                second.map_err(|_| FORMS.to_owned())?
            ))
        }
    };
    Ok(Moment { secs, note })
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

    /// A Tuesday, 21:10:48 in Berlin.
    const NOW: f64 = 1_795_551_048.0;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn points_in_time_are_read_as_people_write_them() {
        for (text, secs) in [
            ("0", 0),
            ("1795551048", 1_795_551_048),
            ("2026-11-24T20:10:48Z", 1_795_551_048),
            ("2026-11-24T21:10:48+01:00", 1_795_551_048),
            ("2026-11-24 21:10:48", 1_795_551_048),
            ("2026-11-24T21:10", 1_795_551_000),
            ("2026-11-24 21:10", 1_795_551_000),
            // Later today, and tomorrow since it is past.
            ("23:00", 1_795_557_600),
            ("9:00", 1_795_593_600),
            ("today 23:00", 1_795_557_600),
            ("Tomorrow 09:00", 1_795_593_600),
            ("tomorrow 9:00:01", 1_795_593_601),
            ("wednesday 9:00", 1_795_593_600),
            ("wed 9:00", 1_795_593_600),
            ("tuesday 23:00", 1_795_557_600),
            // A weekday whose hour is past is the next one.
            ("tuesday 9:00", 1_795_593_600 + 6 * 86_400),
            ("monday 9:00", 1_795_593_600 + 5 * 86_400),
        ] {
            let moment = Moment { secs, note: None };
            assert_eq!(parse(text, &berlin(), NOW), Ok(moment), "{text}");
        }
        for text in [
            "",
            "soon",
            "2026-13-01 10:00",
            "10:61",
            "2026-11-24 25:00",
            "2026-11-24 21:10 x",
            "someday 9:00",
            "tu 9:00",
        ] {
            let error = parse(text, &berlin(), NOW).unwrap_err();
            assert!(error.contains("tomorrow 07:00"), "{text}: {error}");
        }
        for text in ["tomorrow", "2026-12-24", "monday"] {
            let error = parse(text, &berlin(), NOW).unwrap_err();
            assert!(error.contains(&format!("{text} 07:00")), "{text}: {error}");
        }
    }

    #[test]
    fn an_hour_that_the_clocks_skip_or_repeat_is_said() {
        // Two in the morning of the last Sunday of March does not exist: an hour later is.
        let gap = parse("2027-03-28 02:30", &berlin(), NOW).unwrap();
        assert_eq!(
            gap.secs,
            parse("2027-03-28T03:30:00+02:00", &berlin(), NOW)
                .unwrap()
                .secs
        );
        let note = gap.note.unwrap();
        assert!(
            note.contains("does not exist") && note.contains("03:30:00 CEST"),
            "{note}"
        );
        let fold = parse("2026-10-25 02:30", &berlin(), NOW).unwrap();
        assert_eq!(
            fold.secs,
            parse("2026-10-25T02:30:00+02:00", &berlin(), NOW)
                .unwrap()
                .secs
        );
        let note = fold.note.unwrap();
        assert!(
            note.contains("comes twice") && note.contains("2026-10-25T02:30:00+01:00"),
            "{note}"
        );
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
