//! [`EventLog`]: the last events, for listeners at their own pace.
//!
//! One ring that a listener reads with a cursor of its own, so that what is kept for those who come back is also the buffer of
//! those who are slow. Whoever falls out of it is told so and dropped; nobody is waited for. While nobody listens and for
//! [`LINGER`] after, events are kept; then none is made any more until somebody listens again.
//!
//! This knows how long events are kept, not what they say.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::Event;
use crate::task::{Millis, Refusal, Tick};

/// The most events that are kept: a quarter of a second of the fastest stream that was measured.
pub const MOST_EVENTS: usize = 16_384;
/// The most bytes that events kept may take; the newest is kept whatever its size.
pub const MOST_BYTES: usize = 8 << 20;
/// How long after the last listener has gone events are still kept, so that it can come back and miss nothing.
pub const LINGER: Millis = Millis::from_secs(60);
/// How many events a listener takes at once.
const AT_ONCE: usize = 64;

/// Names one event, or the place after it, for good: a daemon's life, and the event's number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Drawn at random when the daemon starts.
    pub life: u32,
    /// The first event is 1; 0 is the place before it.
    pub number: u64,
}

impl EventId {
    /// Reads what [`fmt::Display`] writes: `5f3a9c01-42`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        text.split_once('-')
            .filter(|(life, number)| {
                let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                life.len() == 8
                    && life.bytes().all(is_hex)
                    && number.len() <= 19
                    && number.bytes().all(|byte| byte.is_ascii_digit())
            })
            .and_then(|(life, number)| {
                Some(Self {
                    life: u32::from_str_radix(life, 16).ok()?,
                    number: number.parse().ok()?,
                })
            })
            .ok_or_else(|| {
                Refusal::invalid(
                    "last_event_id",
                    "not the id of an event: eight hexadecimal digits, -, and a number",
                )
            })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.life, self.number)
    }
}

/// Why a listener can't go on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The event was one of another life of the daemon.
    Restarted,
    /// What came after it is not kept any more.
    Forgotten,
}

/// What is known of listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listeners {
    /// How many there are.
    pub now: u64,
    /// How many were dropped since the start because they were too slow.
    pub dropped: u64,
}

/// The last events.
#[derive(Debug)]
pub struct EventLog {
    life: u32,
    kept: Mutex<Kept>,
    /// Whether events are to be made at all.
    wanted: AtomicBool,
    news: watch::Sender<()>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The number of the first that is kept, or of the next that comes.
    first: u64,
    /// When an event came that nobody listened to, if the last one was such.
    alone_since: Option<Tick>,
}

