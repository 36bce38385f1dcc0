//! [`Tokens`]: the tokens that are known, as hashes.
//!
//! A token is 256 random bits, so there is nothing to guess and nothing to slow a guesser down for: a plain SHA-256 keeps
//! what is written down useless to whoever reads it, and costs a request less than a microsecond. (Passwords would need
//! argon2, and milliseconds.)

use std::{collections::HashSet, fmt, ops::Range, sync::Arc};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{Grant, QueuePattern, Scope, Scopes};
use crate::task::shown_text;

/// What every token begins with, so that scanners for leaked secrets know one.
const PREFIX: &str = "wq_";
/// The longest name of a token, in bytes.
const MAX_NAME: usize = 64;

/// A token as its holder has it.
pub struct Secret(String);

impl fmt::Debug for Secret {
    /// It is a secret: not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new one: 256 random bits of the kernel's.
    ///
    /// # Errors
    ///
    /// The kernel has none to give.
    pub fn new() -> Result<Self, String> {
        let mut bits = [0; 32];
        SystemRandom::new()
            .fill(&mut bits)
            .map_err(|_| "the system gives no random bits".to_owned())?;
        Ok(Self(format!("{PREFIX}{}", hex(&bits))))
    }

    /// As it is shown to its holder, once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Why a text of tokens can't be used, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TokensError {
    line: usize,
    reason: String,
}

/// The tokens that are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<(Option<Fingerprint>, Arc<Grant>)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<toml::Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: Option<String>,
    scopes: Vec<String>,
    queues: Option<Vec<String>>,
}

impl Tokens {
    /// Reads the text of a file of tokens: `[[token]]` tables with `name`, `sha256`, `scopes`, and `queues` where it is
    /// limited to some. One without `sha256` is for a client certificate of its name.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let at = |span: Option<Range<usize>>, reason: String| {
            let before = &text.as_bytes()[..span.map_or(0, |span| span.start).min(text.len())];
            TokensError {
                line: before.split(|byte| *byte == b'\n').count(),
                // It may repeat a name that somebody chose.
                reason: shown_text(&reason),
            }
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            at(error.span(), reason)
        })?;
        let mut names = HashSet::new();
        let mut prints = HashSet::new();
        let mut tokens = Vec::new();
        for entry in file.token {
            let span = entry.span();
            let one = read(entry.into_inner()).map_err(|reason| at(Some(span.clone()), reason))?;
            if !names.insert(Arc::clone(&one.1.name)) {
                let reason = format!("there is another token of the name {:?}", one.1.name);
                return Err(at(Some(span), reason));
            }
            if one.0.is_some_and(|print| !prints.insert(print)) {
                let reason = format!("{:?} has the sha256 of another token", one.1.name);
                return Err(at(Some(span), reason));
            }
            tokens.push(one);
        }
        Ok(Self(tokens))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: nobody is let in then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the token with this hash grants. All are looked at, so that the time tells nothing of which it was, or how
    /// much of one was right.
    #[must_use]
    pub fn find(&self, print: &Fingerprint) -> Option<&Arc<Grant>> {
        let mut found = u64::MAX;
        for (index, (one, _)) in (0_u64..).zip(&self.0) {
            let same = one.map_or(Choice::from(0), |one| one.0.ct_eq(&print.0));
            found.conditional_assign(&index, same);
        }
        let index = usize::try_from(found).ok()?;
        self.0.get(index).map(|(_, grant)| grant)
    }

    /// What the holder of a certificate of this name may do.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Grant>> {
        self.0
            .iter()
            .map(|(_, grant)| grant)
            .find(|grant| &*grant.name == name)
    }

    /// Whether the token of this name is the same in both, and grants the same.
    #[must_use]
    pub fn keeps(&self, before: &Self, name: &str) -> bool {
        let entry = |tokens: &'_ Self| {
            let mut entries = tokens.0.iter();
            entries.find(|(_, grant)| &*grant.name == name).cloned()
        };
        entry(self).is_some_and(|now| Some(now) == entry(before))
    }

    /// What each of them grants, in the order of the file.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().map(|(_, grant)| &**grant)
    }

    /// `text`, which these were read from, without the table of `name`: all from its `[[token]]` to the next one, or to the
    /// end. Comments above a table stay with the one before it.
    #[must_use]
    pub fn without(&self, text: &str, name: &str) -> String {
        let place = self.0.iter().position(|(_, grant)| &*grant.name == name);
        let mut table = 0;
        let mut kept = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            if line.trim_start().starts_with("[[token]]") {
                table += 1;
            }
            if place.is_none_or(|place| table != place + 1) {
                kept.push_str(line);
            }
        }
        kept
    }
}

