//! Connections that send a byte now and then and end no request, as long as the server lets them; then they come again.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// How often each sends a byte.
const EVERY: Duration = Duration::from_secs(5);
/// In how many parts all of them have their turn in that time.
const PARTS: u32 = 500;

/// Half of them are in the middle of a head, half of a body.
const BEGUN: [&str; 2] = [
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n\"",
];

/// So many slow connections, from a thread of their own until they are ended.
#[derive(Debug)]
pub struct Slow {
    stop: Arc<AtomicBool>,
    reopened: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Slow {
    /// Opens them; all are there when this returns.
    pub fn open(address: SocketAddr, count: u64) -> anyhow::Result<Self> {
        let mut all = (0..count as usize)
            .map(|index| begin(address, index))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let stop = Arc::<AtomicBool>::default();
        let reopened = Arc::<AtomicU64>::default();
        let (ends, again) = (Arc::clone(&stop), Arc::clone(&reopened));
        let thread = thread::spawn(move || {
            let part = all.len().div_ceil(PARTS as usize);
            let mut due = Instant::now();
            let mut first = 0;
            while !ends.load(Ordering::Relaxed) {
                for index in first..all.len().min(first + part) {
                    if !drip(&mut all[index]) {
                        all[index] = begin(address, index)?;
                        again.fetch_add(1, Ordering::Relaxed);
                    }
                }
                first = if first + part < all.len() {
                    first + part
                } else {
                    0
                };
                due += EVERY / PARTS;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        Ok(Self {
            stop,
            reopened,
            thread: Some(thread),
        })
    }

    /// Ends them. Gives how many the server had closed, which then came again.
    pub fn end(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        match thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("the slow connections' thread panicked"),
        }
        Ok(self.reopened.load(Ordering::Relaxed))
    }
}

fn begin(address: SocketAddr, index: usize) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(BEGUN[index % BEGUN.len()].as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Sends a byte. Gives whether the connection is still open.
fn drip(stream: &mut TcpStream) -> bool {
    let is_open = match stream.read(&mut [0; 512]) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    is_open && stream.write_all(b"x").is_ok()
}
