//! What happened lately: how many tasks came and went, how long they waited and how long they took.
//!
//! [`History`] is of all queues together: the last minute by seconds, the last hour by minutes, the last day by quarters of
//! an hour, each slot with its counts and its latencies. [`Minutes`] is of one queue: the last hour by minutes, counts only.
//! Both have a fixed size, 250 KiB and 1 KiB, so ten thousand queues with traffic cost 10 MiB; a queue without any costs
//! nothing. Nothing here needs a timer: a slot that is too old is emptied when its place is used again, and is left out when
//! somebody looks.
//!
//! Knows the boot clock, as an argument. May not know: which queue it is told of, or why.

use crate::task::{HistorySlot, HistoryView, Millis, Now, Quantiles, Span, Tick, WallMillis};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Submitted,
    Completed,
    Failed,
    Died,
}

const NANOS_A_MILLI: u64 = 1_000_000;

/// Latencies in few numbers: whole milliseconds below 8, from there four classes for each doubling, so that a quantile is
/// at most an eighth off, up to some twelve days.
#[derive(Debug, Clone)]
struct Latencies {
    classes: [u32; CLASSES],
}

const CLASSES: usize = 8 + 4 * 27;

impl Default for Latencies {
    fn default() -> Self {
        Self {
            classes: [0; CLASSES],
        }
    }
}

impl Latencies {
    fn note(&mut self, length: Millis) {
        let slot = &mut self.classes[class_of(length.0)];
        *slot = slot.saturating_add(1);
    }

    fn clear(&mut self) {
        self.classes.fill(0);
    }

    /// `None` where nothing was noted.
    fn quantiles(&self) -> Option<Quantiles> {
        let count: u64 = self.classes.iter().map(|one| u64::from(*one)).sum();
        (count > 0).then(|| Quantiles {
            count,
            p50: self.quantile(count.div_ceil(2)),
            p99: self.quantile((count * 99).div_ceil(100)),
        })
    }

    /// The middle of the class that the `rank`th is in, from 1.
    fn quantile(&self, rank: u64) -> Millis {
        let mut below = 0;
        for (class, count) in self.classes.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                return Millis(u64::midpoint(floor_of(class), floor_of(class + 1) - 1));
            }
        }
        Millis(0)
    }
}

fn class_of(millis: u64) -> usize {
    if millis < 8 {
        return millis as usize;
    }
    // The highest bit says which doubling, the two below it which quarter.
    let doubling = millis.ilog2();
    let quarter = (millis >> (doubling - 2)) & 3;
    let class = 8 + (doubling as usize - 3) * 4 + quarter as usize;
    class.min(CLASSES - 1)
}

/// The shortest length of a class.
const fn floor_of(class: usize) -> u64 {
    if class < 8 {
        return class as u64;
    }
    let (doubling, quarter) = ((class - 8) / 4 + 3, (class - 8) % 4);
    (4 + quarter as u64) << (doubling - 2)
}

/// Slots of one length, as many as there are places: each place is used again when its turn comes.
#[derive(Debug)]
struct Ring<T> {
    step: Millis,
    slots: Box<[T]>,
    /// The number of the slot that was used last: the boot clock divided by `step`.
    last: u64,
}

/// What a slot holds can be emptied.
trait Slot: Default + Clone {
    fn empty(&mut self);
    fn shown(&self) -> HistorySlot;
}

impl<T: Slot> Ring<T> {
    fn new(step: Millis, places: usize) -> Self {
        Self {
            step,
            slots: vec![T::default(); places].into(),
            last: 0,
        }
    }

    const fn number(&self, tick: Tick) -> u64 {
        tick.0 / (self.step.0 * NANOS_A_MILLI)
    }

    /// The slot of `tick`. Those that were passed over on the way to it are emptied.
    fn at(&mut self, tick: Tick) -> &mut T {
        let number = self.number(tick);
        let places = self.slots.len() as u64;
        if number > self.last {
            let passed = (number - self.last).min(places);
            for behind in 0..passed {
                self.slots[((number - behind) % places) as usize].empty();
            }
            self.last = number;
        }
        // The boot clock never goes back; a tick of before belongs to the last slot.
        &mut self.slots[(self.last % places) as usize]
    }

