//! The pages about settings, made from the commented examples: tests beside the configuration hold those against the types.

use std::fmt::Write as _;

use super::roff;

/// A piece of an example: what is said, and the lines that it is said of.
#[derive(Default)]
struct Piece {
    words: Vec<String>,
    lines: Vec<String>,
}

/// Blank lines end a piece, and so does a comment after lines of settings.
fn pieces(example: &str) -> Vec<Piece> {
    let mut pieces = vec![Piece::default()];
    for line in example.lines() {
        let comment = line.strip_prefix("# ").or((line == "#").then_some(""));
        let last = pieces.last().expect("there is always one");
        let (spoken, set) = (!last.words.is_empty(), !last.lines.is_empty());
        if (line.is_empty() && (spoken || set)) || (comment.is_some() && set) {
            pieces.push(Piece::default());
        }
        let last = pieces.last_mut().expect("there is always one");
        match comment {
            Some(words) => last.words.push(words.to_owned()),
            None if line.is_empty() => {}
            // A setting that is commented out, as its default or as one of several choices.
            None => last.lines.push(line.trim_start_matches('#').to_owned()),
        }
    }
    pieces
}

/// The page of an example: `name` is that of the file, `program` that of the program which reads it.
pub(super) fn page(name: &str, program: &str, example: &str) -> String {
    let mut pieces = pieces(example).into_iter();
    let head = pieces.next().expect("the example says what it is");
    let mut page = format!(
        ".TH {} 5 \"\" \"workqueue {}\" workqueue\n.SH NAME\n{} \\- settings of {}\n.SH DESCRIPTION\n",
        roff(name),
        env!("CARGO_PKG_VERSION"),
        roff(name),
        roff(program)
    );
    prose(&mut page, &head.words);
    let more: Vec<Piece> = pieces.collect();
    let mut begun = false;
    for piece in more {
        let table = piece
            .lines
            .first()
            .is_some_and(|line| line.starts_with('['));
        if piece.lines.is_empty() {
            page.push_str(".PP\n");
            prose(&mut page, &piece.words);
            continue;
        }
        if !begun {
            page.push_str(".SH SETTINGS\n");
            begun = true;
        }
        let mut lines = piece.lines.iter();
        if table {
            let title = lines.next().expect("its name");
            writeln!(page, ".SS {}", roff(title)).expect("a string");
            prose(&mut page, &piece.words);
        }
        for (number, line) in lines.enumerate() {
            let tag = if number == 0 { ".TP" } else { ".TQ" };
            writeln!(page, "{tag}\n\\fB{}\\fR", roff(line)).expect("a string");
        }
        if !table {
            prose(&mut page, &piece.words);
        }
    }
    let program = roff(program);
    writeln!(
        page,
        ".SH \"SEE ALSO\"\n.BR {program} (8),\n.BR workqueue (7)"
    )
    .expect("a string");
    page
}

/// Words of comments; what is indented among them keeps its lines.
fn prose(page: &mut String, words: &[String]) {
    for line in words {
        if line.is_empty() {
            page.push_str(".PP\n");
        } else if let Some(indented) = line.strip_prefix("  ") {
            writeln!(page, ".br\n{}", roff(indented.trim_start())).expect("a string");
        } else {
            writeln!(page, "{}", roff(line)).expect("a string");
        }
    }
}
