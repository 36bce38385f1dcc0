//! [`CtlError`]: why a verb did not do what was asked, and what to do next.

use std::{io, path::PathBuf};

use crate::{api, config::exit};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CtlError {
    /// The daemon refused, and said why.
    #[error("{}", problem_text(.0))]
    Refused(Box<api::Problem>),
    /// What was found is not well; it was told already.
    #[error("{0}")]
    NotWell(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there.
    #[error("{place}: {cause}\n{hint}")]
    Unreachable {
        /// The endpoint.
        place: String,
        /// What the system said.
        cause: io::Error,
        /// What to do next.
        hint: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{place}: {cause}")]
    Broken {
        /// The endpoint.
        place: String,
        /// What went wrong.
        cause: String,
    },
    /// What came is not what this version understands.
    #[error(
        "the answer is not understood ({0}); do workqueuectl and workqueued have the same version?"
    )]
    Answer(String),
    /// A file can't be read.
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
            Self::Refused(_) | Self::NotWell(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::Broken { .. } => exit::UNAVAILABLE,
            Self::Answer(_) => exit::SOFTWARE,
            // Whoever read our output has had enough (`| head`): that is success.
            Self::Io(cause) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::File { .. } | Self::Io(_) => exit::IOERR,
        }
    }

    /// Whether there is nothing to tell: the reader of our output has gone.
    pub(super) fn is_silent(&self) -> bool {
        self.exit_code() == 0
    }
}

fn problem_text(problem: &api::Problem) -> String {
    let text = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    match problem.accepted {
        Some(accepted) => format!("{text} ({accepted} tasks before it were taken)"),
        None => text.clone(),
    }
}