    /// All slots up to now, oldest first; those of which nothing is known are empty.
    fn view(&self, span: Span, now: Now) -> HistoryView {
        let number = self.number(now.tick).max(self.last);
        let places = self.slots.len() as u64;
        let slots = (0..places).rev().map(|behind| {
            let one = number.checked_sub(behind);
            let known = one.filter(|one| *one <= self.last && one + places > self.last);
            known.map_or_else(HistorySlot::default, |one| {
                self.slots[(one % places) as usize].shown()
            })
        });
        let begun = Tick(number * self.step.0 * NANOS_A_MILLI);
        let elapsed = now.tick.since(begun);
        let start = now.wall.0 - (elapsed.0 + (places - 1) * self.step.0) as i64;
        HistoryView {
            span,
            step: self.step,
            start: WallMillis(start),
            elapsed,
            slots: slots.collect(),
        }
    }

    fn sum(&self, now: Now, count: impl Fn(&T) -> u64) -> u64 {
        let number = self.number(now.tick).max(self.last);
        let places = self.slots.len() as u64;
        let oldest = (number + 1).saturating_sub(places);
        (oldest..=self.last)
            .map(|one| count(&self.slots[(one % places) as usize]))
            .sum()
    }
}

/// What happened in a slot of time.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    submitted: u32,
    completed: u32,
    failed: u32,
    died: u32,
}

impl Counts {
    const fn note(&mut self, happened: Happened) {
        let count = match happened {
            Happened::Submitted => &mut self.submitted,
            Happened::Completed => &mut self.completed,
            Happened::Failed => &mut self.failed,
            Happened::Died => &mut self.died,
        };
        *count = count.saturating_add(1);
    }
}

impl Slot for Counts {
    fn empty(&mut self) {
        *self = Self::default();
    }

    fn shown(&self) -> HistorySlot {
        HistorySlot {
            submitted: self.submitted.into(),
            completed: self.completed.into(),
            failed: self.failed.into(),
            died: self.died.into(),
            wait: None,
            run: None,
        }
    }
}

/// The same, with latencies.
#[derive(Debug, Clone, Default)]
struct Full {
    counts: Counts,
    wait: Latencies,
    run: Latencies,
}

impl Slot for Full {
    fn empty(&mut self) {
        self.counts.empty();
        self.wait.clear();
        self.run.clear();
    }

    fn shown(&self) -> HistorySlot {
        HistorySlot {
            wait: self.wait.quantiles(),
            run: self.run.quantiles(),
            ..self.counts.shown()
        }
    }
}

/// The last minute, hour and day of all queues together.
#[derive(Debug)]
pub(super) struct History {
    rings: [Ring<Full>; 3],
}

impl Default for History {
    fn default() -> Self {
        Self {
            rings: [Span::Minute, Span::Hour, Span::Day].map(|span| {
                let (step, places) = span.steps();
                Ring::new(step, places)
            }),
        }
    }
}

impl History {
    pub(super) fn note(&mut self, tick: Tick, happened: Happened) {
        for ring in &mut self.rings {
            ring.at(tick).counts.note(happened);
        }
    }

    /// A task was handed out that had been due for `length`.
    pub(super) fn waited(&mut self, tick: Tick, length: Millis) {
        for ring in &mut self.rings {
            ring.at(tick).wait.note(length);
        }
    }

    /// A task was completed that had been held for `length`.
    pub(super) fn ran(&mut self, tick: Tick, length: Millis) {
        for ring in &mut self.rings {
            ring.at(tick).run.note(length);
        }
    }

    pub(super) fn view(&self, span: Span, now: Now) -> HistoryView {
        let ring = match span {
            Span::Minute => &self.rings[0],
            Span::Hour => &self.rings[1],
            Span::Day => &self.rings[2],
        };
        ring.view(span, now)
    }

    /// How many tasks have died in the last hour.
    pub(super) fn died_lately(&self, now: Now) -> u64 {
        self.rings[1].sum(now, |slot| slot.counts.died.into())
    }
}

/// The last hour of one queue.
#[derive(Debug)]
pub(super) struct Minutes(Ring<Counts>);

impl Default for Minutes {
    fn default() -> Self {
        let (step, places) = Span::Hour.steps();
        Self(Ring::new(step, places))
    }
}

impl Minutes {
    pub(super) fn note(&mut self, tick: Tick, happened: Happened) {
        self.0.at(tick).note(happened);
    }

    pub(super) fn view(&self, now: Now) -> HistoryView {
        self.0.view(Span::Hour, now)
    }

    /// How many tasks have died in the last hour.
    pub(super) fn died_lately(&self, now: Now) -> u64 {
        self.0.sum(now, |slot| slot.died.into())
    }
}

