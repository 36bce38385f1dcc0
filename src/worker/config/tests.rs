//! Files and flags of the worker: what counts, and what is refused with its line and key.

use clap::Parser as _;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("w.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn the_shipped_file_is_the_defaults() {
    let text = include_str!("../../../packaging/workqueue-worker.toml");
    assert_eq!(parse(text), Ok(Config::default()));
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn the_keys_in_the_shipped_file_can_be_used() {
    let text = include_str!("../../../packaging/workqueue-worker.toml");
    let parts: Vec<_> = text.split("[handler]").collect();
    let uncommented = |part: &str| -> String {
        part.lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .filter(|line| !line.starts_with("token_file"))
            .fold(String::new(), |text, line| text + line + "\n")
    };
    let head = uncommented(parts[0]);
    for handler in &parts[1..] {
        let body = uncommented(handler);
        parse(&format!("{head}[handler]{body}")).unwrap();
    }
    assert_eq!(parts.len(), 4);
}

#[test]
fn all_keys_are_read() {
    let config = parse(
        r#"
        url = "unix:/run/workqueue/http.sock"
        queues = ["a", "b"]
        concurrency = 8
        lease = "1m30s"
        shutdown_grace = "5m"
        delay = "250ms"
        log_level = "debug"
        [handler]
        type = "exec"
        command = ["cat", "-n"]
        timeout = "2s"
        environment = { A = "b" }
        "#,
    )
    .unwrap();
    let queues: Vec<_> = config.queues.iter().map(QueueName::as_str).collect();
    assert_eq!(queues, ["a", "b"]);
    assert_eq!((config.concurrency, config.lease), (8, Millis(90_000)));
    assert_eq!(
        (config.shutdown_grace, config.delay),
        (Millis(300_000), Millis(250))
    );
    let HandlerConfig::Exec(exec) = config.handler else {
        panic!("not exec")
    };
    assert_eq!((exec.command.len(), exec.timeout), (2, Some(Millis(2000))));
    assert_eq!(exec.environment["A"], "b");
}

#[test]
fn a_wrong_file_names_its_line_and_key() {
    for (text, line, key, reason) in [
        ("\nurll = 1", 2, "urll", "unknown field"),
        ("\n\nconcurrency = \"a\"", 3, "concurrency", "invalid type"),
        (
            "concurrency = 0",
            1,
            "concurrency",
            "0 is not from 1 to 1000",
        ),
        ("concurrency = 1001", 1, "concurrency", "from 1 to 1000"),
        ("\nlease = \"60\"", 2, "lease", "is not a length of time"),
        ("\nlease = \"1ms\"", 2, "lease", "1ms is not from 100ms to"),
        ("url = \"localhost\"", 1, "url", "use http://HOST:PORT"),
        ("queues = []", 1, "queues", "names no queue"),
        (
            "\nqueues = [\"A b\"]",
            2,
            "queues",
            "\"A b\" is not a queue name",
        ),
        (
            "\n[handler]\ntype = \"smtp\"",
            3,
            "handler.type",
            "unknown variant",
        ),
        ("[handler]\nkind = 1", 2, "handler", "unknown field"),
        (
            "\n[handler]\ntype = \"exec\"",
            2,
            "handler.command",
            "is missing",
        ),
        (
            "\n[handler]\ntype = \"exec\"\ncommand = []",
            4,
            "handler.command",
            "names no program",
        ),
        (
            "[handler]\ntype = \"http\"\nurl = \"x\"",
            3,
            "handler.url",
            "is not http://",
        ),
        (
            "[handler]\ntype = \"log\"\n\ntimeout = \"1s\"",
            4,
            "handler.timeout",
            "no key of a handler of this type",
        ),
        (
            "[handler]\ntype = \"exec\"\ncommand = [\"a\"]\ntimeout = \"x\"",
            4,
            "handler.timeout",
            "is not a length",
        ),
        (
            "[handler]\ntype = \"exec\"\ncommand = [\"a\"]\nenvironment = { \"A=\" = \"\" }",
            4,
            "handler.environment",
            "can't be a variable",
        ),
        (
            "[handler]\ntype = \"exec\"\ncommand = [\"a\"]\ntimeout = \"0s\"",
            4,
            "handler.timeout",
            "is 0",
        ),
        (
            "[handler]\ntype = \"http\"\ntimeout = \"0ms\"\nurl = \"http://a/\"",
            3,
            "handler.timeout",
            "is 0",
        ),
        (
            "\ntoken_file = \"/none/such\"",
            2,
            "token_file",
            "cannot read /none/such",
        ),
        ("\na = = 1", 2, "", ""),
    ] {
        let error = parse(text).expect_err(text);
        let start = format!("w.toml:{line}: ");
        let fits = error.starts_with(&start) && error.contains(key) && error.contains(reason);
        assert!(fits && !error.contains('\n'), "{text}\n{error}");
    }
}

#[test]
fn flags_beat_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.toml");
    let text = "url = \"http://a\"\nconcurrency = 3\nqueues = [\"x\"]\n[handler]\ntype = \"exec\"\ncommand = [\"a\"]\ntimeout = \"9s\"";
    std::fs::write(&path, text).unwrap();
    let load = |flags: &[&str]| {
        let own = ["workqueue-worker", "--config", path.to_str().unwrap()];
        Config::load(&Args::try_parse_from(own.iter().chain(flags)).unwrap()).unwrap()
    };
    let file = load(&[]);
    assert_eq!(
        (file.concurrency, file.url),
        (3, Endpoint::Http("http://a".to_owned()))
    );
    let flags = load(&[
        "-u",
        "http://b:1/api",
        "-d",
        "0.5",
        "--queue",
        "y",
        "--queue",
        "z",
        "--concurrency",
        "4",
        "--until-empty",
        "--",
        "b",
        "-c",
    ]);
    assert_eq!(flags.url, Endpoint::Http("http://b:1".to_owned()));
    assert_eq!(
        (flags.delay, flags.concurrency, flags.until_empty),
        (Millis(500), 4, true)
    );
    assert_eq!(flags.queues.len(), 2);
    let exec = ExecConfig {
        command: vec!["b".to_owned(), "-c".to_owned()],
        timeout: Some(Millis(9000)),
        environment: BTreeMap::new(),
    };
    assert_eq!(flags.handler, HandlerConfig::Exec(exec));
    let log = load(&["-f", "out.txt"]).handler;
    assert_eq!(
        log,
        HandlerConfig::Log(LogConfig {
            logfile: Some("out.txt".into())
        })
    );
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let args = Args::try_parse_from(["w", "--config", "/none/such.toml"]).unwrap();
    let error = Config::load(&args).unwrap_err().to_string();
    assert!(error.contains("cannot read /none/such.toml"), "{error}");
}

/// Each would be waited for or read without an end.
#[test]
fn files_without_an_end_are_errors_that_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, wild) = (dir.path().join("pipe"), dir.path().join("wild.toml"));
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::write(&wild, b"delay = \"1s\"\n# caf\xe9\n").unwrap();
    for (path, words) in [
        (&*pipe, "a pipe that nobody writes into"),
        (Path::new("/dev/zero"), "larger than 1048576 bytes"),
        (&*wild, "not UTF-8 in line 2"),
    ] {
        let named = path.display().to_string();
        let args = Args::try_parse_from(["w", "--config", &named]).unwrap();
        let text = format!("token_file = \"{named}\"");
        for error in [
            Config::load(&args).unwrap_err().to_string(),
            parse(&text).unwrap_err(),
        ] {
            assert!(error.contains(&named) && error.contains(words), "{error}");
        }
    }
}

#[test]
fn wrong_flags_are_refused() {
    for flags in [
        &["--concurrency", "0"][..],
        &["--delay", "-1"],
        &["--url", "x"],
        &["--queue", "A"],
        &["-f", "x", "--", "y"],
    ] {
        assert!(
            Args::try_parse_from(["w"].iter().chain(flags)).is_err(),
            "{flags:?}"
        );
    }
}
