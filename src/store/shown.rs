//! How names of files are shown in logs, reasons and errors: whatever bytes they hold, a terminal or a log line stays what
//! it was. Texts are shown so by [`shown_text`](crate::task::shown_text).
//!
//! This module may not know: where the name goes.

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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn nothing_raw_comes_through() {
        let name = OsStr::from_bytes(b"a\nb\x1b[31m\xff\xc3\xa9");
        assert_eq!(shown(Path::new(name)), "a\\nb\\u{1b}[31m\\xffé");
    }
}
