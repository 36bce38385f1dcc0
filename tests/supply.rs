//! What the programs are made of: each dependency's licence, source and version is one that `deny.toml` allows, and the list in
//! the packages names what is really linked.
//!
//! `cargo deny check` knows more, and takes minutes to compile; `tests/run` runs it where it is there. This is what can be said
//! without it, from what cargo itself knows.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use common::{
    package::there_is,
    python::{here, installed, run},
};
use serde_json::{Value, json};

/// A crate's name and version.
type Crate = (String, String);

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table(path: &str) -> toml::Table {
    let text = fs::read_to_string(project().join(path)).expect("a file of this project");
    text.parse().expect("TOML")
}

fn cargo(arguments: &[&str]) -> String {
    run(Command::new(env!("CARGO"))
        .current_dir(project())
        .args(arguments))
}

/// The machine that this runs on, as Rust names it.
fn host() -> String {
    let said = run(Command::new("rustc").arg("-vV"));
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("a host").to_owned()
}

/// Everything that is compiled for the programs and their tests here. Fails where Cargo.lock is not what the manifest needs.
fn metadata() -> Vec<Value> {
    let said = cargo(&[
        "metadata",
        "--locked",
        "--offline",
        "--format-version=1",
        "--filter-platform",
        &host(),
    ]);
    let metadata: Value = serde_json::from_str(&said).expect("JSON");
    metadata["packages"].as_array().expect("crates").clone()
}

fn named(package: &Value) -> Crate {
    let text = |key: &str| package[key].as_str().expect("text").to_owned();
    (text("name"), text("version"))
}

/// Whether an expression of SPDX is met by licences that are allowed, as cargo-deny has it: one side of an `OR`, both of an `AND`.
fn met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    // What old manifests write for it.
    let spaced = spaced.replace('/', " OR ").replace(" WITH ", "_WITH_");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    assert_eq!(words.next(), None, "{expression}");
    met
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = every(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= every(words, allowed);
    }
    met
}

