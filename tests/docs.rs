//! Every command in the README and the guides is run, in its order, against a real daemon, and says what the page says it says.
//!
//! A page's blocks of kind `console` hold commands behind `$ ` (`# ` for root, `> ` for a line that goes on) and what they
//! write. The machine's places in them (`/var/lib/workqueue`, port 5000) stand for those of a scratch directory. Ids and times
//! are any ids and times; `...` is anything in a line, and alone in a line it is any lines. What can't be run here is in
//! [`ELSEWHERE`], each with the reason; a command that is neither run nor listed fails.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use common::{PATIENCE, until, wait};

/// The pages, from the root of the project.
const PAGES: [&str; 7] = [
    "README.md",
    "packaging/doc/worker.md",
    "packaging/doc/files.md",
    "packaging/doc/production.md",
    "packaging/doc/from-the-original.md",
    "packaging/doc/from-beanstalkd.md",
    "packaging/doc/from-cron.md",
];

/// Commands that are not run here, by their beginning, and why.
const ELSEWHERE: [(&str, &str); 10] = [
    (
        "cargo run",
        "the same program is run as workqueued --with-worker",
    ),
    ("cargo test", "this is one of its tests"),
    ("WORKQUEUE_SEED", "a test of the library, run by tests/run"),
    ("./tests/run", "it runs this test"),
    ("./tests/soak", "it takes hours"),
    ("apt ", "tests/packages installs, upgrades and purges it"),
    (
        "systemctl ",
        "needs a booted system: tests/booted.rs and tests/booted_worker.rs",
    ),
    (
        "journalctl ",
        "needs a booted system: tests/booted.rs and tests/booted_worker.rs",
    ),
    ("usermod ", "changes the machine's users"),
    ("editor ", "a person types there"),
];

/// What only looks: it may be looked at again until what was done before has shown itself.
const LOOKS: [&str; 5] = [
    "workqueuectl list",
    "workqueuectl status",
    "workqueuectl queues",
    "ls ",
    "cat ",
];

/// Kinds of blocks. Whatever is to be typed into a shell is of kind console.
const KINDS: [&str; 8] = [
    "console", "toml", "json", "text", "python", "ini", "sql", "crontab",
];

/// A command, and what it is to write.
#[derive(Debug)]
struct Step {
    line: usize,
    root: bool,
    command: String,
    expected: Vec<String>,
}

impl Step {
    fn elsewhere(&self) -> bool {
        ELSEWHERE
            .iter()
            .any(|(begin, _)| self.command.starts_with(begin))
    }
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{name}: {cause}"))
}

/// The commands of a page.
fn steps(name: &str, text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block: Option<String> = None;
    for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
        let Some(kind) = &block else {
            if let Some(kind) = text.strip_prefix("```") {
                assert!(
                    KINDS.contains(&kind),
                    "{name}:{line}: a block of kind {kind:?}; what is typed into a shell is console"
                );
                block = Some(kind.to_owned());
            }
            let indented = text.starts_with("    ") && !text.trim_start().starts_with(['-', '*']);
            assert!(
                !indented,
                "{name}:{line}: an indented block is not run: fence it"
            );
            continue;
        };
        if text == "```" {
            block = None;
        } else if kind == "console" {
            read(&mut steps, name, line, text);
        } else {
            assert!(
                !text.starts_with("$ "),
                "{name}:{line}: a command in a block of kind {kind}"
            );
        }
    }
    assert!(block.is_none(), "{name}: a block without an end");
    steps
}

/// Takes in one line of a console.
fn read(steps: &mut Vec<Step>, name: &str, line: usize, text: &str) {
    let prompt = ["$ ", "# "]
        .into_iter()
        .find(|prompt| text.starts_with(prompt));
    if let Some(prompt) = prompt {
        steps.push(Step {
            line,
            root: prompt == "# ",
            command: text[2..].to_owned(),
            expected: Vec::new(),
        });
        return;
    }
    let step = steps
        .last_mut()
        .unwrap_or_else(|| panic!("{name}:{line}: output before a command"));
    match text.strip_prefix("> ") {
        Some(more) if step.expected.is_empty() => {
            step.command.push('\n');
            step.command.push_str(more);
        }
        _ => step.expected.push(text.to_owned()),
    }
}

