//! [`Mailbox`]: how the engine's thread is told things, and how it sleeps.
//!
//! Two lines, one of inputs and one of what callers ask, because the thread sometimes waits for the first alone. A channel of
//! a library would do but for two things: the thread can't be left asleep by one of two channels without a wake-up for each
//! message, and those at hand yield the processor several times before they sleep, which under load costs more than the
//! sleep. Here a sender takes a lock for as long as a push takes, and wakes the thread only when it sleeps and wants that line.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::handle::Post;

/// How many posts each line holds: beyond that callers are told to come again, and others wait.
const MOST: usize = 65_536;

/// What the thread sleeps for.
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

#[derive(Debug, Default)]
struct Lines {
    inputs: VecDeque<Post>,
    asks: VecDeque<Post>,
    /// What the thread sleeps for, while it sleeps.
    asleep: Option<For>,
    /// How many wait for room among the inputs.
    pushing: usize,
    closed: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    lines: Mutex<Lines>,
    /// Something came that the sleeping thread wants.
    came: Condvar,
    /// There is room among the inputs.
    room: Condvar,
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
        self.wake(lines, For::Inputs);
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
        self.wake(lines, For::Inputs);
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
        self.wake(lines, For::All);
        Ok(())
    }

    /// Takes at most `most` of each line, inputs first, into `taken`. Where nothing is there that is wanted, sleeps until
    /// something is, or for `left`.
    pub(super) fn take(
        &self,
        want: For,
        left: Option<Duration>,
        most: usize,
        taken: &mut VecDeque<Post>,
    ) {
        let mut lines = self.lines();
        // Asks that are there are always taken: it is only not slept for them.
        if lines.inputs.is_empty() && lines.asks.is_empty() {
            lines.asleep = Some(want);
            let idle = |lines: &mut Lines| {
                lines.inputs.is_empty() && (want == For::Inputs || lines.asks.is_empty())
            };
            lines = match left {
                None => self
                    .came
                    .wait_while(lines, idle)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let (lines, _) = self
                        .came
                        .wait_timeout_while(lines, left, idle)
                        .unwrap_or_else(PoisonError::into_inner);
                    lines
                }
            };
            lines.asleep = None;
        }
        let inputs = lines.inputs.len().min(most);
        taken.extend(lines.inputs.drain(..inputs));
        let asks = lines.asks.len().min(most);
        taken.extend(lines.asks.drain(..asks));
        if lines.pushing > 0 {
            self.room.notify_all();
        }
    }

    /// The thread ends: nothing is taken any more, and what was not is dropped.
    pub(super) fn close(&self) {
        let mut lines = self.lines();
        lines.closed = true;
        let left = (
            std::mem::take(&mut lines.inputs),
            std::mem::take(&mut lines.asks),
        );
        self.room.notify_all();
        drop(lines);
        // Those who wait for an answer hear of it by the drop, which may come back here.
        drop(left);
    }

    /// Wakes the thread, if it sleeps for a line like this, once.
    fn wake(&self, mut lines: MutexGuard<'_, Lines>, line: For) {
        let wanted = match lines.asleep {
            None => false,
            Some(For::All) => true,
            Some(For::Inputs) => line == For::Inputs,
        };
        if wanted {
            lines.asleep = None;
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

    #[test]
    fn who_sleeps_for_inputs_is_woken_by_one_and_takes_what_was_asked_meanwhile() {
        let mailbox = Mailbox::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let mut taken = VecDeque::new();
                mailbox.take(For::Inputs, None, 100, &mut taken);
                taken.len()
            });
            while mailbox.lines().asleep.is_none() {
                std::thread::yield_now();
            }
            mailbox.ask(gone(1)).unwrap();
            assert_eq!(mailbox.lines().asleep, Some(For::Inputs));
            mailbox.try_post(flush()).unwrap();
            assert_eq!(sleeper.join().unwrap(), 2);
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
            let mut taken = VecDeque::new();
            mailbox.take(For::All, None, 10, &mut taken);
            assert_eq!(taken.len(), 20);
            assert!(pusher.join().unwrap());
        });
    }

    #[test]
    fn time_ends_a_sleep_and_a_closed_box_takes_nothing() {
        let mailbox = Mailbox::default();
        let mut taken = VecDeque::new();
        mailbox.take(For::All, Some(Duration::from_millis(1)), 10, &mut taken);
        assert!(taken.is_empty());
        mailbox.close();
        assert!(!mailbox.post(flush()));
        assert!(matches!(mailbox.ask(gone(0)), Err(Refused::Closed)));
    }
}
