//! [`Args`]: the flags.

use std::path::PathBuf;

use clap::{Parser, value_parser};

use crate::{
    client::Endpoint,
    task::{Millis, QueueName},
};

/// Takes tasks from a workqueue daemon, runs a handler for each, and reports.
///
/// Without a handler in the configuration and without COMMAND, payloads are written as lines to the log file or stdout.
/// SIGTERM, SIGINT, SIGQUIT or SIGHUP (a closed terminal) lets running tasks finish; a second one that is no SIGHUP stops them and
/// gives them back. SIGHUP and SIGQUIT that are ignored at the start, as under nohup, stay ignored.
#[derive(Debug, Parser)]
#[command(name = "workqueue-worker", version)]
pub struct Args {
    /// The configuration file.
    ///
    /// Default: /etc/workqueue/workqueue-worker.toml for a system user, $XDG_CONFIG_HOME/workqueue/workqueue-worker.toml else;
    /// none is fine.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read workers/NAME.toml beside the default configuration file; where there is none, the default one, for queue NAME.
    #[arg(long, value_name = "NAME", value_parser = QueueName::parse, conflicts_with = "config")]
    pub instance: Option<QueueName>,
    /// Where the daemon is.
    #[arg(
        short,
        long,
        value_name = "URL",
        env = "WORKQUEUE_URL",
        value_parser = Endpoint::parse,
        help = "Where the daemon is: http://HOST:PORT, https://HOST or unix:PATH [default: http://localhost:5000]"
    )]
    pub url: Option<Endpoint>,
    /// Trust the certificates in FILE (PEM) and no others, where the URL begins with https://
    #[arg(long, value_name = "FILE", env = "WORKQUEUE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Show the certificate in FILE (PEM) to a daemon whose URL begins with https://
    #[arg(long, value_name = "FILE", env = "WORKQUEUE_CERTIFICATE_FILE")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "WORKQUEUE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Seconds to wait between the end of a task and the next claim [default: 0]
    #[arg(short, long, value_name = "SECS", value_parser = delay)]
    pub delay: Option<Millis>,
    /// Write payloads as lines to this file.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "command")]
    pub logfile: Option<PathBuf>,
    /// Take tasks of this queue; may be given several times [default: default]
    #[arg(long = "queue", value_name = "NAME", value_parser = QueueName::parse)]
    pub queues: Vec<QueueName>,
    /// Tasks at once, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
    /// End with 0 when nothing is due.
    ///
    /// Each attempt is made once: a task that its handler gives back is kept, its lease held, until the rest is done, and given back
    /// then. Of those at most 1000 are kept; with so many nothing more is claimed, and the end is with 75.
    #[arg(long)]
    pub until_empty: bool,
    /// Check the configuration and end.
    #[arg(long)]
    pub check_config: bool,
    /// Run this program for each task, the payload on its stdin; no shell.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn delay(text: &str) -> Result<Millis, String> {
    let secs: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    crate::task::seconds("delay", secs).map_err(|refusal| refusal.to_string())
}
