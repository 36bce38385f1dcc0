//! [`Path`]: what an address names, told as a problem document where it is no text.

use axum::{
    extract::{self, FromRequestParts},
    http::{StatusCode, request::Parts},
    response::Response,
};
use serde::de::DeserializeOwned;

use super::{pages, problem};

/// A part of the address, its percent-encoding undone. axum's own answers one that does not decode in a plain text of its own.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let rejection = match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => return Ok(Self(value)),
            Err(rejection) => rejection,
        };
        let kind = match rejection.status() {
            StatusCode::BAD_REQUEST => &problem::MALFORMED_TEXT,
            _ => &problem::INTERNAL,
        };
        let problem = kind.problem(format!("{}: {rejection}", parts.uri.path()));
        Err(pages::refuse(problem, &parts.headers, "/"))
    }
}