fn every(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next().expect("a licence") {
        "(" => {
            let met = any(words, allowed);
            assert_eq!(words.next(), Some(")"));
            met
        }
        licence => allowed.contains(&licence.replace("_WITH_", " WITH ")),
    }
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = BTreeSet::from(["MIT", "ISC", "A WITH B"].map(str::to_owned));
    for good in [
        "MIT",
        "GPL OR MIT",
        "GPL/MIT",
        "(GPL OR MIT) AND ISC",
        "A WITH B",
    ] {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["GPL", "MIT AND GPL", "(GPL OR MIT) AND A", "A"] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}

#[test]
fn each_licence_is_one_that_is_allowed_and_each_that_is_allowed_is_needed() {
    let deny = table("deny.toml");
    let allowed: BTreeSet<String> = deny["licenses"]["allow"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|licence| licence.as_str().expect("a licence").to_owned())
        .collect();
    let expressions: BTreeSet<String> = metadata()
        .iter()
        .map(|package| {
            let (name, _) = named(package);
            let licence = package["license"].as_str();
            licence
                .unwrap_or_else(|| panic!("{name} has no licence"))
                .to_owned()
        })
        .collect();
    let met_by = |allowed: &BTreeSet<String>| {
        let unmet = expressions
            .iter()
            .filter(|expression| !met(expression, allowed));
        unmet.collect::<Vec<_>>()
    };
    assert_eq!(met_by(&allowed), Vec::<&String>::new());
    for licence in &allowed {
        let mut fewer = allowed.clone();
        fewer.remove(licence);
        assert!(!met_by(&fewer).is_empty(), "nothing needs {licence}");
    }
}

#[test]
fn two_versions_of_a_crate_come_in_only_where_the_reason_is_told() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in tree("normal,build,dev") {
        versions.entry(name).or_default().insert(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let deny = table("deny.toml");
    assert_eq!(deny["bans"]["multiple-versions"].as_str(), Some("deny"));
    for entry in deny["bans"]["skip"].as_array().expect("a list") {
        let (name, version) = entry["crate"]
            .as_str()
            .and_then(|text| text.split_once('@'))
            .expect("name@version");
        let reason = entry["reason"].as_str().unwrap_or_default();
        assert!(reason.len() > 20, "{name}: why?");
        let found = versions.get_mut(name);
        let found =
            found.unwrap_or_else(|| panic!("{name} comes in once, and deny.toml tells of twice"));
        assert!(found.remove(version), "{name}: there is no {version}");
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(
        versions.is_empty(),
        "deny.toml does not tell why: {versions:?}"
    );
}

#[test]
fn every_crate_comes_from_the_one_registry_with_its_sum() {
    for lock in ["Cargo.lock", "benches/Cargo.lock"] {
        let packages = table(lock);
        for package in packages["package"].as_array().expect("packages") {
            let name = package["name"].as_str().expect("a name");
            match package.get("source").and_then(toml::Value::as_str) {
                None => assert!(
                    name.starts_with("workqueue"),
                    "{lock}: {name} comes from nowhere"
                ),
                Some(source) => {
                    assert_eq!(
                        source, "registry+https://github.com/rust-lang/crates.io-index",
                        "{lock}: {name}"
                    );
                    let sum = package.get("checksum").and_then(toml::Value::as_str);
                    assert_eq!(sum.map(str::len), Some(64), "{lock}: {name}");
                }
            }
        }
    }
}

/// What packaging/sbom says of the programs that the tests use.
fn bom(version: &str, epoch: &str) -> String {
    run(Command::new(project().join("packaging/sbom"))
        .args([
            version,
            epoch,
            env!("CARGO_BIN_EXE_workqueued"),
            env!("CARGO_BIN_EXE_workqueuectl"),
        ])
        // Another place, and another language.
        .current_dir("/")
        .env("LC_ALL", "C"))
}

fn parsed(bom: &str) -> Value {
    serde_json::from_str(bom).expect("JSON")
}

/// The crates in a list of the packages, with these scopes.
fn listed(bom: &Value, scopes: &[&str]) -> BTreeSet<Crate> {
    let components = bom["components"].as_array().expect("components");
    let crates = components.iter().filter(|one| {
        let purl = one["purl"].as_str().expect("a purl");
        purl.starts_with("pkg:cargo/") && scopes.contains(&one["scope"].as_str().expect("a scope"))
    });
    crates.map(named).collect()
}

/// The crates of cargo's own tree.
fn tree(edges: &str) -> BTreeSet<Crate> {
    let said = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--no-dedupe",
        "--prefix=none",
        "--edges",
        edges,
    ]);
    let crates = said.lines().map(|line| {
        let mut words = line.split(' ');
        let name = words.next().expect("a name").to_owned();
        let version = words.next().expect("a version").trim_start_matches('v');
        (name, version.to_owned())
    });
    crates.filter(|(name, _)| name != "workqueue").collect()
}

#[test]
fn the_list_in_the_packages_names_the_crates_of_cargos_tree_and_no_other() {
    if !there_is("python3") {
        return common::package::skipped("the list of crates, without python3");
    }
    let bom = parsed(&bom("0.1.0", "1764000000"));
    let linked = listed(&bom, &["required"]);
    assert_eq!(linked, tree("normal,no-proc-macro"));
    assert_eq!(
        listed(&bom, &["required", "excluded"]),
        tree("normal,build")
    );
    for only_of_tests in ["proptest", "rcgen", "tempfile", "vt100"] {
        let named = bom["components"].as_array().expect("components").iter();
        assert!(
            named.clone().all(|one| one["name"] != only_of_tests),
            "{only_of_tests}"
        );
    }
    assert_eq!(
        bom["metadata"]["component"]["purl"],
        "pkg:generic/workqueue@0.1.0"
    );
}

#[test]
fn each_crate_in_the_list_has_licence_and_sum_and_what_it_uses_is_in_the_list() {
    if !there_is("python3") {
        return common::package::skipped("the list of crates, without python3");
    }
    let bom = parsed(&bom("0.1.0", "1764000000"));
    let lock = table("Cargo.lock");
    let sums: BTreeMap<Crate, &str> = lock["package"]
        .as_array()
        .expect("packages")
        .iter()
        .filter_map(|package| {
            let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
            Some((
                (text("name")?.to_owned(), text("version")?.to_owned()),
                text("checksum")?,
            ))
        })
        .collect();
    let mut refs = BTreeSet::from([bom["metadata"]["component"]["bom-ref"].clone().to_string()]);
    for one in bom["components"].as_array().expect("components") {
        assert!(refs.insert(one["bom-ref"].to_string()), "{one} twice");
        let licence = one["licenses"][0]["expression"]
            .as_str()
            .expect("a licence");
        assert!(!licence.is_empty() && !licence.contains('/'), "{one}");
        if let Some(sum) = sums.get(&named(one)) {
            assert_eq!(one["hashes"], json!([{"alg": "SHA-256", "content": sum}]));
        } else {
            assert_eq!(one["name"], "rust-std", "it has no sum");
        }
    }
    let mut told = BTreeSet::new();
    for one in bom["dependencies"].as_array().expect("edges") {
        assert!(told.insert(one["ref"].to_string()), "{one} twice");
        for other in one["dependsOn"].as_array().expect("a list") {
            assert!(
                refs.contains(&other.to_string()),
                "{other} is not in the list"
            );
        }
    }
    assert_eq!(told, refs);
}

#[test]
fn the_list_is_the_same_each_time_and_valid() {
    if !there_is("python3") {
        return common::package::skipped("the list of crates, without python3");
    }
    let first = bom("0.1.0", "1764000000");
    assert_eq!(first, bom("0.1.0", "1764000000"));
    let other = parsed(&bom("0.2.0~rc.1", "1764000001"));
    assert_ne!(parsed(&first)["serialNumber"], other["serialNumber"]);
    assert_eq!(other["metadata"]["timestamp"], "2025-11-24T16:00:01Z");
    assert!(
        !first.contains(env!("CARGO_MANIFEST_DIR")),
        "a path of this machine"
    );

    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("workqueue.cdx.json");
    let valid = |text: &str| {
        fs::write(&file, text).expect("written");
        Command::new(installed("cyclonedx").join("python"))
            .arg(here("cyclonedx").join("validate.py"))
            .arg(&file)
            .output()
            .expect("it starts")
    };
    let said = valid(&first);
    assert!(said.status.success(), "{said:?}");
    let broken = first.replace("\"required\"", "\"wanted\"");
    assert!(
        !valid(&broken).status.success(),
        "this schema refuses nothing"
    );
}
