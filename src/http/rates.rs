//! [`Rates`]: how many requests an address may send, or whoever shows a token, by token buckets.
//!
//! A bucket holds `burst` requests and is filled with `rate` a second. Those who have not asked for as long as it takes to
//! fill theirs are forgotten; when the table is full of others all the same, newcomers share one bucket, so that a flood
//! of addresses can't make it grow.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::time::Instant;

/// The most addresses that are told apart: some megabytes.
const MOST: usize = 65_536;
/// How often a full table is looked through for those that may be forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// Stands for all who found the table full.
const OTHERS: Key = Key::Address(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

/// Who has a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// An address.
    Address(IpAddr),
    /// Who shows the token of this name.
    Token(Arc<str>),
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<&Arc<str>> for Key {
    fn from(name: &Arc<str>) -> Self {
        Self::Token(Arc::clone(name))
    }
}

/// The buckets.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<Key, Bucket, RandomState>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Requests that may come now.
    room: f64,
    /// When that was so.
    at: Instant,
}

impl Bucket {
    fn room_at(&self, now: Instant, rate: f64, burst: f64) -> f64 {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        gone.mul_add(rate, self.room).min(burst)
    }
}

impl Rates {
    /// Takes one request from the bucket of `key`; an error says after how many seconds there will be one.
    pub(super) fn take(&self, key: impl Into<Key>, rate: u64, burst: u64) -> Result<(), u64> {
        self.take_at(Instant::now(), key.into(), rate as f64, burst.max(1) as f64)
    }

    fn take_at(&self, now: Instant, key: impl Into<Key>, rate: f64, burst: f64) -> Result<(), u64> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = table.place(now, key.into(), rate, burst);
        let bucket = table.buckets.entry(key).or_insert(Bucket {
            room: burst,
            at: now,
        });
        let room = bucket.room_at(now, rate, burst);
        let admitted = room >= 1.0;
        *bucket = Bucket {
            room: if admitted { room - 1.0 } else { room },
            at: now,
        };
        if admitted {
            Ok(())
        } else {
            Err(((1.0 - room) / rate).ceil().max(1.0) as u64)
        }
    }
}

impl Table {
    /// Whose bucket is asked: that of `key`, or the others' where there is no room for one.
    fn place(&mut self, now: Instant, key: Key, rate: f64, burst: f64) -> Key {
        if self.buckets.len() < MOST || self.buckets.contains_key(&key) {
            return key;
        }
        let due = self
            .swept
            .is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        if due {
            self.swept = Some(now);
            self.buckets
                .retain(|_, bucket| bucket.room_at(now, rate, burst) < burst);
        }
        if self.buckets.len() < MOST {
            key
        } else {
            OTHERS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let rates = Rates::default();
        let start = Instant::now();
        let one = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..5 {
            rates.take_at(start, one, 2.0, 5.0).unwrap();
        }
        assert_eq!(rates.take_at(start, one, 2.0, 5.0), Err(1));
        let other = IpAddr::from([10, 0, 0, 2]);
        rates.take_at(start, other, 2.0, 5.0).unwrap();
        let later = start + Duration::from_secs(1);
        rates.take_at(later, one, 2.0, 5.0).unwrap();
        rates.take_at(later, one, 2.0, 5.0).unwrap();
        assert!(rates.take_at(later, one, 2.0, 5.0).is_err());
    }

    #[test]
    fn a_slow_rate_says_how_long_to_wait() {
        let rates = Rates::default();
        let (start, one) = (Instant::now(), IpAddr::from([10, 0, 0, 1]));
        rates.take_at(start, one, 0.1, 1.0).unwrap();
        assert_eq!(rates.take_at(start, one, 0.1, 1.0), Err(10));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_those_whose_bucket_is_full() {
        let rates = Rates::default();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let let_in = (0..MOST as u32 + 100)
            .filter(|number| rates.take_at(start, address(*number), 1.0, 10.0).is_ok())
            .count();
        assert_eq!(let_in, MOST + 10, "those beyond share one bucket");
        let size = || rates.0.lock().unwrap().buckets.len();
        assert!(size() <= MOST + 1, "{}", size());
        let later = start + Duration::from_mins(1);
        rates.take_at(later, address(u32::MAX), 1.0, 10.0).unwrap();
        assert!(size() < 10, "{}", size());
    }
}
