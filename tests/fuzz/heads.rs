//! Changes that know what the head of a request looks like: fields more, less, twice, with another's value, or very long.

use crate::mutate::Mutator;

/// Fields with values at their edges.
const FIELDS: [&str; 40] = [
    "Host: localhost",
    "Host: queue.example.org",
    "Host: [::1]:5000",
    "Host: ",
    "Content-Type: application/json",
    "Content-Type: application/json; charset=",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type: application/x-ndjson",
    "Content-Type: \t",
    "Accept: text/html",
    "Accept: text/html;q=0.5, */*;q=",
    "Accept: application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=nan",
    "Accept: text/event-stream",
    "Accept-Encoding: gzip;q=1.0, identity;q=0",
    "Accept-Encoding: *;q=0",
    "Last-Event-ID: 5f3a9c01-42",
    "Last-Event-ID: ffffffff-18446744073709551615",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "traceparent: ff-00-00-00",
    "tracestate: a=1,b=2",
    "tracestate: ,,=,",
    "Cookie: workqueue_session=",
    "Cookie: a=b; ;=;workqueue_session=1",
    "Authorization: Bearer test",
    "Authorization: Bearer ",
    "Authorization: Basic OnRlc3Q=",
    "Authorization: Basic ====",
    "Origin: null",
    "Origin: http://localhost",
    "Origin: http://[",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-origin",
    "Referer: http://localhost/queues/default",
    "X-Forwarded-For: ::",
    "Idempotency-Key: key",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Connection: close, upgrade",
    "Expect: 100-continue",
    "Range: bytes=0-",
];

/// What targets and values are made of.
const WORDS: [&str; 20] = [
    "?",
    "/",
    "//",
    "/../",
    "%2f",
    "%00",
    "%ff",
    "%",
    "*",
    "#",
    "@",
    ":",
    ",",
    ";q=",
    "=",
    "\t",
    "\u{ff}",
    "é",
    "'\"><x-fuzz>",
    "http://localhost/",
];

/// `head` changed in one to three ways; `end` is what its lines end with.
pub(crate) fn changed(mutator: &mut Mutator, head: &[u8], end: &[u8]) -> Vec<u8> {
    let text = head.split(|byte| *byte == b'\n');
    let mut lines: Vec<Vec<u8>> = text.map(|line| line.trim_ascii_end().to_vec()).collect();
    for _ in 0..=mutator.chance.below(3) {
        let at = mutator.chance.below(lines.len() as u64) as usize;
        let field = *mutator.chance.pick(&FIELDS);
        match mutator.chance.below(9) {
            0..=2 => lines.insert((at + 1).min(lines.len()), field.into()),
            3 => lines.push(lines[at].clone()),
            4 if lines.len() > 1 => drop(lines.remove(at)),
            5 => {
                let (_, value) = field.split_once(": ").unwrap_or_default();
                let keep = lines[at].iter().position(|byte| b": ".contains(byte));
                let keep = keep.map_or(lines[at].len(), |keep| keep + 1);
                lines[at].truncate(keep);
                lines[at].extend(value.bytes());
            }
            6 => long(mutator, &mut lines[at]),
            7 => target(mutator, &mut lines[0]),
            _ => mutator.change(&mut lines[at], &[], &WORDS),
        }
    }
    lines.join(end)
}

/// Makes a line longer than is taken, or than usual.
fn long(mutator: &mut Mutator, line: &mut Vec<u8>) {
    let len = mutator.chance.below(1 << 13) as usize;
    let at = line.len().min(8);
    let piece = *mutator.chance.pick(&["a", "/", "%20", "a=b&", "é"]);
    line.splice(at..at, piece.repeat(len / piece.len()).into_bytes());
}

/// Changes what is asked for, and lets the method before it and the version behind it stand.
fn target(mutator: &mut Mutator, line: &mut Vec<u8>) {
    let mut words: Vec<Vec<u8>> = line.split(|byte| *byte == b' ').map(Vec::from).collect();
    if let Some(target) = words.get_mut(1) {
        mutator.change(target, &[], &WORDS);
        target.retain(|byte| !byte.is_ascii_whitespace());
    }
    *line = words.join(&b' ');
}
