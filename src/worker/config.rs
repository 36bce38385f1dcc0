//! [`Config`]: one checked value from flags, environment, file and defaults, in this order of strength.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::Args;
use crate::{
    access::token_in,
    client::{Endpoint, TlsFiles},
    config::text,
    systemd::logging::Format,
    task::{Millis, Options, QueueName, Refusal, shown_text},
};

const SYSTEM_FILE: &str = "/etc/workqueue/workqueue-worker.toml";
const USER_FILE: &str = "workqueue/workqueue-worker.toml";
/// The name of the credential that holds the token to show to the daemon.
const CREDENTIAL: &str = "workqueue.token";
/// Users below are the system's (`SYS_UID_MAX` of login.defs is 999 everywhere).
const FIRST_ORDINARY_UID: u32 = 1000;

/// What a worker does and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the daemon is.
    pub url: Endpoint,
    /// The certificates to trust and to show where the daemon is spoken to over TLS.
    pub tls: TlsFiles,
    /// What is shown to the daemon, where it asks for a token.
    pub token: Option<Arc<str>>,
    /// From which queues tasks are claimed; never empty.
    pub queues: Vec<QueueName>,
    /// Tasks at once, 1 to 1000.
    pub concurrency: u32,
    /// How long a lease lasts; it is extended while a handler runs, at each third.
    pub lease: Millis,
    /// How long running handlers may go on after a stop.
    pub shutdown_grace: Millis,
    /// The pause between the end of a task and the next claim.
    pub delay: Millis,
    /// Whether to end when nothing is due.
    pub until_empty: bool,
    /// What is done with a task.
    pub handler: HandlerConfig,
    /// What is logged: a level or directives.
    pub log_level: String,
    /// How lines of the log look, and where they go.
    pub log_format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Endpoint::Http("http://localhost:5000".to_owned()),
            tls: TlsFiles::default(),
            token: None,
            queues: vec![QueueName::default()],
            concurrency: 1,
            lease: Millis::from_secs(60),
            shutdown_grace: Millis::from_secs(30),
            delay: Millis(0),
            until_empty: false,
            handler: HandlerConfig::Log(LogConfig { logfile: None }),
            log_level: "info".to_owned(),
            log_format: Format::Auto,
        }
    }
}

/// What is done with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerConfig {
    /// The payload becomes a line of a file.
    Log(LogConfig),
    /// A program is run.
    Exec(ExecConfig),
    /// The payload is posted to a URL.
    Http(HttpConfig),
}

/// Settings of the `log` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The file; `None`: stdout.
    pub logfile: Option<PathBuf>,
}

/// Settings of the `exec` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecConfig {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// How long an attempt may take; `None`: as long as it likes.
    pub timeout: Option<Millis>,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
}

/// Settings of the `http` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to: `http` or `https`.
    pub url: http::Uri,
    /// How long an attempt may take.
    pub timeout: Millis,
}

impl HttpConfig {
    /// The timeout where none is set.
    pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(30);
}

/// A configuration that can't be used, in one line: the file, the line and the key, or the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file that `args` names, or the default one if it is there, and lays `args` over it.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let default = default_file();
        let mut config = match (&args.config, &args.instance, default) {
            (Some(path), _, _) => Self::parse(path, &read(path)?)?,
            (None, None, Some(path)) if path.exists() => Self::parse(&path, &read(&path)?)?,
            (None, Some(name), Some(path)) => Self::of_instance(name, &path)?,
            (None, Some(name), None) => Self::of_queue(name),
            (None, None, _) => Self::default(),
        };
        if config.token.is_none() {
            config.token = credential()?;
        }
        Ok(config.overlaid(args))
    }

    /// What `workers/NAME.toml` beside `default` says; else what `default` says, for the queue NAME.
    fn of_instance(name: &QueueName, default: &Path) -> Result<Self, ConfigError> {
        let own = default.with_file_name(format!("workers/{name}.toml"));
        if own.exists() {
            return Self::parse(&own, &read(&own)?);
        }
        if default.exists() {
            let queues = vec![name.clone()];
            let config = Self::parse(default, &read(default)?)?;
            return Ok(Self { queues, ..config });
        }
        Ok(Self::of_queue(name))
    }

    fn of_queue(name: &QueueName) -> Self {
        Self {
            queues: vec![name.clone()],
            ..Self::default()
        }
    }

    /// Reads the text of a configuration file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let deserializer =
            toml::Deserializer::parse(text).map_err(|error| place.toml(None, &error))?;
        let file: File = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| place.toml(Some(&key_of(error.path())), error.inner()))?;
        file.check(&place)
    }

    fn overlaid(mut self, args: &Args) -> Self {
        if let Some(url) = &args.url {
            self.url = url.clone();
        }
        let files = [
            (&args.ca_file, &mut self.tls.authorities),
            (&args.certificate_file, &mut self.tls.certificate),
            (&args.key_file, &mut self.tls.key),
        ];
        for (given, file) in files {
            if given.is_some() {
                file.clone_from(given);
            }
        }
        if let Some(delay) = args.delay {
            self.delay = delay;
        }
        if !args.queues.is_empty() {
            self.queues.clone_from(&args.queues);
        }
        if let Some(concurrency) = args.concurrency {
            self.concurrency = concurrency;
        }
        if args.logfile.is_some() {
            self.handler = HandlerConfig::Log(LogConfig {
                logfile: args.logfile.clone(),
            });
        }
        if !args.command.is_empty() {
            let command = args.command.clone();
            // The file's timeout and variables still hold where it has a program too.
            self.handler = HandlerConfig::Exec(match self.handler {
                HandlerConfig::Exec(exec) => ExecConfig { command, ..exec },
                _ => ExecConfig {
                    command,
                    timeout: None,
                    environment: BTreeMap::new(),
                },
            });
        }
        self.until_empty |= args.until_empty;
        self
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    text::read(path)
        .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))
}

