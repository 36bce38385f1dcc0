//! What the kernel says of this process, for `/metrics`.
//!
//! Reads `/proc/self` (`proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_pid_limits(5)`, `proc_stat(5)`); what can't be read is
//! not shown.

use std::fs;

/// Clock ticks a second in what `/proc` shows: `USER_HZ`, 100 on every Linux since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is known of the process.
pub(crate) struct Process {
    pub(crate) stat: Option<Stat>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
}

/// What stands in `/proc/self/stat`.
pub(crate) struct Stat {
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    pub(crate) threads: u64,
    pub(crate) virtual_bytes: u64,
    /// In Unix seconds.
    pub(crate) start_time: Option<f64>,
}

pub(crate) fn read() -> Process {
    Process {
        stat: stat(),
        resident_bytes: resident_memory(),
        open_fds: open_fds(),
        max_fds: max_fds(),
    }
}

fn stat() -> Option<Stat> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything; the manual counts fields from 1.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let boot = || -> Option<f64> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    };
    let started = field(22)? as f64 / TICKS_PER_SECOND;
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        start_time: boot().map(|boot| boot + started),
    })
}

fn resident_memory() -> Option<u64> {
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

fn open_fds() -> Option<u64> {
    // One of them is the directory's own.
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = read();
        let stat = process.stat.unwrap();
        assert!(stat.cpu_seconds >= 0.0 && stat.threads >= 1);
        // After 2020: the boot's time and the start after it were read.
        assert!(stat.start_time.unwrap() > 1_577_836_800.0);
        assert!(stat.virtual_bytes > process.resident_bytes.unwrap());
        assert!(process.open_fds.unwrap() < process.max_fds.unwrap());
    }
}
