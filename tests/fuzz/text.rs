//! What is said to people: it stays in its line, and drives no terminal.

/// Holds the text of an error: something, in one line, without control characters.
pub(crate) fn plain(text: &str) {
    assert!(!text.is_empty(), "an error says nothing");
    assert!(
        !text.chars().any(char::is_control),
        "an error has control characters in it: {text:?}"
    );
}
