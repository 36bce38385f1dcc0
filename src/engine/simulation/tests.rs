//! Seeds: a fixed number in each run of the tests, as many as asked for else.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{every_point, run, trace::Missed};
use crate::defect::{Defect, plant};

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fail(seed: u64, test: &str, missed: &Missed) -> ! {
    panic!(
        "\nseed {seed}: {}\n\nThe last that happened:\n{}\n\nAgain: WORKQUEUE_SEED={seed} cargo test --lib {test}\n",
        missed.what, missed.trace
    );
}

fn hold(seed: u64) {
    let loud = number("WORKQUEUE_LOUD").is_some();
    if let Err(missed) = run(seed, loud) {
        fail(seed, "nothing_is_lost_whatever", &missed);
    }
}

fn hold_every_point(seed: u64) {
    if let Err(missed) = every_point(seed, false) {
        fail(seed, "nothing_is_lost_at_any", &missed);
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
    let mut count = 0;
    for seed in seeds(500) {
        hold(seed);
        count += 1;
    }
    println!("\n{count} seeds held");
}

#[test]
fn nothing_is_lost_at_any_operation_of_the_disk() {
    for seed in seeds(8) {
        hold_every_point(seed);
    }
}

/// The first seed that catches a defect, among as many as a run of the tests can afford. Without the defect it is clean.
fn is_caught(defect: Defect) {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    plant(Some(defect));
    let caught = (0..6000).find_map(|seed| Some((seed, run(seed, false).err()?)));
    let again = caught
        .as_ref()
        .and_then(|(seed, _)| run(*seed, false).err());
    plant(None);
    std::panic::set_hook(quiet);
    let (Some((seed, missed)), Some(again)) = (caught, again) else {
        panic!("no seed catches {defect:?}, or none twice");
    };
    // A seed is all that it takes to see the same once more, step by step.
    assert_eq!((&again.what, &again.trace), (&missed.what, &missed.trace));
    println!("{defect:?} is caught by seed {seed}: {}", missed.what);
    hold(seed);
}

macro_rules! caught {
    ($($name:ident: $defect:ident;)*) => {
        mod defects {
            use super::{Defect, is_caught};
            $(
                #[test]
                fn $name() {
                    is_caught(Defect::$defect);
                }
            )*
        }
    };
}

caught! {
    a_reply_before_the_sync_is_caught: ReplyBeforeSync;
    a_directory_that_is_not_synced_is_caught: SkipDirectorySync;
    a_segment_deleted_early_is_caught: DeleteSegmentEarly;
    a_checksum_that_is_ignored_is_caught: IgnoreChecksum;
    a_failed_sync_that_is_retried_is_caught: RetryFailedSync;
    a_task_taken_without_room_is_caught: ApplyBeforeRoom;
    a_lease_forgotten_at_a_checkpoint_is_caught: ForgetLease;
    a_journal_cut_before_its_tail_is_caught: CutBeforeTail;
    a_completed_task_that_comes_back_by_its_file_is_caught: BelieveSurvivingFile;
    half_of_a_frame_replayed_is_caught: ReplayHalf;
    a_file_settled_before_it_is_written_is_caught: SettleBeforeWrite;
    a_page_cache_that_is_trusted_is_caught: TrustPageCache;
    a_file_moved_before_its_name_is_durable_is_caught: MoveBeforeSync;
}
