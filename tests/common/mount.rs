//! Small file systems for tests that fill them, or take them away: mounted where the test may mount, unmounted at its end.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A file system that is there as long as this is.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// A file system in memory with room for `size` ("16m").
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0755");
        let args = ["-t", "tmpfs", "-o", &options, "workqueue-test"];
        Self::made(at, &args)
    }

    /// Has it take writes, or none.
    pub fn set_writable(&self, writable: bool) {
        let options = if writable { "remount,rw" } else { "remount,ro" };
        tool("mount", &["-o", options, &self.at.display().to_string()]);
    }

    /// The file system in an image.
    pub fn image(at: &Path, image: &Path) -> Option<Self> {
        Self::made(at, &["-o", "loop", &image.display().to_string()])
    }

    /// Another directory, seen at `at` too.
    pub fn bind(at: &Path, what: &Path) -> Option<Self> {
        Self::made(at, &["--bind", &what.display().to_string()])
    }

    fn made(at: &Path, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(at).expect("a place to mount at");
        let output = Command::new("mount").args(args).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { at: at.to_owned() }),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(cause) => skip(&format!("mount: {cause}")),
        }
    }

    /// Takes the last of the room, and gives what holds it.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("ballast");
        let mut file = fs::File::create(&path).expect("a file that takes the room");
        for size in [1 << 20, 64 << 10, 4096, 1024, 1] {
            let block = vec![1; size];
            while file.write_all(&block).is_ok() {}
        }
        // What is written later on a file system with delayed allocation may have found no place.
        file.sync_all().unwrap_or_default();
        path
    }

    /// Takes the last of the inodes, and gives the folder that holds them.
    pub fn take_inodes(&self) -> PathBuf {
        let path = self.at.join("inodes");
        fs::create_dir(&path).expect("a folder for what takes the inodes");
        let mut numbers = 0..;
        while numbers
            .next()
            .is_some_and(|number: u64| fs::File::create(path.join(number.to_string())).is_ok())
        {
        }
        path
    }

    /// Takes it away before its time, so that it can be mounted again with nothing in the kernel's memory of it.
    pub fn unmount(self) {
        drop(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let umount = |args: &[&str]| {
            let status = Command::new("umount").args(args).arg(&self.at).status();
            status.is_ok_and(|status| status.success())
        };
        // Lazily where a test has failed and something still uses it.
        if !umount(&[]) && !umount(&["-l"]) {
            say(&format!("{} is still mounted", self.at.display()));
        }
    }
}

/// A file system that takes no writes while this is there: who writes, waits.
pub struct Frozen(PathBuf);

impl Frozen {
    pub fn new(at: PathBuf) -> Self {
        tool("fsfreeze", &["-f", &at.display().to_string()]);
        Self(at)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        tool("fsfreeze", &["-u", &self.0.display().to_string()]);
    }
}

/// Sets how many descriptors a process may have from now on; those that it has it keeps.
pub fn limit_descriptors(pid: u32, soft: &str) {
    tool(
        "prlimit",
        &["--pid", &pid.to_string(), &format!("--nofile={soft}:")],
    );
}

/// Makes an ext4 image of so many MiB.
pub fn ext4(image: &Path, mib: u64, options: &[&str]) -> Option<()> {
    let file = fs::File::create(image).expect("an image");
    file.set_len(mib << 20).expect("its size");
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .args(options)
        .arg(image)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
        Err(cause) => skip(&format!("mkfs.ext4: {cause}")),
    }
}

/// The byte ranges of an image that its file system has no use for yet.
pub fn free_ranges(image: &Path) -> Vec<(u64, u64)> {
    let output = tool("dumpe2fs", &[&image.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let size = text
        .lines()
        .find_map(|line| number(line.strip_prefix("Block size:")?));
    let size = size.expect("a block size");
    let lists = text
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks:"));
    let ranges = lists.flat_map(|list| list.split(','));
    ranges
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            Some((first * size, (last - first + 1) * size))
        })
        .collect()
}

/// Runs a tool that must work.
pub fn tool(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|cause| panic!("{program}: {cause}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output
}

/// Whether a program can be run here.
pub fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok()
}

/// Whether this user may mount. Containers may forbid it to root too: then the mount says so.
pub fn may_mount() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
        || skip::<()>("only root can mount").is_some()
}

/// Says aloud, past the test harness, that a test could not be run here.
pub fn skip<T>(why: &str) -> Option<T> {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    say(&format!("SKIPPED {test}: {}", why.trim()));
    None
}

/// Says something past the test harness, which keeps what tests print to itself.
pub fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}
