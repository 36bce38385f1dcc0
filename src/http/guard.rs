//! What every request passes on its way in, and every answer on its way out.
//!
//! Knows headers, not handlers.

use std::{any::Any, net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use super::{
    Clock, Http, audit,
    caller::{self, Caller, Door, Keys, Peer, Shown},
    flight::{Flight, ViewsBeside, to_its_end},
    pages,
    pairs::Pairs,
    problem::{self, Problem},
    refused,
    rules::{self, Need, Reach},
    sessions::{OnSession, Sessions},
    timing::{self, NO_ROUTE, Times},
};
use crate::{
    access::{Fingerprint, Grant, Scope},
    task::Tick,
};

/// Pages load their stylesheet, their script and their icon, send forms only home, and run nothing that stands in them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The cookie of a session.
pub(super) const COOKIE: &str = "workqueue_session";
/// How many cookies of this name are looked at.
const MOST_COOKIES: usize = 8;

/// The headers of every answer that has none of its own.
pub(super) const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: browsers would then not say the origin of our own forms either.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
];

/// What a request is checked for, apart from the backend's type.
struct Guard {
    door: Door,
    sessions: Arc<Sessions>,
    hosts: Option<Arc<[Box<str>]>>,
    clock: Clock,
    times: Arc<Times>,
    flight: Arc<Flight>,
}

impl std::fmt::Debug for Guard {
    /// Tokens are secrets: not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// The router with what all paths share: problem documents for unknown paths, methods and panics, the guard, and headers.
pub(crate) fn with_layers<B>(router: Router, http: &Http<B>) -> Router {
    let guard = Arc::new(Guard {
        door: http.door.clone(),
        sessions: Arc::clone(&http.sessions),
        hosts: http.hosts.clone(),
        clock: Arc::clone(&http.clock),
        times: Arc::clone(&http.times),
        flight: Arc::clone(&http.flight),
    });
    let header = |index: usize| {
        let (name, value) = HEADERS[index].clone();
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // The first is the outermost.
        .layer((
            header(0),
            header(1),
            header(2),
            header(3),
            CatchPanicLayer::custom(panicked),
            middleware::from_fn_with_state(guard, check),
        ))
}

async fn unknown_path(request: Request) -> Response {
    let problem =
        problem::NOT_FOUND.problem(format!("there is nothing at {}", request.uri().path()));
    pages::refuse(problem, request.headers(), "/")
}

async fn unknown_method(request: Request) -> Problem {
    problem::METHOD_NOT_ALLOWED.problem(format!(
        "{} is not allowed at {}",
        request.method(),
        request.uri().path()
    ))
}

/// A panic in a handler is a defect: logged, told, and survived.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the layer wants this signature"
)]
fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = text, "a request's handler panicked");
    problem::INTERNAL
        .problem("the request met a defect of the daemon")
        .into_response()
}

async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let begun = (guard.clock)().tick;
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let method = timing::method(request.method());
    let need = Need::new(request.method(), route);
    if let Some(renewed) = renewal(&request) {
        renewed.await;
    }
    let response = match guard.admit(&request, need, begun) {
        Ok(caller) => {
            let seen = audit::Seen::of(&mut request, need, &caller);
            if caller.name().is_some() {
                request.extensions_mut().insert(caller);
            }
            let response = guard.flown(request, need, route, next).await;
            // Where there is nothing, or nothing of the kind, nothing was done.
            let is_there = route != NO_ROUTE && response.status() != StatusCode::METHOD_NOT_ALLOWED;
            if let Some(seen) = seen {
                seen.tell(&response, is_there);
            }
            response
        }
        Err(refused) => refused.into_response(&request),
    };
    let took = (guard.clock)().tick.0.saturating_sub(begun.0);
    let status = response.status();
    guard.times.note(route, method, status, took / 1000);
    response
}

/// A request that its handler does not get to see.
struct Refused {
    problem: Problem,
    /// Whether a browser would be let in after a login.
    wants_login: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            wants_login: false,
        }
    }
}

