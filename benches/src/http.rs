//! HTTP/1.1 as a client at the least cost: requests from templates, replies found by their length.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, bail};
use memchr::memmem;

use crate::{
    account::{Account, PAYLOAD, read_payload, write_payload},
    phase::Codec,
    trace,
    wire::Talk,
};

/// A reply's parts.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// Head and body, in bytes.
    pub length: usize,
}

/// The reply at the front of `input`, when it is whole.
pub fn reply(input: &[u8]) -> anyhow::Result<Option<Reply<'_>>> {
    let Some(head) = memmem::find(input, b"\r\n\r\n") else {
        return Ok(None);
    };
    let status = number(input.get(9..12).unwrap_or_default()).context("no status")?;
    let name = b"\r\ncontent-length: ";
    let length = match memmem::find(&input[..head], name) {
        Some(at) => {
            let value = &input[at + name.len()..head];
            let end = memchr::memchr(b'\r', value).unwrap_or(value.len());
            number(&value[..end]).context("a length that is no number")?
        }
        None if status == 302 || status == 204 => 0,
        None => bail!("a reply without a length"),
    };
    let whole = head + 4 + length;
    Ok(input.get(head + 4..whole).map(|body| Reply {
        status: status as u16,
        body,
        length: whole,
    }))
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The reply, which has to be of this status.
pub fn expect(input: &[u8], status: u16) -> anyhow::Result<Option<Reply<'_>>> {
    match reply(input)? {
        Some(reply) if reply.status != status => {
            let text = String::from_utf8_lossy(reply.body);
            bail!("{} instead of {status}: {text}", reply.status)
        }
        other => Ok(other),
    }
}

/// 128 bits in hexadecimal digits, hyphens left out.
pub fn hex(text: &[u8]) -> anyhow::Result<u128> {
    let mut value = 0_u128;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        let digit = char::from(*byte).to_digit(16);
        value = (value << 4) | u128::from(digit.context("not hexadecimal")?);
    }
    Ok(value)
}

/// The id that stands behind the next `"id":"`.
fn id_in(text: &[u8]) -> Option<&[u8]> {
    let name = br#""id":""#;
    let at = memmem::find(text, name)? + name.len();
    text.get(at..at + 36)
}

