//! Redis as a queue, in the two ways its users know: a list with one list of its own for what each worker holds (LMOVE,
//! LREM), and a sorted set with another one for what is leased, moved by a script so that nothing is lost between them.

use std::{io::Write as _, net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    account::{PAYLOAD, read_payload, write_payload},
    phase::Codec,
    server::{self, Process},
};

/// Starts one that syncs its log before each reply.
pub fn start(directory: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let port = server::free_port()?;
    let mut command = server::command("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--daemonize", "no", "--dir"])
        .arg(directory)
        .stdout(std::process::Stdio::null());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut process = Process::start(&mut command)?;
    server::listening(&mut process, address)?;
    Ok((process, address))
}

/// Which kind of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// LPUSH, LMOVE, LREM.
    List,
    /// ZADD, a script around ZPOPMIN and ZADD, ZREM.
    SortedSet,
}

/// Takes the first of the queue and leases it.
const SCRIPT: &str = "local t = redis.call('ZPOPMIN', KEYS[1]); \
    if t[1] then redis.call('ZADD', KEYS[2], ARGV[1], t[1]) end; return t[1]";

/// One connection.
#[derive(Debug)]
pub struct Redis {
    queue: Queue,
    /// The list of what this worker holds.
    holding: String,
    held: Vec<u8>,
    payload: Vec<u8>,
    script: String,
}

impl Redis {
    /// The connection with this number.
    #[must_use]
    pub fn new(queue: Queue, script: &str, number: usize) -> Self {
        Self {
            queue,
            holding: format!("holding:{number}"),
            held: Vec::new(),
            payload: Vec::new(),
            script: script.to_owned(),
        }
    }
}

/// Loads the script; gives its name.
pub fn load(address: SocketAddr) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address)?;
    let mut out = Vec::new();
    command(&mut out, &[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()]);
    stream.write_all(&out)?;
    let mut reply = [0; 47];
    stream.read_exact(&mut reply).context("SCRIPT LOAD")?;
    let name = reply.strip_prefix(b"$40\r\n").context("SCRIPT LOAD")?;
    Ok(String::from_utf8(name[..40].to_vec())?)
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing to a vector does not fail.
    drop(write!(out, "*{}\r\n", words.len()));
    for word in words {
        drop(write!(out, "${}\r\n", word.len()));
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// An integer's reply: its length and value.
fn integer(input: &[u8]) -> anyhow::Result<Option<(usize, i64)>> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return Ok(None);
    };
    let line = &input[..end];
    let Some(digits) = line.strip_prefix(b":") else {
        bail!("redis: {}", line.escape_ascii());
    };
    let value = std::str::from_utf8(digits)?.trim().parse()?;
    Ok(Some((end + 1, value)))
}

impl Codec for Redis {
    fn submit(&mut self, number: u64, out: &mut Vec<u8>) {
        self.payload.clear();
        write_payload(number, &mut self.payload);
        match self.queue {
            Queue::List => command(out, &[b"LPUSH", b"tasks", &self.payload]),
            Queue::SortedSet => command(out, &[b"ZADD", b"due", b"100", &self.payload]),
        }
    }

    fn submitted(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        match integer(input)? {
            Some((_, value)) if value < 1 => bail!("redis took nothing: {value}"),
            other => Ok(other.map(|(length, _)| length)),
        }
    }

    fn claim(&mut self, out: &mut Vec<u8>) {
        match self.queue {
            Queue::List => {
                let holding = self.holding.as_bytes();
                command(out, &[b"LMOVE", b"tasks", holding, b"RIGHT", b"LEFT"]);
            }
            Queue::SortedSet => {
                let script = self.script.as_bytes();
                command(
                    out,
                    &[b"EVALSHA", script, b"2", b"due", b"leased", b"1800000000"],
                );
            }
        }
    }

    fn claimed(&mut self, input: &[u8]) -> anyhow::Result<Option<(usize, Option<u128>)>> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return Ok(None);
        };
        let line = &input[..=end];
        if line == b"$-1\r\n" {
            return Ok(Some((line.len(), None)));
        }
        if line != b"$100\r\n" {
            bail!("redis: {}", line.escape_ascii());
        }
        let start = line.len();
        if input.len() < start + PAYLOAD + 2 {
            return Ok(None);
        }
        self.held.clear();
        self.held.extend_from_slice(&input[start..start + PAYLOAD]);
        Ok(Some((start + PAYLOAD + 2, Some(read_payload(&self.held)?))))
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        match self.queue {
            Queue::List => {
                let holding = self.holding.as_bytes();
                command(out, &[b"LREM", holding, b"1", &self.held]);
            }
            Queue::SortedSet => command(out, &[b"ZREM", b"leased", &self.held]),
        }
    }

    fn completed(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        match integer(input)? {
            Some((_, value)) if value != 1 => bail!("redis removed {value}"),
            other => Ok(other.map(|(length, _)| length)),
        }
    }
}
