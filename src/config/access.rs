//! What is said of who may do what: where the tokens are, which users of this machine may use the admin socket, and what the
//! server is called.

use std::path::PathBuf;

use super::{
    ConfigError, Origin, Surroundings, connections, is_account, limits,
    reader::{Found, Reader},
};
use crate::access::{Scope, Scopes};

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The file of tokens. Absolute. None: who reaches the port may do everything.
    pub tokens: Option<PathBuf>,
    /// Requests a second with one token; zero: any number.
    pub token_rate: u64,
    /// Requests at once with one token.
    pub token_burst: u64,
    /// The names of the server, besides `localhost`, addresses and the machine's own name. `*`: any.
    pub hosts: Vec<String>,
    /// Users of this machine, by name or number, and what they may do on the admin socket.
    pub users: Vec<(String, Scopes)>,
}

impl Access {
    pub(super) fn read(
        from: &mut Reader,
        surroundings: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let none: Found<String> = (String::new(), Origin::Default);
        let tokens = from.text("tokens", none, |text| {
            connections::place(text, surroundings)
        })?;
        Ok(Self {
            tokens: tokens.0,
            token_rate: from.number("token_rate", limits::TOKEN_RATE, limits::REQUEST_RATES)?,
            token_burst: from.number(
                "token_burst",
                limits::REQUEST_BURST,
                limits::REQUEST_BURSTS,
            )?,
            hosts: from.list("hosts", Vec::new(), host)?.0,
            users: from.list("admin.users", Vec::new(), user)?.0,
        })
    }
}

fn host(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if text == "*" || !text.is_empty() && text.len() <= 253 && text.bytes().all(fits) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is no name of a server; write one like \"queue.example.org\", without a port, or \"*\" for any"
    ))
}

/// Reads `user=scope+scope`.
fn user(text: &str) -> Result<(String, Scopes), String> {
    let (name, scopes) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} names no scopes; write it like \"backup=read\""))?;
    if !is_account(name) {
        return Err(format!("{name:?} is no name of a user"));
    }
    let scopes = scopes
        .split('+')
        .map(|scope| Scope::parse(scope).map_err(|reason| format!("{name}: {reason}")))
        .collect::<Result<_, _>>()?;
    Ok((name.to_owned(), scopes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_scopes_and_a_host_is_a_name() {
        let (name, scopes) = user("backup=read+submit").unwrap();
        assert_eq!(
            (name.as_str(), scopes.to_string().as_str()),
            ("backup", "submit+read")
        );
        for text in ["backup", "backup=", "=read", "a b=read", "backup=write"] {
            assert!(user(text).is_err(), "{text}");
        }
        assert_eq!(host("Queue.Example.org").unwrap(), "queue.example.org");
        for text in ["", "a:1", "http://a", "a/b"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
