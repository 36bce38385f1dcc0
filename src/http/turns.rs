//! [`Turns`]: whose turn it is in each answer of a connection of HTTP/2, ours or the client's.
//!
//! Over HTTP/1 a client that reads nothing fills the socket, and a write that finds no room for long ends the connection
//! (`patience`). Over HTTP/2 each request has a window of its own: a client that opens none keeps its answer here, while
//! the socket has room and the connection looks alive. So each answer notes when the client last took a part of it.
//!
//! This module may not know: what is in an answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{flight::Carried, patience::InFlight};

/// Answers are handed over in pieces of at most so many bytes (the usual largest frame of HTTP/2), so that each that is taken
/// is a sign.
const PIECE: usize = 16 << 10;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    answers: Mutex<Vec<Weak<Answer>>>,
    begun: Notify,
}

/// One answer, as long as anything of it is there.
#[derive(Debug)]
struct Answer {
    turn: Mutex<Turn>,
    _in_flight: InFlight,
}

#[derive(Debug)]
struct Turn {
    /// Whether the client has asked for more than there is yet, or for all.
    ours: bool,
    /// Pieces that were handed over and are not sent.
    pieces: u32,
    /// When the client last took something.
    since: Instant,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// `body`, noted until its last byte is sent or given up.
    pub(super) fn take(&self, body: Body, in_flight: InFlight) -> Taken {
        let answer = Arc::new(Answer {
            turn: Mutex::new(Turn {
                ours: false,
                pieces: 0,
                since: Instant::now(),
            }),
            _in_flight: in_flight,
        });
        let mut answers = locked(&self.answers);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&answer));
        drop(answers);
        self.begun.notify_one();
        Taken {
            body,
            rest: Bytes::new(),
            answer,
        }
    }

    /// Ready when the client has taken nothing of an answer for `most`.
    pub(super) async fn stalled(&self, most: Duration) {
        loop {
            let answers = self.there();
            if answers.is_empty() {
                self.begun.notified().await;
                continue;
            }
            // Where all is waited for, it may be there right after.
            let since = oldest(&answers).unwrap_or_else(Instant::now);
            drop(answers);
            let end = since + most;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn there(&self) -> Vec<Arc<Answer>> {
        let answers = locked(&self.answers);
        answers.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Since when the client has let one of them wait.
fn oldest(answers: &[Arc<Answer>]) -> Option<Instant> {
    let since = answers
        .iter()
        .filter_map(|answer| locked(&answer.turn).waits_since());
    since.min()
}

impl Turn {
    fn waits_since(&self) -> Option<Instant> {
        (!self.ours || self.pieces > 0).then_some(self.since)
    }
}

impl Answer {
    fn note(&self, change: impl FnOnce(&mut Turn)) {
        let mut turn = locked(&self.turn);
        turn.since = Instant::now();
        change(&mut turn);
    }
}

/// See [`Turns::take`].
pub(super) struct Taken {
    body: Body,
    /// Of a frame that is handed over in pieces.
    rest: Bytes,
    answer: Arc<Answer>,
}

/// A piece that is not sent.
struct Piece(Arc<Answer>);

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.note(|turn| turn.pieces -= 1);
    }
}

impl Taken {
    fn piece(&mut self) -> Bytes {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE));
        self.answer.note(|turn| {
            turn.ours = false;
            turn.pieces += 1;
        });
        let piece = Piece(Arc::clone(&self.answer));
        Bytes::from_owner(Carried::new(bytes, piece))
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => {
                    self.answer.note(|turn| turn.ours = true);
                    return other;
                }
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut with_rest = SizeHint::new();
        with_rest.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper + rest);
        }
        with_rest
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.answer.note(|turn| turn.ours = true);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::patience::Activity;

    fn taken(turns: &Turns, body: Body) -> (Taken, Arc<Activity>) {
        let activity = Arc::new(Activity::default());
        (turns.take(body, activity.begin(None)), activity)
    }

    fn waits_since(turns: &Turns) -> Option<Instant> {
        oldest(&turns.there())
    }

    async fn next(body: &mut Taken) -> Bytes {
        let frame = body.frame().await.expect("a frame").expect("no error");
        frame.into_data().expect("data")
    }

    #[tokio::test]
    async fn an_answer_that_the_client_leaves_is_given_up_and_each_piece_is_a_sign() {
        let turns = Turns::default();
        let (mut body, activity) = taken(&turns, Body::from(vec![7; 2 * PIECE + 1]));
        assert_eq!(body.size_hint().exact(), Some(2 * PIECE as u64 + 1));
        let begun = waits_since(&turns).expect("the client's turn");
        let first = next(&mut body).await;
        assert_eq!(first.len(), PIECE);
        let handed = waits_since(&turns).expect("the client's turn");
        drop(first);
        let taken = waits_since(&turns).expect("the client's turn");
        assert!(begun < handed && handed < taken);
        let rest = [next(&mut body).await, next(&mut body).await];
        assert_eq!(rest[1].len(), 1);
        assert!(body.is_end_stream());
        drop(body);
        assert!(activity.is_busy(), "a part of it is still to be sent");
        turns.stalled(Duration::from_millis(1)).await;
        drop(rest);
        assert!(!activity.is_busy());
        assert_eq!(waits_since(&turns), None);
        let nothing = turns.stalled(Duration::ZERO).now_or_never();
        assert!(nothing.is_none(), "there is no answer");
    }

    #[tokio::test]
    async fn a_stream_that_has_nothing_to_tell_is_not_the_clients_fault() {
        let turns = Turns::default();
        let (tell, told) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let told = futures_util::stream::unfold(told, async |mut told| {
            let bytes = told.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(bytes), told))
        });
        let (mut body, _activity) = taken(&turns, Body::from_stream(told));
        assert!(body.frame().now_or_never().is_none());
        assert_eq!(waits_since(&turns), None);
        tell.send(Bytes::from_static(b"news")).expect("sent");
        drop(next(&mut body).await);
        assert!(body.frame().now_or_never().is_none());
        assert_eq!(waits_since(&turns), None);
        tell.send(Bytes::from_static(b"more")).expect("sent");
        let _kept = next(&mut body).await;
        assert!(body.frame().now_or_never().is_none());
        assert!(waits_since(&turns).is_some());
        turns.stalled(Duration::from_millis(1)).await;
    }
}