impl Refused {
    fn into_response(self, request: &Request) -> Response {
        if self.wants_login && pages::wants_page(request.headers()) {
            return pages::to_login(request.method(), request.uri());
        }
        let is_credential = matches!(self.problem.status().as_u16(), 401 | 403);
        if is_credential && pages::wants_page(request.headers()) {
            return pages::refuse(self.problem, request.headers(), "/");
        }
        self.problem.into_response()
    }
}

impl Guard {
    /// The answer, counted. One that only tells something is refused where too much is held already.
    async fn flown(&self, request: Request, need: Need, route: &str, next: Next) -> Response {
        if request.version() != Version::HTTP_2 {
            return self.counted(request, need, route, next).await;
        }
        // Who does or brings work is let in: its answers are small, and it is known.
        let only_looks = matches!(need.scope, None | Some(Scope::Read));
        if only_looks
            && !rules::is_health(route)
            && let Err(refusal) = self.flight.admit(rules::is_about_all(route))
        {
            return Problem::from(refusal).into_response();
        }
        let response = self.counted(request, need, route, next).await;
        self.flight.count_light(response)
    }

    async fn counted(&self, request: Request, need: Need, route: &str, next: Next) -> Response {
        if need.scope != Some(Scope::Read) {
            return self.flight.count(next.run(request).await);
        }
        if rules::is_about_all(route) {
            self.about_all(request, next)
                .await
                .unwrap_or_else(IntoResponse::into_response)
        } else {
            self.flight.count_or_refuse(next.run(request).await)
        }
    }

    /// An answer about everything, in its turn.
    async fn about_all(&self, request: Request, next: Next) -> Result<Response, Problem> {
        // None reads a body; what a client sends of one would be kept as long as this waits.
        let (head, body) = request.into_parts();
        drop(body);
        let beside = match head.extensions.get::<ViewsBeside>().cloned() {
            Some(beside) => Some(beside.begin().await?),
            None => None,
        };
        let request = Request::from_parts(head, Body::empty());
        let turn = self.flight.whole_view().await?;
        let (response, _turns) = to_its_end((turn, beside), next.run(request)).await?;
        Ok(self.flight.count_view_or_refuse(response))
    }

    fn admit(&self, request: &Request, need: Need, now: Tick) -> Result<Caller, Refused> {
        self.admit_host(request)?;
        admit_site(request)?;
        let caller = match &self.door {
            Door::Open => return Ok(Caller::default()),
            Door::Tokens(keys) => {
                if need.scope.is_none() {
                    return Ok(Caller::default());
                }
                let (grant, by) = self.identify(keys, request, now)?;
                keys.admit_rate(&grant)?;
                Caller::new(grant, by)
            }
            Door::Users => user_of(request)?,
        };
        if let Some(grant) = caller.grant() {
            allow(grant, need, request)
                .inspect_err(|problem| audit::refused(request, caller.name(), problem))?;
        }
        Ok(caller)
    }

