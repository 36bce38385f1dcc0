//! Packing (gzip) of what people look at, for those who ask for it.
//!
//! Knows `Accept-Encoding`, not what is packed.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header},
    middleware,
    response::Response,
};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};

use super::flight::Flight;

/// Shorter answers go out as they are, in bytes.
const PACKED_FROM: u64 = 1024;

/// The router, with its answers packed where that is asked for; what they hold is counted as it is before.
pub(super) fn packed(router: Router, flight: &Arc<Flight>) -> Router {
    let flight = Arc::clone(flight);
    router
        .layer(middleware::map_response(move |response: Response| {
            std::future::ready(flight.count_view_or_refuse(response))
        }))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(PACKED_FROM)))
        .layer(middleware::map_request(passed_on))
}

/// Passes `Accept-Encoding` on as gzip alone where it asks for that, and not at all elsewhere. One that allows nothing we have
/// (`*;q=0`), or that the layer reads otherwise than we do, would have it put 406 over an answer whose request has been done;
/// such an answer goes out as it is.
async fn passed_on(mut request: Request) -> Request {
    let fields = request.headers().get_all(header::ACCEPT_ENCODING);
    let names_gzip = fields
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .any(is_gzip);
    if names_gzip {
        let gzip = HeaderValue::from_static("gzip");
        request.headers_mut().insert(header::ACCEPT_ENCODING, gzip);
    } else {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    request
}

/// Whether one member of the field asks for gzip (RFC 9110, 12.5.3).
fn is_gzip(member: &str) -> bool {
    let mut parts = member.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
    let weight = weight.map_or(Ok(1.0), str::parse::<f64>);
    name.eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0 && weight <= 1.0)
}
