//! [`Table`]: aligned columns for people. Programs take `--json`.

use super::console::{Colour, paint};

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

    /// The lines, each ended; the last column is not filled up.
    pub(super) fn render(&self, colour: bool) -> String {
        let width = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.chars().count())
                .chain([name.len()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = self
            .head
            .iter()
            .enumerate()
            .map(|(column, (name, _))| width(column, name))
            .collect();
        let head: Vec<Cell> = self
            .head
            .iter()
            .map(|(name, _)| Cell::coloured(name, Colour::Bold))
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, side)) in row.iter().zip(&widths).zip(&self.head) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let fill = " ".repeat(width.saturating_sub(cell.text.chars().count()));
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

/// `text` with control characters, which could drive the terminal, written out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Besides the control characters: the marks that turn the direction of text around.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `width` characters of `text`, escaped; what is cut is shown by `…`.
pub(super) fn shortened(text: &str, width: usize) -> String {
    // A character becomes at least one, so more than `width + 1` of them are never needed.
    let head: String = text.chars().take(width + 1).collect();
    let whole = escaped(&head);
    if whole.chars().count() <= width {
        return whole;
    }
    let mut cut: String = whole.chars().take(width.saturating_sub(1)).collect();
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
        assert_eq!(shortened("one\ntwo three", 8), "one\\ntw…");
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("longer", 5), "long…");
    }
}