    fn admit_host(&self, request: &Request) -> Result<(), Problem> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        // Programs of HTTP/1.0 name none. Browsers always do.
        let Some(host) = host_of(request.uri(), request.headers()) else {
            return Ok(());
        };
        let name = without_port(host).trim_end_matches('.');
        let plain = name.trim_start_matches('[').trim_end_matches(']');
        let known = plain.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || hosts
                .iter()
                .any(|one| &**one == "*" || one.eq_ignore_ascii_case(name));
        if known {
            Ok(())
        } else {
            Err(problem::MISDIRECTED.problem(format!(
                "this server is not called {name:?}; its names are the setting hosts"
            )))
        }
    }

    /// What the credential grants that came with the request. The first that came counts: a token in `Authorization`, a
    /// session's cookie, a certificate.
    fn identify(
        &self,
        keys: &Keys,
        request: &Request,
        now: Tick,
    ) -> Result<(Arc<Grant>, Shown), Refused> {
        let headers = request.headers();
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let token = bearer(given).map(Fingerprint::of);
            let grant = token.and_then(|token| keys.tokens.find(&token));
            return match grant {
                Some(grant) => Ok((Arc::clone(grant), Shown::InRequest)),
                None => Err(unknown(request).into()),
            };
        }
        for cookie in session_cookies(headers) {
            let token = self.sessions.find(cookie, now);
            if let Some(grant) = token.and_then(|token| keys.tokens.find(&token)) {
                admit_own_page(request)?;
                let clock = Arc::clone(&self.clock);
                let session = OnSession::new(Arc::clone(&self.sessions), cookie, clock);
                return Ok((Arc::clone(grant), Shown::Passing(Arc::new(session))));
            }
        }
        if let Some(certificate) = peer(request).and_then(|peer| peer.certificate.as_ref()) {
            let grant = keys.tokens.named(&certificate.name);
            return match grant.filter(|_| certificate.validity.holds()) {
                Some(grant) => {
                    let by = Shown::Passing(Arc::clone(&certificate.validity));
                    Ok((Arc::clone(grant), by))
                }
                None => Err(unknown(request).into()),
            };
        }
        // Whose session has ended is not told more than that a login is wanted; the log hears of it, as it may be a guess.
        let problem = match session_cookies(headers).next() {
            Some(_) => unknown(request),
            None => problem::UNAUTHORIZED.problem("no token came with the request"),
        };
        Err(Refused {
            problem,
            wants_login: true,
        })
    }
}

const NO_USER: &str = "the system does not say whose process this is";

impl Keys {
    pub(super) fn admit_rate(&self, grant: &Grant) -> Result<(), Problem> {
        if self.rate == 0 {
            return Ok(());
        }
        let kind = &problem::TOO_MANY_WITH_TOKEN;
        self.used
            .take(&grant.name, self.rate, self.burst)
            .map_err(|secs| {
                refused::count_by("token_rate");
                kind.problem(kind.about).after(secs)
            })
    }
}

/// A credential came that is not known.
fn unknown(request: &Request) -> Problem {
    let problem = problem::UNAUTHORIZED.problem(
        "the credential that came with the request is not known here: it was revoked, or is another daemon's",
    );
    audit::refused(request, None, &problem);
    problem
}

/// The user whose process sent the request, if the settings of the moment grant that user something.
fn user_of(request: &Request) -> Result<Caller, Problem> {
    let user = peer(request)
        .and_then(|peer| peer.user.as_ref())
        .ok_or_else(|| problem::UNAUTHORIZED.problem(NO_USER))?;
    let Some(grant) = user.standing.grant() else {
        let problem = caller::no_admin(user.uid);
        audit::refused(request, None, &problem);
        return Err(problem);
    };
    Ok(Caller::new(grant, Shown::User(Arc::clone(&user.standing))))
}

/// What to wait for before it can be said what the user may do whose process sent the request.
fn renewal(request: &Request) -> Option<BoxFuture<'static, ()>> {
    peer(request)?.user.as_ref()?.standing.renewed()
}

/// Whether `grant` has what is needed.
fn allow(grant: &Grant, need: Need, request: &Request) -> Result<(), Problem> {
    let refuse = |text: String| Err(problem::FORBIDDEN.problem(text));
    let name = &grant.name;
    if let Some(scope) = need.scope
        && !grant.scopes.allow(scope)
    {
        return refuse(format!(
            "{name} has the scope {}, and this needs {scope}",
            grant.scopes
        ));
    }
    if grant.queues.is_none() {
        return Ok(());
    }
    let queues = match need.reach {
        Reach::Inside => return Ok(()),
        Reach::All => {
            return refuse(format!(
                "{name} is limited to some queues, and this is about all of them"
            ));
        }
        Reach::Path => queue_in(request.uri().path()).into_iter().collect(),
        Reach::Query => {
            let pairs = Pairs::parse(request.uri().query().unwrap_or_default())?;
            pairs.all("queue").map(str::to_owned).collect::<Vec<_>>()
        }
    };
    if queues.is_empty() {
        return refuse(format!(
            "{name} is limited to some queues: ask for one of them, like ?queue=NAME"
        ));
    }
    match queues.iter().find(|queue| !grant.reaches(queue)) {
        None => Ok(()),
        Some(queue) => refuse(format!("{name} may not use the queue {queue}")),
    }
}

