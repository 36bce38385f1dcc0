//! How a program is started: the worker runs its own executable again, which becomes the program ([`enter`]).
//!
//! What a start waits for (a file system that does not answer, a scanner that looks at each program before it may run) a process
//! of its own waits for, and a timeout or a stop ends that as it ends a program. From `fork` and `exec` the worker would come back
//! only when the program runs, and its one thread has other tasks and their leases to look after. That process also enters its
//! control group before the program has started anything (see [`cgroup`](super::cgroup)). A hook between `fork` and `exec` would
//! do the same with unsafe code.
//!
//! No shell takes part: execvp(3), which the standard library uses, has sh run a file that is no program, as an empty one.

use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{
        fd::RawFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    io::Errno,
};
use signal_hook::{consts::SIGPIPE, flag};
use tokio::{process::Command, time::Instant};

use crate::{
    runtime::{self, SoftLimit},
    worker::backoff::Backoff,
};

/// The exit status of a process that has become no program: as shells have it.
pub(super) const NOT_STARTED: u8 = 127;
/// The exit status of one for which the machine had no room, which is no fault of its task: `EX_TEMPFAIL`.
const NO_ROOM: u8 = 75;
/// How long a program is tried to be started while the machine has no room for it.
pub(super) const SHORTAGE: Duration = Duration::from_secs(10);

/// The name by which the worker's executable knows that it is to become a program: none that a user starts has it.
const NAME: &str = "workqueue-attempt";
/// The worker's executable, also when its file has been replaced.
const EXECUTABLE: &str = "/proc/self/exe";
/// How what the executable tells begins.
const TOLD: &str = "workqueue-worker: ";

/// What this process had as its soft limit on open files when it went through [`enter`], as another that runs its executable will. A
/// test's does not.
static FILES_AT_FIRST: OnceLock<SoftLimit> = OnceLock::new();

/// The way into a program through the worker's own executable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entrance {
    /// What programs are to have, whatever the worker itself has made of it.
    files: SoftLimit,
}

impl Entrance {
    /// There is none where another program than the worker runs handlers, or without `/proc`.
    pub(super) fn find() -> Option<Self> {
        let files = *FILES_AT_FIRST.get()?;
        let is_there = access(EXECUTABLE, Access::EXEC_OK).is_ok();
        is_there.then_some(Self { files })
    }

    /// A command that becomes `program`, in the control group that has this file `procs`.
    pub(super) fn command(self, procs: Option<&Path>, program: &str) -> Command {
        let mut command = Command::new(EXECUTABLE);
        let procs = procs.map_or_else(|| OsStr::new(""), Path::as_os_str);
        let files = self
            .files
            .map_or_else(String::new, |files| files.to_string());
        command.arg0(NAME).arg(procs).arg(files).arg(program);
        command
    }
}

/// Why no program was started, from what came to stderr of a process that ended with [`NOT_STARTED`] or [`NO_ROOM`]. A program that tells the
/// same in the same way says the same of itself.
pub(super) fn why_not(told: &str) -> Option<&str> {
    told.strip_prefix(TOLD)
}

/// Where this process was started to become a program, does that. Gives the exit status and why it can't; `None` where it was started
/// as what it is.
pub(in crate::worker) fn enter() -> Option<(u8, String)> {
    let mut args = env::args_os();
    if args.next().as_deref() != Some(OsStr::new(NAME)) {
        FILES_AT_FIRST.get_or_init(runtime::limit_of_files);
        return None;
    }
    let (Some(procs), Some(files), Some(program)) = (args.next(), args.next(), args.next()) else {
        let missing = "a group, a limit and a program are missing".to_owned();
        return Some((NOT_STARTED, missing));
    };
    if !procs.is_empty()
        && let Err(error) = fs::write(&procs, "0")
    {
        let reason = format!("cannot enter {}: {error}", procs.display());
        return Some((NOT_STARTED, reason));
    }
    close_inherited();
    let files = files.to_str().and_then(|files| files.parse().ok());
    let Err(error) = runtime::limit_files(files).and_then(|()| become_program(&program, args));
    let status = if is_want(&error) {
        NO_ROOM
    } else {
        NOT_STARTED
    };
    let reason = format!("cannot start {}: {error}", program.display());
    Some((status, reason))
}

/// Closes what the worker itself was started with beside its three streams: it is none of a program's business, and may be anything, as
/// a directory that the program can't reach or the end of a pipe that somebody waits for. This process has opened nothing by now, and
/// the worker's own files close by themselves. Without `/proc` nothing is known of them.
fn close_inherited() {
    let Ok(directory) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // One of them was the directory itself, which is closed already.
        nix::unistd::close(number).unwrap_or_default();
    }
}

