//! What every request passes on its way in, and every answer on its way out.
//!
//! Knows headers, not handlers.

use std::{any::Any, net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use super::{
    Clock, Http, pages,
    problem::{self, Problem},
    timing::{self, NO_ROUTE, Times},
};

/// Pages load their stylesheet, their script and their icon, send forms only home, and run nothing that stands in them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a request is checked for, apart from the backend's type.
struct Guard {
    tokens: Arc<[Box<str>]>,
    hosts: Option<Arc<[Box<str>]>>,
    clock: Clock,
    times: Arc<Times>,
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
        tokens: Arc::clone(&http.tokens),
        hosts: http.hosts.clone(),
        clock: Arc::clone(&http.clock),
        times: Arc::clone(&http.times),
    });
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // The first is the outermost.
        .layer((
            header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // Not `no-referrer`: browsers would then not say the origin of our own forms either.
            header(header::REFERRER_POLICY, "same-origin"),
            header(header::CACHE_CONTROL, "no-store"),
            header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
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

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let begun = (guard.clock)().tick;
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = timing::method(request.method());
    let response = match guard.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let took = (guard.clock)().tick.0.saturating_sub(begun.0);
    let status = response.status();
    guard.times.note(route, method, status, took / 1000);
    response
}

impl Guard {
    fn admit(&self, request: &Request) -> Result<(), Problem> {
        self.admit_host(request)?;
        admit_site(request)?;
        self.admit_token(request)
    }

    fn admit_host(&self, request: &Request) -> Result<(), Problem> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let name = without_port(host);
        let plain = name.trim_start_matches('[').trim_end_matches(']');
        let known = plain.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|one| one.eq_ignore_ascii_case(name));
        if known {
            Ok(())
        } else {
            Err(problem::MISDIRECTED.problem(format!("this server is not called {name:?}")))
        }
    }

    fn admit_token(&self, request: &Request) -> Result<(), Problem> {
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        if self.tokens.is_empty() || open {
            return Ok(());
        }
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        // All are compared, so that the time tells nothing of which.
        let known = given.is_some_and(|given| {
            self.tokens
                .iter()
                .fold(false, |known, token| known | same(given, token))
        });
        if known {
            Ok(())
        } else {
            Err(problem::UNAUTHORIZED.problem("no token that is known here came with the request"))
        }
    }
}

/// Whether two texts are the same, in a time that depends on their lengths only.
fn same(a: &str, b: &str) -> bool {
    let differing = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && differing == 0
}

/// The name or address of `Host`, an IPv6 address in its brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// A browser says whose page a request comes from; what changes something is only taken from our own. Programs don't send
/// these headers and are not asked. `GET /api/next` changes something too: it gives a lease.
fn admit_site(request: &Request) -> Result<(), Problem> {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) && request.uri().path() != "/api/next";
    if reads || is_ours(request.headers()) {
        Ok(())
    } else {
        Err(problem::CROSS_SITE.problem("the request comes from a page of another site"))
    }
}

/// Whether no page of another site sent these headers. Browsers say the site (`Sec-Fetch-Site`) only to servers that they
/// reach by https or on their own machine; to others they say the page's origin, which must then be this server's.
fn is_ours(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let named = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, name)| name.as_bytes());
    named.is_some() && named == host
}
