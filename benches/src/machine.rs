//! What the machine does by itself: how long it stops on its own, and who has its processors, second by second. Without that
//! a reply that was held up says nothing of who held it up.

use std::{
    fs,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::time::{ClockId, clock_gettime};

use crate::measure::median;

/// How often in a second the speed of the processors is looked at, and by how many steps of work: some 0.1 ms each time.
const LOOKS: u32 = 10;
const STEPS: u32 = 20_000;
/// From here on a thread that does nothing but read the clock was stopped.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the processors stopped while nothing ran but threads that read the clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pauses {
    /// The longest.
    pub worst: Duration,
    /// How much of the time was in pauses of a millisecond and more, of 1.
    pub share: f64,
}

impl Pauses {
    /// Has every processor read the clock for `time`.
    pub fn measure(time: Duration) -> anyhow::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let threads: Vec<_> = (0..cores)
            .map(|_| thread::spawn(move || spin(time)))
            .collect();
        let mut all = Self::default();
        for thread in threads {
            let Ok(one) = thread.join() else {
                bail!("a thread that reads the clock has panicked");
            };
            all.worst = all.worst.max(one.worst);
            all.share += one.share / cores as f64;
        }
        Ok(all)
    }
}

fn spin(time: Duration) -> Pauses {
    let start = Instant::now();
    let (mut last, mut lost, mut worst) = (start, Duration::ZERO, Duration::ZERO);
    while last - start < time {
        let now = Instant::now();
        let gap = now - last;
        if gap >= PAUSE {
            lost += gap;
        }
        worst = worst.max(gap);
        last = now;
    }
    Pauses {
        worst,
        share: lost.as_secs_f64() / time.as_secs_f64(),
    }
}

/// Who had the processors in a second, of 1 each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    /// Nobody.
    pub idle: f64,
    /// Programs other than the bench and its server.
    pub others: f64,
    /// Other machines on the same processors.
    pub stolen: f64,
    /// How fast the processors worked, to the middle of all seconds: less where they are slowed down, or another machine shares a
    /// core with this one.
    pub speed: f64,
}

/// Clock ticks since the machine and the programs began.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
    programs: u64,
    ours: u64,
}

impl Ticks {
    fn read(pids: &[u32]) -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu"));
        // proc_stat(5): user nice system idle iowait irq softirq steal; the guests' are within user and nice.
        let numbers: Vec<u64> = line
            .context("no cpu line in /proc/stat")?
            .split_whitespace()
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let &[user, nice, system, idle, iowait, _, _, stolen] = numbers.as_slice() else {
            bail!("/proc/stat has too few numbers");
        };
        let mut ours = 0;
        for pid in pids {
            ours += program(*pid)?;
        }
        Ok(Self {
            all: numbers.iter().sum(),
            idle: idle + iowait,
            stolen,
            programs: user + nice + system,
            ours,
        })
    }

    /// Whose the time since `before` was.
    fn since(self, before: Self) -> Second {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        let programs = self.programs.saturating_sub(before.programs);
        let ours = self.ours.saturating_sub(before.ours);
        Second {
            idle: self.idle.saturating_sub(before.idle) as f64 / all,
            // The two are not read at one moment, and interrupts count for a program in the one and not in the other.
            others: programs.saturating_sub(ours) as f64 / all,
            stolen: self.stolen.saturating_sub(before.stolen) as f64 / all,
            speed: 1.0,
        }
    }
}

/// Ticks of a process, user and system.
fn program(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): the name may hold blanks and brackets; utime and stime are the twelfth and thirteenth after it.
    let (_, rest) = text.rsplit_once(')').context("no name in a stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().context("a stat is too short");
    Ok(next()?.parse::<u64>()? + next()?.parse::<u64>()?)
}

/// How long the same work takes a processor, whoever has it in between.
fn time_of_work() -> Duration {
    let own = || -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = own();
    let mut table = [0_u32; 4096];
    let mut state = 1_u32;
    for _ in 0..STEPS {
        // The constants are those of Numerical Recipes' generator: any that scatter would do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let at = (state >> 20) as usize;
        table[at] = table[at].wrapping_add(state);
        state ^= table[at];
    }
    std::hint::black_box(table);
    own().saturating_sub(start)
}

/// Looks once a second who has the processors.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<Vec<Second>>>,
}

impl Watch {
    /// Begins now; `server` is the pid of what is measured.
    pub fn start(server: u32) -> anyhow::Result<Self> {
        let pids = [std::process::id(), server];
        let (stop, stopped) = mpsc::channel();
        let mut before = Ticks::read(&pids)?;
        let start = Instant::now();
        let thread = thread::spawn(move || {
            let mut seconds = Vec::new();
            let mut works = Vec::new();
            let (mut looks, mut work) = (0, Duration::ZERO);
            loop {
                let next = start + Duration::from_secs(1) / LOOKS * (looks + 1);
                match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
                looks += 1;
                work += time_of_work();
                if looks % LOOKS == 0 {
                    let now = Ticks::read(&pids)?;
                    seconds.push(now.since(before));
                    works.push(std::mem::take(&mut work).as_secs_f64());
                    before = now;
                }
            }
            let usual = median(&works);
            for (second, work) in seconds.iter_mut().zip(works) {
                second.speed = usual / work;
            }
            Ok(seconds)
        });
        Ok(Self { stop, thread })
    }

    /// The seconds since the beginning.
    pub fn stop(self) -> anyhow::Result<Vec<Second>> {
        drop(self.stop);
        let Ok(seconds) = self.thread.join() else {
            bail!("the thread that looks at the processors has panicked");
        };
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_told_apart_by_who_had_it() {
        let before = Ticks {
            all: 1000,
            idle: 500,
            stolen: 10,
            programs: 400,
            ours: 100,
        };
        let now = Ticks {
            all: 1200,
            idle: 550,
            stolen: 20,
            programs: 520,
            ours: 160,
        };
        let second = now.since(before);
        assert!((second.idle - 0.25).abs() < 1e-9, "{second:?}");
        assert!((second.others - 0.3).abs() < 1e-9, "{second:?}");
        assert!((second.stolen - 0.05).abs() < 1e-9, "{second:?}");
    }

    #[test]
    fn pauses_and_ticks_of_this_machine_are_read() {
        let pauses = Pauses::measure(Duration::from_millis(20)).unwrap();
        assert!(pauses.share >= 0.0 && pauses.worst > Duration::ZERO);
        assert!(program(std::process::id()).is_ok());
        assert!(time_of_work() > Duration::ZERO);
    }
}
