//! Reading a request's body: its type, its size, its pace, its text.
//!
//! Knows limits, not what a body means.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{HeaderMap, header},
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Http,
    audit::Asked,
    entry::Entry,
    flight::{LIGHT, Share},
    problem::{self, Problem},
    refused,
};
use crate::task::{Object, from_json};

/// How long what is too large is still read and thrown away, so that the client gets to read the answer.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The most that is set aside for a body that is announced, before more of it than that has come.
const AT_FIRST: usize = 64 << 10;

/// What a body is, by its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Lines,
    /// `application/x-www-form-urlencoded`.
    Form,
}

impl MediaType {
    const ALL: [Self; 3] = [Self::Json, Self::Lines, Self::Form];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Form => "application/x-www-form-urlencoded",
        }
    }

    /// The type that `headers` name, among `wanted`; parameters like `charset` are not looked at.
    pub(crate) fn of(headers: &HeaderMap, wanted: &[Self]) -> Result<Self, Problem> {
        let packed = headers.get_all(header::CONTENT_ENCODING).iter();
        let mut packed = packed.map(|value| value.to_str().unwrap_or("no text"));
        if let Some(coding) = packed.find(|one| !one.trim().eq_ignore_ascii_case("identity")) {
            return Err(problem::UNSUPPORTED_MEDIA_TYPE.problem(format!(
                "Content-Encoding is {coding}; a body comes as it is here"
            )));
        }
        let given = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        Self::ALL
            .into_iter()
            .find(|one| wanted.contains(one) && essence.eq_ignore_ascii_case(one.as_str()))
            .ok_or_else(|| {
                let wanted: Vec<_> = wanted.iter().map(|one| one.as_str()).collect();
                let given = if given.is_empty() { "missing" } else { given };
                problem::UNSUPPORTED_MEDIA_TYPE.problem(format!(
                    "Content-Type is {given}; {} is understood here",
                    wanted.join(" or ")
                ))
            })
    }
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_piece(body: &mut Body, idle: Duration) -> Result<Option<Bytes>, Problem> {
    match timeout(idle, piece(body)).await {
        Ok(piece) => piece,
        Err(_) => Err(late(&format!(
            "no byte of the body came for {} s",
            idle.as_secs_f64()
        ))),
    }
}

fn late(text: &str) -> Problem {
    refused::count_by("body_timeout");
    problem::REQUEST_TIMEOUT.problem(text)
}

async fn piece(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(
                    problem::UNREADABLE_BODY.problem(format!("the body broke off: {error}"))
                );
            }
            Some(Ok(frame)) => {
                // Trailers say nothing to us.
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// How fast a body has to come: each [`LIGHT`] bytes of it, and the rest at its end, within the same time. One that is small has
/// that time in all, however it trickles; one that is large and comes over a slow line is not cut.
struct Pace {
    most: Duration,
    until: Instant,
    /// Bytes since `until` was set.
    came: u64,
}

impl Pace {
    fn begin(most: Duration) -> Self {
        Self {
            most,
            until: Instant::now() + most,
            came: 0,
        }
    }

    async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, Problem> {
        let Ok(piece) = timeout_at(self.until, piece(body)).await else {
            return Err(late(&format!(
                "the body, or the next {LIGHT} bytes of it, did not come within {} s",
                self.most.as_secs_f64()
            )));
        };
        if let Ok(Some(bytes)) = &piece {
            self.came += bytes.len() as u64;
        }
        if self.came >= LIGHT {
            *self = Self::begin(self.most);
        }
        piece
    }
}

/// The whole body of a request.
pub(crate) async fn read<B>(request: Request, http: &Http<B>) -> Result<Bytes, Problem> {
    read_most(request, http, http.limits.max_body).await
}

/// The same, of at most `limit` bytes.
pub(crate) async fn read_most<B>(
    request: Request,
    http: &Http<B>,
    limit: usize,
) -> Result<Bytes, Problem> {
    let asked = request.extensions().get::<Asked>().cloned();
    let bytes = read_whole(request, http, limit).await?;
    if let Some(asked) = asked {
        asked.note(&bytes);
    }
    Ok(bytes)
}

async fn read_whole<B>(request: Request, http: &Http<B>, limit: usize) -> Result<Bytes, Problem> {
    let idle = http.limits.body_timeout.as_duration();
    let (head, mut body) = request.into_parts();
    // A client that waits to be told to go on has sent nothing that would have to be read off the wire.
    let waits = head.headers.contains_key(header::EXPECT);
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        if !waits {
            discard(&mut body, limit).await;
        }
        return Err(too_large(limit));
    }
    let first = match piece(&mut body).now_or_never() {
        Some(Ok(Some(first))) if first.len() <= limit && body.is_end_stream() => return Ok(first),
        first => first,
    };
    let mut pace = Pace::begin(idle);
    let first = match first {
        Some(first) => first?,
        None => pace.next(&mut body).await?,
    };
    let bytes = read_on(first, body, pace, http, limit).await?;
    // Who sends slowly may have lost meanwhile what let him in.
    if let Some(entry) = Entry::of_head(http, &head) {
        entry.check()?;
    }
    Ok(bytes)
}

