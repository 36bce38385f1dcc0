//! What the programs need of the system before they begin: the threads that they run on, started so that a system that gives none is
//! an error and never a panic, that a limit of how large a file may be is an error and no end, and as many open files as there may be.
//!
//! Knows nothing of what runs on them. The runtime itself panics where it needs a thread and has none to fall back on, as under
//! a low `TasksMax=` or `ulimit -u`: so the threads are tried first, and one that may block is kept from the start on.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::Duration,
};

use rustix::{
    fs::Access,
    process::{Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::gettid,
};
use signal_hook::{consts::SIGXFSZ, flag};
use tokio::runtime::{Builder, Runtime};

/// How many threads may block at once; what comes beyond them waits for one of them.
pub const MOST_BLOCKING: usize = 8;
/// How long such a thread waits for something to do: as good as for ever, so that there is always one.
const KEPT: Duration = Duration::from_hours(24 * 365 * 10);

/// A runtime of this one thread.
pub fn of_one() -> io::Result<Runtime> {
    of(Builder::new_current_thread(), 0)
}

/// A runtime of so many threads.
pub fn of_many(threads: usize) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads);
    of(builder, threads)
}

fn of(mut builder: Builder, threads: usize) -> io::Result<Runtime> {
    try_threads(threads + 1)?;
    let runtime = builder
        .max_blocking_threads(MOST_BLOCKING)
        .thread_keep_alive(KEPT)
        .enable_all()
        .build()?;
    let first = runtime.spawn_blocking(|| ());
    runtime.block_on(first).map_err(io::Error::other)?;
    Ok(runtime)
}

/// Whether the system gives so many threads at once now.
pub fn try_threads(count: usize) -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let started: io::Result<Vec<_>> = (0..count)
        .map(|_| {
            let gate = Arc::clone(&gate);
            thread::Builder::new().spawn(move || {
                drop(gate.lock());
                gettid()
            })
        })
        .collect();
    drop(closed);
    for thread in started? {
        // All that it did was to wait.
        if let Ok(id) = thread.join() {
            see_off(id);
        }
    }
    Ok(())
}

/// How often a thread that has ended is looked for: the kernel takes microseconds, and other threads may come in between.
const LOOKS: usize = 10_000;

/// Lets a thread go that was waited for: until the kernel has let go of it as well, it counts as one of those that there may be.
fn see_off(id: Pid) {
    let path = format!("/proc/self/task/{id}");
    let is_there = || rustix::fs::access(&*path, Access::EXISTS).is_ok();
    for _ in 0..LOOKS {
        if !is_there() {
            break;
        }
        thread::yield_now();
    }
}

/// Has a write that would make a file larger than `LimitFSIZE=` (`ulimit -f`) allows fail, as for want of room, where it would end
/// the program without a word. The signal is caught and not ignored, which programs that are started from here would inherit.
pub fn outlive_large_files() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

/// The soft limit on open files: 1024 by default for the sake of programs that use `select(2)`, which these do not. `None`: there is
/// none.
pub type SoftLimit = Option<u64>;

/// Raises the soft limit on open files to the hard one: each connection is one, each handler that runs some.
pub fn raise_limit_of_files() -> io::Result<()> {
    limit_files(getrlimit(Resource::Nofile).maximum)
}

/// Sets the soft limit on open files, below the hard one.
pub fn limit_files(soft: SoftLimit) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == soft {
        return Ok(());
    }
    let limit = Rlimit {
        current: soft,
        ..limit
    };
    setrlimit(Resource::Nofile, limit).map_err(io::Error::from)
}

/// The soft limit on open files as it is now.
#[must_use]
pub fn limit_of_files() -> SoftLimit {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_that_blocks_than_there_are_threads_is_done_in_turn() {
        for runtime in [of_one().unwrap(), of_many(2).unwrap()] {
            let tasks: Vec<_> = (0..3 * MOST_BLOCKING)
                .map(|number| runtime.spawn_blocking(move || number))
                .collect();
            let sum = runtime.block_on(async {
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.unwrap();
                }
                sum
            });
            assert_eq!(sum, (0..3 * MOST_BLOCKING).sum::<usize>());
        }
    }
}
