//! The requests of the admin socket.

use super::{Client, ClientError, v1::Empty};
use crate::api;

impl Client {
    /// The whole in numbers.
    pub async fn status(&self) -> Result<api::Status, ClientError> {
        self.get("/status").await
    }

    /// The settings in force and where each came from.
    pub async fn config(&self) -> Result<api::Config, ClientError> {
        self.get("/config").await
    }

    /// All leases.
    pub async fn leases(&self) -> Result<api::Leases, ClientError> {
        self.get("/leases").await
    }

    /// Files that could not be taken in.
    pub async fn rejected(&self) -> Result<api::Rejected, ClientError> {
        self.get("/rejected").await
    }

    /// Takes a rejected file back into the task directory, to be looked at anew.
    pub async fn retry_rejected(&self, name: &str) -> Result<(), ClientError> {
        self.post_only("/rejected/retry", &file(name)).await
    }

    /// Deletes a rejected file.
    pub async fn discard_rejected(&self, name: &str) -> Result<(), ClientError> {
        self.post_only("/rejected/discard", &file(name)).await
    }

    /// Stops handing out, of one queue or of all.
    pub async fn pause(&self, choice: &api::QueueChoice) -> Result<(), ClientError> {
        self.post_only("/pause", choice).await
    }

    /// Hands out again.
    pub async fn resume(&self, choice: &api::QueueChoice) -> Result<(), ClientError> {
        self.post_only("/resume", choice).await
    }

    /// Takes no new tasks, in one queue or in all.
    pub async fn drain(&self, choice: &api::QueueChoice) -> Result<(), ClientError> {
        self.post_only("/drain", choice).await
    }

    /// Takes new tasks again.
    pub async fn undrain(&self, choice: &api::QueueChoice) -> Result<(), ClientError> {
        self.post_only("/undrain", choice).await
    }

    /// Looks through the task directory now.
    pub async fn rescan(&self) -> Result<(), ClientError> {
        self.post_only("/rescan", &Empty {}).await
    }

    /// Reads the configuration again.
    pub async fn reload(&self) -> Result<(), ClientError> {
        self.post_only("/reload", &Empty {}).await
    }

    /// Writes a checkpoint now.
    pub async fn checkpoint(&self) -> Result<(), ClientError> {
        self.post_only("/checkpoint", &Empty {}).await
    }

    /// Cancels all tasks of a queue, or of all, that are in one state. Gives how many.
    pub async fn purge(&self, purge: &api::Purge) -> Result<api::Count, ClientError> {
        self.post("/purge", purge).await
    }

    /// Brings all dead tasks back, of one queue or of all. Gives how many, and why others are still dead.
    pub async fn retry_dead(
        &self,
        choice: &api::QueueChoice,
    ) -> Result<api::RetriedDead, ClientError> {
        self.post("/retry-dead", choice).await
    }

    /// Changes what is logged.
    pub async fn log_level(&self, level: &str) -> Result<(), ClientError> {
        let body = api::LogLevel {
            level: level.to_owned(),
        };
        self.post_only("/log-level", &body).await
    }

    /// Stops the daemon.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.post_only("/shutdown", &Empty {}).await
    }
}

fn file(name: &str) -> api::RejectedName {
    api::RejectedName {
        name: name.to_owned(),
    }
}
