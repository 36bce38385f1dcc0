//! A control group of a test's own, in whichever hierarchy the machine lets it make one: version 2, else version 1.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use super::mount::skip;

/// A group that is there as long as this is. What runs in it has to end before.
pub struct Group {
    at: PathBuf,
    is_v2: bool,
}

impl Group {
    /// A group in which `controller` ("memory", "pids") counts.
    pub fn new(controller: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let offered = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        let is_v2 = offered.split_whitespace().any(|one| one == controller);
        let top = if is_v2 {
            root.to_owned()
        } else {
            root.join(controller)
        };
        let name: String = thread::current()
            .name()
            .unwrap_or_default()
            .rsplit("::")
            .take(1)
            .collect();
        let at = top.join(format!("workqueue-{}-{name}", std::process::id()));
        match fs::create_dir(&at) {
            Ok(()) => Some(Self { at, is_v2 }),
            Err(cause) => skip(&format!(
                "no control group of {controller} can be made: {cause}"
            )),
        }
    }

    /// Moves a process into it, with all its threads.
    pub fn take(&self, pid: u32) {
        fs::write(self.at.join("cgroup.procs"), pid.to_string()).expect("the process is there");
    }

    /// What runs a program in it: for [`super::Way::under`].
    pub fn runner(&self) -> Vec<String> {
        let script = "echo $$ >\"$0\" && exec \"$@\"";
        let procs = self.at.join("cgroup.procs").display().to_string();
        ["sh", "-c", script, &procs].map(str::to_owned).to_vec()
    }

    /// Bounds its memory.
    pub fn limit_memory(&self, bytes: u64) {
        let file = if self.is_v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        self.set(file, &bytes.to_string());
    }

    /// How often the kernel has killed something in it for want of memory.
    pub fn killed_for_memory(&self) -> u64 {
        let file = if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self.get(file).expect("what happened in the group");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("the kills").trim().parse().expect("a number")
    }

    /// Lets it have as many processes and threads as it has now, and no more.
    pub fn no_more_processes(&self) {
        let count = self.get("pids.current").expect("the count");
        self.set("pids.max", count.trim());
    }

    /// Lets it have so many.
    pub fn most_processes(&self, count: usize) {
        self.set("pids.max", &count.to_string());
    }

    pub fn any_number_of_processes(&self) {
        self.set("pids.max", "max");
    }

    fn get(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.at.join(file))
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.at.join(file), value)
            .unwrap_or_else(|cause| panic!("{file} of a control group: {cause}"));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy for a moment after its last process was killed; one that is left over is empty, and in nobody's way.
        for _ in 0..100 {
            if fs::remove_dir(&self.at).is_ok() {
                return;
            }
            thread::yield_now();
        }
    }
}
