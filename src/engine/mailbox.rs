//! [`Mailbox`]: how the engine's threads are told things, and how the one that waits sleeps.
//!
//! Two lines, one of inputs and one of what callers ask, because sometimes the first alone is waited for. A channel of
//! a library would do but for two things: nobody can be left asleep by one of two channels without a wake-up for each
//! message, and those at hand yield the processor several times before they sleep, which under load costs more than the
//! sleep. Here a sender takes a lock for as long as a push takes, and wakes the thread only when it sleeps and wants that line.
//!
//! At most one thread sleeps here at a time. What it sleeps for, and until when, is said by whoever led the engine last
//! ([`Mailbox::expect`]), which may be another thread, and may be said while it sleeps.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{clock, handle::Post};
use crate::task::Tick;

/// How many posts each line holds: beyond that callers are told to come again, and others wait.
const MOST: usize = 65_536;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Inputs alone.
    Inputs,
    /// Whatever comes.
    All,
}

/// Why a post was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The line is full.
    Full(Box<Post>),
    /// The thread has ended.
    Closed,
}

#[derive(Debug)]
struct Lines {
    inputs: VecDeque<Post>,
    asks: VecDeque<Post>,
    want: For,
    /// When there is something to do even if nothing comes.
    until: Option<Tick>,
    /// A thread sleeps, and was not woken yet.
    asleep: bool,
    /// How many wait for room among the inputs.
    pushing: usize,
    closed: bool,
}