/// A length of time by the wall clock, which may have been set in between: never negative.
pub(super) fn between(from: WallMillis, to: WallMillis) -> Millis {
    Millis(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_800_000_000_000;

    fn at(secs: u64) -> Now {
        Now {
            wall: WallMillis(WALL + secs as i64 * 1000),
            tick: Tick(secs * 1_000_000_000),
        }
    }

    #[test]
    fn each_span_shows_what_happened_where_it_happened() {
        let mut history = History::default();
        history.note(at(1000).tick, Happened::Submitted);
        history.note(at(1000).tick, Happened::Submitted);
        history.note(at(1003).tick, Happened::Completed);
        let minute = history.view(Span::Minute, at(1003));
        assert_eq!((minute.slots.len(), minute.step), (60, Millis(1000)));
        assert_eq!(minute.slots[56].submitted, 2);
        assert_eq!(minute.slots[59].completed, 1);
        assert_eq!(minute.start, WallMillis(WALL + (1003 - 59) * 1000));
        let hour = history.view(Span::Hour, at(1003));
        assert_eq!((hour.slots[59].submitted, hour.slots[59].completed), (2, 1));
        // 1003 seconds after the boot are 43 seconds into a minute.
        assert_eq!(hour.elapsed, Millis(43_000));
        assert_eq!(history.view(Span::Day, at(1003)).slots.len(), 96);
        assert_eq!(history.view(Span::Day, at(1003)).slots[95].submitted, 2);
    }

    #[test]
    fn what_is_too_old_is_not_shown_whether_or_not_anything_has_happened_since() {
        let mut history = History::default();
        history.note(at(1000).tick, Happened::Failed);
        let failed = |history: &History, span, secs| -> u64 {
            let view = history.view(span, at(secs));
            view.slots.iter().map(|slot| slot.failed).sum()
        };
        assert_eq!(failed(&history, Span::Minute, 1059), 1);
        assert_eq!(failed(&history, Span::Minute, 1060), 0);
        assert_eq!(failed(&history, Span::Hour, 1060), 1);
        history.note(at(1000 + 86_400).tick, Happened::Failed);
        assert_eq!(failed(&history, Span::Minute, 1000 + 86_400), 1);
        assert_eq!(failed(&history, Span::Day, 1000 + 86_400), 1);
    }

    #[test]
    fn a_gap_empties_the_slots_that_it_passes_over() {
        let mut minutes = Minutes::default();
        for minute in 0..60 {
            minutes.note(at(minute * 60).tick, Happened::Died);
        }
        assert_eq!(minutes.died_lately(at(59 * 60)), 60);
        minutes.note(at(70 * 60).tick, Happened::Died);
        let view = minutes.view(at(70 * 60));
        let counts: Vec<u64> = view.slots.iter().map(|slot| slot.died).collect();
        assert_eq!(counts[..49], [1; 49]);
        assert_eq!(counts[49..59], [0; 10]);
        assert_eq!(counts[59], 1);
        assert_eq!(minutes.died_lately(at(70 * 60)), 50);
        assert_eq!(minutes.died_lately(at(1000 * 60)), 0);
    }

    #[test]
    fn a_machine_that_has_just_booted_has_an_empty_past() {
        let mut history = History::default();
        history.note(at(2).tick, Happened::Submitted);
        let view = history.view(Span::Minute, at(3));
        assert_eq!(view.slots.len(), 60);
        assert_eq!(view.slots[58].submitted, 1);
        let all: u64 = view.slots.iter().map(|slot| slot.submitted).sum();
        assert_eq!(all, 1);
    }

    #[test]
    fn classes_follow_one_another_without_a_gap() {
        for class in 0..CLASSES - 1 {
            let (floor, next) = (floor_of(class), floor_of(class + 1));
            assert!(floor < next, "{class}");
            assert_eq!(class_of(floor), class);
            assert_eq!(class_of(next - 1), class);
        }
        assert_eq!(class_of(u64::MAX), CLASSES - 1);
        assert!(floor_of(CLASSES - 1) > 10 * 86_400_000);
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let mut history = History::default();
        for length in 1..=1000 {
            history.waited(at(5).tick, Millis(length));
            history.ran(at(5).tick, Millis(3));
        }
        let view = history.view(Span::Minute, at(5));
        let wait = view.slots[59].wait.unwrap();
        assert_eq!(wait.count, 1000);
        assert!(wait.p50.0.abs_diff(500) <= 500 / 8, "{wait:?}");
        assert!(wait.p99.0.abs_diff(990) <= 990 / 8, "{wait:?}");
        let run = view.slots[59].run.unwrap();
        assert_eq!((run.p50, run.p99), (Millis(3), Millis(3)));
        assert_eq!(view.slots[58].wait, None);
    }

    #[test]
    fn the_sizes_are_those_that_are_told() {
        let history = size_of::<Full>() * (60 + 60 + 96);
        assert!(history <= 250 << 10, "{history}");
        assert_eq!(size_of::<Counts>() * 60, 960);
    }
}