/// The token that the service manager passed on (`LoadCredential=`, systemd.exec(5)), where no file names another.
fn credential() -> Result<Option<Arc<str>>, ConfigError> {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    let path = Path::new(&dir).join(CREDENTIAL);
    if !path.exists() {
        return Ok(None);
    }
    token_in(&read(&path)?)
        .map(Some)
        .map_err(|reason| ConfigError(format!("{} {reason}", path.display())))
}

fn default_file() -> Option<PathBuf> {
    if rustix::process::getuid().as_raw() < FIRST_ORDINARY_UID {
        return Some(SYSTEM_FILE.into());
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(home)
        .map(|dir| dir.join(USER_FILE))
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "parsed")]
    url: Option<Endpoint>,
    #[serde(rename = "ca_file")]
    ca_path: Option<PathBuf>,
    #[serde(rename = "certificate_file")]
    certificate_path: Option<PathBuf>,
    #[serde(rename = "key_file")]
    key_path: Option<PathBuf>,
    #[serde(rename = "token_file")]
    token_path: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "all_parsed")]
    queues: Option<Vec<QueueName>>,
    #[serde(default, deserialize_with = "concurrency")]
    concurrency: Option<u32>,
    #[serde(default, deserialize_with = "lease")]
    lease: Option<Millis>,
    #[serde(default, deserialize_with = "length")]
    shutdown_grace: Option<Millis>,
    #[serde(default, deserialize_with = "length")]
    delay: Option<Millis>,
    log_level: Option<String>,
    #[serde(default, deserialize_with = "format")]
    log_format: Option<Format>,
    handler: Option<Spanned<HandlerTable>>,
}

/// `[handler]` with the keys of all types; which belong together is checked after.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandlerTable {
    #[serde(rename = "type")]
    kind: Kind,
    logfile: Option<Spanned<PathBuf>>,
    command: Option<Spanned<Vec<String>>>,
    timeout: Option<Spanned<Length>>,
    environment: Option<Spanned<BTreeMap<String, String>>>,
    url: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Log,
    Exec,
    Http,
}

impl File {
    fn check(self, place: &Place<'_>) -> Result<Config, ConfigError> {
        let base = Config::default();
        let token = match &self.token_path {
            Some(file) => Some(place.token(file)?),
            None => None,
        };
        let handler = match self.handler {
            Some(table) => {
                let at = table.span().start;
                table.into_inner().check(place, at)?
            }
            None => base.handler,
        };
        Ok(Config {
            url: self.url.unwrap_or(base.url),
            tls: TlsFiles {
                authorities: self.ca_path,
                certificate: self.certificate_path,
                key: self.key_path,
            },
            token,
            queues: self.queues.unwrap_or(base.queues),
            concurrency: self.concurrency.unwrap_or(base.concurrency),
            lease: self.lease.unwrap_or(base.lease),
            shutdown_grace: self.shutdown_grace.unwrap_or(base.shutdown_grace),
            delay: self.delay.unwrap_or(base.delay),
            until_empty: false,
            handler,
            log_level: self.log_level.unwrap_or(base.log_level),
            log_format: self.log_format.unwrap_or(base.log_format),
        })
    }
}

