//! The accessibility checker axe-core: fetched once by npm, of one version and one content, kept under `target/`, and put into
//! a page by the debugging protocol, so that the page's own content policy stays as it is.

use std::{fs, process::Command, sync::OnceLock};

use serde_json::{Value, json};

use crate::{
    common::package::{skipped, succeeded, target_dir, there_is},
    tab::Tab,
};

const PACKAGE: &str = "axe-core@4.11.4";
const FILE: &str = "axe-core-4.11.4.tgz";
/// The content that npm must give: what was looked at is what runs.
const INTEGRITY: &str = "sha512-KunSNx+TVpkAw/6ULfhnx+HWRecjqZGTOyquAoWHYLRSdK1tB5Ihce1ZW+UY3fj33bYAFWPu7W/GRSmmrCGuxA==";

/// The checker's script; `None`, with a loud word, where there is no npm.
pub fn script() -> Option<&'static str> {
    static SCRIPT: OnceLock<Option<String>> = OnceLock::new();
    SCRIPT
        .get_or_init(|| {
            if !there_is("npm") {
                skipped("accessibility by axe-core, because npm is not here");
                return None;
            }
            Some(fetched())
        })
        .as_deref()
}

fn fetched() -> String {
    let home = target_dir().join("axe");
    let path = home.join("package/axe.min.js");
    if let Ok(script) = fs::read_to_string(&path) {
        return script;
    }
    fs::create_dir_all(&home).expect("a directory for it");
    let packed = run(Command::new("npm")
        .args(["pack", PACKAGE, "--json", "--silent"])
        .current_dir(&home)
        .env("npm_config_cache", home.join("cache")));
    let told: Value = serde_json::from_str(&packed).expect("npm speaks JSON");
    assert_eq!(
        told[0]["integrity"], INTEGRITY,
        "{PACKAGE} is not what it was"
    );
    // Unpacked beside, then moved: a run that was stopped leaves no half of it.
    let aside = tempfile::tempdir_in(&home).expect("a directory");
    run(Command::new("tar")
        .arg("-xzf")
        .arg(home.join(FILE))
        .current_dir(aside.path()));
    fs::rename(aside.path().join("package"), home.join("package")).expect("move it to its place");
    fs::read_to_string(&path).expect("the script")
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    succeeded(&format!("{command:?}"), &output);
    String::from_utf8(output.stdout).expect("text")
}

/// What is wrong with the page that a window shows: one line for each rule and place.
pub fn violations(tab: &Tab, script: &str) -> Vec<String> {
    tab.value(&format!("{script}; true"));
    let found = tab
        .value("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)");
    let mut lines = Vec::new();
    for rule in found.as_array().expect("a list") {
        for node in rule["nodes"].as_array().expect("a list") {
            let line = json!([
                rule["impact"],
                rule["id"],
                node["html"],
                node["failureSummary"]
            ]);
            lines.push(line.to_string());
        }
    }
    lines
}