impl Lines {
    fn is_idle(&self) -> bool {
        self.inputs.is_empty() && (self.want == For::Inputs || self.asks.is_empty())
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Mailbox {
    lines: Mutex<Lines>,
    /// Something came that the sleeping thread wants.
    came: Condvar,
    /// There is room among the inputs.
    room: Condvar,
}

impl Default for Mailbox {
    fn default() -> Self {
        let lines = Lines {
            inputs: VecDeque::new(),
            asks: VecDeque::new(),
            want: For::All,
            until: None,
            asleep: false,
            pushing: 0,
            closed: false,
        };
        Self {
            lines: Mutex::new(lines),
            came: Condvar::new(),
            room: Condvar::new(),
        }
    }
}

impl Mailbox {
    /// Something that happened. Waits while the line is full; gives whether the thread is still there.
    pub(super) fn post(&self, post: Post) -> bool {
        let mut lines = self.lines();
        while lines.inputs.len() >= MOST && !lines.closed {
            lines.pushing += 1;
            lines = self
                .room
                .wait(lines)
                .unwrap_or_else(PoisonError::into_inner);
            lines.pushing -= 1;
        }
        if lines.closed {
            return false;
        }
        lines.inputs.push_back(post);
        self.wake(lines);
        true
    }

    /// Like [`Mailbox::post`], but never waits.
    pub(super) fn try_post(&self, post: Post) -> Result<(), Refused> {
        let mut lines = self.lines();
        if lines.closed {
            return Err(Refused::Closed);
        }
        if lines.inputs.len() >= MOST {
            return Err(Refused::Full(Box::new(post)));
        }
        lines.inputs.push_back(post);
        self.wake(lines);
        Ok(())
    }

    /// What a caller asks, or that he has gone. Never waits.
    pub(super) fn ask(&self, post: Post) -> Result<(), Refused> {
        let mut lines = self.lines();
        if lines.closed {
            return Err(Refused::Closed);
        }
        if lines.asks.len() >= MOST {
            return Err(Refused::Full(Box::new(post)));
        }
        lines.asks.push_back(post);
        self.wake(lines);
        Ok(())
    }

    /// Sleeps until something is there that is [expected](Self::expect), or until the time for it. Gives whether more will
    /// come: not when it is closed.
    pub(super) fn wait(&self) -> bool {
        let mut lines = self.lines();
        while lines.is_idle() && !lines.closed {
            let left = lines
                .until
                .map(|until| until.0.saturating_sub(clock::now().tick.0));
            if left == Some(0) {
                break;
            }
            lines.asleep = true;
            lines = match left.map(Duration::from_nanos) {
                None => self
                    .came
                    .wait(lines)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.came.wait_timeout(lines, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            lines.asleep = false;
        }
        !lines.closed
    }

    /// Says what to wait for from now on, and until when.
    pub(super) fn expect(&self, want: For, until: Option<Tick>) {
        let mut lines = self.lines();
        let sooner = match (until, lines.until) {
            (Some(until), Some(before)) => until < before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        lines.want = want;
        lines.until = until;
        // One that sleeps longer than it should looks again; one that wakes too early does so by itself.
        if lines.asleep && sooner {
            lines.asleep = false;
            drop(lines);
            self.came.notify_one();
        } else {
            self.wake(lines);
        }
    }

    /// Takes at most `most` of each line, inputs first, into `taken`; asks also where only inputs are waited for.
    pub(super) fn take(&self, most: usize, taken: &mut VecDeque<Post>) {
        let mut lines = self.lines();
        let inputs = lines.inputs.len().min(most);
        taken.extend(lines.inputs.drain(..inputs));
        let asks = lines.asks.len().min(most);
        taken.extend(lines.asks.drain(..asks));
        if lines.pushing > 0 {
            self.room.notify_all();
        }
    }

    /// The engine ends: nothing is taken any more, and what was not is dropped.
    pub(super) fn close(&self) {
        let mut lines = self.lines();
        lines.closed = true;
        let left = (
            std::mem::take(&mut lines.inputs),
            std::mem::take(&mut lines.asks),
        );
        self.room.notify_all();
        self.came.notify_all();
        drop(lines);
        // Those who wait for an answer hear of it by the drop, which may come back here.
        drop(left);
    }

    /// Wakes the thread, if it sleeps and there is what is waited for, once.
    fn wake(&self, mut lines: MutexGuard<'_, Lines>) {
        if lines.asleep && !lines.is_idle() {
            lines.asleep = false;
            drop(lines);
            self.came.notify_one();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Input, Ticket};

    fn flush() -> Post {
        Post::Input(Input::Flush)
    }

    fn gone(number: u64) -> Post {
        Post::Input(Input::Withdrawn(Ticket(number)))
    }

    fn wait_until_asleep(mailbox: &Mailbox) {
        while !mailbox.lines().asleep {
            std::thread::yield_now();
        }
    }

    fn count(mailbox: &Mailbox, most: usize) -> usize {
        let mut taken = VecDeque::new();
        mailbox.take(most, &mut taken);
        taken.len()
    }

    #[test]
    fn who_waits_for_inputs_is_woken_by_one_and_takes_what_was_asked_meanwhile() {
        let mailbox = Mailbox::default();
        mailbox.expect(For::Inputs, None);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                assert!(mailbox.wait());
                count(&mailbox, 100)
            });
            wait_until_asleep(&mailbox);
            mailbox.ask(gone(1)).unwrap();
            assert!(mailbox.lines().asleep, "what is asked wakes nobody");
            mailbox.try_post(flush()).unwrap();
            assert_eq!(sleeper.join().unwrap(), 2);
        });
    }

    #[test]
    fn who_waits_is_woken_when_another_expects_what_is_there_already() {
        let mailbox = Mailbox::default();
        mailbox.expect(For::Inputs, None);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| mailbox.wait());
            wait_until_asleep(&mailbox);
            mailbox.ask(gone(1)).unwrap();
            mailbox.expect(For::All, None);
            assert!(sleeper.join().unwrap());
        });
    }

    #[test]
    fn who_waits_for_long_is_woken_when_the_time_comes_forward() {
        let mailbox = Mailbox::default();
        mailbox.expect(For::All, None);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| mailbox.wait());
            wait_until_asleep(&mailbox);
            mailbox.expect(For::All, Some(clock::now().tick));
            assert!(sleeper.join().unwrap());
        });
    }

    #[test]
    fn a_full_line_refuses_callers_and_holds_others_until_there_is_room() {
        let mailbox = Mailbox::default();
        for number in 0..MOST as u64 {
            mailbox.ask(gone(number)).unwrap();
            mailbox.try_post(flush()).unwrap();
        }
        assert!(matches!(mailbox.ask(gone(0)), Err(Refused::Full(_))));
        assert!(matches!(mailbox.try_post(flush()), Err(Refused::Full(_))));
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| mailbox.post(flush()));
            while mailbox.lines().pushing == 0 {
                std::thread::yield_now();
            }
            assert_eq!(count(&mailbox, 10), 20);
            assert!(pusher.join().unwrap());
        });
    }

    #[test]
    fn a_closed_box_takes_nothing_and_wakes_who_waits() {
        let mailbox = Mailbox::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| mailbox.wait());
            wait_until_asleep(&mailbox);
            mailbox.close();
            assert!(!sleeper.join().unwrap());
        });
        assert!(!mailbox.post(flush()));
        assert!(matches!(mailbox.ask(flush()), Err(Refused::Closed)));
    }
}
