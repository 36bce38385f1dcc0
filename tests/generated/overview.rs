//! workqueue(7): prose from a template, and in it what the code knows better: the API from its OpenAPI document, the files from
//! the docs of the modules that write them.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde_json::Value;

use super::roff;

/// The template with its places filled: `@API@`, and `@TABLE path n@` for the n-th table in a source's docs.
pub(super) fn page(template: &str) -> String {
    let mut page = String::new();
    for line in template.lines() {
        let mark = line
            .strip_prefix('@')
            .and_then(|rest| rest.strip_suffix('@'));
        match mark
            .map(|mark| mark.split(' ').collect::<Vec<_>>())
            .as_deref()
        {
            Some(["API"]) => page.push_str(&api()),
            Some(["TABLE", source, number]) => {
                page.push_str(&table(source, number.parse().expect("a number")));
            }
            Some(other) => panic!("what is {other:?}?"),
            None => writeln!(
                page,
                "{}",
                line.replace("VERSION", env!("CARGO_PKG_VERSION"))
            )
            .expect("a string"),
        }
    }
    page
}

fn project(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Each method and path with its summary.
fn api() -> String {
    let document: Value =
        serde_json::from_str(&project("packaging/openapi.json")).expect("the document");
    let paths: BTreeMap<&String, &Value> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .collect();
    let mut page = String::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let summary = operation["summary"].as_str().expect("a summary");
            writeln!(
                page,
                ".TP\n\\fB{} {}\\fR\n{}",
                method.to_uppercase(),
                roff(path),
                roff(&summary.replace('`', ""))
            )
            .expect("a string");
        }
    }
    page
}

/// A table of a module's docs, as one for tbl(1): offset, length, meaning.
fn table(source: &str, number: usize) -> String {
    let text = project(source);
    let mut tables: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let row = line.strip_prefix("//! |");
        if row.is_some() && !inside {
            tables.push(Vec::new());
        }
        inside = row.is_some();
        if let (Some(row), Some(table)) = (row, tables.last_mut()) {
            table.push(row.trim_end_matches('|'));
        }
    }
    let rows = &tables[number];
    let mut page = ".TS\nlb lb lb\nl l lx.\n".to_owned();
    for row in rows.iter().filter(|row| !row.starts_with("---")) {
        let cells: Vec<String> = row
            .split('|')
            .map(|cell| format!("T{{\n{}\nT}}", roff(plain(cell.trim()).as_str())))
            .collect();
        writeln!(page, "{}", cells.join("\t")).expect("a string");
    }
    page.push_str(".TE\n");
    page
}

/// Text of docs without its marks: backticks, emphasis, links.
fn plain(cell: &str) -> String {
    let mut text = cell.replace(['`', '*'], "");
    while let (Some(open), Some(end)) = (text.find("]("), text.find(')')) {
        if end < open {
            break;
        }
        text.replace_range(open..=end, "");
        if let Some(start) = text[..open].rfind('[') {
            text.remove(start);
        }
    }
    text
}
