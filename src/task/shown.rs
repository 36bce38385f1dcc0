//! [`shown_text`]: how text from outside is shown in logs, reasons and errors, so that a terminal or a log line stays what it
//! was.

/// A text with its control characters escaped and all else as it is: for errors that repeat what somebody wrote.
#[must_use]
pub fn shown_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_debug());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out_and_nothing_else() {
        assert_eq!(shown_text("don't \u{7}\n\"é\""), "don't \\u{7}\\n\"é\"");
    }
}
