//! TOML: the daemon's settings, the worker's, and the file of tokens. A mistake is told in one line that names the file and
//! the line; what is right is shown again without one.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use workqueue::{
    access::Tokens,
    config::{Flags, Settings, Surroundings},
    worker::Config,
};

use crate::{
    corpus,
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    text,
};

/// What TOML is made of, and what settings are.
const WORDS: [&str; 40] = [
    "[",
    "]",
    "[[",
    "]]",
    "[[token]]",
    "{",
    "}",
    "=",
    ".",
    "#",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\n",
    "\\u001b",
    "\\U0010ffff",
    "\\x1b",
    "true",
    "false",
    "nan",
    "-inf",
    "0x7fffffffffffffff",
    "0o7",
    "1_000",
    "1979-05-27T07:32:00Z",
    "\"\\u001b[31m\" = 1\n",
    "\"a\\nb\" = 1\n",
    "[a.b.c]\n",
    "[defaults]\n",
    "[handler]\n",
    "\"60s\"",
    "\"1MiB\"",
    "\"99999999999TiB\"",
    "\"\\u001b\"",
    "\"none\"",
    "[[[]]]",
    "\"127.0.0.1:0\"",
    "\"https://[::]:5000\"",
    "\"*\"",
];

fn change(mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    if mutator.chance.one_in(2) {
        lines(mutator, &mut bytes, pool);
    }
    if bytes == seed || mutator.chance.one_in(2) {
        mutator.change(&mut bytes, pool, &WORDS);
    }
    bytes
}

/// Changes whole lines: away, twice, from elsewhere, with another value.
fn lines(mutator: &mut Mutator, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(Vec::from).collect();
    let at = mutator.chance.below(lines.len() as u64) as usize;
    let other = mutator.chance.pick(pool);
    let others: Vec<&[u8]> = other.as_slice().split(|byte| *byte == b'\n').collect();
    let other = mutator.chance.pick(&others).to_vec();
    match mutator.chance.below(4) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, other),
        2 => lines[at] = other,
        _ => {
            if let Some(key) = lines[at].iter().position(|byte| *byte == b'=') {
                lines[at].truncate(key + 1);
                let value = *mutator.chance.pick(&WORDS);
                lines[at].extend_from_slice(value.as_bytes());
            }
        }
    }
    *bytes = lines.join(&b'\n');
}

/// The settings of the daemon, read from a real file.
struct Daemon {
    _scratch: tempfile::TempDir,
    path: PathBuf,
    file: fs::File,
}

impl Daemon {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("workqueued.toml");
        Self {
            file: fs::File::create(&path).expect("a file"),
            path,
            _scratch: scratch,
        }
    }

    /// Written over, not anew: ext4 would bring each new content to the disk at once.
    fn write(&self, text: &[u8]) {
        let written = self
            .file
            .write_all_at(text, 0)
            .and_then(|()| self.file.set_len(text.len() as u64));
        written.expect("settings");
    }
}

impl Subject for Daemon {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = corpus::of("daemon");
        seeds.push(shipped("workqueued.toml"));
        seeds
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        change(mutator, seed, pool)
    }

    fn handle(&mut self, input: &[u8]) -> String {
        self.write(input);
        let flags = Flags {
            config: Some(self.path.clone()),
            ..Flags::default()
        };
        let home = HashMap::from([("HOME", OsString::from("/home/ada"))]);
        let surroundings = Surroundings::new(move |name| home.get(name).cloned(), 1000);
        match Settings::load(&flags, &surroundings) {
            Ok(settings) => {
                let report = settings.report();
                // A line a setting, and nothing in it that is no text.
                assert_eq!(
                    report.lines().count(),
                    settings.settings().len(),
                    "{report}"
                );
                report.lines().for_each(text::plain);
                "taken".to_owned()
            }
            Err(error) => told(&error.to_string(), &self.path),
        }
    }
}

/// An error about a file names it, in one line.
fn told(error: &str, file: &Path) -> String {
    text::plain(error);
    let place = file.display().to_string();
    let rest = error.strip_prefix(&place);
    let rest = rest.unwrap_or_else(|| panic!("it does not name the file: {error}"));
    rest.to_owned()
}

fn shipped(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name);
    fs::read(path).expect("a file that is shipped")
}

struct Worker;

impl Subject for Worker {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = corpus::of("worker");
        seeds.push(shipped("workqueue-worker.toml"));
        seeds
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        change(mutator, seed, pool)
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let Ok(text) = str::from_utf8(input) else {
            return "not text".to_owned();
        };
        let path = Path::new("/etc/workqueue/workqueue-worker.toml");
        match Config::parse(path, text) {
            Ok(config) => {
                assert!(!config.queues.is_empty() && config.concurrency > 0);
                format!("{:?}", std::mem::discriminant(&config.handler))
            }
            Err(error) => told(&error.to_string(), path),
        }
    }
}

struct TokensFile;

impl Subject for TokensFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        corpus::of("tokens")
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        change(mutator, seed, pool)
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let Ok(text) = str::from_utf8(input) else {
            return "not text".to_owned();
        };
        match Tokens::parse(text) {
            Ok(tokens) => {
                for grant in tokens.grants() {
                    let name = &grant.name;
                    text::plain(name);
                    assert_eq!(tokens.named(name).map(|found| &found.name), Some(name));
                }
                format!("{} tokens", tokens.len())
            }
            Err(error) => {
                let told = error.to_string();
                text::plain(&told);
                let mut line = told.split(|letter: char| !letter.is_ascii_digit());
                let line = line.find_map(|digits| digits.parse().ok());
                assert!(
                    line.is_some_and(|line| (1..=text.split('\n').count()).contains(&line)),
                    "{told}"
                );
                told
            }
        }
    }
}

/// Memory for any file: the parser of TOML takes some hundred kilobytes for the tables in tables that it goes down into, of which
/// it allows a fixed number.
const BESIDES: usize = 256 << 10;

#[test]
fn settings_of_the_daemon_are_right_or_told_with_their_line() {
    let target = Target {
        name: "daemon",
        inputs: 8000,
        per_byte: 200,
        besides: BESIDES,
        longest: 16 << 10,
    };
    fuzz(&target, Daemon::new());
}

#[test]
fn settings_of_the_worker_are_right_or_told_with_their_line() {
    let target = Target {
        name: "worker",
        inputs: 15_000,
        per_byte: 200,
        besides: BESIDES,
        longest: 8 << 10,
    };
    fuzz(&target, Worker);
}

#[test]
fn a_file_of_tokens_is_right_or_told_with_its_line() {
    let target = Target {
        name: "tokens",
        inputs: 15_000,
        per_byte: 200,
        besides: BESIDES,
        longest: 8 << 10,
    };
    fuzz(&target, TokensFile);
}
