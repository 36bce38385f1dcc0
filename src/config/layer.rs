//! [`Layer`]: what one source says of the settings, before anything is known of their ranges.
//!
//! The file, the environment and the flags each become a layer; one laid over the other, they are read in one place
//! (`reader`), so every source is checked alike.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, Origin, Surroundings};
use crate::task::shown_text;

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    /// A whole number.
    Number,
    /// A whole number, or text with a unit.
    Size,
    /// Text with units.
    Length,
    List,
    /// A table of users and their scopes; a list of `user=scope+scope` elsewhere.
    Users,
}

/// Every setting, by its name in the file. `table.key` stands in `[table]`.
pub(super) const KEYS: [(&str, Kind); 56] = [
    ("admin.users", Kind::Users),
    ("admin_group", Kind::Text),
    ("admin_socket", Kind::Text),
    ("body_timeout", Kind::Length),
    ("checkpoint_bytes", Kind::Size),
    ("data_dir", Kind::Text),
    ("defaults.backoff.base", Kind::Length),
    ("defaults.backoff.max", Kind::Length),
    ("defaults.lease", Kind::Length),
    ("defaults.max_attempts", Kind::Number),
    ("durability", Kind::Text),
    ("header_timeout", Kind::Length),
    ("hosts", Kind::List),
    ("idle_timeout", Kind::Length),
    ("insecure", Kind::Bool),
    ("journal_segment", Kind::Size),
    ("legacy_lease", Kind::Length),
    ("listen", Kind::List),
    ("log_format", Kind::Text),
    ("log_level", Kind::Text),
    ("max_body", Kind::Size),
    ("max_connections", Kind::Number),
    ("max_connections_per_address", Kind::Number),
    ("max_depth", Kind::Number),
    ("max_head", Kind::Size),
    ("max_headers", Kind::Number),
    ("max_in_flight", Kind::Size),
    ("max_listeners", Kind::Number),
    ("max_memory", Kind::Size),
    ("max_payload", Kind::Size),
    ("max_queue_tasks", Kind::Number),
    ("max_queues", Kind::Number),
    ("max_spool", Kind::Size),
    ("max_submitting", Kind::Size),
    ("max_tasks", Kind::Number),
    ("max_unique_keys", Kind::Number),
    ("max_url", Kind::Size),
    ("max_wait", Kind::Length),
    ("max_waiting", Kind::Number),
    ("max_workers", Kind::Number),
    ("payload_cache", Kind::Size),
    ("reader_timeout", Kind::Length),
    ("request_burst", Kind::Number),
    ("request_rate", Kind::Number),
    ("rescan_every", Kind::Length),
    ("retention.done", Kind::Length),
    ("spool_delay", Kind::Length),
    ("sync_interval", Kind::Length),
    ("tls.certificate", Kind::Text),
    ("tls.client_ca", Kind::Text),
    ("tls.handshake_timeout", Kind::Length),
    ("tls.key", Kind::Text),
    ("token_burst", Kind::Number),
    ("token_rate", Kind::Number),
    ("tokens", Kind::Text),
    ("with_worker", Kind::Bool),
];

/// The tables that settings stand in.
const TABLES: [&str; 5] = ["admin", "defaults", "defaults.backoff", "retention", "tls"];

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Integer(i128),
    List(Vec<String>),
}

/// Settings of one source, or of several laid over each other.
#[derive(Debug, Default)]
pub(super) struct Layer(BTreeMap<&'static str, (Value, Origin)>);

impl Layer {
    /// Sets `key` as the flag `--flag` has it.
    pub(super) fn flag(&mut self, key: &'static str, flag: &'static str, value: Value) {
        self.0.insert(key, (value, Origin::Flag(flag)));
    }

    /// Lays `over` on top of this one.
    pub(super) fn cover(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    /// What was said of `key`, left where it is.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.0.get(key).map(|(value, _)| value)
    }

    /// What was said of `key`.
    pub(super) fn take(&mut self, key: &str) -> Option<(Value, Origin)> {
        self.0.remove(key)
    }

    /// What the variables of the environment say.
    pub(super) fn from_environment(surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for (key, kind) in KEYS {
            let name = format!("WORKQUEUE_{}", key.replace('.', "_").to_uppercase());
            let Some(text) = surroundings.var(&name) else {
                continue;
            };
            let origin = Origin::Environment(name);
            let invalid = |reason: &str| ConfigError::Invalid {
                origin: origin.clone(),
                key,
                reason: reason.to_owned(),
            };
            let text = text.into_string().map_err(|_| invalid("is not UTF-8"))?;
            let value = match kind {
                Kind::Text | Kind::Length | Kind::Size => Value::Text(text),
                Kind::Bool => Value::Bool(match text.as_str() {
                    "true" | "1" | "yes" => true,
                    "false" | "0" | "no" => false,
                    _ => return Err(invalid("must be true or false")),
                }),
                Kind::Number => Value::Integer(
                    text.parse()
                        .map_err(|_| invalid("must be a whole number"))?,
                ),
                Kind::List | Kind::Users => {
                    Value::List(text.split(',').map(|one| one.trim().to_owned()).collect())
                }
            };
            layer.0.insert(key, (value, origin));
        }
        Ok(layer)
    }

    /// What the text of a file says.
    pub(super) fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file = File {
            text,
            path: Arc::new(path.to_owned()),
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: file.origin(error.span().map_or(0, |span| span.start)),
            reason: shown_text(&error.message().lines().collect::<Vec<_>>().join(", ")),
        })?;
        let mut found = Vec::new();
        File::flatten("", table.get_ref(), &mut found);
        // The parser sorts by key; a reader wants the first mistake of the file.
        found.sort_by_key(|entry| entry.offset);
        let mut layer = Self::default();
        for entry in found {
            let (key, kind) = file.known(&entry)?;
            let origin = file.origin(entry.offset);
            let value = convert(kind, entry.value).map_err(|reason| ConfigError::Invalid {
                origin: origin.clone(),
                key,
                reason: reason.to_owned(),
            })?;
            layer.0.insert(key, (value, origin));
        }
        Ok(layer)
    }
}

