//! [`Latest`]: what was noted, by key, for as long as memory lasts; of very much, the latest.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Latest<K, V> {
    new: HashMap<K, V, FixedState>,
    /// What was noted before them.
    old: HashMap<K, V, FixedState>,
    /// After how many those before them are forgotten: so many are known at least, and twice as many at most.
    enough: usize,
}

impl<K: Copy + Eq + Hash, V: Copy> Latest<K, V> {
    /// Of very much, the last `enough` are known at least, and at most twice as many.
    pub(super) fn of(enough: usize) -> Self {
        Self {
            new: HashMap::default(),
            old: HashMap::default(),
            enough,
        }
    }

    /// From now on, the value of `key`.
    pub(super) fn note(&mut self, key: K, value: V) {
        self.forget(&key);
        if self.new.len() == self.enough {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
    }

    /// The value, if it is known still.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let value = self.new.get(key).or_else(|| self.old.get(key));
        value.copied()
    }

    /// It is known no longer.
    pub(super) fn forget(&mut self, key: &K) {
        self.new.remove(key);
        self.old.remove(key);
    }

    /// What is known; noted again in this order, the same is forgotten first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        let all = self.old.iter().chain(&self.new);
        all.map(|(key, value)| (*key, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_much_the_latest_are_known() {
        let mut latest = Latest::of(100);
        for key in 0..1000 {
            latest.note(key, key + 1);
            assert_eq!(latest.get(&key), Some(key + 1));
            assert_eq!(latest.get(&(key - 99).max(0)), Some((key - 99).max(0) + 1));
            assert!(latest.iter().count() <= 200);
        }
        assert_eq!(latest.get(&700), None);
        latest.forget(&999);
        assert_eq!(latest.get(&999), None);
    }

    #[test]
    fn what_is_noted_again_in_its_order_is_known_as_before() {
        let mut latest = Latest::of(100);
        for key in 0..150 {
            latest.note(key, ());
        }
        let mut again = Latest::of(100);
        for (key, value) in latest.iter() {
            again.note(key, value);
        }
        for _ in 0..100 {
            let new = 1000 + again.iter().count();
            again.note(new, ());
        }
        assert!((100..150).all(|key| again.get(&key).is_some()));
    }
}