/// What is still to come, after its first piece.
async fn read_on<B>(
    first: Option<Bytes>,
    mut body: Body,
    mut pace: Pace,
    http: &Http<B>,
    limit: usize,
) -> Result<Bytes, Problem> {
    let Some(first) = first else {
        return Ok(Bytes::new());
    };
    if first.len() <= limit && body.is_end_stream() {
        return Ok(first);
    }
    let mut share = Share::none(&http.flight);
    let left = body.size_hint().exact();
    let announced = left.and_then(|left| usize::try_from(left).ok()?.checked_add(first.len()));
    let mut whole = Vec::new();
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        let needed = whole.len() + bytes.len();
        if needed > limit {
            discard(&mut body, limit).await;
            return Err(too_large(limit));
        }
        if needed > whole.capacity() {
            let room = room_for(needed, whole.capacity(), announced, limit);
            if let Err(refusal) = share.grow_to(room as u64) {
                drop((whole, share));
                discard(&mut body, limit).await;
                return Err(refusal.into());
            }
            whole.reserve_exact(room - whole.len());
        }
        whole.extend_from_slice(&bytes);
        piece = pace.next(&mut body).await?;
    }
    Ok(share.of(whole))
}

/// How much to set aside for a body of which `needed` bytes have come, in place of `before`: twice as much each time, so that it is
/// copied seldom. What is announced may never come: beyond [`AT_FIRST`] it costs nothing until it does.
fn room_for(needed: usize, before: usize, announced: Option<usize>, limit: usize) -> usize {
    let room = match (before, announced) {
        (0, Some(announced)) => announced.min(AT_FIRST),
        (0, None) => needed,
        (before, announced) => before
            .saturating_mul(2)
            .min(announced.unwrap_or(limit))
            .min(limit),
    };
    room.max(needed)
}

fn too_large(limit: usize) -> Problem {
    refused::count_by("max_body");
    problem::TOO_LARGE.problem(format!(
        "the body is larger than the limit of {limit} bytes (max_body)"
    ))
}

/// Reads on for a moment: a connection closed with unread input is reset, and the answer lost with it.
pub(crate) async fn discard(body: &mut Body, most: usize) {
    let reading = async {
        let mut left = most;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // At the end of the time the rest is left to the connection, which closes.
    if timeout(DISCARD_TIME, reading).await.is_err() {
        tracing::debug!("the rest of a body that is too large was not read");
    }
}

/// The text of a body.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(bytes).map_err(|error| {
        problem::MALFORMED_TEXT.problem(format!(
            "the body is not UTF-8 from byte {} on",
            error.valid_up_to()
        ))
    })
}

/// A body that is one JSON object.
pub(crate) async fn json<T: for<'a> Deserialize<'a>, B>(
    request: Request,
    http: &Http<B>,
) -> Result<T, Problem> {
    MediaType::of(request.headers(), &[MediaType::Json])?;
    let bytes = read(request, http).await?;
    Ok(from_json::<Object<T>>(text(&bytes)?)?.0)
}

/// A body that is one JSON object, or null, or empty.
pub(crate) async fn json_or_default<T: for<'a> Deserialize<'a> + Default, B>(
    request: Request,
    http: &Http<B>,
) -> Result<T, Problem> {
    if request.body().is_end_stream() {
        return Ok(T::default());
    }
    MediaType::of(request.headers(), &[MediaType::Json])?;
    let bytes = read(request, http).await?;
    let object = from_json::<Option<Object<T>>>(text(&bytes)?)?;
    Ok(object.map_or_else(T::default, |object| object.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_for_what_came_and_for_little_of_what_is_announced() {
        let limit = 16 << 20;
        assert_eq!(room_for(1, 0, Some(limit), limit), AT_FIRST);
        assert_eq!(room_for(1, 0, Some(300), limit), 300);
        assert_eq!(room_for(1, 0, None, limit), 1);
        // Twice as much, what is to come, or what may come; and always enough for what has.
        let more = AT_FIRST + 1;
        assert_eq!(room_for(more, AT_FIRST, None, limit), 2 * AT_FIRST);
        assert_eq!(room_for(more, AT_FIRST, Some(more), limit), more);
        assert_eq!(room_for(limit, limit - 9, None, limit), limit);
        assert_eq!(room_for(9 * more, AT_FIRST, None, limit), 9 * more);
    }
}
