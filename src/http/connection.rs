//! One connection from its handshake to its end.
//!
//! A connection speaks HTTP/1.1, or HTTP/2 where both sides chose that in the handshake of TLS (ALPN).

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderName, HeaderValue, Request, Version, header},
    response::{IntoResponse as _, Response},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    audit,
    caller::Peer,
    flight::{LIGHT, ViewsBeside},
    framing,
    gate::{Bounds, Gate, Pass, Tally},
    guard::HEADERS,
    kept::Kept,
    outlet::Outlet,
    patience::{Activity, InFlight, Patient, Speech},
    problem::{self, Kind, Problem},
    refused,
    serve::Serving,
    tls::{self, Tls},
    turns::Turns,
};

/// How long a connection without a request stays open after a stop: enough for a request that is on its way on one machine
/// or one network, and short beside what a stop takes anyway.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// How long one whose connection ends may take to read why.
const TELLING: Duration = Duration::from_secs(1);
/// How many requests one connection of HTTP/2 may have open at once.
const STREAMS: u32 = 128;
/// What a request of HTTP/2 takes besides its head and its body, in bytes: 3 KiB were measured for each of 128 refused ones whose
/// client reads nothing, and what a handler holds comes to that.
const STREAM_BYTES: u64 = 8 << 10;
/// How much of bodies one connection of HTTP/2 may send that nobody has read yet, in bytes: the protocol's own default, where hyper
/// would take sixteen times as much. What is kept so is not counted.
const UNREAD: u32 = 64 << 10;
/// How long a client of HTTP/2 may leave a sign of life unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that was let in.
pub(super) struct Link {
    pub(super) serving: Serving,
    /// Its other end.
    pub(super) peer: Peer,
    /// Held as long as the connection is.
    pub(super) pass: Pass,
}

/// Serves one connection to its end.
pub(super) async fn carry<S>(stream: S, mut link: Link, tls: Option<Arc<Tls>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = link.serving.gate.bounds();
    // Below TLS: what it has taken is not read yet.
    let stream = Outlet::new(stream, bounds, &link.serving.gate);
    let Some(tls) = tls else {
        return speak_http1(stream, link).await;
    };
    let present = tls.present();
    let handshake = present.acceptor().accept(stream);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(bounds.handshake_timeout.as_duration(), handshake) => shaken,
        () = link.serving.stop.cancelled() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        failed => {
            Tally::count(&link.serving.gate.tally().handshakes_failed);
            if let Ok(Err(error)) = failed {
                if tls::is_about_certificate(&error) {
                    audit::certificate_refused(&link.peer, &error);
                } else {
                    tracing::debug!(%error, "a handshake of TLS failed");
                }
            } else {
                tracing::debug!("a handshake of TLS took too long");
            }
            return;
        }
    };
    let session = stream.get_ref().1;
    link.peer.is_secure = true;
    link.peer.certificate = session
        .peer_certificates()
        .and_then(|chain| tls.certificate(&present, session.handshake_kind(), chain));
    if session.alpn_protocol() == Some(b"h2") {
        speak_http2(stream, link).await;
    } else {
        speak_http1(stream, link).await;
    }
}

