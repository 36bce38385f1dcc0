//! What the kernel says of this process, for `/metrics`.
//!
//! Reads `/proc/self` (`proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_stat(5)`); what can't be read is not shown.

use std::fs;

/// Clock ticks a second in what `/proc` shows: `USER_HZ`, 100 on every Linux since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in bytes.
pub(crate) fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kilobytes * 1024)
}

/// When the process started, in Unix seconds.
pub(crate) fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything; the 22nd is the start in ticks after the boot.
    let ticks: f64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let boot: f64 = fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

/// How many file descriptors are open.
pub(crate) fn open_fds() -> Option<u64> {
    // One of them is the directory's own.
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}
