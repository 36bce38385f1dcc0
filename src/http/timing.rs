//! [`Times`]: how long requests took, by route, method and the class of their answer's status.
//!
//! A route is the pattern that matched, so there are as many as the router has; what matched none is one of them. Counting
//! is a look into a small table and two additions.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{Method, StatusCode};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::backend::Distribution;

/// What stands for requests that no route matched.
pub(super) const NO_ROUTE: &str = "none";

/// The classes of statuses that are answered, as labels.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// The methods, as labels. A client may make up its own: those are all the last one.
const METHODS: [&str; 5] = ["GET", "POST", "PATCH", "DELETE", "other"];

/// How long requests took.
#[derive(Default)]
pub struct Times {
    routes: RwLock<HashMap<Box<str>, Arc<Route>, RandomState>>,
}

/// Of one route, for each method and class.
#[derive(Default)]
struct Route([[Counts; CLASSES.len()]; METHODS.len()]);

#[derive(Default)]
struct Counts {
    classes: [AtomicU64; Distribution::MOST + 1],
    sum_micros: AtomicU64,
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times").finish_non_exhaustive()
    }
}

impl Times {
    /// Counts a request, by what [`method`] gives.
    pub(super) fn note(&self, route: &str, method: usize, status: StatusCode, micros: u64) {
        let known = self
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(route)
            .cloned();
        let times = known.unwrap_or_else(|| self.open(route));
        // Informational answers are hyper's own.
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        let counts = &times.0[method][class];
        let bucket = Distribution::class(Distribution::SHORT, micros);
        counts.classes[bucket].fetch_add(1, Ordering::Relaxed);
        counts.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn open(&self, route: &str) -> Arc<Route> {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(route.into()).or_default())
    }

    /// All that have been asked for, in the order of their routes, methods and classes.
    pub(super) fn all(&self) -> Vec<Timed> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (route, times) in &*routes {
            for (method, by_class) in METHODS.into_iter().zip(&times.0) {
                for (class, counts) in CLASSES.into_iter().zip(by_class) {
                    all.push(Timed {
                        route: route.clone(),
                        method,
                        class,
                        times: counts.distribution(),
                    });
                }
            }
        }
        all.retain(|one| one.times.count() > 0);
        all.sort_by(|a, b| (&a.route, a.method, a.class).cmp(&(&b.route, b.method, b.class)));
        all
    }
}

impl Counts {
    fn distribution(&self) -> Distribution {
        let each = self.classes.iter().map(|one| one.load(Ordering::Relaxed));
        let sum = self.sum_micros.load(Ordering::Relaxed);
        Distribution::of(Distribution::SHORT, each, sum)
    }
}

/// How long requests of one route, method and class took.
pub(super) struct Timed {
    pub(super) route: Box<str>,
    pub(super) method: &'static str,
    pub(super) class: &'static str,
    pub(super) times: Distribution,
}

/// The place of a method among those that are told apart.
pub(super) fn method(method: &Method) -> usize {
    let name = method.as_str();
    let place = METHODS.iter().position(|one| *one == name);
    place.unwrap_or(METHODS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_class() {
        let times = Times::default();
        let (get, post) = (method(&Method::GET), method(&Method::POST));
        times.note("/b", post, StatusCode::OK, 90);
        times.note("/b", post, StatusCode::CREATED, 2_000);
        times.note("/b", get, StatusCode::NOT_FOUND, 1);
        let odd = Method::from_bytes(b"BREW").unwrap();
        times.note(
            "/a",
            method(&odd),
            StatusCode::INTERNAL_SERVER_ERROR,
            20_000_000,
        );
        let all = times.all();
        let counted: Vec<_> = all
            .iter()
            .map(|one| (&*one.route, one.method, one.class, one.times.count()))
            .collect();
        assert_eq!(
            counted,
            [
                ("/a", "other", "5xx", 1),
                ("/b", "GET", "4xx", 1),
                ("/b", "POST", "2xx", 2)
            ]
        );
        assert!((all[2].times.sum() - 0.002_09).abs() < 1e-9);
        assert_eq!(all[0].times.up_to().map(|(_, count)| count).max(), Some(0));
    }
}
