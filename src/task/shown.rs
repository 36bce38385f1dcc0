//! [`shown_text`]: how text from outside is shown in logs, reasons and errors, so that a terminal or a log line stays what it
//! was.

/// Whether a character could drive a terminal, turn the direction of the text around it, or break its line.
#[must_use]
pub fn is_unsafe_to_show(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text with its control characters, marks of direction and separators of lines escaped and all else as it is: for errors that
/// repeat what somebody wrote.
#[must_use]
pub fn shown_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe_to_show(character) {
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
        assert_eq!(shown_text("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
    }
}
