//! Names that are no words: nothing of them reaches a terminal or a log as it is, and each file can be named again.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader},
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use serde_json::json;

use super::{aside, files_in, looked_through, rejected, serves_on, task, work_off};
use crate::common::{Daemon, out, run, until};

/// Stems of names, to which an ending is added.
fn stems() -> Vec<Vec<u8>> {
    let texts = [
        "line\nbreak",
        "carriage\rreturn",
        "\u{1b}[2J\u{1b}[31mred\u{1b}]0;title\u{7}",
        "\u{9b}31mcontrol of eight bits",
        "\u{202e}backwards\u{2066}",
        "\u{2028}line separator",
        "tab\there",
        "a \"quoted\" 'name'",
        "back\\slash\\n",
        "back\\u{1b}slash",
        "<script>alert(1)<!--",
        "100%s%n",
        "-rf",
        "$(reboot)`reboot`",
        "a&b;c|d",
        " ",
        "\u{301}combining",
        "é\u{1f980}",
        "MESSAGE=forged",
    ];
    let mut stems: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    stems.push(b"not \xff\xfe utf-8".to_vec());
    stems.push(b"not \\xff\\xfe utf-8".to_vec());
    stems.push(b"cut \xc3".to_vec());
    stems.push(vec![b'x'; 250]);
    stems.push("é".repeat(125).into_bytes());
    stems.push(vec![0xff; 250]);
    stems
}

fn drop_as(daemon: &Daemon, name: &OsStr, content: &str) {
    let path = aside(daemon, "to-be-dropped", content);
    fs::rename(path, daemon.tasks().join(name)).expect("dropped");
}

fn with_ending(stem: &[u8], ending: &str) -> OsString {
    OsStr::from_bytes(&[stem, ending.as_bytes()].concat()).to_owned()
}

/// Nothing in a text can command a terminal, begin a line that is none, or turn the writing round.
fn assert_plain(what: &str, text: &str) {
    let wrong = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    let found: Vec<char> = text.chars().filter(|character| wrong(*character)).collect();
    assert!(found.is_empty(), "{what} has {found:?}: {text:?}");
}

