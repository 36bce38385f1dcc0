//! Answers that went well.
//!
//! Knows content types, not contents.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

use super::problem::Problem;

/// What every handler gives.
pub(crate) type Answer = Result<Response, Problem>;

/// `body`, which is JSON text.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    of_type("application/json", status, body)
}

/// `value` as JSON, 200.
pub(crate) fn ok<T: Serialize>(value: &T) -> Answer {
    Ok(json(StatusCode::OK, serde_json::to_vec(value)?))
}

/// An answer that has nothing to tell.
pub(crate) fn nothing_to_tell() -> Response {
    json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())
}

/// `body` of a content type.
pub(crate) fn of_type(
    content_type: &'static str,
    status: StatusCode,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
