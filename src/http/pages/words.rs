//! How the pages write numbers, lengths of time, points in time, and text that others wrote.
//!
//! Knows HTML, not tasks.

use maud::{Markup, PreEscaped, html};

use crate::task::{ExecTime, Millis, WallMillis};

/// A count, its digits in groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `number` of something, in the singular where it is one.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A rate: few digits, and never a zero for what is not zero.
pub(super) fn rate(number: f64) -> String {
    match number {
        _ if number <= 0.0 => "0".to_owned(),
        _ if number < 0.01 => "< 0.01".to_owned(),
        _ if number < 10.0 => {
            let text = format!("{number:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ if number < 100.0 => format!("{number:.1}"),
        _ => count(number.round() as u64),
    }
}

/// A size in bytes, in the largest unit that leaves a whole part.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return counted(number, "byte", "bytes");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 10.0 {
        format!("{size:.1} {unit}")
    } else {
        format!("{size:.0} {unit}")
    }
}

/// A length of time in its two largest units.
pub(super) fn length(millis: Millis) -> String {
    let secs = millis.0 / 1000;
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if secs == 0 && millis.0 > 0 => format!("{} ms", millis.0),
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A point in time in UTC; the script shows it in the browser's zone.
pub(super) fn moment(at: WallMillis) -> Markup {
    if let Ok(second) = ExecTime::new(at.0.div_euclid(1000)) {
        civil(second)
    } else {
        html! { span class="quiet" { "unknown" } }
    }
}

/// A task's exectime.
pub(super) fn exectime(exectime: ExecTime) -> Markup {
    if exectime == ExecTime::ASAP {
        html! { span class="quiet" { "as soon as possible" } }
    } else {
        civil(exectime)
    }
}

fn civil(second: ExecTime) -> Markup {
    let civil = second.to_civil();
    html! { time datetime={ (civil) "Z" } { (civil.replace('T', " ")) } }
}

/// A point in time, and how far from `now` it is, in words.
pub(super) fn moment_and_distance(at: WallMillis, now: WallMillis) -> Markup {
    html! { (moment(at)) " " span class="quiet" { "(" (distance(at, now)) ")" } }
}

/// How far from `now` a point in time is, in words.
pub(super) fn distance(at: WallMillis, now: WallMillis) -> String {
    let millis = Millis(at.0.abs_diff(now.0));
    if millis.0 < 1000 {
        "now".to_owned()
    } else if at > now {
        format!("in {}", length(millis))
    } else {
        format!("{} ago", length(millis))
    }
}

/// A part of a text, as HTML.
#[derive(Debug)]
pub(super) struct Shown {
    /// The part, escaped.
    pub(super) markup: Markup,
    /// Whether it is the whole.
    pub(super) whole: bool,
}

/// Others' text, escaped, and what can't be seen made visible. It is cut where its HTML would be longer than `room` bytes.
///
/// Line feeds and tabs stay as they are where `lines` is set. Characters that turn the direction of what comes after them
/// are shown as what they are: text is to be read in its own direction, by `dir="auto"`, and not in one that it forces.
pub(super) fn visible(text: &str, room: usize, lines: bool) -> Shown {
    let mut out = String::with_capacity(text.len().min(room) + 16);
    for character in text.chars() {
        if out.len() >= room {
            return Shown {
                markup: PreEscaped(out),
                whole: false,
            };
        }
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' if lines => out.push(character),
            '\n' | '\t' => out.push(' '),
            _ if is_hidden(character) => push_hidden(&mut out, character),
            _ => out.push(character),
        }
    }
    Shown {
        markup: PreEscaped(out),
        whole: true,
    }
}

/// Controls (C0, C1, delete), and marks, embeddings, overrides and isolates of direction, and what has no width.
const fn is_hidden(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn push_hidden(out: &mut String, character: char) {
    let code = u32::from(character);
    // Unicode has pictures of the C0 controls and of delete.
    let picture = match code {
        0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    out.push_str("<span class=\"code\">");
    match picture {
        Some(picture) => out.push(picture),
        None => out.extend(format!("U+{code:04X}").chars()),
    }
    out.push_str("</span>");
}

/// JSON text, which is known to be valid, with a line for each member. Not a byte of a value changes: a number keeps all its
/// digits, a member its place.
pub(super) fn indented(json: &str, room: usize) -> String {
    let mut out = String::with_capacity(json.len().min(room) + 64);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        // A little more than what is shown, so that whoever cuts sees that there is more.
        if out.len() > room {
            break;
        }
        if in_text {
            out.push(character);
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '"' => {
                in_text = true;
                out.push('"');
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if character.is_ascii_whitespace() => {}
            _ => out.push(character),
        }
    }
    out
}

/// Deeper than this, lines begin no further to the right: a payload of brackets would be mostly spaces.
const DEEPEST: usize = 24;

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth.min(DEEPEST) {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "task", "tasks"), "1 task");
        for (number, text) in [
            (0.0, "0"),
            (0.001, "< 0.01"),
            (0.5, "0.5"),
            (2.0, "2"),
            (12.34, "12.3"),
            (1234.5, "1,235"),
        ] {
            assert_eq!(rate(number), text);
        }
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
        assert_eq!(length(Millis(250)), "250 ms");
        assert_eq!(length(Millis(90_000)), "1 min 30 s");
        assert_eq!(distance(WallMillis(5000), WallMillis(0)), "in 5 s");
        assert_eq!(distance(WallMillis(0), WallMillis(5000)), "5 s ago");
    }

    #[test]
    fn what_can_not_be_seen_is_shown_and_what_means_something_to_html_is_escaped() {
        let shown = visible("a<b>&\"\u{7}\u{202e}\u{5d0}\n", 1000, false);
        assert_eq!(
            shown.markup.into_string(),
            "a&lt;b&gt;&amp;&quot;<span class=\"code\">\u{2407}</span><span class=\"code\">U+202E</span>\u{5d0} "
        );
        assert!(shown.whole);
        let cut = visible(&"<".repeat(100), 40, true);
        assert_eq!((cut.markup.into_string().len(), cut.whole), (40, false));
    }

    #[test]
    fn json_is_indented_without_a_changed_value() {
        let text = r#"{"a":[1.50,{"b":"x,\"{y"},[],{ }],"z":12345678901234567890,"a":null}"#;
        let pretty = indented(text, 10_000);
        assert_eq!(
            pretty,
            "{\n  \"a\": [\n    1.50,\n    {\n      \"b\": \"x,\\\"{y\"\n    },\n    [],\n    {}\n  ],\n  \
             \"z\": 12345678901234567890,\n  \"a\": null\n}"
        );
        assert!(indented(&"[".repeat(100_000), 5000).len() < 6000);
    }
}
