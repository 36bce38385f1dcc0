//! What is said of connections: where they come in, by which certificate, and what they are held to.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    ConfigError, Origin, Surroundings, limits,
    reader::{Reader, invalid},
};
use crate::task::Millis;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Where. Port 0 stands for one that is free.
    pub address: SocketAddr,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl Listen {
    /// Whether other machines may reach it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Reads `ADDRESS:PORT`, `http://ADDRESS:PORT` or `https://ADDRESS:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (tls, place) = match text.split_once("://") {
            None => (false, text),
            Some(("http", place)) => (false, place),
            Some(("https", place)) => (true, place),
            Some((scheme, _)) => {
                return Err(format!(
                    "{text:?} begins with {scheme}://; write http:// or https://"
                ));
            }
        };
        let place = place.trim_end_matches('/');
        let numeric = place
            .strip_prefix("localhost:")
            .map_or_else(|| place.to_owned(), |port| format!("127.0.0.1:{port}"));
        let address = numeric.parse().map_err(|_| {
            format!(
                "{text:?} is no address; write ADDRESS:PORT, like 127.0.0.1:5000 or [::1]:5000, and https:// before it for TLS"
            )
        })?;
        Ok(Self { address, tls })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls {
            f.write_str("https://")?;
        }
        self.address.fmt(f)
    }
}

/// Where certificate and key of the TLS listeners are. All absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
}

/// What connections are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// The most at once.
    pub most: u64,
    /// The most at once from one address.
    pub most_per_address: u64,
    /// How long a client may take over a request's head.
    pub header_timeout: Millis,
    /// How long a connection may be kept without a request.
    pub idle_timeout: Millis,
    /// How long a body may take; of a long one, each 16 KiB of it.
    pub body_timeout: Millis,
    /// How long a client may read nothing of an answer that is too long for the kernel's buffers.
    pub reader_timeout: Millis,
    /// How long a handshake of TLS may take.
    pub handshake_timeout: Millis,
    /// The longest head of a request in bytes.
    pub max_head: u64,
    /// The most header fields of a request.
    pub max_headers: u64,
    /// The longest path and query of a request in bytes.
    pub max_url: u64,
    /// Requests a second from one address; zero: any number.
    pub request_rate: u64,
    /// Requests at once from one address.
    pub request_burst: u64,
}

impl Connections {
    pub(super) fn read(from: &mut Reader) -> Result<Self, ConfigError> {
        Ok(Self {
            most: from.number(
                "max_connections",
                limits::MAX_CONNECTIONS,
                limits::MAX_CONNECTIONS_RANGE,
            )?,
            most_per_address: from.number(
                "max_connections_per_address",
                limits::MAX_CONNECTIONS,
                limits::MAX_CONNECTIONS_RANGE,
            )?,
            header_timeout: from
                .length(
                    "header_timeout",
                    limits::HEADER_TIMEOUT,
                    limits::HEADER_TIMEOUTS,
                )?
                .0,
            idle_timeout: from
                .length("idle_timeout", limits::IDLE_TIMEOUT, limits::IDLE_TIMEOUTS)?
                .0,
            body_timeout: from
                .length(
                    "body_timeout",
                    limits::BODY_TIMEOUT,
                    limits::HEADER_TIMEOUTS,
                )?
                .0,
            reader_timeout: from
                .length(
                    "reader_timeout",
                    limits::READER_TIMEOUT,
                    limits::HEADER_TIMEOUTS,
                )?
                .0,
            handshake_timeout: from
                .length(
                    "tls.handshake_timeout",
                    limits::HANDSHAKE_TIMEOUT,
                    limits::HEADER_TIMEOUTS,
                )?
                .0,
            max_head: from
                .size("max_head", limits::MAX_HEAD, limits::MAX_HEADS)?
                .0,
            max_headers: from.number(
                "max_headers",
                limits::MAX_HEADERS,
                limits::MAX_HEADERS_RANGE,
            )?,
            max_url: from.size("max_url", limits::MAX_URL, limits::MAX_URLS)?.0,
            request_rate: from.number(
                "request_rate",
                limits::REQUEST_RATE,
                limits::REQUEST_RATES,
            )?,
            request_burst: from.number(
                "request_burst",
                limits::REQUEST_BURST,
                limits::REQUEST_BURSTS,
            )?,
        })
    }
}

/// Certificate and key, if TLS is to be spoken; an address of `listen` that asks for it needs both.
pub(super) fn tls(
    from: &mut Reader,
    surroundings: &Surroundings,
    (listen, wanted): (&[Listen], Origin),
) -> Result<Option<TlsSettings>, ConfigError> {
    let mut file = |key| {
        let none = (String::new(), Origin::Default);
        from.text(key, none, |text| place(text, surroundings))
            .map(|(path, origin)| (key, path, origin))
    };
    let (certificate, key) = (file("tls.certificate")?, file("tls.key")?);
    let client_ca = file("tls.client_ca")?;
    // What is missing is written nowhere: what asks for it is.
    let missing = |(key, _, origin): (&'static str, Option<PathBuf>, Origin),
                   asks: Origin,
                   reason: &str| Err(invalid(key, origin.or(asks), reason));
    match (certificate.1.clone(), key.1.clone()) {
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings {
            certificate,
            key,
            client_ca: client_ca.1,
        })),
        (Some(_), None) => missing(
            key,
            certificate.2,
            "is missing, and there is tls.certificate",
        ),
        (None, Some(_)) => missing(certificate, key.2, "is missing, and there is tls.key"),
        (None, None) if client_ca.1.is_some() => missing(
            certificate,
            client_ca.2,
            "is missing, and there is tls.client_ca",
        ),
        (None, None) => match listen.iter().find(|one| one.tls) {
            Some(one) => missing(
                certificate,
                wanted,
                &format!(
                    "is missing, and listen has {one}: a certificate and its key are needed for that"
                ),
            ),
            None => Ok(None),
        },
    }
}

/// The file that `text` names; none for the empty text.
pub(super) fn place(text: &str, surroundings: &Surroundings) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(name) = text.strip_prefix("credential:") {
        if name.is_empty() || name.contains('/') {
            return Err(format!("{name:?} is no name of a credential"));
        }
        let directory = surroundings.var("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            format!("the service manager passes no credentials; give the unit LoadCredential={name}:FILE")
        })?;
        return Ok(Some(Path::new(&directory).join(name)));
    }
    if !text.starts_with('/') {
        return Err(format!("{text:?} must begin with / or with credential:"));
    }
    Ok(Some(PathBuf::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_tls_is_spoken_there() {
        for (text, tls, shown) in [
            ("127.0.0.1:5000", false, "127.0.0.1:5000"),
            ("http://localhost:5000/", false, "127.0.0.1:5000"),
            ("https://[::]:5443", true, "https://[::]:5443"),
        ] {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.tls, listen.to_string().as_str()), (tls, shown));
        }
        for text in [
            "ftp://127.0.0.1:21",
            "https://",
            "https://example.org:1",
            "",
        ] {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }
}
