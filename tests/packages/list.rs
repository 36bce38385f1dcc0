//! The list of what the programs are made of, as it is in the packages: of these very programs, and with no crate forgotten that
//! their machine code comes from. What else it must be is held in `tests/supply.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    common::package::{built, succeeded, unpack},
    output, text,
};

const PLACE: &str = "usr/share/doc/workqueue/workqueue.cdx.json";
const PROGRAMS: [&str; 3] = ["workqueue-worker", "workqueuectl", "workqueued"];

/// The .deb's files, and its list.
fn unpacked() -> Option<(tempfile::TempDir, Value)> {
    let root = tempfile::tempdir().expect("a directory");
    if !unpack(root.path()) {
        return None;
    }
    let list = fs::read_to_string(root.path().join(PLACE)).expect("the list");
    let list = serde_json::from_str(&list).expect("JSON");
    Some((root, list))
}

fn sum(path: &Path) -> String {
    let said = output("sha256sum", &[text(path)]);
    said.split(' ').next().expect("a sum").to_owned()
}

#[test]
fn the_list_is_in_both_packages_and_beside_them_and_of_their_programs() {
    let Some(built) = built() else { return };
    let Some((root, list)) = unpacked() else {
        return;
    };
    let format = "[%{FILENAMES} %{FILEDIGESTS}\n]";
    let said = output("rpm", &["-qp", "--qf", format, text(&built.rpm)]);
    let in_rpm: BTreeMap<&str, &str> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let beside: PathBuf = built.deb.with_extension("cdx.json");
    let of_list = sum(&root.path().join(PLACE));
    assert_eq!(of_list, sum(&beside));
    assert_eq!(of_list, in_rpm[&*format!("/{PLACE}")]);

    let product = &list["metadata"]["component"];
    assert_eq!(product["version"], env!("CARGO_PKG_VERSION"));
    let programs = product["components"].as_array().expect("programs");
    let names: Vec<&str> = programs
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, PROGRAMS);
    for program in programs {
        let path = format!("usr/bin/{}", program["name"].as_str().expect("a name"));
        let told = program["hashes"][0]["content"].as_str().expect("a sum");
        assert_eq!(told, sum(&root.path().join(&path)), "{path}");
        assert_eq!(told, in_rpm[&*format!("/{path}")], "{path}");
    }
}

/// The directories of crates that a program's debug lines name.
fn compiled_from(program: &Path) -> BTreeSet<String> {
    let said = Command::new("grep")
        .args([
            "--text",
            "--only-matching",
            "--no-filename",
            "--extended-regexp",
        ])
        .arg("/cargo/registry/src/[^/]+/[A-Za-z0-9_.+-]+/")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .expect("grep runs");
    succeeded("grep", &said);
    let lines = String::from_utf8(said.stdout).expect("names");
    let names = lines
        .lines()
        .filter_map(|line| line.trim_end_matches('/').rsplit('/').next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_crate_whose_code_is_in_a_program_is_in_the_list_as_linked() {
    let Some(built) = built() else { return };
    let Some((_root, list)) = unpacked() else {
        return;
    };
    let components = list["components"].as_array().expect("components");
    let linked: BTreeSet<String> = components
        .iter()
        .filter(|one| one["scope"] == "required")
        .map(|one| {
            let part = |key: &str| one[key].as_str().expect("text");
            format!("{}-{}", part("name"), part("version"))
        })
        .collect();
    for program in PROGRAMS {
        let there = compiled_from(&built.programs.join(program));
        assert!(there.len() > 30, "{program}: {there:?}");
        let missing: Vec<_> = there.difference(&linked).collect();
        assert!(missing.is_empty(), "{program} has code of {missing:?}");
    }
}
