//! [`ConfigError`] and [`Origin`]: what is wrong with a setting, and where it was written.

use std::{fmt, io, path::PathBuf, sync::Arc};

use super::exit;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A flag of the command line, without its dashes.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(String),
    /// A line of the file.
    File {
        /// Which file.
        path: Arc<PathBuf>,
        /// Which line; 1 is the first.
        line: usize,
    },
}

impl Origin {
    /// Where somebody wrote something, of two settings that don't go together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Default { other } else { self }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// Why the settings can't be used: one line that says where to look.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named or is there, and can't be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {reason}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser expected.
        reason: String,
    },
    /// No setting has this name.
    #[error("{origin}: {key}: no such setting{}", nearest_text(*.nearest))]
    Unknown {
        /// Where.
        origin: Origin,
        /// The name that was written.
        key: String,
        /// A setting whose name is near.
        nearest: Option<&'static str>,
    },
    /// A value is of the wrong kind, malformed, out of range or against another setting.
    #[error("{origin}: {key}: {reason}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// Which setting.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An ordinary user without a home directory, and nothing that says where the files go.
    #[error("HOME is not set: give --data-dir, or set XDG_STATE_HOME or WORKQUEUE_DATA_DIR")]
    NoHome,
}

impl ConfigError {
    /// What the program exits with: `EX_CONFIG`.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        exit::CONFIG
    }
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
