//! Seeds: a fixed number in each run of the tests, as many as asked for else.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{every_point, run, trace::Missed};

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fail(seed: u64, missed: &Missed) -> ! {
    panic!(
        "seed {seed}: {}\n\nThe last that happened:\n{}\n\nAgain: WORKQUEUE_SEED={seed} cargo test --lib simulation",
        missed.what, missed.trace
    );
}

fn hold(seed: u64) {
    let loud = number("WORKQUEUE_LOUD").is_some();
    if let Err(missed) = run(seed, loud) {
        fail(seed, &missed);
    }
}

fn hold_every_point(seed: u64) {
    if let Err(missed) = every_point(seed, false) {
        fail(seed, &missed);
    }
}

/// The seeds of this run: one that is asked for, or all from a start on until there are enough or time is up.
#[allow(
    clippy::disallowed_methods,
    reason = "a soak runs until the real time is up"
)]
fn seeds(usual: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("WORKQUEUE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let first = std::env::var("WORKQUEUE_FIRST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let first: u64 = one.or(first).unwrap_or(0);
    let count = number("WORKQUEUE_SEEDS").map_or(usual, |count| count as u64);
    let end = number("WORKQUEUE_HOURS")
        .map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
    let done = AtomicU64::new(0);
    std::iter::from_fn(move || {
        let number = done.fetch_add(1, Ordering::Relaxed);
        let more = match (one, end) {
            (Some(_), _) => number < 1,
            (None, Some(end)) => Instant::now() < end,
            (None, None) => number < count,
        };
        more.then(|| first.wrapping_add(number))
    })
}

#[test]
fn nothing_is_lost_whatever_the_disk_does() {
    for seed in seeds(300) {
        hold(seed);
    }
}

#[test]
fn nothing_is_lost_at_any_operation_of_the_disk() {
    for seed in seeds(3) {
        hold_every_point(seed);
    }
}
