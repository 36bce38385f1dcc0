//! A line of orders to one of the engine's threads.
//!
//! What a channel of a library does, but for one thing: those yield the processor a few times before they sleep. On Linux a
//! thread that yields stands behind every other that wants to run, for the length of a slice; for the thread that writes the
//! journal, on cores that are busy with requests, that was some 5 ms in which no group was written. This one sleeps at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Debug)]
struct Inside<T> {
    orders: VecDeque<T>,
    givers: usize,
    taker: bool,
}

#[derive(Debug)]
struct Shared<T> {
    inside: Mutex<Inside<T>>,
    came: Condvar,
}

impl<T> Shared<T> {
    fn inside(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that gives orders. Never waits: what limits orders is the engine, which knows how many are out.
#[derive(Debug)]
pub(super) struct Giver<T>(Arc<Shared<T>>);

/// The end that takes them.
#[derive(Debug)]
pub(super) struct Taker<T>(Arc<Shared<T>>);

/// Why there is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoOrder {
    /// None came in the time.
    Yet,
    /// None will come: all givers are gone.
    Ever,
}

/// A line, empty.
pub(super) fn line<T>() -> (Giver<T>, Taker<T>) {
    let shared = Arc::new(Shared {
        inside: Mutex::new(Inside {
            orders: VecDeque::new(),
            givers: 1,
            taker: true,
        }),
        came: Condvar::new(),
    });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

impl<T> Giver<T> {
    /// Gives an order. It comes back when nobody takes any more.
    pub(super) fn give(&self, order: T) -> Result<(), T> {
        let mut inside = self.0.inside();
        if !inside.taker {
            return Err(order);
        }
        inside.orders.push_back(order);
        drop(inside);
        self.0.came.notify_one();
        Ok(())
    }
}

impl<T> Clone for Giver<T> {
    fn clone(&self) -> Self {
        self.0.inside().givers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut inside = self.0.inside();
        inside.givers -= 1;
        drop(inside);
        self.0.came.notify_one();
    }
}

impl<T> Taker<T> {
    /// The next order, waited for as long as `patience`, if it is given.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Result<T, NoOrder> {
        let idle = |inside: &mut Inside<T>| inside.orders.is_empty() && inside.givers > 0;
        let inside = self.0.inside();
        let mut inside = match patience {
            None => self.0.came.wait_while(inside, idle),
            Some(patience) => {
                let waited = self.0.came.wait_timeout_while(inside, patience, idle);
                waited
                    .map(|(inside, _)| inside)
                    .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0))
            }
        }
        .unwrap_or_else(PoisonError::into_inner);
        match inside.orders.pop_front() {
            Some(order) => Ok(order),
            None if inside.givers == 0 => Err(NoOrder::Ever),
            None => Err(NoOrder::Yet),
        }
    }
}

/// All orders, until no more can come.
impl<T> Iterator for Taker<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.wait(None).ok()
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut inside = self.0.inside();
        inside.taker = false;
        let left = std::mem::take(&mut inside.orders);
        drop(inside);
        // An order may hold a giver of this very line.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_in_their_order_and_end_with_the_last_giver() {
        let (giver, taker) = line();
        let second = giver.clone();
        assert_eq!(giver.give(1), Ok(()));
        assert_eq!(second.give(2), Ok(()));
        drop(giver);
        assert_eq!(taker.wait(Some(Duration::ZERO)), Ok(1));
        assert_eq!(taker.wait(None), Ok(2));
        assert_eq!(taker.wait(Some(Duration::ZERO)), Err(NoOrder::Yet));
        drop(second);
        assert_eq!(taker.wait(None), Err(NoOrder::Ever));
    }

    #[test]
    fn a_sleeping_taker_is_woken_by_an_order_and_by_the_end() {
        let (giver, taker) = line();
        std::thread::scope(|scope| {
            let sum = scope.spawn(move || taker.sum::<u32>());
            for order in 1..=100 {
                assert_eq!(giver.give(order), Ok(()));
            }
            drop(giver);
            assert_eq!(sum.join().ok(), Some(5050));
        });
    }

    #[test]
    fn what_nobody_takes_comes_back() {
        let (giver, taker) = line();
        drop(taker);
        assert_eq!(giver.give(7), Err(7));
    }
}
