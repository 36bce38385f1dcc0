//! What belongs to a run of the model as a whole: its settings, how to repeat it, and whether it got everywhere.

use std::collections::BTreeMap;

/// Tells how to repeat a run that failed.
pub(super) struct Repeat {
    pub(super) seed: u64,
    pub(super) operation: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "operation {}; to repeat: WORKQUEUE_SEED={} WORKQUEUE_OPERATIONS={}",
                self.operation,
                self.seed,
                self.operation + 1
            );
        }
    }
}

pub(super) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// That the run got everywhere.
pub(super) fn everything_came_to_pass(seen: &BTreeMap<String, u64>) {
    let all = "submit: ok again IdInUse TooMany Draining; array: ok again IdInUse TooMany Draining; next: one none; \
        claim: ok WrongState NoSuchTask; complete: ok StaleToken Leased WrongState NoSuchTask; \
        fail: ok StaleToken Invalid NoSuchTask; release: ok StaleToken; extend: ok StaleToken; cancel: ok Leased; \
        reschedule: ok Leased WrongState NoSuchTask UniqueKeyInUse Draining TooMany; move: ok; retry: ok WrongState UniqueKeyInUse TooMany; switch: ok NoSuchQueue; \
        more: yes no; expire: ok; reboot: ok; open: ok; forget: ok";
    for (what, hows) in all.split(';').filter_map(|part| part.split_once(':')) {
        for how in hows.split_whitespace() {
            let name = format!("{} {how}", what.trim());
            assert!(
                seen.contains_key(&name),
                "never came to pass: {name}; {seen:?}"
            );
        }
    }
}
