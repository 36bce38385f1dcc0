//! [`Lately`]: what was noted within the last minute, or another span, by key; of very much, the latest.

use std::{collections::VecDeque, hash::Hash};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{Millis, Tick};

/// How long something is known where nothing else is said.
pub(super) const KNOWN: Millis = Millis::from_secs(60);
/// How much is known: some megabytes.
pub(super) const MOST: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Lately<K, V> {
    values: HashMap<K, (V, Tick), FixedState>,
    order: VecDeque<(Tick, K)>,
    span: Millis,
}

impl<K, V> Default for Lately<K, V> {
    fn default() -> Self {
        Self::of(KNOWN)
    }
}

impl<K, V> Lately<K, V> {
    /// What is known for `span`.
    pub(super) fn of(span: Millis) -> Self {
        Self {
            values: HashMap::default(),
            order: VecDeque::new(),
            span,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Lately<K, V> {
    /// From now on, and for its span, the value of `key`.
    pub(super) fn note(&mut self, key: K, value: V, now: Tick) {
        self.forget_old(now);
        self.values.insert(key, (value, now));
        self.order.push_back((now, key));
    }

    /// The value, if it is known still.
    pub(super) fn get(&mut self, key: &K, now: Tick) -> Option<V> {
        self.forget_old(now);
        self.values.get(key).map(|(value, _)| *value)
    }

    /// Like [`Lately::get`], and it is known no longer.
    pub(super) fn take(&mut self, key: &K, now: Tick) -> Option<V> {
        self.forget_old(now);
        self.values.remove(key).map(|(value, _)| value)
    }

    /// What is known, in no order.
    pub(super) fn iter(&self, now: Tick) -> impl Iterator<Item = (K, V)> {
        self.within(self.span, now)
    }

    /// What was noted within `span`, which is no longer than the whole.
    pub(super) fn within(&self, span: Millis, now: Tick) -> impl Iterator<Item = (K, V)> {
        let known = self.values.iter();
        let known = known.filter(move |(_, (_, at))| at.plus(span) > now);
        known.map(|(key, (value, _))| (*key, *value))
    }

    fn forget_old(&mut self, now: Tick) {
        loop {
            // Where much is noted again or taken, the order has more entries than there are values.
            let many = self.values.len() > MOST || self.order.len() > 2 * MOST;
            let old = |(at, _): &mut (Tick, K)| many || at.plus(self.span) <= now;
            let Some((at, key)) = self.order.pop_front_if(old) else {
                break;
            };
            // Noted again since: then a later place in the order is its.
            if self.values.get(&key).is_some_and(|(_, last)| *last == at) {
                self.values.remove(&key);
            }
        }
        if self.order.is_empty() && self.values.capacity() > 1024 {
            *self = Self::of(self.span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    #[test]
    fn what_was_noted_is_known_for_a_minute_after_the_last_time() {
        let mut lately = Lately::default();
        lately.note(1, "a", at(10));
        assert_eq!(lately.get(&1, at(69)), Some("a"));
        assert_eq!(lately.iter(at(69)).collect::<Vec<_>>(), [(1, "a")]);
        assert_eq!(lately.iter(at(70)).count(), 0);
        assert_eq!(lately.get(&2, at(69)), None);
        lately.note(1, "b", at(69));
        assert_eq!(lately.get(&1, at(128)), Some("b"));
        assert_eq!(lately.get(&1, at(129)), None);
        assert!(lately.values.is_empty() && lately.order.is_empty());
        lately.note(1, "c", at(130));
        assert_eq!(lately.take(&1, at(130)), Some("c"));
        assert_eq!(lately.take(&1, at(130)), None);
    }

    #[test]
    fn of_very_much_the_oldest_is_forgotten() {
        let mut lately = Lately::default();
        for key in 0..MOST + 100 {
            lately.note(key, (), Tick(0));
        }
        assert!(lately.values.len() <= MOST + 1);
        assert_eq!(lately.get(&0, Tick(0)), None);
        assert!(lately.get(&MOST, Tick(0)).is_some());
    }
}
