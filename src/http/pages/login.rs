//! `/login` and `/logout`: a token becomes the cookie of a session.
//!
//! Knows cookies, not what a token allows.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, Uri, header},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{
        Http, Pairs, Problem, Shared, audit,
        caller::{Door, Keys},
        guard,
        pairs::encode,
        problem,
    },
    forms,
    frame::{self, Body, Place},
};
use crate::{access::Fingerprint, backend::Backend};

/// The largest form of a login, in bytes: a token and the way back. Who sends one is not known yet, and is to hold no more than
/// that of what is kept for those who are.
const LARGEST: usize = 16 << 10;

/// The form for a token, or that none is needed.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let page = || {
        let pairs = Pairs::of_query(request.uri().query(), &["next"])?;
        let next = pairs.get("next").map_or("/", local);
        let token = guard::session_cookies(request.headers())
            .find_map(|cookie| http.sessions.find(cookie, (http.clock)().tick));
        Ok(match (&http.door, token) {
            (Door::Tokens(keys), Some(token)) => match keys.tokens.find(&token) {
                Some(grant) => Body::still("Logged in", Place::Other, logged_in(&grant.name)),
                None => body(next, None),
            },
            (Door::Tokens(_), None) => body(next, None),
            (Door::Open | Door::Users, _) => Body::still("Log in", Place::Other, not_needed()),
        })
    };
    frame::answer(page(), request.headers(), "/")
}

fn body(next: &str, wrong: Option<&str>) -> Body {
    let content = html! {
        h1 { "Log in" }
        form class="submit" method="post" action="/login" {
            @if let Some(reason) = wrong {
                p class="wrong" role="alert" id="wrong-token" { (reason) }
            }
            input type="hidden" name="next" value=(next);
            label {
                "Token"
                input type="password" name="token" required autofocus autocomplete="current-password" spellcheck="false"
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| "wrong-token")];
            }
            button type="submit" { "Log in" }
        }
        p class="quiet" {
            "This daemon wants to know who asks. A token is made with " code { "workqueuectl token new" }
            ", by those who may change the daemon's configuration."
        }
    };
    Body::still("Log in", Place::Other, content)
}

fn logged_in(name: &str) -> Markup {
    html! {
        h1 { "Logged in" }
        p { "These pages know you by the token " b { (name) } "." }
        form method="post" action="/logout" { button type="submit" { "Log out" } }
    }
}

fn not_needed() -> Markup {
    html! {
        h1 { "Log in" }
        p { "No token is needed here: the daemon has none configured." }
        p { a href="/" { "Go to the overview" } }
    }
}

/// Takes a token, and answers with the cookie of a session.
pub(super) async fn login<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    let peer = guard::peer(&request).cloned().unwrap_or_default();
    let keys = match &http.door {
        Door::Tokens(keys) => keys,
        Door::Open | Door::Users => return frame::see_other("/"),
    };
    let largest = LARGEST.min(http.limits.max_body);
    let form = match forms::read_most(request, &http, largest).await {
        Ok(form) => form,
        Err(problem) => return frame::refuse(problem, &headers, "/login"),
    };
    let next = form.get("next").map_or("/", local);
    match begin(&http, keys, &form) {
        Ok((name, session)) => {
            audit::login(&peer, &name);
            let mut response = frame::see_other(next);
            let cookie = cookie(&session, if peer.is_secure { "; Secure" } else { "" });
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(problem) => {
            if problem.status() == problem::UNAUTHORIZED.status {
                audit::login_refused(&peer);
            }
            let page = body(next, Some(&problem.document().detail)).into_html();
            problem.respond(frame::HTML, page)
        }
    }
}

/// The name of the token that was filled in, and the cookie's text.
fn begin<B>(http: &Http<B>, keys: &Keys, form: &Pairs) -> Result<(String, String), Problem> {
    let token = form
        .filled("token")
        .ok_or_else(|| Problem::invalid("token", "missing: paste the token"))?;
    let token = Fingerprint::of(token);
    let grant = keys.tokens.find(&token).ok_or_else(unknown)?;
    keys.admit_rate(grant)?;
    let session = http
        .sessions
        .begin(token, (http.clock)().tick)
        .map_err(|reason| problem::INTERNAL.problem(reason))?;
    // A reload may have taken the token away, and its sessions with it, before this one began.
    let doors = http.doors.as_ref();
    if doors.is_some_and(|doors| !doors.borrow().knows(&token)) {
        http.sessions.end(session.reveal());
        return Err(unknown());
    }
    Ok((grant.name.to_string(), session.reveal().to_owned()))
}

fn unknown() -> Problem {
    problem::UNAUTHORIZED.problem("This token is not known here.")
}

/// A cookie that no script reads, that no other site's page sends, and that ends with the browser or as `more` says.
fn cookie(session: &str, more: &str) -> HeaderValue {
    let text = format!(
        "{}={session}; Path=/; HttpOnly; SameSite=Strict{more}",
        guard::COOKIE
    );
    // Letters, digits and signs always make a header.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Ends the session.
pub(super) async fn logout<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    for cookie in guard::session_cookies(request.headers()) {
        http.sessions.end(cookie);
    }
    let mut response = frame::see_other("/login");
    response
        .headers_mut()
        .insert(header::SET_COOKIE, cookie("", "; Max-Age=0"));
    response
}

/// 303 to the form, which knows the way back. What was sent with a form is gone: its page is shown again.
pub(in crate::http) fn to_login(method: &Method, uri: &Uri) -> Response {
    let back = uri.path_and_query().map_or("/", |all| all.as_str());
    if *method != Method::GET || back == "/" {
        return frame::see_other("/login");
    }
    frame::see_other(&format!("/login?next={}", encode(back)))
}

/// `path`, if it is one of this server's, and the first page otherwise: nobody is sent elsewhere by a link to the login.
fn local(path: &str) -> &str {
    let mut letters = path.chars();
    let begins = letters.next() == Some('/') && !matches!(letters.next(), Some('/' | '\\'));
    let fits = path.bytes().all(|byte| byte.is_ascii_graphic());
    if begins && fits { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_back_to_this_server_only() {
        for path in ["/", "/list?queue=a", "/tasks/x%0a"] {
            assert_eq!(local(path), path);
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "/a\r\nb",
            "/ü",
        ] {
            assert_eq!(local(path), "/", "{path:?}");
        }
    }
}