fn ctl(daemon: &Daemon, args: &[&str]) -> String {
    let socket = format!("unix:{}", daemon.socket().display());
    let args: Vec<&str> = ["--url", &socket]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let output = run(env!("CARGO_BIN_EXE_workqueuectl"), &args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert_plain("stderr", &String::from_utf8_lossy(&output.stderr));
    out(&output)
}

#[test]
fn tasks_come_from_files_of_any_name() {
    let daemon = Daemon::start(&["--log-level", "debug"]);
    let stems = stems();
    for (number, stem) in stems.iter().enumerate() {
        drop_as(
            &daemon,
            &with_ending(stem, ".json"),
            &task(&number.to_string()),
        );
    }
    let payloads = work_off(&daemon, "default", stems.len());
    assert_eq!(payloads.len(), stems.len());
    assert!(payloads.values().all(|count| *count == 1), "{payloads:?}");
    assert_eq!(rejected(&daemon).len(), 0);
    until("all files are gone", || {
        files_in(&daemon.tasks()).is_empty().then_some(())
    });
    assert_plain("the log", &daemon.logged());
    serves_on(&daemon);
}

#[test]
fn rejected_files_of_any_name_are_shown_safely_and_can_be_named_again() {
    let daemon = Daemon::start(&["--log-level", "debug"]);
    let stems = stems();
    let mut feed = Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
        .args(["--url", &format!("unix:{}", daemon.socket().display())])
        .args(["events", "--kind", "rejected"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    until("it listens", || {
        let (_, text) = daemon.text("/metrics");
        text.contains("workqueue_event_listeners 1").then_some(())
    });
    for stem in &stems {
        let bad = "{\"payload\": \u{1b}[31m";
        drop_as(&daemon, &with_ending(stem, ".json"), bad);
    }
    let told = BufReader::new(feed.stdout.take().expect("what it says"));
    let lines = told.lines().take(stems.len());
    let events: Vec<String> = lines.map(|line| line.expect("a line")).collect();
    feed.kill().expect("it ends");
    feed.wait().expect("it has ended");
    let events = events.join("\n");
    let list = until("all are rejected", || {
        let list = rejected(&daemon);
        (list.len() == stems.len()).then_some(list)
    });
    let folder = daemon.data().join("rejected");
    assert_eq!(files_in(&folder).len(), 2 * stems.len());
    let texts = [
        ("the log", daemon.logged()),
        ("rejected", ctl(&daemon, &["rejected"])),
        ("rejected --json", ctl(&daemon, &["rejected", "--json"])),
        ("status", ctl(&daemon, &["status"])),
        ("events", events),
        ("the page", daemon.text("/rejected").1),
        ("the first page", daemon.text("/").1),
        ("troubles", daemon.text("/api/v1/troubles").1),
    ];
    for (what, text) in &texts {
        assert_plain(what, text);
    }
    let mut left: BTreeSet<_> = files_in(&folder).into_iter().collect();
    for (number, (name, (moved, reason))) in list.iter().enumerate() {
        assert!(*moved && !reason.is_empty(), "{name}");
        assert_plain("a name", name);
        assert_plain("a reason", reason);
        if number % 2 == 0 {
            assert_plain("show", &ctl(&daemon, &["rejected", "show", "--", name]));
            ctl(&daemon, &["rejected", "discard", "--", name]);
        } else {
            let body = json!({"name": name}).to_string();
            let (status, answer) = daemon.admin("POST", "/rejected/discard", &body);
            assert!(status < 300, "{status}: {answer}");
        }
        let now: BTreeSet<_> = files_in(&folder).into_iter().collect();
        assert_eq!(
            left.difference(&now).count(),
            2,
            "{name}: the file and its reason"
        );
        left = now;
    }
    assert!(left.is_empty(), "{left:?}");
    assert_plain("the log", &daemon.logged());
    serves_on(&daemon);
}

#[test]
fn a_rejected_file_of_any_name_is_corrected_and_taken_back() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let stems = stems();
    for stem in &stems {
        drop_as(&daemon, &with_ending(stem, ".json"), "no");
    }
    let list = until("all are rejected", || {
        let list = rejected(&daemon);
        (list.len() == stems.len()).then_some(list)
    });
    // Only then the last one is left alone.
    daemon.until_rejected(stems.len());
    for (number, path) in files_in(&daemon.data().join("rejected")).iter().enumerate() {
        if !path.as_os_str().as_bytes().ends_with(b".reason") {
            fs::write(path, task(&number.to_string())).expect("corrected");
        }
    }
    for name in list.keys() {
        ctl(&daemon, &["rejected", "retry", "--", name]);
    }
    let payloads = work_off(&daemon, "default", stems.len());
    assert_eq!(payloads.len(), stems.len(), "{payloads:?}");
    assert!(rejected(&daemon).is_empty());
    serves_on(&daemon);
}

#[test]
fn folders_of_any_name_are_reported_safely() {
    let daemon = Daemon::start(&["--log-level", "debug"]);
    let stems = stems();
    for stem in &stems {
        let name = daemon.tasks().join(with_ending(stem, ".json"));
        fs::create_dir(name).expect("a folder");
    }
    let list = until("all are reported", || {
        let list = rejected(&daemon);
        (list.len() == stems.len()).then_some(list)
    });
    assert!(list.values().all(|(moved, _)| !moved), "{list:?}");
    looked_through(&daemon);
    assert_plain("the log", &daemon.logged());
    assert_plain("rejected", &ctl(&daemon, &["rejected"]));
    assert_plain("the page", &daemon.text("/rejected").1);
    serves_on(&daemon);
}
