//! Bytes on a connection, as the server reads them: requests whose heads, lengths, chunks and ends are changed, one behind the
//! other on one connection. Real sockets, the real server, in this process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use workqueue::{
    http::{Bounds, Gate, Serving, serve_tcp},
    task::Millis,
};

use crate::{
    answer::is_defect,
    bodies::{BESIDES_PACKED, parts},
    corpus, heads,
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    site::{Site, is_admin},
    text,
};

/// What requests on the wire are made of.
const WORDS: [&str; 37] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    ":",
    "\t",
    " HTTP/1.0",
    " HTTP/1.1",
    " HTTP/2.0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "HEAD / HTTP/1.1\r\n",
    "CONNECT example.org:443 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: -1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "ffffffffffffffff\r\n",
    "5;a=\"b\"\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, upgrade\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Host: \r\n",
    "Host: localhost\r\n",
    "Host: [::1]:5000\r\n",
    "http://localhost/",
    "Accept-Encoding: gzip\r\n",
    "Range: bytes=0-\r\n",
    "Trailer: x\r\n",
];

/// How long an answer may be silent before the client ends its side; shorter than that of a busy machine, it only costs that
/// answer's sight.
const SILENCE: Duration = Duration::from_millis(6);
/// The longest that a connection may go on after that.
const SOON: Duration = Duration::from_secs(9);

/// A listener, and what serves it.
struct Server {
    address: SocketAddr,
    end: JoinHandle<()>,
}

struct Wire {
    site: Site,
    servers: Option<[Server; 2]>,
}

async fn serve(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let bounds = Bounds {
        header_timeout: Millis(500),
        idle_timeout: Millis(500),
        max_head: 16 << 10,
        max_headers: 40,
        max_url: 2 << 10,
        ..Bounds::default()
    };
    let serving = Serving {
        router: watch::channel(router).1,
        stop: CancellationToken::new(),
        gate: Gate::new(bounds, Arc::default()),
    };
    Server {
        address: listener.local_addr().expect("an address"),
        end: tokio::spawn(serve_tcp(listener, serving, None)),
    }
}

impl Subject for Wire {
    /// The requests of the corpus as they go over the wire, and some that are there already.
    fn seeds(&self) -> Vec<Vec<u8>> {
        let requests = corpus::of("http")
            .into_iter()
            .map(|seed| on_the_wire(&seed));
        requests.chain(corpus::of("wire")).collect()
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head.filter(|_| mutator.chance.one_in(2)) {
            let body = bytes.split_off(end);
            bytes = heads::changed(mutator, &bytes, b"\r\n");
            bytes.extend(body);
        } else {
            mutator.change(&mut bytes, pool, &WORDS);
        }
        // Two in three say how long their body is.
        if !mutator.chance.one_in(3) {
            set_length(&mut bytes);
        }
        if mutator.chance.one_in(8) {
            let next: &Vec<u8> = mutator.chance.pick(pool);
            bytes.extend_from_slice(next);
        }
        bytes
    }

    fn prepare(&mut self, number: u64) {
        if self.site.prepare(number) {
            for server in self.servers.take().into_iter().flatten() {
                server.end.abort();
            }
            let (tcp, admin) = self.site.routers();
            let servers = self
                .site
                .runtime
                .block_on(async { [serve(tcp).await, serve(admin).await] });
            self.servers = Some(servers);
        }
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let bytes = self.site.with_token(input);
        let path = bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let path = String::from_utf8_lossy(path);
        let [tcp, admin] = self.servers.as_ref().expect("they were prepared");
        let address = if is_admin(&path) {
            admin.address
        } else {
            tcp.address
        };
        let got = self.site.runtime.block_on(exchange(address, &bytes));
        let asks_head = bytes.windows(5).any(|window| window == b"HEAD ");
        hold(&got, asks_head)
    }

    fn finish(&mut self) {
        self.site.end();
    }
}

