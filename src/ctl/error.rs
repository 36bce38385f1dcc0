//! [`CtlError`]: why a verb did not do what was asked, and what to do next.

use std::{io, path::PathBuf};

use crate::{client::ClientError, config::exit};

/// A task that was waited for is dead.
pub(super) const DEAD: u8 = 3;
/// It was cancelled.
pub(super) const CANCELLED: u8 = 4;
/// It ended while nobody listened, and how is not known any more.
pub(super) const UNKNOWN_END: u8 = 5;
/// It has not ended in time. That of timeout(1).
pub(super) const TIMED_OUT: u8 = 124;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CtlError {
    /// The daemon refused, can't be reached, or is not understood.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The same, with what to do next.
    #[error("{cause}\n{hint}")]
    Hinted {
        /// What went wrong.
        cause: ClientError,
        /// What to do next.
        hint: String,
    },
    /// What was found is not well; it was told already.
    #[error("{0}")]
    NotWell(String),
    /// A task that was waited for did not end well, or not in time.
    #[error("{text}")]
    Ended {
        /// How it ended.
        text: String,
        /// What the program exits with.
        code: u8,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Standard input can't be read, or output can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CtlError {
    /// What the program exits with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Client(cause) | Self::Hinted { cause, .. } => of_client(cause),
            Self::NotWell(_) => 1,
            Self::Ended { code, .. } => *code,
            Self::Usage(_) => 2,
            // Whoever read our output has had enough (`| head`): that is success.
            Self::Io(cause) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::File { .. } | Self::Io(_) => exit::IOERR,
        }
    }

    /// Whether there is nothing to tell: the reader of our output has gone.
    pub(super) fn is_silent(&self) -> bool {
        self.exit_code() == 0
    }

    /// Whether the daemon refused: another request may still be granted.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Client(ClientError::Problem(_))
                | Self::Hinted {
                    cause: ClientError::Problem(_),
                    ..
                }
        )
    }
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Problem(_) => 1,
        ClientError::BadUrl(_) | ClientError::NotJson(_) | ClientError::File(_) => 2,
        ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Tls(_) => {
            exit::UNAVAILABLE
        }
        ClientError::Unexpected { .. } => exit::SOFTWARE,
    }
}
