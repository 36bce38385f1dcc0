//! [`Pager`]: a long answer on a terminal goes through `$PAGER`, as with other programs of this kind.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{SigId, consts::SIGINT};

use super::console::Console;

/// `less` as it is wanted here: ends by itself when the answer fits on the screen, shows colours, leaves the text standing.
const LESS: &str = "FRX";

/// A pager that runs.
pub(super) struct Pager {
    child: Child,
    out: Box<dyn Write + Send>,
    /// Ctrl-C is the pager's while it runs: we would leave the terminal to two readers.
    interrupt: SigId,
}

impl Pager {
    /// Starts `$PAGER`, or less, and sends what `console` is written to it. None where nobody sits at a terminal, where the
    /// pager is `cat` or empty, and where there is no pager on this machine.
    pub(super) fn start(console: &mut Console) -> io::Result<Option<Self>> {
        if !console.terminal {
            return Ok(None);
        }
        let named = console.surroundings.var("PAGER");
        if named.as_ref().is_some_and(|pager| pager == "cat") {
            return Ok(None);
        }
        let is_named = named.is_some();
        let pager = named.unwrap_or_else(|| OsString::from("less"));
        let mut command = if is_named {
            // As git and man do: the variable may hold arguments.
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(pager);
            shell
        } else {
            Command::new(pager)
        };
        if console.surroundings.var("LESS").is_none() {
            command.env("LESS", LESS);
        }
        let mut child = match command.stdin(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        let Some(input) = child.stdin.take() else {
            return Ok(None);
        };
        let interrupt = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))?;
        let out = std::mem::replace(&mut console.out, Box::new(io::BufWriter::new(input)));
        Ok(Some(Self {
            child,
            out,
            interrupt,
        }))
    }

    /// Ends what is sent to the pager, and waits until the person has read it.
    pub(super) fn finish(mut self, console: &mut Console) -> io::Result<()> {
        let flushed = console.out.flush();
        // Dropping the pipe is the end of what is to be read.
        drop(std::mem::replace(&mut console.out, self.out));
        let waited = self.child.wait();
        signal_hook::low_level::unregister(self.interrupt);
        waited?;
        match flushed {
            // The pager was left before all was read.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}
