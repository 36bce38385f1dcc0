//! [`Flight`]: how many bytes of requests and answers are in memory, and how many may be.
//!
//! A client may send a large request slowly, or ask for a large answer and not read it: each such connection holds what was
//! sent or is to be read, and there may be thousands. So all of it is counted, and who comes when too much is held is told
//! to come again. What is light is not counted over HTTP/1: the number of connections bounds it. A connection of HTTP/2 has
//! many requests and answers at once; there each is counted, with its head.
//!
//! One count for TCP and another for the admin socket, so that a flood of the one leaves the other open.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Http,
    kept::{Keep, Kept},
    problem::{self, Problem},
    refused,
};
use crate::{
    backend::{self, Backend, Page, PageQuery, TaskView},
    task::{Refusal, TaskId},
};

/// Up to so many bytes are light.
pub(super) const LIGHT: u64 = 16 << 10;
/// Bytes that a task takes in an answer beside its payload.
const TASK_BYTES: u64 = 512;
/// How many answers about everything (all queues, all workers, all metrics) are made at once: what they hold shows only when
/// they are made.
pub(super) const WHOLE_VIEWS: usize = 4;
/// The same of pages of tasks, and of tasks alone with their payloads.
const PAGES: usize = 16;
/// How long a turn is at most.
const TURN: Duration = Duration::from_secs(1);
/// How long one waits for its turn among these. A scrape that comes later is of no use.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// What they are called where there are too many.
const VIEWS: &str = "views of everything";
/// How many of them one connection of HTTP/2 may have under way: over HTTP/1 it has one, and so each client comes to its turn.
pub(super) const WHOLE_VIEWS_BESIDE: usize = 2;

/// The answers about everything that one connection of HTTP/2 has under way.
#[derive(Debug, Clone)]
pub(super) struct ViewsBeside(Arc<Semaphore>);

impl Default for ViewsBeside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WHOLE_VIEWS_BESIDE)))
    }
}

impl ViewsBeside {
    /// Waits until it may begin one more, as long as the permit is kept.
    pub(super) async fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.0, VIEWS).await
    }
}

/// Waits for a turn among those who do the same.
async fn turn(turns: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(TURN_WAIT, Arc::clone(turns).acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        // It is never closed.
        Ok(Err(_)) | Err(_) => Err(busy(format!(
            "too many {what} are being made: this one had no turn within {} s",
            TURN_WAIT.as_secs()
        ))),
    }
}

/// Does `work`, and holds `turns` until that is done, also where whoever asked is gone: the engine makes its answer all the same, and all
/// that it makes in one go is there at once. One that takes longer than [`TURN`] waits for a disk: it holds nobody up. The turns are given
/// back with what was done, to be kept until that is counted.
pub(super) async fn to_its_end<T: Send + 'static, H: Send + 'static>(
    turns: H,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<(T, Option<H>), Problem> {
    let work = tokio::spawn(async move {
        let mut work = pin!(work);
        if let Ok(done) = timeout(TURN, &mut work).await {
            return (done, Some(turns));
        }
        drop(turns);
        (work.await, None)
    });
    match work.await {
        Ok(done) => Ok(done),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(ended) => Err(Problem::of_defect(&ended)),
    }
}

fn busy(detail: String) -> Problem {
    refused::count_by("requests");
    problem::BUSY.problem(detail)
}

/// What is held of requests and answers, and how much that may be.
#[derive(Debug)]
pub struct Flight {
    limit: AtomicU64,
    bytes: AtomicU64,
    /// Of light requests and answers where those count: they leave whoever else comes alone.
    light: AtomicU64,
    whole_views: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

impl Default for Flight {
    /// Without a limit.
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            bytes: AtomicU64::new(0),
            light: AtomicU64::new(0),
            whole_views: Arc::new(Semaphore::new(WHOLE_VIEWS)),
            pages: Arc::new(Semaphore::new(PAGES)),
        }
    }
}

