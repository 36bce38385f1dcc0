//! The packages of this tree, as `packaging/build` makes them: in release, once for each test program.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

/// The time that all packages here say they are of, so that builds of a changed tree are alike as well.
pub const EPOCH: &str = "1764000000";
/// A version before this one.
pub const OLDER: &str = "0.0.9";

/// What `packaging/build` made of this tree.
pub struct Built {
    pub deb: PathBuf,
    pub rpm: PathBuf,
    /// The programs that it was made from, with all their symbols.
    pub programs: PathBuf,
}

/// The packages of this tree. `None`, and a loud line, where the tools are missing.
pub fn built() -> Option<&'static Built> {
    static BUILT: LazyLock<Option<Built>> = LazyLock::new(|| {
        if lacks(&["dpkg-deb", "rpmbuild", "objdump", "strip"]) {
            return None;
        }
        let target = target_dir();
        build(
            Path::new(env!("CARGO_MANIFEST_DIR")),
            &[],
            &[("CARGO_TARGET_DIR", &target)],
        );
        let packages = target.join("packages");
        let (deb, rpm) = names(&packages, env!("CARGO_PKG_VERSION"));
        Some(Built {
            deb,
            rpm,
            programs: target.join("package/release"),
        })
    });
    BUILT.as_ref()
}

/// Puts the files of the .deb below `root`, as dpkg does; their scripts are not run. Says whether it could.
pub fn unpack(root: &Path) -> bool {
    static DEB: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        if lacks(&["dpkg-deb", "objdump", "strip"]) {
            return None;
        }
        let target = target_dir();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        build(tree, &["--only", "deb"], &[("CARGO_TARGET_DIR", &target)]);
        let packages = target.join("packages");
        Some(one_of(
            &packages,
            &deb_start(env!("CARGO_PKG_VERSION")),
            ".deb",
        ))
    });
    let Some(deb) = DEB.as_ref() else {
        return false;
    };
    let output = Command::new("dpkg-deb")
        .arg("-x")
        .args([deb, root])
        .output()
        .expect("dpkg-deb runs");
    succeeded("dpkg-deb -x", &output);
    true
}

/// Whether one of these tools is missing here, which is told.
fn lacks(tools: &[&str]) -> bool {
    let missing: Vec<&str> = tools
        .iter()
        .copied()
        .filter(|tool| !there_is(tool))
        .collect();
    if !missing.is_empty() {
        skipped(&format!(
            "the packages: {} missing here",
            missing.join(", ")
        ));
    }
    !missing.is_empty()
}

/// The same programs in packages that call themselves older.
pub fn older() -> Option<&'static (PathBuf, PathBuf)> {
    static MADE: LazyLock<Option<(PathBuf, PathBuf)>> = LazyLock::new(|| {
        let built = built()?;
        let out = target_dir().join("packages");
        let programs = built.programs.to_str().expect("a path");
        let out_text = out.to_str().expect("a path");
        build(
            Path::new(env!("CARGO_MANIFEST_DIR")),
            &[
                "--binaries",
                programs,
                "--version",
                OLDER,
                "--out",
                out_text,
            ],
            &[],
        );
        Some(names(&out, OLDER))
    });
    MADE.as_ref()
}

/// Runs a tree's `packaging/build`.
pub fn build(tree: &Path, arguments: &[&str], environment: &[(&str, &Path)]) {
    let output = Command::new(tree.join("packaging/build"))
        .args(arguments)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .envs(environment.iter().copied())
        // What this very run of cargo has set is not the build's matter.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("packaging/build runs");
    succeeded("packaging/build", &output);
}

/// The packages of a version among those in a directory.
pub fn names(packages: &Path, version: &str) -> (PathBuf, PathBuf) {
    (
        one_of(packages, &deb_start(version), ".deb"),
        one_of(packages, &format!("workqueue-{version}-1."), ".rpm"),
    )
}

fn deb_start(version: &str) -> String {
    format!("workqueue_{version}_")
}

/// The one file in a directory whose name begins and ends so.
fn one_of(dir: &Path, start: &str, end: &str) -> PathBuf {
    let found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the packages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(start) && name.ends_with(end))
        })
        .collect();
    assert_eq!(found.len(), 1, "{start}*{end}: {found:?}");
    found[0].clone()
}

pub fn target_dir() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_workqueued"));
    let dir = program.ancestors().nth(2).expect("the target directory");
    dir.to_owned()
}

pub fn there_is(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Says past the harness's capture that something was not tested.
pub fn skipped(what: &str) {
    let line = format!("\nSKIPPED, NOT TESTED: {what}\n");
    io::stderr().write_all(line.as_bytes()).expect("stderr");
}

pub fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
