//! beanstalkd's protocol, as its clients speak it: put, reserve, delete.

use std::{io::Write as _, net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    account::{PAYLOAD, read_payload, write_payload},
    phase::Codec,
    server::{self, Process},
};

/// Starts one; with a directory it keeps a log there and syncs it every so many milliseconds.
pub fn start(log: Option<(&Path, u32)>) -> anyhow::Result<(Process, SocketAddr)> {
    let port = server::free_port()?;
    let mut command = server::command("beanstalkd");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
    if let Some((directory, sync)) = log {
        command
            .arg("-b")
            .arg(directory)
            .arg("-f")
            .arg(sync.to_string());
    }
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut process = Process::start(&mut command)?;
    server::listening(&mut process, address)?;
    Ok((process, address))
}

/// One connection.
#[derive(Debug, Default)]
pub struct Beanstalkd {
    reserved: Vec<u8>,
}

/// The line at the front, without its end.
fn line(input: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', input)?;
    input[..end].strip_suffix(b"\r")
}

fn word(input: &[u8], wanted: &[u8]) -> anyhow::Result<Option<usize>> {
    match line(input) {
        None => Ok(None),
        Some(line) if line.starts_with(wanted) => Ok(Some(line.len() + 2)),
        Some(line) => bail!("beanstalkd: {}", line.escape_ascii()),
    }
}

impl Codec for Beanstalkd {
    fn submit(&mut self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"put 100 0 60 100\r\n");
        write_payload(number, out);
        out.extend_from_slice(b"\r\n");
    }

    fn submitted(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        word(input, b"INSERTED ")
    }

    fn claim(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"reserve-with-timeout 0\r\n");
    }

    fn claimed(&mut self, input: &[u8]) -> anyhow::Result<Option<(usize, Option<u128>)>> {
        let Some(line) = line(input) else {
            return Ok(None);
        };
        if line == b"TIMED_OUT" {
            return Ok(Some((line.len() + 2, None)));
        }
        let Some(rest) = line.strip_prefix(b"RESERVED ") else {
            bail!("beanstalkd: {}", line.escape_ascii());
        };
        let start = line.len() + 2;
        let Some(payload) = input.get(start..start + PAYLOAD) else {
            return Ok(None);
        };
        if input.len() < start + PAYLOAD + 2 {
            return Ok(None);
        }
        let space = memchr::memchr(b' ', rest).context("no id")?;
        self.reserved.clear();
        self.reserved.extend_from_slice(&rest[..space]);
        Ok(Some((start + PAYLOAD + 2, Some(read_payload(payload)?))))
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        drop(write!(out, "delete {}\r\n", self.reserved.escape_ascii()));
    }

    fn completed(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        word(input, b"DELETED")
    }
}
