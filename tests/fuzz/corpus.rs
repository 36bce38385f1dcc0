//! The committed corpus: `corpus/TARGET/*`, by name.
//!
//! A file that ends in `.list` holds several inputs, set apart by lines of `###`; every other one is an input as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// All inputs of a target's corpus.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut paths: Vec<PathBuf> = match fs::read_dir(&directory) {
        Ok(entries) => entries
            .map(|entry| entry.expect("an entry").path())
            .collect(),
        // All of it is made from another's.
        Err(_) => Vec::new(),
    };
    paths.sort();
    paths.iter().flat_map(|path| inputs(path)).collect()
}

fn inputs(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("a file of the corpus");
    if path.extension().is_none_or(|end| end != "list") {
        return vec![bytes];
    }
    let text = String::from_utf8(bytes).expect("a list is text");
    text.split("\n###\n")
        .map(|one| one.trim_end_matches('\n').as_bytes().to_vec())
        .collect()
}
