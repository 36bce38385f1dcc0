//! [`Table`]: aligned columns for people. Programs take `--json`.

use unicode_width::UnicodeWidthStr as _;

use super::console::{Colour, paint};
use crate::task::is_unsafe_to_show;

/// Which side a column's text leans on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows under a head.
pub(super) struct Table {
    head: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

/// A cell: text without control characters, and its colour.
pub(super) struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    pub(super) fn coloured(text: impl AsRef<str>, colour: Colour) -> Self {
        Self {
            text: escaped(text.as_ref()),
            colour,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::coloured(text, Colour::Plain)
    }
}

impl Table {
    pub(super) fn new<const N: usize>(head: [(&'static str, Side); N]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Puts `texts` into the last column, row by row: for what depends on the width that the others take.
    pub(super) fn fill_last(&mut self, texts: impl Iterator<Item = String>) {
        for (row, text) in self.rows.iter_mut().zip(texts) {
            if let Some(last) = row.last_mut() {
                *last = text.into();
            }
        }
    }

    /// The lines, each ended; the last column is not filled up.
    pub(super) fn render(&self, colour: bool) -> String {
        let head: Vec<Cell> = self
            .head
            .iter()
            .map(|(name, _)| Cell::coloured(name, Colour::Bold))
            .collect();
        let widths = self.widths(&[]);
        self.lines(std::iter::once(&head).chain(&self.rows), &widths, colour)
    }

    /// The lines without the head: they go on below a table that had these widths.
    pub(super) fn render_below(&self, widths: &[usize], colour: bool) -> String {
        self.lines(self.rows.iter(), &self.widths(widths), colour)
    }

    /// How many columns of the terminal each column takes, at least those of `least`.
    pub(super) fn widths(&self, least: &[usize]) -> Vec<usize> {
        let width = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.width())
                .chain([name.len(), least.get(column).copied().unwrap_or(0)])
                .max()
                .unwrap_or(0)
        };
        self.head
            .iter()
            .enumerate()
            .map(|(column, (name, _))| width(column, name))
            .collect()
    }

    fn lines<'a>(
        &self,
        rows: impl Iterator<Item = &'a Vec<Cell>>,
        widths: &[usize],
        colour: bool,
    ) -> String {
        let mut out = String::new();
        for row in rows {
            let mut line = String::new();
            for ((cell, width), (_, side)) in row.iter().zip(widths).zip(&self.head) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let fill = " ".repeat(width.saturating_sub(cell.text.width()));
                let text = paint(colour, cell.colour, &cell.text);
                match side {
                    Side::Left => line.extend([text, fill]),
                    Side::Right => line.extend([fill, text]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// `text` with what could drive the terminal or break the line written out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe_to_show(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A value of several lines keeps them, set in; nothing else that could drive a terminal passes.
pub(super) fn multiline(value: &str, indent: usize) -> String {
    let lines: Vec<String> = value.lines().map(escaped).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

/// At most `width` columns of `text`, escaped; what is cut is shown by `…`.
pub(super) fn shortened(text: &str, width: usize) -> String {
    // A character takes no more than two columns and may take none; this many are enough for any text that is shown.
    let head: String = text.chars().take(4 * (width + 1)).collect();
    let whole = escaped(&head);
    if whole.width() <= width && head.len() == text.len() {
        return whole;
    }
    let mut cut = String::new();
    for c in whole.chars() {
        cut.push(c);
        if cut.width() >= width {
            cut.pop();
            break;
        }
    }
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_spaces_at_their_end() {
        let mut table = Table::new([
            ("NAME", Side::Left),
            ("COUNT", Side::Right),
            ("WHY", Side::Left),
        ]);
        table.row(["a".into(), "7".into(), "".into()]);
        table.row(["größer".into(), "12345678".into(), "because".into()]);
        assert_eq!(
            table.render(false),
            "NAME       COUNT  WHY\na              7\ngrößer  12345678  because\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new([("A", Side::Left), ("B", Side::Left)]);
        table.row(["日本".into(), "x".into()]);
        table.row(["four".into(), "y".into()]);
        assert_eq!(table.render(false), "A     B\n日本  x\nfour  y\n");
        assert_eq!(table.render_below(&[6, 0], false), "日本    x\nfour    y\n");
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let mut table = Table::new([("A", Side::Left), ("B", Side::Left)]);
        table.row([Cell::coloured("x", Colour::Red), "y".into()]);
        assert_eq!(
            table.render(true),
            "\x1b[1mA\x1b[0m  \x1b[1mB\x1b[0m\n\x1b[31mx\x1b[0m  y\n"
        );
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(escaped("a\x1b[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(escaped("a\u{2028}b\u{2029}"), "a\\u{2028}b\\u{2029}");
        assert_eq!(shortened("one\ntwo three", 8), "one\\ntw…");
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("longer", 5), "long…");
        assert_eq!(shortened("日本語の文", 10), "日本語の文");
        assert_eq!(shortened("日本語の文章", 10), "日本語の…");
    }
}