/// The token in the text of a file: what is there besides space around it.
///
/// # Errors
///
/// There is none.
pub fn token_in(text: &str) -> Result<Arc<str>, &'static str> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds no token");
    }
    Ok(token.into())
}

fn read(entry: Entry) -> Result<(Option<Fingerprint>, Arc<Grant>), String> {
    check_name(&entry.name)?;
    let print = entry.sha256.map(|text| {
        Fingerprint::parse(&text).ok_or_else(|| "sha256: must be 64 hexadecimal digits".to_owned())
    });
    let scopes: Scopes = entry
        .scopes
        .iter()
        .map(|text| Scope::parse(text).map_err(|reason| format!("scopes: {reason}")))
        .collect::<Result<_, _>>()?;
    if scopes == Scopes::default() {
        return Err("scopes: must name at least one of submit, work, read and admin".to_owned());
    }
    let queues = entry.queues.map(|queues| {
        queues
            .iter()
            .map(|text| QueuePattern::parse(text).map_err(|reason| format!("queues: {reason}")))
            .collect::<Result<_, _>>()
    });
    let grant = Grant {
        name: entry.name.into(),
        scopes,
        queues: queues.transpose()?,
    };
    Ok((print.transpose()?, Arc::new(grant)))
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
        return Err(format!(
            "name: {name:?} is no name of a token: 1 to {MAX_NAME} letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// The table of a token as [`Tokens::parse`] reads it.
///
/// # Errors
///
/// What is wrong with the name, the scopes or the queues.
pub fn entry(
    name: &str,
    print: &Fingerprint,
    scopes: &[String],
    queues: &[String],
) -> Result<String, String> {
    let list = |items: &[String]| {
        let quoted: Vec<_> = items.iter().map(|one| format!("\"{one}\"")).collect();
        quoted.join(", ")
    };
    // Read first: what is quoted below has no letter then that would need more than that.
    read(Entry {
        name: name.to_owned(),
        sha256: None,
        scopes: scopes.to_vec(),
        queues: (!queues.is_empty()).then(|| queues.to_vec()),
    })?;
    let mut text = format!(
        "[[token]]\nname = \"{name}\"\nsha256 = \"{print}\"\nscopes = [{}]\n",
        list(scopes)
    );
    if !queues.is_empty() {
        text = format!("{text}queues = [{}]\n", list(queues));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_token_is_found_by_its_hash_and_no_other_is() {
        let (first, second) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_ne!(first.reveal(), second.reveal());
        let text = entry(
            "deploy",
            &first.fingerprint(),
            &owned(&["submit", "read"]),
            &owned(&["mail-*"]),
        )
        .unwrap()
            + &entry("ops", &second.fingerprint(), &owned(&["admin"]), &[]).unwrap();
        let tokens = Tokens::parse(&text).unwrap();
        assert_eq!(tokens.len(), 2);
        let grant = tokens.find(&Fingerprint::of(first.reveal())).unwrap();
        assert_eq!(
            (&*grant.name, grant.scopes.to_string().as_str()),
            ("deploy", "submit+read")
        );
        assert!(grant.reaches("mail-eu") && !grant.reaches("default"));
        let grant = tokens.find(&second.fingerprint()).unwrap();
        assert!(grant.reaches("default"));
        assert_eq!(tokens.named("ops"), Some(grant));
        let left = tokens.without(&text, "deploy");
        assert_eq!(left, text[text.rfind("[[token]]").unwrap()..]);
        for wrong in ["", "wq_", &first.reveal()[1..], "ops"] {
            assert_eq!(tokens.find(&Fingerprint::of(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn the_hash_is_that_of_others() {
        // FIPS 180-4, example of "abc".
        let print = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::of("abc").to_string(), print);
        assert_eq!(Fingerprint::parse(print), Some(Fingerprint::of("abc")));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        let good = "[[token]]\nname = \"a\"\nscopes = [\"read\"]\n";
        assert_eq!(Tokens::parse("").unwrap().len(), 0);
        for (text, told) in [
            (
                format!("{good}{good}"),
                "line 4: there is another token of the name \"a\"",
            ),
            (
                "\n[[token]]\nname = \"a b\"\nscopes = [\"read\"]\n".to_owned(),
                "line 2: name:",
            ),
            (
                good.replace("read", "write"),
                "line 1: scopes: \"write\" is no scope",
            ),
            (good.replace("\"read\"", ""), "line 1: scopes: must name"),
            (format!("{good}sha256 = \"12\"\n"), "line 1: sha256:"),
            (
                format!("{good}queues = [\"A\"]\n"),
                "line 1: queues: \"A\" names no queues",
            ),
            (
                format!("{good}queue = [\"a\"]\n"),
                "line 4: unknown field `queue`",
            ),
            ("[[token]\n".to_owned(), "line 1:"),
        ] {
            let error = Tokens::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