impl Flight {
    /// The most bytes, from now on.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// Bytes that are held now; light ones only where those count.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed) + self.light.load(Relaxed)
    }

    /// Holds `bytes` more, or says that there are too many. What is light always may come, and who is alone.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Result<Share, Refusal> {
        let mut share = Share::none(self);
        share.grow_to(bytes)?;
        Ok(share)
    }

    /// Holds `bytes` more, which there are.
    fn add(self: &Arc<Self>, bytes: u64) -> Share {
        self.bytes.fetch_add(bytes, Relaxed);
        Share {
            flight: Arc::clone(self),
            bytes,
        }
    }

    fn add_light(self: &Arc<Self>, bytes: u64) -> LightShare {
        self.light.fetch_add(bytes, Relaxed);
        LightShare {
            flight: Arc::clone(self),
            bytes,
        }
    }

    /// Holds `bytes` of a request that comes beside others on its connection, or says that there are too many. All of these may
    /// take half of what there is: what is large finds room beside them.
    pub(super) fn take_beside(self: &Arc<Self>, bytes: u64) -> Result<LightShare, Refusal> {
        let limit = self.limit.load(Relaxed);
        self.take_light(bytes, limit / 2, limit)
            .ok_or_else(|| too_much(limit))
    }

    /// Holds `bytes` of the answer to one that was refused so: an eighth more may be held for these.
    pub(super) fn take_refused(self: &Arc<Self>, bytes: u64) -> Option<LightShare> {
        let limit = self.limit.load(Relaxed);
        let more = |part: u64| part.saturating_add(limit / 8);
        self.take_light(bytes, more(limit / 2), more(limit))
    }

    fn take_light(self: &Arc<Self>, bytes: u64, most: u64, in_all: u64) -> Option<LightShare> {
        let share = self.add_light(bytes);
        let fits = self.light.load(Relaxed) <= most && self.bytes() <= in_all;
        fits.then_some(share)
    }

    /// Waits until an answer about everything may be made, as long as the permit is kept; or says that too many wait.
    pub(super) async fn whole_view(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.whole_views, VIEWS).await
    }

    /// Counts the body of `response` until it is sent. It was not to be refused any more: it tells of something done.
    pub(super) fn count(self: &Arc<Self>, response: Response) -> Response {
        counted(response, LIGHT, |bytes| Ok(self.add(bytes)))
    }

    /// Counts also a light one: for those who may have many at once.
    pub(super) fn count_light(self: &Arc<Self>, response: Response) -> Response {
        counted(response, 0, |bytes| Ok(self.add_light(bytes)))
    }

    /// That there is room for more, for those whose light answers count; a view may have a quarter more.
    pub(super) fn admit(&self, is_view: bool) -> Result<(), Refusal> {
        let limit = self.limit.load(Relaxed);
        let more = if is_view { limit / 4 } else { 0 };
        if self.bytes() > limit.saturating_add(more) {
            return Err(too_much(limit));
        }
        Ok(())
    }

    /// The same, or a refusal in its place.
    pub(super) fn count_or_refuse(self: &Arc<Self>, response: Response) -> Response {
        counted(response, LIGHT, |bytes| self.take(bytes))
    }

    /// The same of what is looked at to see how the daemon is: a quarter more may be held for that, so that what fills the
    /// rest shows.
    pub(super) fn count_view_or_refuse(self: &Arc<Self>, response: Response) -> Response {
        let limit = self.limit.load(Relaxed);
        counted(response, LIGHT, |bytes| {
            let mut share = Share::none(self);
            share
                .grow_within(bytes, limit.saturating_add(limit / 4))
                .map_err(|_| too_much(limit))?;
            Ok(share)
        })
    }
}

/// What is told to who would have too much held.
const fn too_much(limit: u64) -> Refusal {
    Refusal::TooManyAtOnce {
        what: "bytes of requests and answers in flight",
        setting: "max_in_flight",
        limit,
    }
}