/// Where the machine lacks something, tries for a while.
fn become_program(program: &OsStr, args: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    let args = std::iter::once(program.to_owned()).chain(args);
    let args: Vec<CString> = args.map(c_string).collect::<io::Result<_>>()?;
    let variables: Vec<CString> = env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name)
        })
        .collect::<io::Result<_>>()?;
    // Rust begins with it ignored, which a program would inherit; a signal that is caught it gets as it was at first.
    flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let until = Instant::now() + SHORTAGE;
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = along(&path, program, |file| {
            let file = c_string(file.as_os_str().to_owned())?;
            nix::unistd::execve(&file, &args, &variables).map_err(io::Error::from)
        });
        if !is_shortage(&error) || Instant::now() >= until {
            return Err(error);
        }
        wait(backoff.next());
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when a machine has room again, and this process has nothing else to do; a stop ends it"
)]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

/// Tries to start each file that `program` may be, as execvp(3) does: itself where it is a path, else one in each directory of
/// `path`. The first that is there decides, also where it is no program.
pub(super) fn along<T>(
    path: &OsStr,
    program: &OsStr,
    mut start: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if program.as_bytes().contains(&b'/') {
        return start(Path::new(program));
    }
    let mut error = io::Error::from(Errno::NOENT);
    if program.is_empty() {
        return Err(error);
    }
    for directory in env::split_paths(path) {
        // An empty one is the working directory, which the name alone would not say.
        let file = Path::new(".").join(directory).join(program);
        match start(&file) {
            // It is told if there is no better one.
            Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => error = denied,
            Err(missing) if is_one_of(&missing, &ELSEWHERE) => {}
            decided => return decided,
        }
    }
    Err(error)
}

/// Why a program may be in another directory: this one has none, or can't be asked.
const ELSEWHERE: [Errno; 5] = [
    Errno::NOENT,
    Errno::NOTDIR,
    Errno::STALE,
    Errno::NODEV,
    Errno::TIMEDOUT,
];

/// Whether a program was not started for want of something that there may be again, or because its file is just being written.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    is_want(error) || is_one_of(error, &[Errno::TXTBSY])
}

/// Whether the machine, or this process, has no process, memory or descriptor left. That is no fault of a task's.
pub(super) fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    is_one_of(error, &wants)
}

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    let errno = error.raw_os_error();
    errors.iter().any(|one| errno == Some(one.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that are tried for `program` along `path`, where this is what comes of each.
    fn tried(path: &str, program: &str, ends: &[Errno]) -> (Vec<String>, Option<Errno>) {
        let mut files = Vec::new();
        let mut ends = ends.iter();
        let started = along(OsStr::new(path), OsStr::new(program), |file| {
            files.push(file.to_str().unwrap().to_owned());
            ends.next().map_or(Ok(()), |end| Err(io::Error::from(*end)))
        });
        let error = started.err();
        let errno = error.and_then(|error| Errno::from_io_error(&error));
        (files, errno)
    }

    fn files(files: &[&str]) -> Vec<String> {
        files.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn a_name_is_looked_for_along_the_path_and_the_first_that_is_there_decides() {
        let (denied, none, no_program) = (Errno::ACCESS, Errno::NOENT, Errno::NOEXEC);
        for (ends, count, error) in [
            (vec![], 1, None),
            (vec![none, Errno::NOTDIR], 3, None),
            (vec![denied, none], 3, None),
            (vec![denied, none, none], 3, Some(denied)),
            (vec![none, none, none], 3, Some(none)),
            (vec![none, no_program], 2, Some(no_program)),
            (vec![Errno::TXTBSY], 1, Some(Errno::TXTBSY)),
        ] {
            let all = ["/a/sort", "/b/sort", "/c/sort"];
            let expected = (files(&all[..count]), error);
            assert_eq!(tried("/a:/b:/c", "sort", &ends), expected, "{ends:?}");
        }
    }

    #[test]
    fn a_path_is_what_it_says_and_no_name_is_no_program() {
        let none = Some(Errno::NOENT);
        for path in ["/a/sort", "./sort", "a/sort"] {
            assert_eq!(tried("/b", path, &[]), (files(&[path]), None));
        }
        assert_eq!(tried("/a", "", &[]), (files(&[]), none));
    }

    /// Without a slash a name would be looked for again.
    #[test]
    fn an_empty_directory_is_the_working_directory() {
        assert_eq!(tried("", "sort", &[]), (files(&["./sort"]), None));
        let second = (files(&["/a/sort", "./sort"]), None);
        assert_eq!(tried("/a:", "sort", &[Errno::NOENT]), second);
        assert_eq!(tried("b", "sort", &[]), (files(&["./b/sort"]), None));
    }
}
