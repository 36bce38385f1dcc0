//! The task directory goes away under the daemon, and comes back a while later, perhaps in another life of the daemon: what was
//! done meanwhile stays done, and what was not is there again.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Soak, hands::Hands};

/// How long it may take until all tasks are there again.
const BACK: Duration = Duration::from_mins(1);

/// In which order things happen.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// The daemon lives on.
    Alive,
    /// It is killed, and starts without the directory.
    StartWithout,
    /// It is killed, and starts when the directory is back.
    BackBeforeStart,
}

impl Soak<'_> {
    /// Another directory stands there for some work's time.
    pub(super) fn away(&mut self) {
        let tasks = self.daemon.tasks();
        let other = tasks.with_file_name("other");
        fs::create_dir(&other).expect("another directory");
        exchange(&tasks, &other);
        self.ledger.wait_for(2000, Duration::from_secs(2));
        let orders = [Order::Alive, Order::StartWithout, Order::BackBeforeStart];
        let order = orders[self.chance.below(3) as usize];
        let address = self.address;
        let mut gate = address.write().expect("no client holds it for long");
        if !matches!(order, Order::Alive) {
            self.daemon.kill();
        }
        if matches!(order, Order::StartWithout) {
            self.start_again();
        }
        exchange(&tasks, &other);
        // As somebody would who finds both.
        merge(&other, &tasks).expect("files are moved back");
        if matches!(order, Order::BackBeforeStart) {
            self.start_again();
        }
        self.ledger.fault("task directory away for a while");
        self.wait_until_whole();
        self.hold("after the task directory was away");
        gate.clone_from(&self.daemon.address);
    }

    fn wait_until_whole(&self) {
        let end = Instant::now() + BACK;
        let (status, answer) = self.daemon.admin("POST", "/rescan", "");
        self.ledger.asked(Some(status));
        loop {
            let there = self.snapshot();
            // What has ended by then need not be there.
            let missing = there.map(|there| self.ledger.missing(&there, &Hands::ran(&self.book)));
            match missing {
                Ok(0) => return,
                Ok(_) | Err(_) if Instant::now() < end => {}
                Ok(missing) => {
                    let text = format!("{missing} tasks did not come back: {status} {answer}");
                    return self.ledger.wrong(text);
                }
                Err(error) => return self.ledger.wrong(format!("an export: {error}")),
            }
            thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// At once: the daemon would make a folder of its own where there is none.
pub(crate) fn exchange(one: &Path, other: &Path) {
    let flags = RenameFlags::EXCHANGE;
    renameat_with(CWD, one, CWD, other, flags).expect("directories that change places");
}

/// Moves all files of one directory into another.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && place.is_dir() {
            merge(&entry.path(), &place)?;
        } else {
            match fs::rename(entry.path(), place) {
                // The daemon was about to remove it when the directories changed places.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
    }
    match fs::remove_dir(from) {
        // What the daemon was about to write when the directories changed places came just now.
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => merge(from, to),
        removed => removed,
    }
}
