//! What is in the packages, seen from outside: the same bytes from each build, nothing forgotten, nothing stray, no complaint
//! of the distributions' own checkers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use super::{
    common::package::{EPOCH, built, names, skipped, succeeded, there_is},
    output, project, text,
};

/// A line of `packaging/contents`.
struct Line {
    packages: String,
    mode: String,
    from: String,
    to: String,
    kind: String,
}

fn contents() -> Vec<Line> {
    let list = fs::read_to_string(project().join("packaging/contents")).expect("the list");
    list.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [packages, mode, from, to, kind] = words[..] else {
                panic!("five columns: {line}");
            };
            let name = from.rsplit(['/', ':']).next().expect("a name");
            Line {
                packages: packages.to_owned(),
                mode: mode.to_owned(),
                from: from.to_owned(),
                to: if to.ends_with('/') {
                    format!("{to}{name}")
                } else {
                    to.to_owned()
                },
                kind: kind.to_owned(),
            }
        })
        .collect()
}

/// Files below a directory of the project, as paths from its root.
fn files_below(dir: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(project().join(dir)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = format!("{dir}/{}", entry.file_name().to_str().expect("a name"));
        if entry.path().is_dir() {
            found.extend(files_below(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

#[test]
fn every_file_for_installation_is_listed() {
    // Those that make packages, and are not in them as they are.
    let tools = [
        "packaging/build",
        "packaging/changelog",
        "packaging/contents",
        "packaging/deb/control",
        "packaging/deb/postinst",
        "packaging/deb/postrm",
        "packaging/deb/prerm",
        "packaging/rpm/rpmlint.toml",
        "packaging/rpm/workqueue.spec",
        "packaging/sbom",
        // For the README, as the forge shows it.
        "packaging/screenshots/overview-light.png",
        "packaging/screenshots/queue-dark.png",
    ];
    let mut there = files_below("packaging");
    there.extend(files_below("systemd"));
    let listed: BTreeSet<String> = contents().into_iter().map(|line| line.from).collect();
    let forgotten: Vec<&String> = there
        .iter()
        .filter(|file| !listed.contains(*file) && !tools.contains(&file.as_str()))
        .collect();
    assert!(
        forgotten.is_empty(),
        "not in packaging/contents: {forgotten:?}"
    );
    for line in contents() {
        let made = line.from.contains(':') || line.from == "dir";
        assert!(
            made || project().join(&line.from).is_file(),
            "{} is listed, and not there",
            line.from
        );
    }
}

#[test]
fn every_unit_that_can_be_enabled_is_thought_of() {
    for line in contents() {
        if !line.to.starts_with("/usr/lib/systemd/system/") {
            continue;
        }
        let unit = fs::read_to_string(project().join(&line.from)).expect("a unit");
        let can = unit.contains("\n[Install]");
        let thought = ["enable", "offer", "instances"].contains(&line.kind.as_str());
        assert_eq!(can, thought, "{}: its kind is {}", line.from, line.kind);
    }
}

#[test]
fn two_builds_in_different_directories_are_the_same_to_the_byte() {
    let Some(first) = built() else { return };
    let scratch = tempfile::tempdir().expect("a directory");
    let tree = scratch.path().join("some where/else entirely");
    fs::create_dir_all(&tree).expect("a directory");
    for entry in fs::read_dir(project()).expect("the project") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            output("cp", &["-R", text(&entry.path()), text(&tree)]);
        }
    }
    // Another time, place, language and mask; and no git, so that the time must have been given.
    let status = Command::new("sh")
        .args(["-c", "umask 077; exec packaging/build --out out"])
        .current_dir(&tree)
        .envs([
            ("SOURCE_DATE_EPOCH", EPOCH),
            ("TZ", "Pacific/Chatham"),
            ("LANG", "tr_TR.UTF-8"),
        ])
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("sh runs");
    succeeded("packaging/build", &status);
    let (deb, rpm) = names(&tree.join("out"), env!("CARGO_PKG_VERSION"));
    for (one, other) in [(&first.deb, &deb), (&first.rpm, &rpm)] {
        let same = fs::read(one).expect("a package") == fs::read(other).expect("a package");
        assert!(same, "{} differs from one of another build", one.display());
    }
}

#[test]
fn the_programs_need_no_newer_c_library_than_that_of_rhel_9() {
    let Some(built) = built() else { return };
    for program in ["workqueued", "workqueue-worker", "workqueuectl"] {
        let path = built.programs.join(program);
        let symbols = output("objdump", &["-T", text(&path)]);
        let versions: BTreeSet<Vec<u32>> = symbols
            .split("GLIBC_")
            .skip(1)
            .filter_map(|rest| {
                let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
                let number = rest.get(..end?)?;
                number.split('.').map(|part| part.parse().ok()).collect()
            })
            .collect();
        let newest = versions.last().expect("it uses the C library");
        assert!(
            newest.as_slice() <= [2, 34].as_slice(),
            "{program} needs GLIBC {newest:?}"
        );
        let needed = output("objdump", &["-p", text(&path)]);
        let libraries: Vec<&str> = needed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("NEEDED"))
            .map(str::trim)
            .collect();
        // The package depends on these by name: libc6 and libgcc-s1.
        for library in libraries {
            let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"].contains(&library)
                || library.starts_with("ld-linux-");
            assert!(known, "{program} needs {library}");
        }
    }
}

#[test]
fn the_listings_are_those_of_the_list() {
    let Some(built) = built() else { return };
    let listing = output("dpkg-deb", &["--contents", text(&built.deb)]);
    let mut deb = BTreeMap::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = words[..] else {
            panic!("a link or worse: {line}");
        };
        assert_eq!(owner, "root/root", "{line}");
        if mode.starts_with('d') {
            assert_eq!(mode, "drwxr-xr-x", "{line}");
        } else {
            deb.insert(path.trim_start_matches('.').to_owned(), mode.to_owned());
        }
    }
    assert_eq!(deb, expected("deb"));

    let format = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]";
    let listing = output("rpm", &["-qp", "--qf", format, text(&built.rpm)]);
    let mut rpm = BTreeMap::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, path] = words[..] else {
            panic!("{line}");
        };
        assert_eq!(owner, "root/root", "{line}");
        // Of directories it has its own, and no one else's.
        if mode.starts_with('d') {
            assert!(path.starts_with("/etc/workqueue"), "{line}");
        } else {
            rpm.insert(path.to_owned(), mode.to_owned());
        }
    }
    assert_eq!(rpm, expected("rpm"));
}