/// `response` with its body counted by what `hold` gives, if it is heavier than `light` and not counted yet; or why it can't
/// be held.
fn counted<S: Send + Sync + 'static>(
    response: Response,
    light: u64,
    hold: impl FnOnce(u64) -> Result<S, Refusal>,
) -> Response {
    let heavy = response.body().size_hint().exact();
    let heavy = heavy.filter(|bytes| *bytes > light);
    let Some(bytes) = heavy.filter(|_| response.extensions().get::<Counted>().is_none()) else {
        return response;
    };
    let share = match hold(bytes) {
        Ok(share) => Arc::new(share),
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    let mut response = response.map(|body| Body::new(Kept::new(body, share)));
    response.extensions_mut().insert(Counted);
    response
}

/// Marks an answer whose body is counted.
#[derive(Debug, Clone, Copy)]
struct Counted;

/// The same as [`Share`] of what is light.
#[derive(Debug)]
pub(super) struct LightShare {
    flight: Arc<Flight>,
    bytes: u64,
}

impl Drop for LightShare {
    fn drop(&mut self) {
        self.flight.light.fetch_sub(self.bytes, Relaxed);
    }
}

/// Bytes that are held as long as this is.
#[derive(Debug)]
pub(super) struct Share {
    flight: Arc<Flight>,
    bytes: u64,
}

impl Share {
    /// Of nothing yet.
    pub(super) fn none(flight: &Arc<Flight>) -> Self {
        Self {
            flight: Arc::clone(flight),
            bytes: 0,
        }
    }

    /// Holds `bytes` in all; fewer than now are a part given back.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), Refusal> {
        let limit = self.flight.limit.load(Relaxed);
        self.grow_within(bytes, limit)
    }

    fn grow_within(&mut self, bytes: u64, limit: u64) -> Result<(), Refusal> {
        let wanted = if bytes > LIGHT { bytes } else { 0 };
        if wanted <= self.bytes {
            self.flight.bytes.fetch_sub(self.bytes - wanted, Relaxed);
            self.bytes = wanted;
            return Ok(());
        }
        let more = wanted - self.bytes;
        let before = self.flight.bytes.fetch_add(more, Relaxed);
        let light = self.flight.light.load(Relaxed);
        if before > self.bytes && before.saturating_add(more).saturating_add(light) > limit {
            self.flight.bytes.fetch_sub(more, Relaxed);
            return Err(too_much(limit));
        }
        self.bytes = wanted;
        Ok(())
    }

    /// `bytes`, which hold this share as long as any part of them is there.
    pub(super) fn of(self, bytes: Vec<u8>) -> Bytes {
        if self.bytes == 0 {
            return bytes.into();
        }
        Bytes::from_owner(Carried::new(bytes, self))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.flight.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// Bytes, and what is to be kept as long as any part of them is there.
pub(super) struct Carried<T, S> {
    bytes: T,
    _share: S,
}

impl<T, S> Carried<T, S> {
    pub(super) const fn new(bytes: T, share: S) -> Self {
        Self {
            bytes,
            _share: share,
        }
    }
}

impl<T: AsRef<[u8]>, S> AsRef<[u8]> for Carried<T, S> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// What is counted is so until its last byte is sent.
impl<S: Send + Sync + 'static> Keep for Arc<S> {
    fn carry(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Carried::new(bytes, Self::clone(self)))
    }
}

/// What these tasks take in an answer, in bytes.
pub(super) fn weight<'a>(tasks: impl IntoIterator<Item = &'a TaskView>) -> u64 {
    let weight = |task: &TaskView| task.payload.len() as u64 + TASK_BYTES;
    tasks.into_iter().map(weight).sum()
}

impl<B: Backend> Http<B> {
    /// A page of tasks, and the share that lets it be written: to be kept until it is.
    pub(super) async fn page(&self, query: PageQuery) -> Result<(Page, Share), Problem> {
        let backend = Arc::clone(&self.backend);
        let asked = async move { backend.tasks(query).await };
        self.in_turn(asked, |page| weight(&page.tasks)).await
    }

