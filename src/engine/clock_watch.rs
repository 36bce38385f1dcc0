//! [`ClockWatch`]: wakes the engine when the wall clock is set.

use std::{io, sync::Arc, thread::JoinHandle};

use super::{
    driver::{OpenError, thread},
    handle::Post,
    hands::post,
    io::Input,
    mailbox::Mailbox,
};

/// A thread that sleeps until the wall clock is set, and then wakes the engine: an exectime may be due earlier than the
/// engine meant to wake. Source: `timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`.
#[derive(Debug)]
pub(super) struct ClockWatch {
    stop: Arc<rustix::fd::OwnedFd>,
    thread: JoinHandle<()>,
}

impl ClockWatch {
    pub(super) fn start(mailbox: Arc<Mailbox>) -> Result<Self, OpenError> {
        use rustix::{
            event::{EventfdFlags, eventfd},
            time::{TimerfdClockId, TimerfdFlags, timerfd_create},
        };
        let odd = |errno: rustix::io::Errno| OpenError::System {
            what: "can't watch the clock",
            cause: errno.into(),
        };
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC).map_err(odd)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(odd)?);
        let stopped = Arc::clone(&stop);
        let thread = thread("clock", move || watch_clock(&timer, &stopped, &mailbox))?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        if let Err(errno) = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()) {
            tracing::error!(error = %io::Error::from(errno), "can't stop the clock's watch");
            return;
        }
        if self.thread.join().is_err() {
            tracing::error!("the clock's watch panicked");
        }
    }
}

fn watch_clock(timer: &rustix::fd::OwnedFd, stop: &rustix::fd::OwnedFd, mailbox: &Mailbox) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime},
    };
    let never = Timespec {
        tv_sec: i64::MAX / 4,
        tv_nsec: 0,
    };
    let spec = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: never,
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    loop {
        if let Err(errno) = timerfd_settime(timer, flags, &spec) {
            return tracing::error!(error = %io::Error::from(errno), "can't watch the clock");
        }
        let mut fds = [
            PollFd::new(timer, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => {
                return tracing::error!(error = %io::Error::from(errno), "can't watch the clock");
            }
            Ok(_) if !fds[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        // The read says ECANCELED, which is the news; setting the timer again arms it for the next time.
        let mut count = [0_u8; 8];
        if rustix::io::read(timer, &mut count).is_err() {
            tracing::info!("the wall clock was set");
        }
        post(mailbox, Post::Input(Input::Flush));
    }
}