impl HandlerTable {
    fn check(self, place: &Place<'_>, at: usize) -> Result<HandlerConfig, ConfigError> {
        let foreign = [
            (&[Kind::Log][..], "logfile", start(self.logfile.as_ref())),
            (&[Kind::Exec], "command", start(self.command.as_ref())),
            (
                &[Kind::Exec],
                "environment",
                start(self.environment.as_ref()),
            ),
            (&[Kind::Http], "url", start(self.url.as_ref())),
            (
                &[Kind::Exec, Kind::Http],
                "timeout",
                start(self.timeout.as_ref()),
            ),
        ];
        for (kinds, key, start) in foreign {
            if let (Some(start), false) = (start, kinds.contains(&self.kind)) {
                return Err(place.wrong(start, key, "is no key of a handler of this type"));
            }
        }
        if let Some(timeout) = self.timeout.as_ref().filter(|one| one.get_ref().0.0 == 0) {
            let reason = "is 0, which no attempt can keep: leave it out for the default";
            return Err(place.wrong(timeout.span().start, "timeout", reason));
        }
        let timeout = self.timeout.map(|timeout| timeout.into_inner().0);
        match self.kind {
            Kind::Log => Ok(HandlerConfig::Log(LogConfig {
                logfile: self.logfile.map(Spanned::into_inner),
            })),
            Kind::Exec => {
                let command = self.command.ok_or_else(|| {
                    place.wrong(
                        at,
                        "command",
                        "is missing: command = [\"/path/to/program\", …]",
                    )
                })?;
                let start = command.span().start;
                let command = command.into_inner();
                if command.first().is_none_or(String::is_empty)
                    || command.iter().any(|word| word.contains('\0'))
                {
                    return Err(place.wrong(start, "command", "names no program"));
                }
                Ok(HandlerConfig::Exec(ExecConfig {
                    command,
                    timeout,
                    environment: environment(self.environment, place)?,
                }))
            }
            Kind::Http => {
                let url = self.url.ok_or_else(|| {
                    place.wrong(at, "url", "is missing: url = \"http://HOST/PATH\"")
                })?;
                Ok(HandlerConfig::Http(HttpConfig {
                    url: handler_url(&url, place)?,
                    timeout: timeout.unwrap_or(HttpConfig::DEFAULT_TIMEOUT),
                }))
            }
        }
    }
}

fn start<T>(value: Option<&Spanned<T>>) -> Option<usize> {
    value.map(|value| value.span().start)
}

fn environment(
    table: Option<Spanned<BTreeMap<String, String>>>,
    place: &Place<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(table) = table else {
        return Ok(BTreeMap::new());
    };
    let start = table.span().start;
    let table = table.into_inner();
    for (name, value) in &table {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(place.wrong(
                start,
                "environment",
                &format!("{name:?} can't be a variable"),
            ));
        }
    }
    Ok(table)
}

fn handler_url(url: &Spanned<String>, place: &Place<'_>) -> Result<http::Uri, ConfigError> {
    let wrong = || {
        let reason = format!(
            "{:?} is not http://HOST/PATH or https://HOST/PATH",
            url.get_ref()
        );
        place.wrong(url.span().start, "url", &reason)
    };
    let uri: http::Uri = url.get_ref().parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if known && uri.host().is_some_and(|host| !host.is_empty()) {
        Ok(uri)
    } else {
        Err(wrong())
    }
}

/// A length of time as text, where its place is asked for.
struct Length(Millis);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Millis::parse(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a length of time like \"60s\", \"5m\" or \"250ms\""
            ))
        })
    }
}

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    Length::deserialize(deserializer).map(|length| Some(length.0))
}

fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    let lease = Length::deserialize(deserializer)?.0;
    let range = Options::MIN_LEASE..=Options::MAX_LEASE;
    if range.contains(&lease) {
        Ok(Some(lease))
    } else {
        Err(D::Error::custom(format!(
            "{lease} is not from {} to {}",
            range.start(),
            range.end()
        )))
    }
}

fn format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Format::parse(&text).map(Some).map_err(D::Error::custom)
}

fn concurrency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match u32::deserialize(deserializer)? {
        number @ 1..=1000 => Ok(Some(number)),
        number => Err(D::Error::custom(format!("{number} is not from 1 to 1000"))),
    }
}

fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

fn all_parsed<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<QueueName>>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(D::Error::custom("names no queue"));
    }
    let read = |name: &String| {
        QueueName::parse(name).map_err(|refusal| match refusal {
            Refusal::Invalid { reason, .. } => D::Error::custom(format!("{name:?} is {reason}")),
            other => D::Error::custom(other),
        })
    };
    names.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// The path of a key, without the parts that stand for a value's place.
fn key_of(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for part in path {
        let part = part.to_string();
        if !part.starts_with("$__") && part != "?" {
            if !key.is_empty() && !part.starts_with('[') {
                key.push('.');
            }
            key.push_str(&part);
        }
    }
    key
}

/// Where in which file something is wrong.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }

    fn toml(&self, key: Option<&str>, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or(1, |span| self.line(span.start));
        let key = key
            .filter(|key| !key.is_empty())
            .map_or_else(String::new, |key| format!("{key}: "));
        let reason = error.message().trim().replace('\n', "; ");
        self.error(line, &format!("{key}{reason}"))
    }

    /// Keys and values are repeated as they were written, which may be with control characters.
    fn error(&self, line: usize, text: &str) -> ConfigError {
        ConfigError(format!(
            "{}:{line}: {}",
            self.path.display(),
            shown_text(text)
        ))
    }

    /// A wrong key of `[handler]`.
    fn wrong(&self, offset: usize, key: &str, reason: &str) -> ConfigError {
        let line = self.line(offset);
        self.error(line, &format!("handler.{key}: {reason}"))
    }

    fn token(&self, file: &Spanned<PathBuf>) -> Result<Arc<str>, ConfigError> {
        let path = file.get_ref();
        let wrong = |reason: String| {
            let line = self.line(file.span().start);
            self.error(line, &format!("token_file: {reason}"))
        };
        let text = text::read(path)
            .map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        token_in(&text).map_err(|reason| wrong(format!("{} {reason}", path.display())))
    }
}

#[cfg(test)]
mod tests;