/// All that is answered to `bytes` until the server closes, which it must once the client has ended its side.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let (mut reader, mut writer) = stream.split();
    let mut got = Vec::new();
    let talk = async {
        let send = async {
            // It may have closed already: what it said before that is there to read.
            drop(writer.write_all(bytes).await);
        };
        let receive = async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(Ok(count)) = tokio::time::timeout(SILENCE, reader.read(&mut buffer)).await
            {
                if count == 0 {
                    break;
                }
                got.extend_from_slice(&buffer[..count]);
                if is_whole(&got) {
                    break;
                }
            }
        };
        tokio::join!(send, receive);
        if is_stream(&got) {
            // With more behind its request in the buffer, the server sees the end of this side when it writes again.
            return;
        }
        drop(writer.shutdown().await);
        let mut rest = Vec::new();
        drop(reader.read_to_end(&mut rest).await);
        got.extend(rest);
    };
    tokio::time::timeout(SOON, talk)
        .await
        .expect("the server closes");
    got
}

/// Whether the first answer has no end.
fn is_stream(got: &[u8]) -> bool {
    let head = first(got).map_or(got, |(head, _)| &got[..head]);
    String::from_utf8_lossy(head).contains("text/event-stream")
}

/// Where the head of the first answer ends, and how long its body is, if it says so.
fn first(got: &[u8]) -> Option<(usize, Option<usize>)> {
    let end = got.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
    let length = head.split("\r\ncontent-length:").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.trim().parse().ok());
    Some((end, length))
}

/// Whether one answer is there to its end.
fn is_whole(got: &[u8]) -> bool {
    matches!(first(got), Some((head, Some(body))) if got.len() >= head + body)
}

/// Holds what comes over the wire: nothing, or answers of which none is a defect's.
fn hold(got: &[u8], asks_head: bool) -> String {
    if got.is_empty() {
        return "closed".to_owned();
    }
    let shown = String::from_utf8_lossy(&got[..got.len().min(600)]).into_owned();
    assert!(got.starts_with(b"HTTP/1."), "{shown:?}");
    let status = shown.split(' ').nth(1).unwrap_or_default().to_owned();
    let number = status.parse().expect("a status is a number");
    assert!(!is_defect(number, got), "{shown:?}");
    for start in [&b"}HTTP/1.1 5"[..], b"\nHTTP/1.1 5"] {
        let mut windows = got.windows(start.len() + 2);
        let found = windows.any(|window| window.starts_with(start) && !window.ends_with(b"01"));
        let text = String::from_utf8_lossy(got);
        assert!(!found || !is_defect(503, got), "a later answer: {text:?}");
    }
    let Some((head, body)) = first(got) else {
        return format!("{status} cut");
    };
    let body = body.and_then(|len| got.get(head..head + len));
    let head = String::from_utf8_lossy(&got[..head]);
    if !head.contains("application/problem+json") {
        return format!("{status} {}", body.is_some());
    }
    // The answer to HEAD says how long the body is, and has none.
    let is_body = |body: &&[u8]| !body.is_empty() && (!asks_head || body.starts_with(b"{"));
    let Some(body) = body.filter(is_body) else {
        return format!("{status} problem without its body");
    };
    let problem: serde_json::Value = serde_json::from_slice(body).expect("a problem is JSON");
    text::plain(problem["detail"].as_str().unwrap_or_default());
    let kind = problem["type"].as_str().unwrap_or_default();
    format!("{status} {kind}")
}

/// A request of the corpus with the ends of lines that HTTP wants, a host, and the length of its body.
fn on_the_wire(seed: &[u8]) -> Vec<u8> {
    let (head, body) = parts(seed);
    let mut bytes = Vec::new();
    for (number, line) in head.split(|byte| *byte == b'\n').enumerate() {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(if number == 0 {
            b" HTTP/1.1\r\nHost: localhost\r\n"
        } else {
            b"\r\n"
        });
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Puts the length of what follows the first empty line where a length is said.
fn set_length(bytes: &mut Vec<u8>) {
    const FIELD: &[u8] = b"Content-Length: ";
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return;
    };
    let length = (bytes.len() - end - 4).to_string();
    let at = bytes[..end]
        .windows(FIELD.len())
        .position(|window| window == FIELD);
    if let Some(at) = at.map(|at| at + FIELD.len()) {
        let digits = bytes[at..end]
            .iter()
            .take_while(|byte| **byte != b'\r')
            .count();
        bytes.splice(at..at + digits, length.into_bytes());
    }
}

#[test]
fn hostile_bytes_on_a_connection_are_answered_or_cut_off() {
    let target = Target {
        name: "wire",
        inputs: 1500,
        per_byte: 16,
        besides: BESIDES_PACKED,
        longest: 24 << 10,
    };
    let wire = Wire {
        site: Site::new(),
        servers: None,
    };
    fuzz(&target, wire);
}
