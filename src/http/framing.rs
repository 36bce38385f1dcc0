//! What the head of a request must say of whom it is for and how its body comes: two servers that read it differently would
//! let one request be hidden in another. hyper sees to heads that say in two ways where the body ends.

use axum::http::{HeaderMap, Uri, Version, header};

use super::problem::{self, Problem};

/// Refuses a head that RFC 9112 (3.2, 6.1) or RFC 9113 (8.3.1) has refused. Its connection is to end with it.
pub(super) fn check(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |text| Err(problem::MALFORMED_REQUEST.problem(text));
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(header::HeaderValue::as_bytes);
    let named = uri.authority().map(|named| named.as_str().as_bytes());
    // HTTP/1.0 knows no such header, and HTTP/2 has the name in the address.
    if host.is_none() && version == Version::HTTP_11 {
        return wrong("there is no header Host");
    }
    if hosts.next().is_some() {
        return wrong("the header Host is there twice");
    }
    if ![host, named].into_iter().flatten().all(names_server) {
        return wrong("what names the server is no name or address with a port or none");
    }
    if version == Version::HTTP_2
        && let (Some(host), Some(named)) = (host, named)
        && !host.eq_ignore_ascii_case(named)
    {
        return wrong("the header Host names another server than the address");
    }
    only_chunked(headers)
}

/// Whether this is a name or an address, and perhaps a port: what stands before an `@` is nobody's name, and what is no number is
/// no port.
fn names_server(text: &[u8]) -> bool {
    let colon = text.iter().rposition(|byte| *byte == b':');
    let port = match colon.filter(|_| text.last() != Some(&b']')) {
        Some(colon) => &text[colon + 1..],
        None => b"",
    };
    !text.contains(&b'@') && port.iter().all(u8::is_ascii_digit)
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
        status_at(&Uri::from_static("/"), version, fields)
    }

    fn status_at(
        uri: &Uri,
        version: Version,
        fields: &[(header::HeaderName, &'static str)],
    ) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, header::HeaderValue::from_static(value));
        }
        check(version, uri, &headers).map_or_else(|problem| problem.status().as_u16(), |()| 200)
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
    fn what_names_the_server_is_a_name_and_a_port() {
        for (host, expected) in [
            ("", 200),
            ("localhost", 200),
            ("localhost:80", 200),
            ("localhost:", 200),
            ("[::1]", 200),
            ("[::1]:8000", 200),
            ("localhost:80@evil.example", 400),
            ("evil.example@localhost", 400),
            ("localhost:80/evil", 400),
            ("localhost:x", 400),
        ] {
            let got = status(Version::HTTP_11, &[(header::HOST, host)]);
            assert_eq!(got, expected, "{host}");
        }
        let uri = Uri::from_static("https://a@localhost/");
        assert_eq!(status_at(&uri, Version::HTTP_2, &[]), 400);
    }

    #[test]
    fn over_http_2_a_host_beside_the_address_is_the_same() {
        let uri = Uri::from_static("https://localhost:8000/");
        for (version, host, expected) in [
            (Version::HTTP_2, "LOCALHOST:8000", 200),
            (Version::HTTP_2, "localhost", 400),
            (Version::HTTP_2, "evil.example", 400),
            // There the address is what counts (RFC 9112, 3.2.2).
            (Version::HTTP_11, "evil.example", 200),
        ] {
            let got = status_at(&uri, version, &[(header::HOST, host)]);
            assert_eq!(got, expected, "{version:?} {host}");
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
