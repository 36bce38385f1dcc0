//! Packing (gzip) of what people look at, for those who ask for it.
//!
//! Knows `Accept-Encoding`, not what is packed.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::{self, Next},
    response::Response,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};

use super::{
    flight::Flight,
    kept::{Keep, Kept},
};

/// Shorter answers go out as they are, in bytes.
const PACKED_FROM: u64 = 1024;
/// How many answers are packed at once. Each takes some 300 KiB until it is read; further ones go out as they are.
const PACKED_AT_ONCE: usize = 64;

/// The router, with its answers packed where that is asked for; what they hold is counted as it is before.
pub(super) fn packed(router: Router, flight: &Arc<Flight>) -> Router {
    let flight = Arc::clone(flight);
    let room = Arc::new(Semaphore::new(PACKED_AT_ONCE));
    router
        .layer(middleware::map_response(move |response: Response| {
            std::future::ready(flight.count_view_or_refuse(response))
        }))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(PACKED_FROM)))
        .layer(middleware::from_fn_with_state(room, pack))
}

/// Passes `Accept-Encoding` on as gzip alone where it asks for that and there is room, and not at all elsewhere. One that allows
/// nothing we have (`*;q=0`), or that the layer reads otherwise than we do, would have it put 406 over an answer whose request
/// has been done; such an answer goes out as it is.
async fn pack(State(room): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    let room = names_gzip(headers).then(|| room.try_acquire_owned().ok());
    let Some(room) = room.flatten() else {
        headers.remove(header::ACCEPT_ENCODING);
        return next.run(request).await;
    };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let response = next.run(request).await;
    if !response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    response.map(|body| Body::new(Kept::new(body, room)))
}

impl Keep for OwnedSemaphorePermit {}

fn names_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT_ENCODING);
    fields
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .any(is_gzip)
}

/// Whether one member of the field asks for gzip (RFC 9110, 12.5.3).
fn is_gzip(member: &str) -> bool {
    let mut parts = member.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
    let weight = weight.map_or(Ok(1.0), str::parse::<f64>);
    name.eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0 && weight <= 1.0)
}