    /// One task, and the same.
    pub(super) async fn one(&self, id: TaskId) -> Result<(TaskView, Share), Problem> {
        let backend = Arc::clone(&self.backend);
        let asked = async move { backend.task(id).await };
        self.in_turn(asked, |task| weight([task])).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        asked: impl Future<Output = backend::Answer<T>> + Send + 'static,
        weigh: fn(&T) -> u64,
    ) -> Result<(T, Share), Problem> {
        let flight = Arc::clone(&self.flight);
        let turn = turn(&flight.pages, "pages of tasks").await?;
        let made = to_its_end(turn, async move {
            let found = asked.await?;
            let share = flight.take(weigh(&found))?;
            Ok((found, share))
        });
        made.await?.0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn flight(limit: u64) -> Arc<Flight> {
        let flight = Arc::new(Flight::default());
        flight.set_limit(limit);
        flight
    }

    #[test]
    fn what_is_light_passes_and_who_is_alone_and_nobody_else_beyond_the_limit() {
        let flight = flight(3 * LIGHT);
        let first = flight.take(9 * LIGHT).unwrap();
        assert_eq!(flight.bytes(), 9 * LIGHT);
        let refused = flight.take(LIGHT + 1).unwrap_err();
        assert!(
            matches!(refused, Refusal::TooManyAtOnce { setting: "max_in_flight", limit, .. } if limit == 3 * LIGHT)
        );
        let light = flight.take(LIGHT).unwrap();
        assert_eq!(flight.bytes(), 9 * LIGHT, "who was refused left nothing");
        drop((first, light));
        assert_eq!(flight.bytes(), 0);
        let _two = (
            flight.take(LIGHT + 1).unwrap(),
            flight.take(LIGHT + 1).unwrap(),
        );
        assert!(flight.take(LIGHT + 1).is_err());
    }

    #[test]
    fn requests_beside_others_may_take_half_and_leave_the_rest_to_what_is_large() {
        let flight = flight(8 * LIGHT);
        let mut held = Vec::new();
        while let Ok(share) = flight.take_beside(LIGHT / 2) {
            held.push(share);
        }
        assert_eq!((held.len(), flight.bytes()), (8, 4 * LIGHT));
        let told = flight.take_refused(LIGHT);
        assert!(told.is_some() && flight.take_refused(1).is_none());
        drop(told);
        let large = flight.take(4 * LIGHT).unwrap();
        held.pop();
        assert!(flight.take_beside(LIGHT).is_err(), "more than half");
        assert!(flight.take_beside(LIGHT / 2).is_ok());
        drop((large, held));
        assert_eq!(flight.bytes(), 0);
    }

    #[test]
    fn a_share_grows_as_far_as_there_is_room_and_shrinks() {
        let flight = flight(4 * LIGHT);
        let other = flight.take(2 * LIGHT).unwrap();
        let mut share = Share::none(&flight);
        share.grow_to(LIGHT).unwrap();
        assert_eq!(flight.bytes(), 2 * LIGHT);
        share.grow_to(2 * LIGHT).unwrap();
        assert!(share.grow_to(2 * LIGHT + 1).is_err());
        assert_eq!(flight.bytes(), 4 * LIGHT);
        drop(other);
        share.grow_to(9 * LIGHT).unwrap();
        share.grow_to(1).unwrap();
        assert_eq!(flight.bytes(), 0);
    }

    #[tokio::test]
    async fn a_body_is_counted_until_its_last_byte_is_let_go_and_once() {
        let flight = flight(u64::MAX);
        let response = Response::new(Body::from(vec![7; 2 * LIGHT as usize]));
        let response = flight.count(flight.count(response));
        assert_eq!(flight.bytes(), 2 * LIGHT);
        let mut body = response.into_body();
        let bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        let rest = bytes.slice(5..6);
        drop(bytes);
        assert_eq!(flight.bytes(), 2 * LIGHT, "{rest:?} is still to be sent");
        drop(rest);
        assert_eq!(flight.bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_asked_for_keeps_its_turn_to_its_end_also_where_nobody_waits_for_it() {
        let turns = Arc::new(Semaphore::new(1));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let held = turn(&turns, "answers").await.unwrap();
        let mut asked = Box::pin(to_its_end(held, ended));
        assert!((&mut asked).now_or_never().is_none());
        drop(asked);
        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        drop(turn(&turns, "answers").await.unwrap());
        let held = turn(&turns, "answers").await.unwrap();
        let (done, held) = to_its_end(held, async { 5 }).await.unwrap();
        assert_eq!((done, turns.available_permits()), (5, 0));
        drop(held);
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn what_waits_for_a_disk_gives_its_turn_to_others() {
        let turns = Arc::new(Semaphore::new(1));
        let (end, ended) = tokio::sync::oneshot::channel();
        let held = turn(&turns, "answers").await.unwrap();
        let stuck = tokio::spawn(to_its_end(held, ended));
        drop(turn(&turns, "answers").await.unwrap());
        end.send(5).unwrap();
        let (done, held) = stuck.await.unwrap().unwrap();
        assert_eq!(done, Ok(5));
        assert!(held.is_none());
    }
}
