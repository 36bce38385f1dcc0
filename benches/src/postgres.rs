//! PostgreSQL as a queue: a table, an index in hand-out order, `FOR UPDATE SKIP LOCKED`, prepared statements.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    account::{read_payload, write_payload},
    phase::Codec,
    server::{self, Process},
};

const TABLE: &str = "CREATE TABLE tasks (id bigserial PRIMARY KEY, queue text NOT NULL, priority int NOT NULL, \
    exectime bigint NOT NULL, attempts int NOT NULL DEFAULT 0, leased_until timestamptz, payload text NOT NULL); \
    CREATE INDEX tasks_order ON tasks (queue, priority DESC, exectime, id) WHERE leased_until IS NULL";
const SUBMIT: &str =
    "INSERT INTO tasks (queue, priority, exectime, payload) VALUES ('default', 100, 0, $1)";
const CLAIM: &str = "UPDATE tasks SET leased_until = now() + interval '60 s', attempts = attempts + 1 WHERE id = \
    (SELECT id FROM tasks WHERE queue = 'default' AND leased_until IS NULL \
    AND exectime <= extract(epoch FROM now())::bigint \
    ORDER BY priority DESC, exectime, id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id, payload";
const COMPLETE: &str = "DELETE FROM tasks WHERE id = $1";

/// Who runs the server: it refuses to run as root, and then runs as its package's user.
fn user() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line
        .context("there is no user postgres: the package postgresql makes it")?
        .split(':')
        .skip(2);
    let mut id = || fields.next()?.parse().ok();
    Ok(Some((id().context("uid")?, id().context("gid")?)))
}

/// The directory of the newest server's programs.
fn programs() -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    let root = Path::new("/usr/lib/postgresql");
    for entry in fs::read_dir(root).context("is the package postgresql installed?")? {
        let path = entry?.path().join("bin");
        if path.join("postgres").exists() {
            found.push(path);
        }
    }
    found.sort();
    found.pop().context("no PostgreSQL server")
}

/// Starts one with the settings that its package has, in a new cluster.
pub fn start(directory: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let (user, programs) = (user()?, programs()?);
    let run_as = |command: &mut Command| {
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid).env("HOME", directory);
        }
    };
    if let Some((uid, gid)) = user {
        chown(directory, Some(uid), Some(gid))?;
    }
    let data = directory.join("data");
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ])
        .arg(&data)
        .current_dir(directory)
        .stdout(Stdio::null());
    run_as(&mut initdb);
    if !initdb.status().context("initdb")?.success() {
        bail!("initdb failed");
    }
    let port = server::free_port()?;
    let log = fs::File::create(directory.join("log"))?;
    let mut command = server::command(programs.join("postgres"));
    command
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
        .current_dir(directory)
        .stderr(log);
    run_as(&mut command);
    let mut process = Process::start(&mut command)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    server::listening(&mut process, address)?;
    let start = std::time::Instant::now();
    // It listens a little before it lets anybody in.
    let mut stream = loop {
        match open(address) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed().as_secs() > 60 => return Err(error),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    };
    let mut out = Vec::new();
    message(&mut out, b'Q', |out| text(out, TABLE));
    ask(&mut stream, &out)?;
    Ok((process, address))
}

/// A connection that is let in.
fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let mut out = vec![0; 4];
    out.extend_from_slice(&196_608_u32.to_be_bytes());
    for word in ["user", "postgres", "database", "postgres", ""] {
        text(&mut out, word);
    }
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    ask(&mut stream, &out)?;
    Ok(stream)
}

/// A connection with its statements prepared.
pub fn prepared(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = open(address)?;
    let mut out = Vec::new();
    for (name, statement) in [("s", SUBMIT), ("c", CLAIM), ("d", COMPLETE)] {
        message(&mut out, b'P', |out| {
            text(out, name);
            text(out, statement);
            out.extend_from_slice(&[0, 0]);
        });
    }
    message(&mut out, b'S', |_| ());
    ask(&mut stream, &out)?;
    Ok(stream)
}

/// Sends, and waits until the server is ready for more.
fn ask(stream: &mut TcpStream, out: &[u8]) -> anyhow::Result<()> {
    stream.write_all(out)?;
    let mut input = Vec::new();
    let mut piece = [0; 4096];
    while read(&input)?.is_none() {
        match stream.read(&mut piece)? {
            0 => bail!("PostgreSQL has closed the connection"),
            count => input.extend_from_slice(&piece[..count]),
        }
    }
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Bind, execute and sync of a prepared statement with up to one parameter, as text.
fn execute(out: &mut Vec<u8>, name: &str, parameter: Option<&[u8]>) {
    message(out, b'B', |out| {
        out.push(0);
        text(out, name);
        out.extend_from_slice(&[0, 0, 0, u8::from(parameter.is_some())]);
        if let Some(value) = parameter {
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&[0, 0]);
    });
    message(out, b'E', |out| out.extend_from_slice(&[0; 5]));
    message(out, b'S', |_| ());
}

/// A reply up to its end.
struct Reply<'a> {
    length: usize,
    row: Option<&'a [u8]>,
    tag: &'a [u8],
}

fn read(input: &[u8]) -> anyhow::Result<Option<Reply<'_>>> {
    let mut at = 0;
    let (mut row, mut tag): (_, &[u8]) = (None, b"");
    while let Some(head) = input.get(at..at + 5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(body) = input.get(at + 5..at + 1 + length) else {
            break;
        };
        at += 1 + length;
        match head[0] {
            b'E' => bail!("PostgreSQL: {}", body.escape_ascii()),
            b'D' => row = Some(body),
            b'C' => tag = body.strip_suffix(&[0]).unwrap_or(body),
            b'Z' => {
                return Ok(Some(Reply {
                    length: at,
                    row,
                    tag,
                }));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A column of a row, and what is behind it.
fn column(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_be_bytes(row.get(..4)?.try_into().ok()?) as usize;
    row.get(4..)?.split_at_checked(length)
}

/// One connection.
#[derive(Debug, Default)]
pub struct Postgres {
    payload: Vec<u8>,
    id: Vec<u8>,
}

fn tagged(input: &[u8], wanted: &[u8]) -> anyhow::Result<Option<usize>> {
    match read(input)? {
        Some(reply) if reply.tag != wanted => {
            bail!("PostgreSQL: {}", reply.tag.escape_ascii())
        }
        other => Ok(other.map(|reply| reply.length)),
    }
}

impl Codec for Postgres {
    fn submit(&mut self, number: u64, out: &mut Vec<u8>) {
        self.payload.clear();
        write_payload(number, &mut self.payload);
        execute(out, "s", Some(&self.payload));
    }

    fn submitted(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        tagged(input, b"INSERT 0 1")
    }

    fn claim(&mut self, out: &mut Vec<u8>) {
        execute(out, "c", None);
    }

    fn claimed(&mut self, input: &[u8]) -> anyhow::Result<Option<(usize, Option<u128>)>> {
        let Some(reply) = read(input)? else {
            return Ok(None);
        };
        let Some(row) = reply.row else {
            return Ok(Some((reply.length, None)));
        };
        let (id, rest) = column(&row[2..]).context("a row without id")?;
        let (payload, _) = column(rest).context("a row without payload")?;
        self.id.clear();
        self.id.extend_from_slice(id);
        Ok(Some((reply.length, Some(read_payload(payload)?))))
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        execute(out, "d", Some(&self.id));
    }

    fn completed(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        tagged(input, b"DELETE 1")
    }
}
