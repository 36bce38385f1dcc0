//! [`Key`]: a task's place among those of its queue and state.

use crate::task::{ExecTime, Priority, State, TaskId};

/// A place in an ordered set of tasks. For ready, leased and dead tasks: higher priority first, then earlier exectime,
/// then id, which is submission order. For scheduled tasks the exectime comes first: they become due in that order.
///
/// Nine bytes, most significant first, and the id: every pending task has one, so each byte counts, and they compare as they
/// lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    order: [u8; ORDER],
    pub(super) id: TaskId,
}

/// Four bytes of urgency and five of exectime.
const ORDER: usize = 9;
/// Makes exectimes of all years positive: they are less than 2^38 from 1970.
const EXECTIME_BIAS: i64 = 1 << 39;

/// How urgent a priority is: the lower, the more urgent.
const fn urgency_of(priority: Priority) -> u32 {
    !((priority.get() as u32) ^ (1 << 31))
}

/// The five low bytes of an exectime that is made positive: the three high ones are zeros.
fn exectime_bytes(exectime: i64) -> [u8; 5] {
    let bytes = (exectime + EXECTIME_BIAS).to_be_bytes();
    let mut low = [0; 5];
    low.copy_from_slice(&bytes[3..]);
    low
}

fn exectime_of(low: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes[3..].copy_from_slice(low);
    i64::from_be_bytes(bytes) - EXECTIME_BIAS
}

impl Key {
    pub(super) fn new(state: State, priority: Priority, exectime: ExecTime, id: TaskId) -> Self {
        let urgency = urgency_of(priority).to_be_bytes();
        let exectime = exectime_bytes(exectime.get());
        let mut order = [0; ORDER];
        if state == State::Scheduled {
            order[..5].copy_from_slice(&exectime);
            order[5..].copy_from_slice(&urgency);
        } else {
            order[..4].copy_from_slice(&urgency);
            order[4..].copy_from_slice(&exectime);
        }
        Self { order, id }
    }

    /// Before every key of this urgency whose exectime is `exectime` or later, `None` being earlier than all; for sets whose
    /// major part is the priority.
    pub(super) fn floor(urgency: u32, exectime: Option<i64>) -> Self {
        let mut order = [0; ORDER];
        order[..4].copy_from_slice(&urgency.to_be_bytes());
        if let Some(exectime) = exectime {
            order[4..].copy_from_slice(&exectime_bytes(exectime));
        }
        let id = TaskId::from_bytes([0; 16]);
        Self { order, id }
    }

    /// Where keys with ids from `first` on lie next: in the group of this one, or where that is past in the next. `None`: there
    /// is none.
    pub(super) fn next_in(self, first: TaskId) -> Option<Self> {
        let mut order = self.order;
        if self.id >= first {
            let at = order.iter().rposition(|byte| *byte < u8::MAX)?;
            order[at] += 1;
            order[at + 1..].fill(0);
        }
        Some(Self { order, id: first })
    }

    /// The urgency, of a key in a set whose major part is the priority.
    pub(super) const fn urgency(self) -> u32 {
        let [a, b, c, d, ..] = self.order;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The exectime, of such a key.
    pub(super) fn exectime(self) -> i64 {
        exectime_of(&self.order[4..])
    }

    /// The exectime, of a key in the set of scheduled tasks.
    pub(super) fn scheduled_for(self) -> ExecTime {
        let secs = exectime_of(&self.order[..5]);
        // It was made from an `ExecTime`, so it is in range.
        ExecTime::new(secs).unwrap_or(ExecTime::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exectimes() -> impl Strategy<Value = i64> {
        prop_oneof![
            Just(ExecTime::MIN.get()),
            Just(0),
            Just(ExecTime::MAX.get()),
            ExecTime::MIN.get()..=ExecTime::MAX.get()
        ]
    }

    fn priorities() -> impl Strategy<Value = i32> {
        prop_oneof![Just(i32::MIN), Just(i32::MAX), any::<i32>()]
    }

    proptest! {
        #[test]
        fn keys_order_as_the_tasks_do_and_give_back_what_they_were_made_of(
            a in (priorities(), exectimes(), any::<u128>()),
            b in (priorities(), exectimes(), any::<u128>()),
        ) {
            let key = |state, (priority, exectime, id): (i32, i64, u128)| {
                let exectime = ExecTime::new(exectime).unwrap();
                let id = TaskId::from_bytes(id.to_be_bytes());
                Key::new(state, Priority::new(priority), exectime, id)
            };
            let urgent = |(priority, exectime, id)| (std::cmp::Reverse(priority), exectime, id);
            let (ready, other) = (key(State::Ready, a), key(State::Ready, b));
            prop_assert_eq!(ready.cmp(&other), urgent(a).cmp(&urgent(b)));
            prop_assert_eq!(ready.exectime(), a.1);
            let floor = Key::floor(ready.urgency(), Some(a.1));
            prop_assert!(floor <= ready && Key::floor(ready.urgency(), None) <= floor);
            let early = |(priority, exectime, id)| (exectime, std::cmp::Reverse(priority), id);
            let (scheduled, other) = (key(State::Scheduled, a), key(State::Scheduled, b));
            prop_assert_eq!(scheduled.cmp(&other), early(a).cmp(&early(b)));
            prop_assert_eq!(scheduled.scheduled_for().get(), a.1);
        }
    }

    #[test]
    fn a_key_is_small() {
        assert_eq!(size_of::<Key>(), 25);
    }
}