/// Files by path, with their modes, as `packaging/contents` has them.
fn expected(package: &str) -> BTreeMap<String, String> {
    contents()
        .into_iter()
        .filter(|line| line.from != "dir" && ["all", package].contains(&line.packages.as_str()))
        .map(|line| {
            let mode = match line.mode.as_str() {
                "0755" => "-rwxr-xr-x",
                "0644" => "-rw-r--r--",
                other => panic!("{}: mode {other}", line.to),
            };
            let end = if line.kind == "zip" { ".gz" } else { "" };
            (format!("{}{end}", line.to), mode.to_owned())
        })
        .collect()
}

#[test]
fn settings_are_the_administrators() {
    let Some(built) = built() else { return };
    let listed: BTreeSet<String> = contents()
        .into_iter()
        .filter(|line| line.to.starts_with("/etc/") && line.from != "dir")
        .map(|line| {
            assert_eq!(line.kind, "config", "{}", line.to);
            line.to
        })
        .collect();
    let lines = |text: String| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let deb = output("dpkg-deb", &["--info", text(&built.deb), "conffiles"]);
    assert_eq!(lines(deb), listed);
    let rpm = output("rpm", &["-qp", "--configfiles", text(&built.rpm)]);
    assert_eq!(lines(rpm), listed);
}

#[test]
fn lintian_has_nothing_to_say() {
    let Some(built) = built() else { return };
    if !there_is("lintian") {
        skipped("the .deb by lintian, which is not here");
        return;
    }
    // It looks for misspelt words in machine code, too, and finds "tHIk" by chance: no override can foresee that.
    let said = Command::new("lintian")
        .args(["--no-cfg", "--pedantic", "--display-info", "--allow-root"])
        .args(["--suppress-tags", "spelling-error-in-binary"])
        .arg(&built.deb)
        .output()
        .expect("lintian runs");
    succeeded("lintian", &said);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "");
}

#[test]
fn rpmlint_has_nothing_to_say() {
    let Some(built) = built() else { return };
    if !there_is("rpmlint") {
        skipped("the .rpm by rpmlint, which is not here");
        return;
    }
    let settings = project().join("packaging/rpm/rpmlint.toml");
    let said = output("rpmlint", &["--config", text(&settings), text(&built.rpm)]);
    let verdict = "1 packages and 0 specfiles checked; 0 errors, 0 warnings";
    assert!(said.contains(verdict), "{said}");
}

#[test]
fn a_changelog_of_the_users_becomes_one_of_each_package() {
    let text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- one thing, told on\n  two lines\n- 100% more\n\n\
                ## [0.1.0] - 2026-01-02\n\n### Fixed\n\n- another\n";
    let convert = |format: &str, version: &str| {
        let script = format!(
            "printf '%s' \"$TEXT\" | {} {format} {version} 'A <a@example.org>' 1764000000",
            text_of("packaging/changelog")
        );
        let said = Command::new("sh")
            .args(["-c", &script])
            .env("TEXT", text)
            .output()
            .expect("sh runs");
        succeeded("packaging/changelog", &said);
        String::from_utf8(said.stdout).expect("text")
    };
    assert_eq!(
        convert("deb", "0.2.0"),
        "workqueue (0.2.0) unstable; urgency=medium\n\n  * Added: one thing, told on two lines\n  * Added: 100% more\n\n \
         -- A <a@example.org>  Mon, 24 Nov 2025 16:00:00 +0000\n\n\
         workqueue (0.1.0) unstable; urgency=medium\n\n  * Fixed: another\n\n \
         -- A <a@example.org>  Fri, 02 Jan 2026 00:00:00 +0000\n\n"
    );
    // What is released has its own entry, and what comes after it is not in that package.
    assert_eq!(
        convert("rpm", "0.1.0"),
        "* Fri Jan 02 2026 A <a@example.org> - 0.1.0-1\n- Fixed: another\n\n"
    );
}

fn text_of(path: &str) -> String {
    let path = project().join(path);
    format!("'{}'", Path::display(&path))
}

#[test]
fn a_build_with_a_wrong_flag_says_so() {
    let said = Command::new(project().join("packaging/build"))
        .args(["--onyl", "deb"])
        .output()
        .expect("it runs");
    assert!(!said.status.success());
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(errors.contains("unknown: --onyl"), "{errors}");
}
