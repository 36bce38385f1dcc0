//! Who may do what: scopes, the queues that they reach, and the tokens that grant them.
//!
//! Knows neither how a credential comes (a header, a cookie, a certificate, a Unix socket) nor where tokens are kept.

mod tokens;

use std::{fmt, sync::Arc};

pub use tokens::{Fingerprint, Secret, Tokens, TokensError, entry, token_in};

use crate::task::QueueName;

/// One thing that may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Bringing tasks.
    Submit,
    /// Claiming tasks and ending their leases.
    Work,
    /// Seeing tasks, queues, numbers and events.
    Read,
    /// All of these, and what changes or removes tasks, queues and the daemon.
    Admin,
}

impl Scope {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Work, Self::Read, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Work => "work",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// A text that lists the names there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| {
                format!("{text:?} is no scope; the scopes are submit, work, read and admin")
            })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ADMIN: Self = Self(1 << Scope::Admin as u8);

    /// Whether `scope` is among them; `admin` brings all.
    #[must_use]
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (Self::ADMIN.0 | 1 << scope as u8) != 0
    }

    /// The names of those that were given; what `admin` brings is not among them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Scope::ALL
            .into_iter()
            .filter(move |one| self.0 & (1 << *one as u8) != 0)
            .map(Scope::as_str)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, one| set | 1 << one as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join("+"))
    }
}

/// Which queues are meant: a name in which `*` stands for any letters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePattern(Box<str>);

impl QueuePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A text that says what a pattern is.
    pub fn parse(text: &str) -> Result<Self, String> {
        // What is left when each star stands for one letter must be the name of a queue.
        let sample = text.replace('*', "x");
        if QueueName::parse(&sample).is_err() {
            return Err(format!(
                "{text:?} names no queues: write a queue's name, in which * stands for any letters"
            ));
        }
        Ok(Self(text.into()))
    }

    /// Whether `queue` is one of them.
    #[must_use]
    pub fn matches(&self, queue: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = queue.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            // The first place is the best one: it leaves most for the parts behind.
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for QueuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is: the name of a token, or of a user.
    pub name: Arc<str>,
    /// What is allowed.
    pub scopes: Scopes,
    /// The queues to which that is limited; none: all of them, and the daemon as a whole.
    pub queues: Option<Box<[QueuePattern]>>,
}

impl Grant {
    /// Everything, for one of this name.
    #[must_use]
    pub fn all(name: &str) -> Self {
        Self {
            name: name.into(),
            scopes: Scopes::ADMIN,
            queues: None,
        }
    }

    /// Whether it reaches `queue`. What is no name of a queue may be another way to write one, and is not reached by a grant
    /// that is limited.
    #[must_use]
    pub fn reaches(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| {
            queues.iter().any(|one| one.matches(queue)) && QueueName::parse(queue).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_brings_all_scopes_and_the_others_only_themselves() {
        for held in Scope::ALL {
            let scopes: Scopes = [held].into_iter().collect();
            for asked in Scope::ALL {
                let allowed = held == asked || held == Scope::Admin;
                assert_eq!(scopes.allow(asked), allowed, "{held} {asked}");
            }
        }
        assert!(!Scopes::default().allow(Scope::Read));
        let two: Scopes = [Scope::Read, Scope::Submit].into_iter().collect();
        assert_eq!(two.to_string(), "submit+read");
    }

    #[test]
    fn a_star_stands_for_any_letters_or_none() {
        for (pattern, fits, others) in [
            ("mail", &["mail"][..], &["mai", "mails", "amail"][..]),
            ("*", &["a", "default"], &[]),
            ("mail-*", &["mail-", "mail-a.b"], &["mail", "xmail-a"]),
            ("*.eu", &["a.eu", ".eu"], &["a.eux", "eu"]),
            ("a*b*c", &["abc", "axbxc", "abcbc"], &["ab", "acb", "axbx"]),
            ("a*a", &["aa", "aba"], &["a"]),
        ] {
            let pattern = QueuePattern::parse(pattern).unwrap();
            for queue in fits {
                assert!(pattern.matches(queue), "{pattern:?} {queue}");
            }
            for queue in others {
                assert!(!pattern.matches(queue), "{pattern:?} {queue}");
            }
        }
        for text in ["", "Mail", "a b", "a/*", "\u{1b}"] {
            assert!(QueuePattern::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn another_way_to_write_a_queue_is_not_reached() {
        let grant = |pattern| Grant {
            queues: Some([QueuePattern::parse(pattern).unwrap()].into()),
            ..Grant::all("a")
        };
        assert!(grant("*4").reaches("mail4") && !grant("*4").reaches("mail"));
        assert!(!grant("*4").reaches("defaul%74"), "it is default");
        assert!(!grant("*").reaches("defaul%74"));
    }
}