fn head(method: &str, path: &str, kind: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Submits tasks one by one.
#[derive(Debug)]
pub struct Submit {
    account: Account,
    head: Vec<u8>,
    tail: &'static [u8],
    form: bool,
}

impl Submit {
    /// To v1, into this queue.
    #[must_use]
    pub fn to(account: &Account, queue: &str) -> Self {
        let field = if queue == "default" {
            String::new()
        } else {
            format!(r#""queue":"{queue}","#)
        };
        let start = format!(r#"{{{field}"payload":""#);
        let tail = br#""}"#;
        let length = start.len() + PAYLOAD + tail.len();
        Self {
            account: account.clone(),
            head: (head("POST", "/api/v1/tasks", "application/json", length) + &start).into_bytes(),
            tail,
            form: false,
        }
    }

    /// To the original's form.
    #[must_use]
    pub fn form(account: &Account) -> Self {
        let start = "payload=";
        let tail = b"&priority=100&exectime=";
        let length = start.len() + PAYLOAD + tail.len();
        let kind = "application/x-www-form-urlencoded";
        Self {
            account: account.clone(),
            head: (head("POST", "/new", kind, length) + start).into_bytes(),
            tail,
            form: true,
        }
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        write_payload(number, out);
        if self.form {
            for byte in out.iter_mut().rev().take_while(|byte| **byte != b'=') {
                if *byte == b' ' {
                    *byte = b'+';
                }
            }
        }
        out.extend_from_slice(self.tail);
    }
}

impl Talk for Submit {
    fn ask(&mut self, closing: bool, out: &mut Vec<u8>) -> bool {
        if closing {
            return false;
        }
        let Some(number) = self.account.take() else {
            return false;
        };
        self.write(number, out);
        true
    }

    fn hear(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        if self.form {
            return Ok(expect(input, 302)?.map(|reply| reply.length));
        }
        let Some(reply) = expect(input, 201)? else {
            return Ok(None);
        };
        let id = id_in(reply.body).context("no id in the reply to a submit")?;
        self.account.submitted(hex(id)?);
        Ok(Some(reply.length))
    }
}

/// Claims tasks, each claim completing what the one before it got.
#[derive(Debug)]
pub struct Claim {
    account: Account,
    head: String,
    max: u64,
    /// How long a claim waits.
    wait: u64,
    /// Id and token of each task that is held, as they came.
    held: Vec<([u8; 36], [u8; 32])>,
    body: Vec<u8>,
    completing: usize,
    got: u64,
    empty: bool,
    /// Ends when a claim comes back with nothing.
    until_empty: bool,
}

impl Claim {
    /// From this queue, up to `max` at once, until nothing is there.
    #[must_use]
    pub fn from(account: &Account, queue: &str, max: u64, worker: usize) -> Self {
        Self {
            account: account.clone(),
            head: format!(r#"{{"queues":["{queue}"],"worker":"bench:{worker}","#),
            max,
            wait: 0,
            held: Vec::new(),
            body: Vec::with_capacity(2048),
            completing: 0,
            got: 0,
            empty: false,
            until_empty: true,
        }
    }

    /// Claims on, although a claim has come back with nothing, and lets each wait so many seconds.
    #[must_use]
    pub fn waiting(mut self, seconds: u64) -> Self {
        self.wait = seconds;
        self.until_empty = false;
        self
    }

    fn write(&mut self, max: u64, out: &mut Vec<u8>) {
        let body = &mut self.body;
        body.clear();
        body.extend_from_slice(self.head.as_bytes());
        body.extend_from_slice(format!(r#""max":{max},"wait":{}"#, self.wait).as_bytes());
        if !self.held.is_empty() {
            body.extend_from_slice(br#","complete":["#);
            for (index, (id, token)) in self.held.iter().enumerate() {
                let open: &[u8] = if index == 0 {
                    br#"{"id":""#
                } else {
                    br#",{"id":""#
                };
                body.extend_from_slice(open);
                body.extend_from_slice(id);
                body.extend_from_slice(br#"","token":""#);
                body.extend_from_slice(token);
                body.extend_from_slice(br#""}"#);
            }
            body.push(b']');
        }
        body.push(b'}');
        self.completing = self.held.len();
        self.held.clear();
        out.extend_from_slice(
            head("POST", "/api/v1/claim", "application/json", body.len()).as_bytes(),
        );
        out.extend_from_slice(body);
    }

    fn take(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let split = memmem::rfind(body, br#","completed":["#).context("no completions")?;
        let (tasks, completed) = body.split_at(split);
        if memmem::find(completed, b"problem").is_some() {
            bail!(
                "a completion was refused: {}",
                String::from_utf8_lossy(completed)
            );
        }
        let done = memmem::find_iter(completed, br#""id":""#).count();
        if done != self.completing {
            bail!("{done} completions answered, {} were sent", self.completing);
        }
        self.account.completed(done as u64);
        let mut rest = tasks;
        let name = br#""token":""#;
        while let Some(at) = memmem::find(rest, name) {
            let (task, behind) = rest.split_at(at + name.len());
            let id: [u8; 36] = id_in(task).context("a task without id")?.try_into()?;
            let token = behind.get(..32).context("a short token")?.try_into()?;
            self.account.claimed(hex(&id)?);
            self.held.push((id, token));
            rest = behind;
        }
        self.got = self.held.len() as u64;
        self.empty = self.held.is_empty();
        if self.got > self.max {
            bail!("{} tasks for a claim of {}", self.got, self.max);
        }
        Ok(())
    }
}

impl Talk for Claim {
    fn ask(&mut self, closing: bool, out: &mut Vec<u8>) -> bool {
        if closing {
            // What is held is brought to its end, and nothing new is taken.
            if self.held.is_empty() {
                return false;
            }
            self.write(0, out);
            return true;
        }
        if self.empty && self.until_empty {
            return false;
        }
        self.write(self.max, out);
        true
    }

    fn hear(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        let Some(reply) = expect(input, 200)? else {
            return Ok(None);
        };
        self.take(reply.body)?;
        Ok(Some(reply.length))
    }

    fn weight(&self) -> u64 {
        self.got
    }
}

/// Submits a task, then claims one and completes the one before, in turn.
#[derive(Debug)]
pub struct Cycle {
    submit: Submit,
    claim: Claim,
    /// Whether the last request was a submit.
    submitting: bool,
    over: bool,
    claims_only: bool,
}

impl Cycle {
    /// In this queue.
    #[must_use]
    pub fn of(account: &Account, queue: &str, worker: usize) -> Self {
        Self {
            submit: Submit::to(account, queue),
            claim: Claim::from(account, queue, 1, worker),
            submitting: false,
            over: false,
            claims_only: false,
        }
    }

    /// Only the latency of its claims counts.
    #[must_use]
    pub const fn timing_claims(mut self) -> Self {
        self.claims_only = true;
        self
    }
}

impl Talk for Cycle {
    fn ask(&mut self, closing: bool, out: &mut Vec<u8>) -> bool {
        if !self.submitting && !self.over && self.submit.ask(closing, out) {
            self.submitting = true;
            return true;
        }
        if self.submitting {
            self.submitting = false;
            return self.claim.ask(false, out);
        }
        // All are submitted: what this connection still holds is completed.
        self.over = true;
        self.claim.ask(true, out)
    }

    fn hear(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        if self.submitting {
            return self.submit.hear(input);
        }
        let heard = self.claim.hear(input)?;
        if heard.is_some() && !self.over && self.claim.empty {
            bail!("a claim found nothing, though each connection submits before it claims");
        }
        Ok(heard)
    }

    /// A cycle counts when its task has been handed out.
    fn weight(&self) -> u64 {
        if self.submitting { 0 } else { self.claim.got }
    }

    fn timed(&self) -> bool {
        !self.claims_only || (!self.submitting && self.claim.got > 0)
    }
}

/// The original's endpoints: a form, `GET /api/next`, `POST /api/complete`.
#[derive(Debug)]
pub struct Original {
    submit: Submit,
    id: Vec<u8>,
}

impl Default for Original {
    fn default() -> Self {
        Self {
            submit: Submit::form(&Account::default()),
            id: Vec::new(),
        }
    }
}

impl Codec for Original {
    fn submit(&mut self, number: u64, out: &mut Vec<u8>) {
        self.submit.write(number, out);
    }

    fn submitted(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(expect(input, 302)?.map(|reply| reply.length))
    }

    fn claim(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET /api/next HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }

    fn claimed(&mut self, input: &[u8]) -> anyhow::Result<Option<(usize, Option<u128>)>> {
        let Some(reply) = expect(input, 200)? else {
            return Ok(None);
        };
        if reply.body == br#"{"status":"ok","task":null}"# {
            return Ok(Some((reply.length, None)));
        }
        let name = br#""payload":""#;
        let at = memmem::find(reply.body, name).context("no payload")? + name.len();
        let payload = reply.body.get(at..at + PAYLOAD).context("no payload")?;
        self.id.clear();
        self.id
            .extend_from_slice(id_in(reply.body).context("no id")?);
        Ok(Some((reply.length, Some(read_payload(payload)?))))
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        let body = [br#"{"id":""#, &self.id[..], br#""}"#].concat();
        let head = head("POST", "/api/complete", "application/json", body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&body);
    }

    fn completed(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(expect(input, 200)?.map(|reply| reply.length))
    }
}

/// One connection whose claims wait; asked and heard by hand, not in a loop.
#[derive(Debug)]
pub struct Waiting {
    stream: TcpStream,
    account: Account,
    claim: Claim,
    out: Vec<u8>,
}

impl Waiting {
    /// On the default queue.
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::of(address, "default")
    }

    /// On this queue.
    pub fn of(address: SocketAddr, queue: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let account = Account::default();
        Ok(Self {
            stream,
            claim: Claim::from(&account, queue, 1, 0).waiting(300),
            account,
            out: Vec::new(),
        })
    }

    /// Sends a claim, which completes the task of the one before.
    pub fn ask(&mut self) -> anyhow::Result<()> {
        self.send(false)
    }

    fn send(&mut self, closing: bool) -> anyhow::Result<()> {
        self.out.clear();
        self.claim.ask(closing, &mut self.out);
        Ok(self.stream.write_all(&self.out)?)
    }

    /// Waits for the answer.
    pub fn hear(&mut self) -> anyhow::Result<()> {
        let mut input = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece)? {
                0 => bail!("the server has closed the connection"),
                count => input.extend_from_slice(&piece[..count]),
            }
            if self.claim.hear(&input)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Completes the last task, and holds the account: so many tasks came.
    pub fn finish(mut self, count: u64) -> anyhow::Result<()> {
        self.send(true)?;
        self.hear()?;
        self.account.check_claimed(count)
    }
}

/// One request on a connection of its own, waited for: status and body.
pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(head(method, path, kind, body.len()).as_bytes())?;
    stream.write_all(body)?;
    let mut input = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        if let Some(reply) = reply(&input)? {
            return Ok((reply.status, reply.body.to_vec()));
        }
        match stream.read(&mut piece)? {
            0 => bail!("{method} {path}: the server has closed the connection"),
            count => input.extend_from_slice(&piece[..count]),
        }
    }
}

/// Submits `count` tasks in one stream, as fast as one connection can.
pub fn fill(address: SocketAddr, queue: &str, count: u64) -> anyhow::Result<()> {
    const PIECE: u64 = 100_000;
    let mut number = 0;
    while number < count {
        let end = (number + PIECE).min(count);
        let mut body = Vec::new();
        let asked = end - number;
        while number < end {
            number += 1;
            body.extend_from_slice(br#"{"queue":""#);
            body.extend_from_slice(queue.as_bytes());
            body.extend_from_slice(br#"","payload":""#);
            write_payload(number, &mut body);
            body.extend_from_slice(b"\"}\n");
        }
        let (status, answer) = call(
            address,
            "POST",
            "/api/v1/tasks",
            "application/x-ndjson",
            &body,
        )?;
        let accepted: workqueue::api::Accepted = serde_json::from_slice(&answer)
            .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&answer)))?;
        if status != 201 || accepted.created != asked {
            bail!("{} of {asked} tasks taken", accepted.created);
        }
    }
    trace(&format!("{address}: filled with {count}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn a_reply_is_whole_when_its_last_byte_is_there() {
        let text = answer("201 Created", r#"{"id":"x"}"#);
        for end in 0..text.len() {
            assert!(reply(&text[..end]).unwrap().is_none(), "{end}");
        }
        let whole = reply(&text).unwrap().unwrap();
        assert_eq!((whole.status, whole.length), (201, text.len()));
        assert!(expect(&text, 200).is_err());
    }

    #[test]
    fn a_claims_answer_is_held_against_what_was_asked() {
        let id = "0198c0de-0000-7000-8000-00000000000a";
        let token = "000000000000000000000000000000ff";
        let task = format!(r#"{{"id":"{id}","payload":"p","attempt":1,"token":"{token}"}}"#);
        let mut claim = Claim::from(&Account::default(), "default", 1, 0);
        let mut out = Vec::new();
        assert!(claim.ask(false, &mut out));
        let one = answer("200 OK", &format!(r#"{{"tasks":[{task}],"completed":[]}}"#));
        assert_eq!(claim.hear(&one).unwrap(), Some(one.len()));
        assert_eq!(claim.weight(), 1);
        out.clear();
        assert!(claim.ask(false, &mut out));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&format!(
            r#""complete":[{{"id":"{id}","token":"{token}"}}]"#
        )));
        // The completion is not answered; more tasks than asked for; a completion refused.
        let two = format!(r#"{{"tasks":[{task},{task}],"completed":[{{"id":"{id}"}}]}}"#);
        let refused = format!(r#"{{"tasks":[],"completed":[{{"id":"{id}","problem":{{}}}}]}}"#);
        assert!(claim.hear(&one).is_err());
        assert!(claim.hear(&answer("200 OK", &two)).is_err());
        assert!(claim.hear(&answer("200 OK", &refused)).is_err());
    }
}