impl Kept {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

impl EventLog {
    /// An empty log of a life with this name.
    #[must_use]
    pub fn new(life: u32) -> Self {
        Self {
            life,
            kept: Mutex::new(Kept {
                events: VecDeque::new(),
                bytes: 0,
                first: 1,
                alone_since: None,
            }),
            wanted: AtomicBool::new(false),
            news: watch::Sender::new(()),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether somebody listens, or did lately.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Keeps an event. Listeners hear of it at the next [`EventLog::wake`].
    pub fn publish(&self, now: Tick, event: Arc<Event>) {
        let mut kept = self.kept();
        if self.news.receiver_count() > 0 {
            kept.alone_since = None;
        } else {
            let since = *kept.alone_since.get_or_insert(now);
            if now.0.saturating_sub(since.0) > LINGER.as_duration().as_nanos() as u64 {
                return self.forget(&mut kept);
            }
        }
        kept.bytes += event.size();
        kept.events.push_back(event);
        while kept.events.len() > 1 && (kept.events.len() > MOST_EVENTS || kept.bytes > MOST_BYTES)
        {
            let size = kept.events.pop_front().map_or(0, |event| event.size());
            kept.bytes -= size;
            kept.first += 1;
        }
    }

    /// Events come to nobody: they are kept no longer, and the gap gets a number of its own, so that whoever comes back hears
    /// of it.
    fn forget(&self, kept: &mut Kept) {
        kept.first = kept.next() + 1;
        kept.events = VecDeque::new();
        kept.bytes = 0;
        kept.alone_since = None;
        self.wanted.store(false, Ordering::Release);
    }

    /// Tells listeners that there is something new.
    pub fn wake(&self) {
        self.news.send_replace(());
    }

    /// Listens from now on, or from behind `after` on where that is possible.
    #[must_use]
    pub fn listen(self: &Arc<Self>, after: Option<EventId>) -> EventStream {
        let kept = self.kept();
        let news = self.news.subscribe();
        self.wanted.store(true, Ordering::Release);
        let beginning = match after {
            None => Ok(kept.next()),
            Some(after) if after.life != self.life => Err(Lost::Restarted),
            Some(after) => after
                .number
                .checked_add(1)
                .filter(|next| (kept.first..=kept.next()).contains(next))
                .ok_or(Lost::Forgotten),
        };
        EventStream {
            next: beginning.unwrap_or(kept.next()),
            lost: beginning.err(),
            log: Arc::clone(self),
            news,
            taken: VecDeque::new(),
            behind: false,
        }
    }

    /// How many listen, and how many were dropped.
    #[must_use]
    pub fn listeners(&self) -> Listeners {
        Listeners {
            now: self.news.receiver_count() as u64,
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic in here would leave at worst a number skipped.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener has fallen so far behind that what comes next for it is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// What happens, as one listener hears it.
#[derive(Debug)]
pub struct EventStream {
    log: Arc<EventLog>,
    news: watch::Receiver<()>,
    /// The number of the next event that is to be taken from the log.
    next: u64,
    lost: Option<Lost>,
    taken: VecDeque<Arc<Event>>,
    behind: bool,
}

impl EventStream {
    /// Why the stream does not begin behind the event that was asked for, if it doesn't.
    #[must_use]
    pub const fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// The place after the last event that [`EventStream::try_next`] gave.
    #[must_use]
    pub fn position(&self) -> EventId {
        EventId {
            life: self.log.life,
            number: self.next - 1 - self.taken.len() as u64,
        }
    }

    /// The next event, if there is one already. Its id is the stream's position from then on.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, TooSlow> {
        if let Some(event) = self.taken.pop_front() {
            return Ok(Some(event));
        }
        let kept = self.log.kept();
        let Some(from) = self.next.checked_sub(kept.first) else {
            drop(kept);
            self.fall_behind();
            return Err(TooSlow);
        };
        let from = (from as usize).min(kept.events.len());
        let to = kept.events.len().min(from + AT_ONCE);
        self.taken.extend(kept.events.range(from..to).cloned());
        self.next += (to - from) as u64;
        Ok(self.taken.pop_front())
    }

    /// Ready when there may be something new. May be dropped and asked again.
    pub async fn news(&mut self) {
        // The log holds the sender, and this holds the log: it never closes.
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn fall_behind(&mut self) {
        if !self.behind {
            self.behind = true;
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for EventStream {
    /// One that was dropped without being asked again, since its reader took nothing, counts like one that was told.
    fn drop(&mut self) {
        let first = self.log.kept().first;
        if self.next < first {
            self.fall_behind();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{EventKind, WallMillis};

    const SECOND: u64 = 1_000_000_000;

    fn event(error: &str) -> Arc<Event> {
        Arc::new(Event {
            at: WallMillis(0),
            kind: EventKind::Failed,
            id: None,
            queue: None,
            moved_from: None,
            state: None,
            worker: None,
            attempt: None,
            error: Some(error.into()),
            result: None,
        })
    }

    fn texts(stream: &mut EventStream) -> Vec<String> {
        std::iter::from_fn(|| stream.try_next().unwrap())
            .map(|event| event.error.as_deref().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        let id = EventId {
            life: 0x0f3a_9c01,
            number: 42,
        };
        assert_eq!(id.to_string(), "0f3a9c01-42");
        assert_eq!(EventId::parse("0f3a9c01-42").unwrap(), id);
        for text in [
            "",
            "42",
            "-",
            "0f3a9c01-",
            "0f3a9c01-+4",
            "f3a9c01-42",
            "+f3a9c01-4",
            "0f3a9c01-18446744073709551616",
            "0f3a9c01-4 ",
        ] {
            assert!(EventId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_comes_back_and_misses_nothing() {
        let log = Arc::new(EventLog::new(7));
        let mut first = log.listen(None);
        log.publish(Tick(0), event("a"));
        assert_eq!(texts(&mut first), ["a"]);
        let place = first.position();
        drop(first);
        log.publish(Tick(0), event("b"));
        log.publish(Tick(LINGER.as_duration().as_nanos() as u64), event("c"));
        let mut back = log.listen(Some(place));
        assert_eq!(back.lost(), None);
        assert_eq!(back.position(), place);
        assert_eq!(texts(&mut back), ["b", "c"]);
        assert_eq!(back.position().number, 3);
    }

    #[test]
    fn a_listener_of_another_life_or_of_too_long_ago_or_of_the_future_begins_anew() {
        let log = Arc::new(EventLog::new(7));
        let mut first = log.listen(None);
        log.publish(Tick(0), event("a"));
        assert_eq!(texts(&mut first), ["a"]);
        let place = first.position();
        let of = |life, number| log.listen(Some(EventId { life, number })).lost();
        assert_eq!(of(8, 1), Some(Lost::Restarted));
        assert_eq!(of(7, 2), Some(Lost::Forgotten));
        assert_eq!(of(7, u64::MAX), Some(Lost::Forgotten));
        assert_eq!(of(7, 0), None);
        drop(first);
        log.publish(Tick(0), event("b"));
        log.publish(Tick(61 * SECOND), event("nobody hears it"));
        assert!(!log.wanted());
        let mut back = log.listen(Some(place));
        assert_eq!(back.lost(), Some(Lost::Forgotten));
        assert_eq!(texts(&mut back), [""; 0]);
        // The place that it is told instead is a good one.
        assert_eq!(log.listen(Some(back.position())).lost(), None);
        log.publish(Tick(62 * SECOND), event("c"));
        assert_eq!(texts(&mut back), ["c"]);
    }

    #[test]
    fn whoever_falls_out_of_what_is_kept_is_told_and_counted_once() {
        let log = Arc::new(EventLog::new(7));
        let (mut slow, unasked) = (log.listen(None), log.listen(None));
        let mut quick = log.listen(None);
        for number in 0..=MOST_EVENTS {
            log.publish(Tick(0), event(&number.to_string()));
        }
        assert_eq!(slow.try_next(), Err(TooSlow));
        assert_eq!(slow.try_next(), Err(TooSlow));
        drop((slow, unasked));
        assert_eq!(quick.try_next(), Err(TooSlow));
        let listeners = log.listeners();
        assert_eq!((listeners.now, listeners.dropped), (1, 3));
    }

    #[test]
    fn large_events_are_kept_by_their_bytes_and_the_newest_always() {
        let log = Arc::new(EventLog::new(7));
        let mut stream = log.listen(None);
        log.publish(Tick(0), event("small"));
        log.publish(Tick(0), event(&"x".repeat(MOST_BYTES)));
        assert_eq!(stream.try_next(), Err(TooSlow));
        let place = EventId { life: 7, number: 1 };
        assert_eq!(texts(&mut log.listen(Some(place))).len(), 1);
    }

    #[tokio::test]
    async fn news_wake_those_who_wait() {
        let log = Arc::new(EventLog::new(7));
        let mut stream = log.listen(None);
        let publisher = Arc::clone(&log);
        let waiting = async {
            stream.news().await;
            texts(&mut stream)
        };
        let telling = async move {
            publisher.publish(Tick(0), event("a"));
            publisher.wake();
        };
        let (heard, ()) = tokio::join!(waiting, telling);
        assert_eq!(heard, ["a"]);
    }
}