async fn speak_http1<S>(stream: S, link: Link)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = link.serving.gate.bounds();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Patient` does that, and tells a head that is slow from a connection that is idle.
        .header_read_timeout(None)
        .max_buf_size(bounds.max_head)
        .max_headers(bounds.max_headers)
        .keep_alive(true)
        .half_close(false);
    // No `pipeline_flush`: with it an answer is lost that ends its connection while more has been sent.

    let activity = Arc::default();
    let stream = Patient::new(stream, bounds, &link.serving.gate, &activity, Speech::Http1);
    let service = answering(&link, bounds, &activity, Kept::new);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let stop = link.serving.stop.clone();
    let ended = see_out(Pin::new(&mut connection), &activity, stop).await;
    let rest = connection.into_parts();
    let mut stream = rest.io.into_inner();
    stream.let_go();
    let idle = ended.as_ref().err().filter(|_| !activity.is_busy());
    if let Some(problem) = idle.and_then(|error| refusal(error, &rest.read_buf, bounds)) {
        Tally::count(&link.serving.gate.tally().heads_refused);
        tell(stream, &problem).await;
    } else if let Ok(Err(error)) = tokio::time::timeout(TELLING, stream.shutdown()).await {
        tracing::debug!(%error, "a connection was not closed in order");
    }
    drop(link.pass);
}

async fn speak_http2<S>(stream: S, link: Link)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = link.serving.gate.bounds();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // What is larger than that is answered below us, without a word: what is not much larger, by `check`.
        .max_header_list_size(u32::try_from(bounds.max_head.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(UNREAD)
        .initial_stream_window_size(UNREAD)
        .keep_alive_timeout(PING_TIMEOUT);
    let activity = Arc::default();
    let stream = Patient::new(stream, bounds, &link.serving.gate, &activity, Speech::Http2);
    let turns = Arc::new(Turns::default());
    let of_body = Arc::clone(&turns);
    let hold = move |body, in_flight| of_body.take(body, in_flight);
    let service = answering(&link, bounds, &activity, hold);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let stop = link.serving.stop.clone();
    let connection = pin!(connection);
    tokio::select! {
        // What is wrong with a request of HTTP/2 is told by frames.
        ended = see_out(connection, &activity, stop) => drop(ended),
        () = turns.stalled(bounds.reader_timeout.as_duration()) => {
            Tally::count(&link.serving.gate.tally().unread);
            tracing::debug!("a client does not read its answers");
        }
    }
    drop(link.pass);
}

/// Why a connection broke off whose next request could not be read, if that is to be told; `head` is what has come of it.
/// hyper has an answer of its own to some of these, which says nothing: [`Patient`] leaves it out.
fn refusal(error: &hyper::Error, head: &[u8], bounds: Bounds) -> Option<Problem> {
    let line = head.iter().position(|byte| *byte == b'\n');
    let kind: &Kind = if error.is_parse_too_large() && !is_large(head, bounds) {
        refused::count_by("max_body");
        let detail = "the body that Content-Length announces is larger than any may be (max_body)";
        return Some(problem::TOO_LARGE.problem(detail));
    } else if error.is_parse() && line.unwrap_or(head.len()) > bounds.max_url {
        refused::count_by("max_url");
        &problem::URL_TOO_LONG
    } else if error.is_parse_too_large() {
        &problem::HEAD_TOO_LARGE
    } else if error.is_parse() {
        &problem::MALFORMED_REQUEST
    } else if is_late(error) && !head.is_empty() {
        &problem::HEAD_TIMEOUT
    } else {
        return None;
    };
    Some(kind.problem(kind.about))
}

/// Whether what hyper has left in its buffer may be a head that it found too large: for its bytes, for its fields, or for a
/// target or a name of 64 KiB. Otherwise it was the length of the body, beyond what hyper can count (2^64 - 3): by then it has
/// taken the head out of the buffer.
fn is_large(head: &[u8], bounds: Bounds) -> bool {
    const LONGEST_PART: usize = 65_534;
    let mut line_ends = head.iter().filter(|byte| **byte == b'\n');
    head.len() >= bounds.max_head.min(LONGEST_PART) || line_ends.nth(bounds.max_headers).is_some()
}

/// Whether it was [`Patient`] that gave up.
fn is_late(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Tells one whose connection ends, and reads what is still sent: a close before that would take the answer back.
pub(super) async fn tell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, problem: &Problem) {
    let told = async {
        stream.write_all(&problem.on_the_wire()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(TELLING, told).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client did not hear why its connection ends"),
    }
}

/// Drives `connection` to its end, and after a stop to an early one.
async fn see_out<C>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    stop: CancellationToken,
) -> Result<(), hyper::Error>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let last_requests = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = last_requests => {
            if !activity.was_asked() {
                // Nothing was asked on it, ever: hyper would wait for that.
                return Ok(());
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // The client's matter: it went away, was silent, or does not speak HTTP.
    ended.inspect_err(|error| tracing::debug!(%error, "a connection broke off"))
}

/// The router behind what every connection is held to; it notes that it was asked, and says in its answers after the stop
/// that no further one will come. As long as what `hold` makes of a body is there, its request is in flight.
fn answering<B, H>(
    link: &Link,
    bounds: Bounds,
    activity: &Arc<Activity>,
    hold: H,
) -> impl hyper::service::HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send> + use<B, H>
where
    H: Fn(Body, InFlight) -> B + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    let peer = Arc::new(link.peer.clone());
    let serving = link.serving.clone();
    let activity = Arc::clone(activity);
    let views = ViewsBeside::default();
    service_fn(move |mut request: Request<Incoming>| {
        let is_http1 = request.version() < Version::HTTP_2;
        let mut checked = check(&request, bounds, &serving.gate, peer.address);
        let mut share = None;
        // Bounds of connections hold one request each; these come beside others.
        let is_counted = !is_http1 && activity.is_busy();
        if is_counted {
            let more = checked.as_ref().map_or(0, |()| weight(&request));
            let admitted = serving.gate.admit_beside(STREAM_BYTES + more);
            share = admitted.map_or_else(
                |refusal| {
                    let problem = refusal.into();
                    checked = Err(Unfit {
                        problem,
                        close: false,
                    });
                    serving.gate.admit_refused(STREAM_BYTES)
                },
                Some,
            );
        }
        // A client that reads nothing can't leave an answer here that has no body.
        let is_bare = is_counted && share.is_none();
        let in_flight = activity.begin(share);
        let stop = serving.stop.clone();
        let hold = hold.clone();
        let answer = checked.map(|()| {
            request.extensions_mut().insert(Arc::clone(&peer));
            if !is_http1 {
                request.extensions_mut().insert(views.clone());
            }
            let current = serving.router.borrow().clone();
            TowerToHyperService::new(current).call(request)
        });
        async move {
            let (mut answer, close) = match answer {
                Ok(answer) => (answer.await?, stop.is_cancelled()),
                Err(Unfit { problem, close }) => (guarded(problem), close),
            };
            if is_bare {
                *answer.body_mut() = Body::empty();
            }
            // HTTP/2 has no such field: it says so with a frame of its own.
            if is_http1 && close {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(answer.map(|body| hold(body, in_flight)))
        }
    })
}

/// The problem as an answer with the headers that the router gives to its own.
fn guarded(problem: Problem) -> Response {
    let mut answer = problem.into_response();
    let fixed = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    answer.headers_mut().extend(fixed);
    answer
}

/// A request that the router does not get to see, and whether its connection ends with it.
struct Unfit {
    problem: Problem,
    close: bool,
}

/// What is asked of every request, whatever it asks for.
fn check(
    request: &Request<Incoming>,
    bounds: Bounds,
    gate: &Gate,
    address: Option<IpAddr>,
) -> Result<(), Unfit> {
    if let Some(Err(secs)) = address.map(|address| gate.admit_request(address)) {
        let kind = &problem::TOO_MANY_REQUESTS;
        let problem = kind.problem(kind.about).after(secs);
        return Err(Unfit {
            problem,
            close: false,
        });
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |all| all.as_str().len());
    if target > bounds.max_url {
        refused::count_by("max_url");
        let detail = format!("{target} bytes; the most is {} (max_url)", bounds.max_url);
        let problem = problem::URL_TOO_LONG.problem(detail);
        return Err(Unfit {
            problem,
            close: false,
        });
    }
    let refuse = |problem| {
        Tally::count(&gate.tally().heads_refused);
        Unfit {
            problem,
            close: true,
        }
    };
    if is_too_large(request, target, bounds) {
        let kind = &problem::HEAD_TOO_LARGE;
        return Err(refuse(kind.problem(kind.about)));
    }
    framing::check(request.version(), request.uri(), request.headers()).map_err(refuse)
}

/// What head and body of a request take until it is answered, apart from what is counted where a body is read.
fn weight(request: &Request<Incoming>) -> u64 {
    let target = request.uri().path_and_query();
    let head = head_size(request, target.map_or(0, |all| all.as_str().len())) as u64;
    let announced = request.body().size_hint().exact();
    // What is in a head lies in the buffer that it was read into, which may be twice as large.
    2 * head + announced.map_or(LIGHT, |bytes| bytes.min(LIGHT))
}

/// Whether the head of a request is larger than one may be: over HTTP/2 counted as there (RFC 9113, 6.5.2), over HTTP/1 about as it
/// came. Of that hyper bounds only the buffer that it reads into.
fn is_too_large<B>(request: &Request<B>, target: usize, bounds: Bounds) -> bool {
    request.headers().len() > bounds.max_headers || head_size(request, target) > bounds.max_head
}

fn head_size<B>(request: &Request<B>, target: usize) -> usize {
    let field = match request.version() {
        Version::HTTP_2 => 32,
        _ => ": \r\n".len(),
    };
    let size =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + field;
    target + request.headers().iter().map(size).sum::<usize>()
}