struct File<'a> {
    text: &'a str,
    path: Arc<std::path::PathBuf>,
}

struct Entry<'a> {
    key: String,
    offset: usize,
    value: &'a DeValue<'a>,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Origin::File {
            path: Arc::clone(&self.path),
            line: before.split(|byte| *byte == b'\n').count(),
        }
    }

    fn flatten<'t>(prefix: &str, table: &'t DeTable<'t>, found: &mut Vec<Entry<'t>>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let inside = format!("{key}.");
            match value.get_ref() {
                DeValue::Table(inner)
                    if KEYS.iter().any(|(known, _)| known.starts_with(&inside)) =>
                {
                    Self::flatten(&inside, inner, found);
                }
                other => found.push(Entry {
                    key,
                    offset: name.span().start,
                    value: other,
                }),
            }
        }
    }

    fn known(&self, entry: &Entry<'_>) -> Result<(&'static str, Kind), ConfigError> {
        if let Some(key) = TABLES.into_iter().find(|table| *table == entry.key) {
            return Err(ConfigError::Invalid {
                origin: self.origin(entry.offset),
                key,
                reason: format!("is a table; write [{key}], and its settings below"),
            });
        }
        KEYS.into_iter()
            .find(|(known, _)| *known == entry.key)
            .ok_or_else(|| ConfigError::Unknown {
                origin: self.origin(entry.offset),
                key: shown_text(&entry.key),
                nearest: nearest(&entry.key),
            })
    }
}

/// The setting that was probably meant: at most a third of the letters differ, or it is the same key in a table.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next() == key.rsplit('.').next();
    let names = || {
        TABLES
            .into_iter()
            .chain(KEYS.into_iter().map(|(name, _)| name))
    };
    // As many letters differ at least as one has more than the other; to count those of a very long key takes long.
    let may_be_near = |name: &&str| key.len().abs_diff(name.len()) * 3 <= name.len();
    names()
        .filter(may_be_near)
        .map(|name| (strsim::damerau_levenshtein(key, name), name))
        .filter(|(distance, name)| distance * 3 <= name.len())
        .min()
        .map(|(_, name)| name)
        .or_else(|| names().find(|name| last(name)))
}

const USERS: &str = "must be a table of users, like backup = [\"read\"]";

fn convert(kind: Kind, value: &DeValue<'_>) -> Result<Value, &'static str> {
    match (kind, value) {
        (Kind::Text | Kind::Length | Kind::Size, DeValue::String(text)) => {
            Ok(Value::Text(text.clone().into_owned()))
        }
        (Kind::Bool, DeValue::Boolean(on)) => Ok(Value::Bool(*on)),
        (Kind::Number | Kind::Size, DeValue::Integer(number)) => {
            i128::from_str_radix(number.as_str(), number.radix())
                .map(Value::Integer)
                .map_err(|_| "the number is too large")
        }
        (Kind::List, DeValue::Array(values)) => values
            .iter()
            .map(|one| match one.get_ref() {
                DeValue::String(text) => Ok(text.clone().into_owned()),
                _ => Err("must be a list of texts, like [\"127.0.0.1:5000\"]"),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Kind::Users, DeValue::Table(users)) => users
            .iter()
            .map(|(user, scopes)| {
                let scopes = match convert(Kind::List, scopes.get_ref()) {
                    Ok(Value::List(scopes)) => scopes.join("+"),
                    _ => return Err(USERS),
                };
                Ok(format!("{}={scopes}", user.get_ref()))
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Kind::Users, _) => Err(USERS),
        (Kind::Text, _) => Err("must be text in quotes"),
        (Kind::Length, _) => Err("must be text with a unit, like \"30s\""),
        (Kind::Size, _) => Err("must be a number of bytes, or text with a unit, like \"1MiB\""),
        (Kind::Bool, _) => Err("must be true or false"),
        (Kind::Number, _) => Err("must be a whole number"),
        (Kind::List, _) => Err("must be a list of texts, like [\"127.0.0.1:5000\"]"),
    }
}