/// A line with its ids, times and runs of blanks made equal.
fn plain(line: &str) -> String {
    fn shaped(text: &[u8], shape: &str) -> bool {
        text.len() >= shape.len()
            && shape.bytes().zip(text).all(|(shape, byte)| match shape {
                b'x' => byte.is_ascii_hexdigit(),
                b'9' => byte.is_ascii_digit(),
                other => other == *byte,
            })
    }
    const SHAPES: [(&str, &str); 3] = [
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "ID"),
        ("9999-99-99T99:99:99", "TIME"),
        ("9999-99-99 99:99:99", "TIME"),
    ];
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some((shape, word)) = SHAPES
            .iter()
            .find(|(shape, _)| shaped(rest.as_bytes(), shape))
        {
            out.push_str(word);
            rest = &rest[shape.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is what is told, where `...` is anything.
fn line_is(told: &str, line: &str) -> bool {
    let (told, line) = (plain(told), plain(line));
    let mut parts = told.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether lines are what is told, where `...` alone is any lines.
fn lines_are(told: &[String], lines: &[String]) -> bool {
    match (told.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, told)), _) if first.trim() == "..." => {
            (0..=lines.len()).any(|skip| lines_are(told, &lines[skip..]))
        }
        (Some((first, told)), Some((line, lines))) => {
            line_is(first, line) && lines_are(told, lines)
        }
        _ => false,
    }
}

