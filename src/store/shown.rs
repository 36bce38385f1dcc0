//! How names and texts from outside are shown in logs, reasons and errors: whatever bytes they hold, a terminal or a log
//! line stays what it was.
//!
//! This module may not know: where the text goes.

use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _, path::Path};

/// A path or name with everything escaped that is not plainly printable: control characters as Rust writes them, bytes
/// that are not UTF-8 as `\xff`.
#[must_use]
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            // Writing to a `String` cannot fail.
            if write!(text, "\\x{byte:02x}").is_err() {
                break;
            }
        }
    }
    text
}

/// A text with its control characters escaped and all else as it is.
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
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn nothing_raw_comes_through() {
        let name = OsStr::from_bytes(b"a\nb\x1b[31m\xff\xc3\xa9");
        assert_eq!(shown(Path::new(name)), "a\\nb\\u{1b}[31m\\xffé");
        assert_eq!(shown_text("don't \u{7}\n"), "don't \\u{7}\\n");
    }
}
