//! Memory and descriptors of a daemon through a soak, and whether they stay what they were; and how much its checkpoints carry
//! from life to life: files that may come back are known by it up to limits, which a soak that takes directories away reaches late.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(250);
/// From which age on a process has grown to its size: tables, pools and the allocator's reserve are there. Before, memory says how often
/// the daemon was restarted rather than what it keeps.
const GROWN: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    /// Since the first look at this process.
    age: Duration,
    memory: u64,
    descriptors: u64,
    checkpoint: u64,
}

/// What was seen in a part of the time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The most.
    pub(super) memory: u64,
    pub(super) descriptors: u64,
    /// In bytes.
    pub(super) checkpoint: u64,
    /// What half of the looks at a process of some age found no more than: a moment's burst does not show in it, and growth does.
    /// None where no process was that old.
    pub(super) usual_memory: Option<u64>,
}

#[derive(Default)]
pub(super) struct Measure {
    samples: Mutex<Vec<Sample>>,
}

impl Measure {
    /// Looks at the process of this number, which changes, and at the checkpoints of its journal, until told to stop.
    pub(super) fn watch(&self, pid: &AtomicU32, journal: &Path, stop: &AtomicBool) {
        let begin = Instant::now();
        let mut life = (0, begin);
        while !stop.load(Ordering::Relaxed) {
            let pid = pid.load(Ordering::Relaxed);
            if life.0 != pid {
                life = (pid, Instant::now());
            }
            // There is no such process just now, while it is restarted.
            if let (Some(memory), Some(descriptors)) = (memory(pid), descriptors(pid)) {
                let at = begin.elapsed();
                let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push(Sample {
                    at,
                    age: life.1.elapsed(),
                    memory,
                    descriptors,
                    checkpoint: checkpoint(journal),
                });
            }
            std::thread::park_timeout(EVERY);
        }
    }

    /// The beginning, the middle and the end, each a third of the time.
    pub(super) fn thirds(&self) -> [Seen; 3] {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let third = samples.last().map_or(Duration::ZERO, |last| last.at) / 3;
        let mut parts = [const { Vec::new() }; 3];
        for sample in samples.iter() {
            let part = (0..2).find(|part| sample.at <= third * (part + 1));
            parts[part.unwrap_or(2) as usize].push(*sample);
        }
        parts.map(|mut part| {
            part.sort_by_key(|sample| sample.memory);
            let memory = |sample: Option<&Sample>| sample.map_or(0, |sample| sample.memory);
            let descriptors = part.iter().map(|sample| sample.descriptors).max();
            let checkpoint = part.iter().map(|sample| sample.checkpoint).max();
            let most = memory(part.last());
            part.retain(|sample| sample.age >= GROWN);
            Seen {
                memory: most,
                descriptors: descriptors.unwrap_or(0),
                checkpoint: checkpoint.unwrap_or(0),
                usual_memory: part.get(part.len() / 2).map(|sample| sample.memory),
            }
        })
    }
}

fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

fn descriptors(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// The largest checkpoint that is there, in bytes; 0 where there is none.
fn checkpoint(journal: &Path) -> u64 {
    let entries = fs::read_dir(journal).into_iter().flatten().flatten();
    let checkpoints = entries.filter(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|end| end == "checkpoint")
    });
    // One may be removed just now.
    let sizes = checkpoints.filter_map(|one| one.metadata().ok());
    sizes.map(|meta| meta.len()).max().unwrap_or(0)
}