/// The queue in `/api/v1/queues/{queue}` and what is below, as it is written there. The letters of a queue's name need not be
/// written otherwise than as they are, and `%` is none of them: a grant reaches no such queue.
fn queue_in(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/api/v1/queues/")?;
    rest.split('/').next().map(str::to_owned)
}

pub(super) fn peer(request: &Request) -> Option<&Peer> {
    request.extensions().get::<Arc<Peer>>().map(|peer| &**peer)
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// What the cookies of a session hold. There may be several: other servers of the same name, on other ports, set theirs beside
/// ours, and cookies know no ports.
pub(super) fn session_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .take(MOST_COOKIES)
}

/// Which server was meant: in the address where that says it (HTTP/2, and what is sent to a proxy), in `Host` otherwise.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let host = headers.get(header::HOST)?;
    // One that is not text is no name of ours.
    Some(host.to_str().unwrap_or("?"))
}

/// The name or address of `Host`, an IPv6 address in its brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// A browser says whose page a request comes from; what changes something is only taken from our own. Programs don't send
/// these headers and are not asked. `GET /api/next` changes something too: it gives a lease; and an export is there once, for
/// whoever asks first and as long as its reader likes.
fn admit_site(request: &Request) -> Result<(), Problem> {
    if reads(request) {
        return Ok(());
    }
    match is_ours(request) {
        Some(true) => Ok(()),
        None if !is_silent_browser(request) => Ok(()),
        None => {
            let detail = "a browser that does not say whose page it shows (Sec-Fetch-Site) gets no lease and no export: it may be another site's; use a program, or https";
            Err(problem::CROSS_SITE.problem(detail))
        }
        Some(false) => {
            Err(problem::CROSS_SITE.problem("the request comes from a page of another site"))
        }
    }
}

/// The same for those who show a cookie, which browsers add by themselves: they must say whose page it is.
fn admit_own_page(request: &Request) -> Result<(), Problem> {
    if reads(request) || is_ours(request) == Some(true) {
        Ok(())
    } else {
        let detail = "a change by cookie must say that it comes from a page of this server (Sec-Fetch-Site or Origin); programs send a token";
        Err(problem::CROSS_SITE.problem(detail))
    }
}

/// Whether a browser got an address for a page and does not say which: over http, from a server that is not on its machine. All
/// browsers have this at the beginning of what they call themselves, and a page can't change it, nor add a token, where it need
/// not ask first. So has PowerShell, which says its own name, too.
fn is_silent_browser(request: &Request) -> bool {
    let headers = request.headers();
    let calls_itself = |agent: &HeaderValue| {
        let agent = agent.as_bytes();
        let shell = b"PowerShell/";
        agent.starts_with(b"Mozilla/") && !agent.windows(shell.len()).any(|part| part == shell)
    };
    *request.method() == Method::GET
        && !headers.contains_key(header::AUTHORIZATION)
        && headers.get(header::USER_AGENT).is_some_and(calls_itself)
}

fn reads(request: &Request) -> bool {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    reads && !is_more_than_read(request.uri().path())
}

/// Whether `GET` takes something here: a lease, or the one export that there is at a time.
pub(super) fn is_more_than_read(path: &str) -> bool {
    matches!(path, "/api/next" | "/api/v1/export")
}

/// Whether a page of this server sent the request, where it says so. Browsers say the site (`Sec-Fetch-Site`) only to servers
/// that they reach by https or on their own machine; to others they say the page's origin, which must then be this
/// server's.
fn is_ours(request: &Request) -> Option<bool> {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return Some(site == "same-origin" || site == "none");
    }
    let origin = headers.get(header::ORIGIN)?;
    let named = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, name)| name);
    Some(named.is_some() && named == host_of(request.uri(), headers))
}
