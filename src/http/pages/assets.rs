//! What pages load besides themselves: the stylesheet, the script and the icon.
//!
//! Knows caching: an address carries a checksum of what is there, so that it may be kept for good and a new daemon's is
//! loaded at once.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::super::answer;

/// Kept by browsers for a year, which is as good as for good.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file that is part of the program.
struct Asset {
    content_type: &'static str,
    text: &'static str,
    tag: String,
}

impl Asset {
    fn new(content_type: &'static str, text: &'static str) -> Self {
        let tag = format!("\"{:08x}\"", crc32c::crc32c(text.as_bytes()));
        Self {
            content_type,
            text,
            tag,
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{name}?{}", self.tag.trim_matches('"'))
    }

    fn respond(&self, headers: &HeaderMap) -> Response {
        let known = headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|tag| tag == &self.tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            answer::of_type(self.content_type, StatusCode::OK, self.text)
        };
        let headers = response.headers_mut();
        // Quotes and hexadecimal digits always make a header.
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::CACHE_CONTROL, KEEP);
        response
    }
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/css; charset=utf-8", include_str!("style.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", include_str!("live.js")));
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("image/svg+xml", include_str!("icon.svg")));

/// Where the stylesheet is.
pub(super) static STYLE_PATH: LazyLock<String> = LazyLock::new(|| STYLE.path("/style.css"));
/// Where the script is.
pub(super) static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| SCRIPT.path("/live.js"));
/// Where the icon is.
pub(super) static ICON_PATH: LazyLock<String> = LazyLock::new(|| ICON.path("/icon.svg"));

/// The stylesheet of all pages.
pub(crate) async fn style(headers: HeaderMap) -> Response {
    STYLE.respond(&headers)
}

/// The script that keeps pages up to date.
pub(crate) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.respond(&headers)
}

/// The icon of the browser's tab.
pub(crate) async fn icon(headers: HeaderMap) -> Response {
    ICON.respond(&headers)
}
