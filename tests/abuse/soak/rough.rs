//! What a soak does to a daemon from outside, beside its load: malformed requests, slow connections, readers that never read,
//! large requests that pause, and files good and bad.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::ledger::{Ledger, payload};
use crate::common::account::Chance;

/// How long one of these waits for an answer that may never come.
const SHORT: Duration = Duration::from_secs(2);
const SLOW: usize = 40;
const DEAF: usize = 12;

const MALFORMED: [&str; 12] = [
    "GET / HTTP/9.9\r\n\r\n",
    "\u{16}\u{3}\u{1}\0hello",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n{",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"payload\": \"half",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"payload\": ",
    "POST /api/v1/claim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"max\": \"x\"}",
    "GET /api/v1/tasks?limit=-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /api/v1/tasks/not-an-id HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "PATCH /../../etc/passwd HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    "GET /%ff%fe HTTP/1.1\r\nhost: localhost\r\nhost: other\r\nConnection: close\r\n\r\n",
];

pub(super) struct Rough<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) address: &'a RwLock<String>,
    pub(super) stop: &'a AtomicBool,
    pub(super) chance: Chance,
}

impl Rough<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The pace of what is not the load: a fraction of its requests.
    fn pace(&self, requests: u64) {
        self.ledger.wait_for(requests, Duration::from_millis(200));
    }

    fn connect(&self) -> Option<TcpStream> {
        let address = self.address.read().ok()?.clone();
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(SHORT)).ok()?;
        stream.set_write_timeout(Some(SHORT)).ok()?;
        Some(stream)
    }

    /// Requests that are none, one after the other.
    pub(super) fn malformed(mut self) {
        while self.goes_on() {
            let pick = self.chance.below(MALFORMED.len() as u64 + 2) as usize;
            let bytes = match MALFORMED.get(pick) {
                Some(text) => text.as_bytes().to_vec(),
                None if pick == MALFORMED.len() => self.noise(),
                None => self.mutated(),
            };
            let status = self.connect().and_then(|stream| exchange(stream, &bytes));
            self.ledger.asked(status);
            self.ledger.fault("malformed request");
            if status.is_some_and(|status| status == 500 || status == 201) {
                let text = String::from_utf8_lossy(&bytes);
                self.ledger.wrong(format!("{status:?} to {text:?}"));
            }
            self.pace(10);
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 1 + self.chance.below(300);
        (0..length).map(|_| self.chance.next() as u8).collect()
    }

    /// A good request in which some bytes are others. It asks for nothing that changes a task.
    fn mutated(&mut self) -> Vec<u8> {
        let mut bytes =
            b"GET /api/v1/tasks?queue=s0&limit=3 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n"
                .to_vec();
        for _ in 0..=self.chance.below(6) {
            let at = self.chance.below(bytes.len() as u64) as usize;
            bytes[at] = self.chance.next() as u8;
        }
        bytes
    }

    /// Connections that send a byte of a head now and then, readers that never read, and senders of large bodies that pause.
    pub(super) fn slow(mut self) {
        const HEAD: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
        let half = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 400000\r\n\r\n{}",
            "[".repeat(300_000)
        );
        let asked = [
            (
                "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "reader of events that never reads",
            ),
            (
                "GET /api/v1/tasks?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "reader of tasks that never reads",
            ),
            (half.as_str(), "large request that pauses"),
        ];
        let mut slow: Vec<(Option<TcpStream>, usize)> = (0..SLOW).map(|_| (None, 0)).collect();
        let mut deaf: Vec<Option<TcpStream>> = (0..DEAF).map(|_| None).collect();
        while self.goes_on() {
            let one = &mut slow[self.chance.below(SLOW as u64) as usize];
            let byte = HEAD.get(one.1).copied().unwrap_or(b'x');
            let sent = one.0.as_mut().is_some_and(|s| s.write_all(&[byte]).is_ok());
            one.1 += 1;
            if !sent {
                // Never opened, or closed by the daemon, as it should be sooner or later.
                *one = (self.connect(), 0);
                self.ledger.fault("slow connection");
            }
            if self.chance.below(100) == 0 {
                let one = &mut deaf[self.chance.below(DEAF as u64) as usize];
                *one = self.connect();
                let (bytes, fault) = asked[self.chance.below(asked.len() as u64) as usize];
                let asks = one
                    .as_mut()
                    .map(|stream| stream.write_all(bytes.as_bytes()));
                if matches!(asks, Some(Ok(()))) {
                    self.ledger.fault(fault);
                }
            }
            self.pace(5);
        }
    }

    /// Files moved into the directory `tasks`: most of them tasks, and all kinds of others.
    pub(super) fn files(mut self, tasks: &Path) {
        let mut odd = Vec::new();
        while self.goes_on() {
            if self.chance.below(3) > 0 {
                self.good_file(tasks);
            } else {
                odd.extend(self.bad_file(tasks));
                self.ledger.fault("bad file");
            }
            if odd.len() > 40 {
                tidy(&mut odd, &tasks.with_file_name("rejected"));
            }
            self.pace(30);
        }
        tidy(&mut odd, &tasks.with_file_name("rejected"));
    }

    fn good_file(&mut self, tasks: &Path) {
        let serial = self.ledger.serial();
        let size = self.chance.below(2000);
        let queue = format!("s{}", self.chance.below(3));
        let object = serde_json::json!({
            "payload": payload(serial, size, "work"), "queue": queue, "max_attempts": 1000,
        });
        let aside = tasks.join(format!(".soak-{serial}.part"));
        // On a full disk there is no file, or half of one: it stays aside and goes.
        if fs::write(&aside, object.to_string()).is_err() {
            drop(fs::remove_file(&aside));
            return;
        }
        self.ledger.dropped(serial);
        if fs::rename(&aside, tasks.join(format!("soak-{serial}.json"))).is_err() {
            self.ledger.not_dropped(serial);
            drop(fs::remove_file(&aside));
        }
    }

    /// Gives what is to be taken away again.
    fn bad_file(&mut self, tasks: &Path) -> Option<PathBuf> {
        let number = self.ledger.serial();
        let kind = self.chance.below(9);
        let path = match kind {
            6 => tasks.join(format!("Not A Queue {number}")),
            8 => tasks.join(format!("\u{1b}[31m\n{number}.json")),
            _ => tasks.join(format!("bad-{number}.json")),
        };
        let is_made = match kind {
            0 => fs::write(&path, "{"),
            1 => fs::write(&path, "{\"priority\": 3}"),
            2 => fs::write(&path, b"{\"payload\": \"\xff\xfe\"}"),
            3 => fs::write(&path, ""),
            4 => fs::write(&path, format!("{}1", "[".repeat(5000))),
            5 => symlink("/etc/passwd", &path),
            6 => fs::create_dir(&path),
            7 => {
                let mode = rustix::fs::Mode::RUSR;
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).map_err(Into::into)
            }
            _ => fs::write(&path, "no"),
        };
        // A full disk refuses this as well, or takes half of it.
        if is_made.is_err() {
            drop(fs::remove_file(&path));
        }
        is_made.ok().map(|()| path)
    }
}

/// Takes the bad files away, where the daemon has left them alone and where it has put them.
fn tidy(odd: &mut Vec<PathBuf>, rejected: &Path) {
    for path in odd.drain(..) {
        // Most of them are gone: the daemon has moved them.
        drop(fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)));
    }
    for entry in fs::read_dir(rejected).into_iter().flatten().flatten() {
        drop(fs::remove_file(entry.path()));
    }
}

/// The status of what is answered, if anything is.
fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Option<u16> {
    stream.write_all(bytes).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}
