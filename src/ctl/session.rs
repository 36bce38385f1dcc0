//! [`Session`]: what every verb works with: the daemon, where it reads and writes, and in which shape an answer is shown.

use std::io;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{console::Console, error::CtlError, guess, shape::Shape};
use crate::client::{Client, ClientError, Endpoint};

/// One command's daemon and console.
pub(super) struct Session<'a> {
    pub(super) client: Client,
    pub(super) shape: Shape,
    pub(super) console: &'a mut Console,
    /// In which times are shown and read.
    pub(super) zone: TimeZone,
}

impl Session<'_> {
    /// Shows `value` to a program, if a program reads; false: a person is still to be told.
    pub(super) fn told(&mut self, value: &impl Serialize) -> io::Result<bool> {
        self.shape.tell(value, self.console)
    }

    /// Shows a list to a program: as one value of JSON, or a line of the template for each entry.
    pub(super) fn told_all<T: Serialize>(
        &mut self,
        whole: &impl Serialize,
        entries: &[T],
    ) -> io::Result<bool> {
        match &self.shape {
            Shape::Template(_) => {
                for entry in entries {
                    self.told(entry)?;
                }
                Ok(true)
            }
            Shape::People | Shape::Json => self.told(whole),
        }
    }

    /// Whether a program reads, not a person.
    pub(super) fn is_for_programs(&self) -> bool {
        !matches!(self.shape, Shape::People)
    }

    /// `error`; where it is that there is no such queue, with the name that was probably meant.
    pub(super) async fn guessed(&self, error: ClientError, queue: Option<&str>) -> CtlError {
        let Some(name) = queue.filter(|_| error.status() == Some(404)) else {
            return error.into();
        };
        // What went wrong is told in any case; the hint is an extra.
        let Ok(known) = self.client.queues().await else {
            return error.into();
        };
        let names = known.queues.iter().map(|queue| queue.queue.as_str());
        let hint = match guess::nearest(name, names) {
            Some(near) => format!("did you mean {near}?"),
            None => "see which there are: workqueuectl queues".to_owned(),
        };
        CtlError::Hinted { cause: error, hint }
    }

    /// The answer to a request that only the admin socket serves; says so where it was not found on TCP.
    pub(super) fn admin<T>(&self, answer: Result<T, ClientError>) -> Result<T, CtlError> {
        match answer {
            Err(error)
                if error.status() == Some(404)
                    && matches!(self.client.endpoint(), Endpoint::Http(_)) =>
            {
                Err(CtlError::Usage(format!(
                    "{} does not serve this; the admin API is on the Unix socket: leave --url out, or give --socket PATH",
                    self.client.endpoint()
                )))
            }
            answer => Ok(answer?),
        }
    }
}
