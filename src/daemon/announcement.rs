//! What a person who has just started the program is told on standard output: where everything is, and one line to try.

use std::{
    io::{self, Write as _},
    thread,
};

use super::{Addresses, url};
use crate::config::Settings;

/// Says it, on a thread that nobody waits for: a pipe that is full and a terminal that is stopped hold up nothing else. An error:
/// there is no such thread to be had.
pub(super) fn make(settings: &Settings, addresses: &Addresses) -> io::Result<()> {
    let text = text(settings, addresses);
    let say = move || {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::debug!(%error, "nobody reads standard output");
        }
    };
    let thread = thread::Builder::new().name("announcement".to_owned());
    thread.spawn(say).map(drop)
}

fn text(settings: &Settings, addresses: &Addresses) -> String {
    let mut lines = vec![format!("workqueued {} is ready", env!("CARGO_PKG_VERSION"))];
    for one in &addresses.http {
        lines.push(format!("  page       {}", url(*one)));
    }
    if let Some(socket) = &addresses.admin {
        lines.push(format!("  socket     {}", socket.display()));
    }
    let tasks = settings.data_dir.join("tasks");
    lines.push(format!("  directory  {}", tasks.display()));
    let hello = "-H 'Content-Type: application/json' -d '{\"payload\":\"hello\"}'";
    let place = match (addresses.http.first(), &addresses.admin) {
        (Some(one), _) => Some(url(*one)),
        (None, Some(socket)) => Some(format!(
            "--unix-socket {} http://localhost/",
            socket.display()
        )),
        (None, None) => None,
    };
    lines.extend(place.map(|place| format!("  try        curl {hello} {place}api/v1/tasks")));
    lines.push(String::new());
    lines.join("\n")
}
