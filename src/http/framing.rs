//! What the head of a request must say of whom it is for and how its body comes: two servers that read it differently would
//! let one request be hidden in another. hyper sees to heads that say in two ways where the body ends.

use axum::http::{HeaderMap, Version, header};

use super::problem::{self, Problem};

/// Refuses a head that RFC 9112 has refused (3.2, 6.1). Its connection is to end with it.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |text| Err(problem::MALFORMED_REQUEST.problem(text));
    match headers.get_all(header::HOST).iter().count() {
        // HTTP/1.0 knows no such header, and HTTP/2 has the name in the address.
        0 if version == Version::HTTP_11 => wrong("there is no header Host"),
        0 | 1 => only_chunked(headers),
        _ => wrong("the header Host is there twice"),
    }
}

/// A body under any further coding would be taken as it is, coded: there is no such coding here.
fn only_chunked(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else {
        return Ok(());
    };
    let is_chunked = first
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked");
    if is_chunked && codings.next().is_none() {
        Ok(())
    } else {
        let text = "a body may come in chunks, and under no other Transfer-Encoding";
        Err(problem::UNKNOWN_CODING.problem(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, fields: &[(header::HeaderName, &'static str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, header::HeaderValue::from_static(value));
        }
        check(version, &headers).map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_request_of_http_1_1_names_its_host_once() {
        let host = (header::HOST, "a");
        let both = [host.clone(), host.clone()];
        for (version, hosts, expected) in [
            (Version::HTTP_10, 0, 200),
            (Version::HTTP_11, 0, 400),
            (Version::HTTP_2, 0, 200),
            (Version::HTTP_10, 1, 200),
            (Version::HTTP_11, 1, 200),
            (Version::HTTP_10, 2, 400),
            (Version::HTTP_11, 2, 400),
        ] {
            let got = status(version, &both[..hosts]);
            assert_eq!(got, expected, "{version:?}, {hosts} hosts");
        }
    }

    #[test]
    fn no_transfer_coding_is_known_but_chunked() {
        for (codings, expected) in [
            (&["chunked"][..], 200),
            (&["Chunked "], 200),
            (&["gzip, chunked"], 501),
            (&["gzip", "chunked"], 501),
            (&["identity, chunked"], 501),
            (&["chunked, chunked"], 501),
            (&["chunked;a=b"], 501),
        ] {
            let mut fields = vec![(header::HOST, "a")];
            fields.extend(codings.iter().map(|one| (header::TRANSFER_ENCODING, *one)));
            assert_eq!(status(Version::HTTP_11, &fields), expected, "{codings:?}");
        }
    }
}
