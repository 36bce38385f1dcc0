//! The house rules, held by a machine: floors, words, lengths, and what each module says of itself.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which floors a floor may use besides itself. What is not listed here is not allowed: think about the house first.
const FLOORS: [(&str, &[&str]); 18] = [
    ("task", &[]),
    ("defect", &[]),
    ("access", &["task"]),
    ("api", &["task"]),
    ("pem", &[]),
    ("runtime", &[]),
    ("systemd", &[]),
    ("queue", &["task", "defect"]),
    ("store", &["task", "defect", "runtime"]),
    ("backend", &["task"]),
    (
        "engine",
        &["task", "queue", "store", "backend", "systemd", "defect"],
    ),
    (
        "http",
        &["task", "api", "backend", "systemd", "access", "pem"],
    ),
    ("admin", &["task", "api", "backend", "http", "access"]),
    ("config", &["task", "api", "systemd", "access"]),
    ("client", &["task", "api", "pem"]),
    (
        "worker",
        &[
            "task", "api", "client", "systemd", "config", "access", "runtime",
        ],
    ),
    (
        "ctl",
        &[
            "task", "api", "client", "config", "store", "systemd", "access", "runtime",
        ],
    ),
    (
        "daemon",
        &[
            "task", "api", "client", "config", "systemd", "store", "queue", "engine", "backend",
            "http", "admin", "worker", "access", "runtime",
        ],
    ),
];

/// Words of other systems, and the design's word for each.
const WORDS: [(&str, &str); 13] = [
    ("job", "task"),
    ("enqueue", "submit"),
    ("dequeue", "claim"),
    ("push task", "submit"),
    ("ack", "complete"),
    ("acked", "completed"),
    ("acks", "completes"),
    ("buried", "dead"),
    ("dlq", "dead"),
    ("visibility", "lease"),
    ("jobs", "tasks"),
    ("enqueued", "submitted"),
    ("dequeued", "claimed"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|end| end == "rs") {
                found.push((entry.clone(), fs::read_to_string(&entry).expect("a source")));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found.sort();
    found
}

fn floor_of(path: &Path) -> Option<String> {
    let inside = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .ok()?;
    let first = inside
        .components()
        .next()?
        .as_os_str()
        .to_str()?
        .trim_end_matches(".rs");
    (first != "lib" && first != "bin").then(|| first.to_owned())
}

/// The floors that a source names, in `crate::floor` and in `crate::{floor::…, floor::…}`.
fn used(text: &str) -> Vec<String> {
    let mut floors = Vec::new();
    for part in text.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            let mut name = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    character
                        if depth == 0
                            && start
                            && (character.is_alphanumeric() || character == '_') =>
                    {
                        name.push(character);
                    }
                    _ if depth == 0 && !name.is_empty() => {
                        floors.push(std::mem::take(&mut name));
                        start = false;
                    }
                    _ => {}
                }
            }
            if !name.is_empty() {
                floors.push(name);
            }
        } else {
            floors.push(
                part.chars()
                    .take_while(|character| character.is_alphanumeric() || *character == '_')
                    .collect(),
            );
        }
    }
    floors
}

#[test]
fn no_floor_uses_one_above_or_beside_it() {
    let allowed: BTreeMap<_, _> = FLOORS.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(floor) = floor_of(&path) else {
            continue;
        };
        let Some(below) = allowed.get(floor.as_str()) else {
            wrong.push(format!(
                "{}: the floor {floor} is not in the house",
                path.display()
            ));
            continue;
        };
        for other in used(&text) {
            if allowed.contains_key(other.as_str())
                && other != floor
                && !below.contains(&other.as_str())
            {
                wrong.push(format!("{}: {floor} uses {other}", path.display()));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_designs_words_are_used() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let words: Vec<String> = line
                .split(|character: char| !character.is_ascii_alphabetic())
                .map(str::to_ascii_lowercase)
                .collect();
            for (word, right) in WORDS {
                if words.iter().any(|one| one == word) {
                    wrong.push(format!(
                        "{}:{}: {word}: say {right}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for_and_has_one_subject() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{}: does not open with what it is for",
                path.display()
            ));
        }
        if text.lines().count() > 720 {
            wrong.push(format!(
                "{}: {} lines",
                path.display(),
                text.lines().count()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_floors_are_those_of_the_house() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("lib.rs");
    for (floor, _) in FLOORS {
        assert!(
            text.contains(&format!("pub mod {floor};")),
            "{floor} is no module"
        );
        assert!(
            text.contains(&format!("[`{floor}`]")) || text.contains(&format!("[`{floor}::")),
            "{floor} is not told of"
        );
    }
}

/// Said where the crate begins as well as in the manifest, which a build may be told to overlook.
#[test]
fn no_code_here_is_unsafe() {
    let roots: Vec<(PathBuf, String)> = sources()
        .into_iter()
        .filter(|(path, _)| {
            path.ends_with("src/lib.rs")
                || path.parent().is_some_and(|dir| dir.ends_with("src/bin"))
        })
        .collect();
    assert_eq!(roots.len(), 4, "the library and three programs");
    for (path, text) in roots {
        let said = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
        assert!(said, "{} may be unsafe", path.display());
    }
    for manifest in ["Cargo.toml", "benches/Cargo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let text = fs::read_to_string(path).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("TOML");
        let level = manifest["lints"]["rust"]["unsafe_code"].as_str();
        assert_eq!(level, Some("forbid"), "{manifest}");
    }
}