fn without_blank_end(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

/// A shell that a page's commands are typed into, and the daemon that they speak to.
struct Terminal {
    scratch: tempfile::TempDir,
    address: String,
    daemon: Child,
    shell: Child,
    lines: Receiver<String>,
    status: i32,
}

impl Terminal {
    fn open() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address").to_string();
        drop(free);
        let at = |name: &str| scratch.path().join(name);
        let daemon = Command::new(env!("CARGO_BIN_EXE_workqueued"))
            .arg("--with-worker")
            .args(["--listen", &address])
            .arg("--data-dir")
            .arg(at("data"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .env("XDG_CONFIG_HOME", scratch.path())
            .env_remove("WORKQUEUE_SETTINGS")
            .stdin(Stdio::null())
            .stdout(fs::File::create(at("said")).expect("a file"))
            .stderr(fs::File::create(at("log")).expect("a file"))
            .spawn()
            .expect("the daemon starts");
        fs::create_dir(at("home")).expect("a home");
        let programs = Path::new(env!("CARGO_BIN_EXE_workqueuectl"));
        let programs = programs.parent().expect("its directory");
        let path = std::env::var("PATH").expect("a PATH");
        let mut shell = Command::new("bash")
            .current_dir(at("home"))
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("HOME", at("home"))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env("WORKQUEUE_ADMIN_SOCKET", at("admin.sock"))
            .env_remove("WORKQUEUE_URL")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts");
        let output = BufReader::new(shell.stdout.take().expect("its output"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            let whole = output.lines().map_while(Result::ok);
            whole
                .take_while(|line| tell.send(line.clone()).is_ok())
                .for_each(drop);
        });
        Self {
            scratch,
            address,
            daemon,
            shell,
            lines,
            status: 0,
        }
    }

    /// What the pages call a place, and which one it is here.
    fn places(&self) -> [(&'static str, String); 4] {
        let at = |name: &str| self.scratch.path().join(name).display().to_string();
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        [
            ("127.0.0.1:5000", self.address.clone()),
            ("/var/lib/workqueue", at("data")),
            ("/run/workqueue/admin.sock", at("admin.sock")),
            (
                "/usr/share/doc/workqueue/examples",
                root.join("examples").display().to_string(),
            ),
        ]
    }

    /// Types a command, and gives what it wrote.
    fn type_in(&mut self, command: &str) -> Vec<String> {
        let mut typed = command.to_owned();
        for (told, here) in self.places() {
            typed = typed.replace(told, &here);
        }
        // In braces it is read whole before it runs, and what it starts in the background keeps no input of ours.
        let line = format!(
            "(exit {})\n{{ {typed}\n}} 2>&1 </dev/null\nprintf '\\n@end %s\\n' $?\n",
            self.status
        );
        let input = self.shell.stdin.as_mut().expect("its input");
        input.write_all(line.as_bytes()).expect("the shell reads");
        let mut written: Vec<String> = Vec::new();
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{command}: no end; so far: {written:#?}"));
            if let Some(status) = line.strip_prefix("@end ") {
                self.status = status.parse().expect("a status");
                break;
            }
            written.push(self.told(line));
        }
        without_blank_end(&written)
    }

    /// A line with the pages' places in it.
    fn told(&self, mut line: String) -> String {
        for (told, here) in self.places() {
            line = line.replace(&here, told);
        }
        line
    }

    /// What the daemon said when it got ready.
    fn said(&self) -> Vec<String> {
        let path = self.scratch.path().join("said");
        let text = until("the daemon is ready", || {
            let text = fs::read_to_string(&path).expect("what it said");
            text.contains("  try ").then_some(text)
        });
        let ready = text.lines().take_while(|line| !line.starts_with("20"));
        ready.map(|line| self.told(line.to_owned())).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell and what it started are a group of their own.
        let group = format!("-{}", self.shell.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.shell.wait());
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// Runs a page.
fn run(name: &str) {
    let steps = steps(name, &page(name));
    let mut terminal = Terminal::open();
    let said = terminal.said();
    for (at, step) in steps.iter().enumerate() {
        let place = format!("{name}:{}: {}", step.line, step.command);
        let expected = without_blank_end(&step.expected);
        if step.elsewhere() {
            continue;
        }
        assert!(
            !step.root,
            "{place}\na command for root is not run here: name it in ELSEWHERE"
        );
        let mut written = if step.command == "workqueued --with-worker" {
            said.clone()
        } else {
            terminal.type_in(&step.command)
        };
        if LOOKS.iter().any(|look| step.command.starts_with(look)) {
            let begin = std::time::Instant::now();
            while !lines_are(&expected, &written) && begin.elapsed() < PATIENCE {
                std::thread::yield_now();
                written = terminal.type_in(&step.command);
            }
        }
        assert!(
            lines_are(&expected, &written),
            "{place}\nis to write\n{}\nand writes\n{}",
            expected.join("\n"),
            written.join("\n")
        );
        let asked = steps
            .get(at + 1)
            .is_some_and(|next| next.command == "echo $?");
        assert!(
            terminal.status == 0 || asked,
            "{place}\nends with {}, and the page does not say so:\n{}",
            terminal.status,
            written.join("\n")
        );
    }
    let pid = terminal.daemon.id().to_string();
    assert!(
        Command::new("kill")
            .arg(pid)
            .status()
            .expect("kill runs")
            .success()
    );
    assert!(
        wait(&mut terminal.daemon).success(),
        "{name}: the daemon ends in peace"
    );
}

#[test]
fn the_readme_says_what_happens() {
    run("README.md");
}

#[test]
fn the_guides_say_what_happens() {
    for name in &PAGES[1..] {
        run(name);
    }
}

#[test]
fn every_page_is_run_and_every_exception_is_needed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/doc");
    for name in common::names(&dir) {
        let name = format!("packaging/doc/{name}");
        assert!(PAGES.contains(&name.as_str()), "{name} is not run");
    }
    let all: Vec<Step> = PAGES
        .iter()
        .flat_map(|name| steps(name, &page(name)))
        .collect();
    for (begin, reason) in ELSEWHERE {
        assert!(
            all.iter().any(|step| step.command.starts_with(begin)),
            "no page has {begin:?} any more ({reason})"
        );
    }
}

#[test]
fn a_page_that_is_wrong_is_noticed() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let id = "01a20faf-c61d-73d4-bb75-e529343f9307";
    assert!(lines_are(
        &lines("{\"id\":\"01a20faf-c61d-73d4-bb75-000000000000\",...}"),
        &lines(&format!("{{\"id\":\"{id}\",\"a\":1}}"))
    ));
    assert!(lines_are(&lines("a\n...\nz"), &lines("a\nb\nc\nz")));
    assert!(!lines_are(&lines("a\n...\nz"), &lines("a\nb\nc")));
    assert!(!lines_are(&lines("state ready"), &lines("state dead")));
    assert!(!lines_are(&[], &lines("more")));
    assert!(!lines_are(&lines("more"), &[]));
    let read = steps(
        "a page",
        "```console\n$ cat <<E\n> one\n> E\none\n$ true\n```\n",
    );
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].command, "cat <<E\none\nE");
    assert_eq!(read[0].expected, ["one"]);
}
