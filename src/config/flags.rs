//! The command line of `workqueued`.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser};

use super::layer::{Layer, Value};

/// A durable work queue for one Linux machine that you can see with ls.
///
/// Serves the HTTP API and web pages on TCP and the admin API on a Unix socket, and watches the task directory. Needs no
/// preparation: without a configuration it makes its directories where the user's files go.
#[derive(Debug, Clone, Default, Parser)]
#[allow(
    clippy::doc_markdown,
    reason = "these docs are also the help text, which shows backticks as they are"
)]
#[command(name = "workqueued", version, after_help = AFTER)]
pub struct Flags {
    /// Read settings from FILE [default: /etc/workqueue/workqueued.toml for a system user,
    /// ~/.config/workqueue/workqueued.toml for an ordinary one, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep tasks in DIR [default: /var/lib/workqueue for a system user, ~/.local/state/workqueue for an ordinary one]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Serve HTTP on ADDR; may be given several times; port 0 picks one, `none` turns TCP off [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Serve the admin API on the Unix socket PATH [default: /run/workqueue/admin.sock for a system user,
    /// $XDG_RUNTIME_DIR/workqueue/admin.sock for an ordinary one]
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// Run a worker in this process that writes payloads to a log, for trying it out and for small machines
    #[arg(long)]
    pub with_worker: bool,
    /// Listen on addresses that other machines reach, although there are no tokens: everybody may do everything
    #[arg(long)]
    pub insecure: bool,
    /// Log LEVEL and above: error, warn, info, debug, trace, or directives like info,workqueue::engine=debug
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Read the settings, say whether they are right and where each came from, and end
    #[arg(long)]
    pub check_config: bool,
}

const AFTER: &str = "\
Flags beat the environment, which beats the file. Each setting of the file has a variable: WORKQUEUE_ and its name in \
capitals (WORKQUEUE_DATA_DIR, WORKQUEUE_RETENTION_DONE); WORKQUEUE_SETTINGS names the file.

What a crash of the machine may take back of what was answered, by the setting durability: sync, nothing; interval, at most \
what happened in the last sync_interval; none, what the kernel had not written yet. A crash of the daemon takes nothing.

When a sync fails, no more writes are taken: requests are answered 503, /readyz fails, and the exit code is 74 once the daemon \
is stopped. Nothing that was answered is lost; restart it when the disk is well. When the journal is damaged it does not \
start: see workqueuectl check.

Exit codes: 0 stopped as asked, 2 wrong flags, 65 the journal is damaged or of another version, 69 an address or the data directory is in use, 71 the system gives no threads or other means, 73 a directory can't be \
made, 74 the disk failed, 77 not permitted, 78 a setting is wrong.";

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Flags::command()
}

impl Flags {
    /// What was said, as settings.
    pub(super) fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        let text = |path: &PathBuf| Value::Text(path.to_string_lossy().into_owned());
        if let Some(path) = &self.data_dir {
            layer.flag("data_dir", "data-dir", text(path));
        }
        if !self.listen.is_empty() {
            layer.flag("listen", "listen", Value::List(self.listen.clone()));
        }
        if let Some(path) = &self.admin_socket {
            layer.flag("admin_socket", "admin-socket", text(path));
        }
        if self.with_worker {
            layer.flag("with_worker", "with-worker", Value::Bool(true));
        }
        if self.insecure {
            layer.flag("insecure", "insecure", Value::Bool(true));
        }
        if let Some(level) = &self.log_level {
            layer.flag("log_level", "log-level", Value::Text(level.clone()));
        }
        layer
    }
}
