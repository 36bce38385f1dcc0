//! A terminal that a program runs on: a real one of the kernel, and what a person would see on it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::PATIENCE;

/// A program on a terminal of its own.
pub struct Terminal {
    master: File,
    child: Child,
    pieces: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// Every byte that was written to the terminal.
    pub written: Vec<u8>,
}

impl Terminal {
    /// Starts `program` on a terminal of 80 columns and 24 lines.
    pub fn start(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a plain path"))
            .expect("the other end");
        tcsetwinsize(&master, size(24, 80)).expect("a size");
        let end = || Stdio::from(slave.try_clone().expect("a copy"));
        // setsid makes it the terminal of the program, which is not otherwise to be had without unsafe code.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", program])
            .args(args)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .env_remove("PAGER")
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it starts");
        let master = File::from(master);
        let mut reader = master.try_clone().expect("a copy");
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // The kernel says EIO when nobody has the other end any more: the program has ended.
            while let Ok(count) = reader.read(&mut piece) {
                if count == 0 || sender.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            master,
            child,
            pieces,
            parser: vt100::Parser::new(cells(24), cells(80), 0),
            written: Vec::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typed");
    }

    /// Makes the window another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.parser
            .screen_mut()
            .set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.master, size(rows, columns)).expect("another size");
    }

    pub fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Waits until what stands on the screen is as wanted. Gives it.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.parser.screen().contents();
            if wanted(&seen) {
                return seen;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.take(&piece),
                Err(error) => panic!("{what}: {error}; on the screen:\n{seen}"),
            }
        }
    }

    /// Waits for the program's end. Gives its exit code, and what stands on the screen.
    pub fn end(mut self) -> (i32, Ended) {
        let status = super::wait(&mut self.child);
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.take(&piece);
        }
        let ended = Ended {
            text: self.parser.screen().contents(),
            is_given_back: !self.parser.screen().alternate_screen()
                && !self.parser.screen().hide_cursor(),
            written: String::from_utf8_lossy(&self.written).into_owned(),
        };
        (status.code().unwrap_or(-1), ended)
    }

    fn take(&mut self, piece: &[u8]) {
        self.written.extend_from_slice(piece);
        self.parser.process(piece);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("killed");
            self.child.wait().expect("gone");
        }
    }
}

/// A terminal after its program.
pub struct Ended {
    /// What stands on it.
    pub text: String,
    /// Whether it shows the ordinary screen and a cursor.
    pub is_given_back: bool,
    /// All that was written to it.
    pub written: String,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn cells(count: u16) -> std::num::NonZero<u16> {
    count.try_into().expect("a size that is not 0")
}
