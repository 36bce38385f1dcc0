//! Precedence, sources, and what every error names.

use std::{fs, path::Path};

use super::*;

const ORDINARY: u32 = 1000;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// Reads `text` as the named file of an ordinary user.
fn load(text: &str) -> Result<Settings, ConfigError> {
    let (_dir, path) = file(text);
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    Settings::load(
        &flags,
        &Surroundings::of_test(ORDINARY, &[("HOME", "/home/ada")]),
    )
}

/// The error of `text`, the file's directory cut off.
fn error(text: &str) -> String {
    let error = load(text).unwrap_err();
    assert_eq!(error.exit_code(), 78);
    let line = error.to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line.split_once("/q.toml")
        .map(|(_, rest)| format!("q.toml{rest}"))
        .unwrap_or(line)
}

fn source(settings: &Settings, key: &str) -> (String, String) {
    let found = settings
        .settings()
        .into_iter()
        .find(|one| one.key == key)
        .unwrap();
    (found.value, found.source)
}

/// A reload reads the file while requests wait for it.
#[test]
fn a_file_that_never_ends_or_never_comes_is_an_error() {
    let load_from = |path: &Path| {
        let flags = Flags {
            config: Some(path.to_owned()),
            ..Flags::default()
        };
        Settings::load(
            &flags,
            &Surroundings::of_test(ORDINARY, &[("HOME", "/home/ada")]),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (path, words) in [
        (&*pipe, "a pipe that nobody writes into"),
        (Path::new("/dev/zero"), "larger than 1048576 bytes"),
    ] {
        let error = load_from(path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    assert!(load_from(Path::new("/dev/null")).is_ok());
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let (_dir, path) =
        file("# first\nlog_level = \"warn\"\nspool_delay = \"1s\"\nmax_queues = 7\n");
    let flags = Flags {
        config: Some(path.clone()),
        log_level: Some("trace".to_owned()),
        ..Flags::default()
    };
    let vars = [
        ("HOME", "/home/ada"),
        ("WORKQUEUE_LOG_LEVEL", "debug"),
        ("WORKQUEUE_SPOOL_DELAY", "2s"),
    ];
    let settings = Settings::load(&flags, &Surroundings::of_test(ORDINARY, &vars)).unwrap();
    assert_eq!(
        source(&settings, "log_level"),
        ("trace".to_owned(), "flag --log-level".to_owned())
    );
    assert_eq!(
        source(&settings, "spool_delay"),
        (
            "2s".to_owned(),
            "environment WORKQUEUE_SPOOL_DELAY".to_owned()
        )
    );
    assert_eq!(
        source(&settings, "max_queues"),
        ("7".to_owned(), format!("{}:4", path.display()))
    );
    assert_eq!(
        source(&settings, "max_body"),
        ("16MiB".to_owned(), "default".to_owned())
    );
    assert_eq!(
        (settings.spool_delay, settings.max_queues),
        (Millis(2000), 7)
    );
    assert_eq!(settings.file(), Some(path.as_path()));
}

#[test]
fn every_setting_is_shown_and_can_be_set_by_the_environment() {
    let settings = load("").unwrap();
    let shown: Vec<String> = settings.settings().into_iter().map(|one| one.key).collect();
    let known: Vec<&str> = layer::KEYS.iter().map(|(key, _)| *key).collect();
    assert_eq!(shown, known);
    let vars = [
        ("HOME", "/home/ada"),
        ("WORKQUEUE_DEFAULTS_BACKOFF_BASE", "1s"),
        ("WORKQUEUE_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("WORKQUEUE_MAX_BODY", "2MiB"),
        ("WORKQUEUE_MAX_QUEUES", "3"),
        ("WORKQUEUE_WITH_WORKER", "true"),
    ];
    let settings =
        Settings::load(&Flags::default(), &Surroundings::of_test(ORDINARY, &vars)).unwrap();
    assert_eq!(settings.defaults.backoff.base, Millis(1000));
    assert_eq!(settings.listen.len(), 2);
    assert_eq!(
        (settings.max_body, settings.max_queues, settings.with_worker),
        (2 << 20, 3, true)
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let vars = [("HOME", "/home/ada"), ("WORKQUEUE_INSECURE", "perhaps")];
    let error =
        Settings::load(&Flags::default(), &Surroundings::of_test(ORDINARY, &vars)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment WORKQUEUE_INSECURE: insecure: must be true or false"
    );
}

#[test]
fn the_example_file_parses_and_is_the_defaults_of_a_system_user() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/workqueued.toml");
    let flags = Flags {
        config: Some(example),
        ..Flags::default()
    };
    let none = file("");
    let empty = Flags {
        config: Some(none.1),
        ..Flags::default()
    };
    let root = Surroundings::of_test(0, &[]);
    let values = |settings: &Settings| -> Vec<(String, String)> {
        settings
            .settings()
            .into_iter()
            .map(|one| (one.key, one.value))
            .collect()
    };
    let (example, defaults) = (
        Settings::load(&flags, &root).unwrap(),
        Settings::load(&empty, &root).unwrap(),
    );
    assert_eq!(
        Settings {
            shown: Vec::new(),
            file: None,
            ..example.clone()
        },
        Settings {
            shown: Vec::new(),
            file: None,
            ..defaults.clone()
        }
    );
    assert_eq!(values(&example), values(&defaults));
    assert!(
        example.settings().iter().all(|one| one.source != "default"),
        "every setting is in the example"
    );
}

#[test]
fn the_defaults_of_a_system_user_are_the_systems_paths() {
    for uid in [0, 999, 61_184] {
        let settings = Settings::load(&Flags::default(), &Surroundings::of_test(uid, &[])).unwrap();
        assert_eq!(settings.data_dir, Path::new("/var/lib/workqueue"));
        assert_eq!(
            settings.admin_socket,
            Path::new("/run/workqueue/admin.sock")
        );
    }
}

#[test]
fn the_usual_file_is_where_the_user_or_systemd_has_it() {
    let of = |uid, vars: &'static [(&str, &str)]| {
        let find = move |name: &str| {
            vars.iter()
                .find(|one| one.0 == name)
                .map(|one| one.1.into())
        };
        Surroundings::new(find, uid).config_file().unwrap()
    };
    let home = &[("HOME", "/home/ada")];
    assert_eq!(of(0, &[]), Path::new("/etc/workqueue/workqueued.toml"));
    assert_eq!(
        of(ORDINARY, home),
        Path::new("/home/ada/.config/workqueue/workqueued.toml")
    );
    let xdg = &[("XDG_CONFIG_HOME", "/conf")];
    assert_eq!(
        of(ORDINARY, xdg),
        Path::new("/conf/workqueue/workqueued.toml")
    );
    let unit = &[("CONFIGURATION_DIRECTORY", "/etc/other")];
    assert_eq!(of(0, unit), Path::new("/etc/other/workqueued.toml"));
}

#[test]
fn the_report_has_a_line_for_each_setting() {
    let report = load("max_queues = 7\n").unwrap().report();
    assert_eq!(report.lines().count(), layer::KEYS.len());
    let line = report
        .lines()
        .find(|line| line.starts_with("max_queues"))
        .unwrap();
    assert!(
        line.contains("= 7 ") && line.ends_with("q.toml:1"),
        "{line}"
    );
}

#[test]
fn systemds_directories_are_honoured_below_the_file() {
    let vars = [
        ("STATE_DIRECTORY", "/var/lib/other:/var/lib/more"),
        ("RUNTIME_DIRECTORY", "/run/other"),
    ];
    let settings = Settings::load(&Flags::default(), &Surroundings::of_test(0, &vars)).unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/other"));
    assert_eq!(settings.admin_socket, Path::new("/run/other/admin.sock"));
    assert_eq!(
        source(&settings, "data_dir").1,
        "environment STATE_DIRECTORY"
    );

    let (_dir, path) = file("data_dir = \"/srv/q\"\n");
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    assert_eq!(
        Settings::load(&flags, &Surroundings::of_test(0, &vars))
            .unwrap()
            .data_dir,
        Path::new("/srv/q")
    );
}

#[test]
fn the_defaults_of_an_ordinary_user_are_below_the_home_or_where_xdg_says() {
    let home = [("HOME", "/home/ada")];
    let settings =
        Settings::load(&Flags::default(), &Surroundings::of_test(ORDINARY, &home)).unwrap();
    assert_eq!(
        settings.data_dir,
        Path::new("/home/ada/.local/state/workqueue")
    );
    assert_eq!(
        settings.admin_socket,
        Path::new("/home/ada/.local/state/workqueue/admin.sock")
    );

    let xdg = [
        ("HOME", "/home/ada"),
        ("XDG_STATE_HOME", "/state"),
        ("XDG_RUNTIME_DIR", "/run/user/1000"),
    ];
    let settings =
        Settings::load(&Flags::default(), &Surroundings::of_test(ORDINARY, &xdg)).unwrap();
    assert_eq!(settings.data_dir, Path::new("/state/workqueue"));
    assert_eq!(
        settings.admin_socket,
        Path::new("/run/user/1000/workqueue/admin.sock")
    );
}

#[test]
fn without_a_home_an_ordinary_user_has_to_say_where() {
    let nothing = Surroundings::of_test(ORDINARY, &[]);
    let error = Settings::load(&Flags::default(), &nothing).unwrap_err();
    assert!(error.to_string().contains("--data-dir"), "{error}");
    let flags = Flags {
        data_dir: Some("/tmp/q".into()),
        ..Flags::default()
    };
    assert!(Settings::load(&flags, &nothing).is_ok());
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_the_usual_one_is_not() {
    let missing = [
        ("HOME", "/home/nobody"),
        ("WORKQUEUE_SETTINGS", "/nowhere/q.toml"),
    ];
    let error = Settings::load(
        &Flags::default(),
        &Surroundings::of_test(ORDINARY, &missing),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/q.toml: "),
        "{error}"
    );
    assert_eq!(error.exit_code(), 78);
    assert!(load("").is_ok());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_probably_meant() {
    assert_eq!(
        error("insecure = false\nspool_dleay = \"1s\"\n"),
        "q.toml:2: spool_dleay: no such setting; did you mean spool_delay?"
    );
    assert_eq!(
        error("[default]\nlease = \"1s\"\n"),
        "q.toml:1: default: no such setting; did you mean defaults?"
    );
    assert_eq!(
        error("lease = \"1s\"\n"),
        "q.toml:1: lease: no such setting; did you mean defaults.lease?"
    );
    assert_eq!(
        error("\n\nfrobnicate = 1\n"),
        "q.toml:3: frobnicate: no such setting"
    );
    assert_eq!(
        error("[defaults]\nbackoff = { bse = \"1s\" }\n"),
        "q.toml:2: defaults.backoff.bse: no such setting; did you mean defaults.backoff.base?"
    );
}

#[test]
fn one_payload_has_to_fit_into_the_spool() {
    let told = load("max_spool = \"1KiB\"").unwrap_err().to_string();
    let reason =
        "max_spool: 1KiB is less than max_payload, which is 1MiB; 0B stands for any number";
    assert!(told.ends_with(reason), "{told}");
    let both = "max_spool = \"1KiB\"\nmax_payload = \"1KiB\"";
    assert_eq!(load(both).unwrap().bounds.max_spool, 1024);
}

#[test]
fn every_wrong_value_names_its_line_its_key_and_what_would_be_right() {
    for (text, wanted) in [
        (
            "\nspool_delay = \"2h\"",
            "q.toml:2: spool_delay: \"2h\" is more than 60s",
        ),
        (
            "spool_delay = 5",
            "q.toml:1: spool_delay: must be text with a unit, like \"30s\"",
        ),
        (
            "spool_delay = \"5\"",
            "q.toml:1: spool_delay: \"5\" is no length of time; write it like \"90s\" or \"1m30s\"",
        ),
        (
            "rescan_every = \"5ms\"",
            "q.toml:1: rescan_every: \"5ms\" is less than 1s",
        ),
        (
            "max_payload = \"1XB\"",
            "q.toml:1: max_payload: \"1XB\" is no size; write bytes, or a unit like \"1MiB\"",
        ),
        (
            "max_payload = -1",
            "q.toml:1: max_payload: -1 is no size; write bytes, or a unit like \"1MiB\"",
        ),
        (
            "max_body = \"2TiB\"",
            "q.toml:1: max_body: \"2TiB\" is more than 1GiB",
        ),
        (
            "max_body = \"2MiB\"\nmax_payload = \"3MiB\"",
            "q.toml:2: max_payload: 3MiB is more than max_body, which is 2MiB",
        ),
        (
            "checkpoint_bytes = \"1MiB\"",
            "q.toml:1: checkpoint_bytes: 1MiB is less than journal_segment, which is 4MiB",
        ),
        ("max_queues = 0", "q.toml:1: max_queues: 0 is less than 1"),
        (
            "max_queues = \"9\"",
            "q.toml:1: max_queues: must be a whole number",
        ),
        ("insecure = 1", "q.toml:1: insecure: must be true or false"),
        (
            "listen = \"127.0.0.1:1\"",
            "q.toml:1: listen: must be a list of texts, like [\"127.0.0.1:5000\"]",
        ),
        (
            "listen = [\"5000\"]",
            "q.toml:1: listen: \"5000\" is no address; write ADDRESS:PORT, like 127.0.0.1:5000 or [::1]:5000, and https:// before it for TLS",
        ),
        (
            "durability = \"maybe\"",
            "q.toml:1: durability: \"maybe\" is not one of \"sync\", \"interval\", \"none\"",
        ),
        (
            "data_dir = \"here\"",
            "q.toml:1: data_dir: here must begin with /",
        ),
        ("data_dir = 1", "q.toml:1: data_dir: must be text in quotes"),
        (
            "admin_group = \"a b\"",
            "q.toml:1: admin_group: \"a b\" is no name of a group",
        ),
        (
            "[defaults]\nmax_attempts = 0",
            "q.toml:2: defaults.max_attempts: 0 is less than 1",
        ),
        (
            "[defaults]\nbackoff = { base = \"2h\", max = \"1h\" }",
            "q.toml:2: defaults.backoff.base: 7200s is more than defaults.backoff.max, which is 3600s",
        ),
        (
            "[defaults]\nlease = \"8d\"",
            "q.toml:2: defaults.lease: \"8d\" is more than 604800s",
        ),
        (
            "retention = 1",
            "q.toml:1: retention: is a table; write [retention], and its settings below",
        ),
    ] {
        assert_eq!(error(text), wanted);
    }
    assert!(
        error("log_level = \"loud\"").starts_with("q.toml:1: log_level: \"loud\" is no log level")
    );
    assert!(error("insecure = false\nlisten = [\n").starts_with("q.toml:"));
    let long = format!("admin_socket = \"/{}\"", "x".repeat(120));
    assert!(
        error(&long)
            .starts_with("q.toml:1: admin_socket: the path of a Unix socket has at most 107 bytes")
    );
    let long = format!("data_dir = \"/{}\"", "x".repeat(120));
    assert!(
        error(&long)
            .starts_with("q.toml:1: data_dir: the path of a Unix socket has at most 107 bytes")
    );
}

#[test]
fn addresses_that_others_reach_are_refused_unless_that_is_wanted() {
    let refused = error("listen = [\"0.0.0.0:5000\"]\n");
    assert!(
        refused.starts_with("q.toml:1: listen: 0.0.0.0:5000 can be reached from other machines"),
        "{refused}"
    );
    assert!(load("insecure = true\nlisten = [\"0.0.0.0:5000\"]\n").is_ok());
    assert_eq!(
        load("listen = [\"[::1]:0\", \"localhost:80\"]\n")
            .unwrap()
            .listen,
        ["[::1]:0", "127.0.0.1:80"].map(|text| Listen::parse(text).unwrap())
    );
}

#[test]
fn tcp_can_be_turned_off() {
    assert!(load("listen = []\n").unwrap().listen.is_empty());
    let flags = Flags {
        listen: vec!["none".to_owned()],
        ..Flags::default()
    };
    let settings = Settings::load(&flags, &Surroundings::of_test(0, &[])).unwrap();
    assert!(settings.listen.is_empty());
    assert_eq!(
        source(&settings, "listen"),
        ("none".to_owned(), "flag --listen".to_owned())
    );
}

#[test]
fn durability_carries_its_interval_and_zero_means_never_to_rescan() {
    let settings =
        load("durability = \"interval\"\nsync_interval = \"5ms\"\nrescan_every = \"0s\"\n")
            .unwrap();
    assert_eq!(settings.durability, Durability::Interval(Millis(5)));
    assert_eq!(settings.rescan_every, Millis(0));
}

#[test]
fn a_smaller_body_takes_the_payloads_default_along() {
    assert_eq!(
        load("max_body = \"64KiB\"\n").unwrap().max_payload,
        64 << 10
    );
}
