//! Requests as the router sees them: heads that are heads, with hostile paths, queries, fields and bodies. JSON and forms are
//! changed as what they are.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request},
};

use crate::{
    corpus, heads, json,
    mutate::Mutator,
    pairs,
    run::{Subject, Target, fuzz},
    site::{Site, TOKEN},
};

/// A request in parts: the head with line feeds, and the body behind its empty line.
pub(crate) fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|window| window == b"\n\n");
    match end {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[]),
    }
}

/// The request that a text says, if it can be one: what no client could send is no input of the router.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let (head, body) = parts(bytes);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let target = target.strip_suffix(b" HTTP/1.1").unwrap_or(target);
    let mut request = Request::builder()
        .method(method)
        .uri(str::from_utf8(target).ok()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_vec())).ok()
}

/// What is changed of requests.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Json,
    Form,
    Head,
}

impl Part {
    /// Whether a request has it.
    fn is_in(self, bytes: &[u8]) -> bool {
        let (head, body) = parts(bytes);
        let head = String::from_utf8_lossy(head);
        match self {
            Self::Json => head.contains("json") && !body.is_empty(),
            Self::Form => head.contains("x-www-form-urlencoded") || head.contains('?'),
            Self::Head => true,
        }
    }
}

struct Requests {
    part: Part,
    site: Site,
}

impl Requests {
    fn new(part: Part) -> Self {
        Self {
            part,
            site: Site::new(),
        }
    }
}

impl Subject for Requests {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = corpus::of("http");
        seeds.extend(corpus::of(match self.part {
            Part::Json => "json",
            Part::Form => "form",
            Part::Head => "head",
        }));
        seeds.retain(|seed| self.part.is_in(seed));
        seeds
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let (head, body) = parts(seed);
        let (mut head, mut body) = (head.to_vec(), body.to_vec());
        match self.part {
            Part::Json if mutator.chance.one_in(4) => mutator.change(&mut body, pool, &json::WORDS),
            Part::Json => json::change(mutator, &mut body),
            Part::Form if body.is_empty() || mutator.chance.one_in(4) => query(mutator, &mut head),
            Part::Form => pairs::change(mutator, &mut body),
            Part::Head => head = heads::changed(mutator, &head, b"\n"),
        }
        [&head[..], b"\n\n", &body].concat()
    }

    fn prepare(&mut self, number: u64) {
        self.site.prepare(number);
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let Some(request) = request(&self.site.with_token(input)) else {
            return "no request".to_owned();
        };
        let method = request.method().clone();
        let route: String = request
            .uri()
            .path()
            .chars()
            .filter(|letter| letter.is_ascii_lowercase() || *letter == '/')
            .take(30)
            .collect();
        let answer = self.site.send(request).hold();
        format!("{method} {route} {answer}")
    }

    fn finish(&mut self) {
        self.site.end();
    }
}

/// Changes what stands behind the first question mark of the first line.
fn query(mutator: &mut Mutator, head: &mut Vec<u8>) {
    let line = head.iter().position(|byte| *byte == b'\n');
    let mut rest = head.split_off(line.unwrap_or(head.len()));
    let at = head.iter().position(|byte| *byte == b'?');
    let mut query = head.split_off(at.map_or(head.len(), |at| at + 1));
    pairs::change(mutator, &mut query);
    // A space would end the address.
    query.retain(|byte| !byte.is_ascii_whitespace());
    head.append(&mut query);
    head.append(&mut rest);
}

fn run(part: Part, target: &Target) {
    fuzz(target, Requests::new(part));
}

/// Pages and lists show all tasks that there are, and the engine's threads write files and make segments meanwhile.
const BESIDES: usize = 512 << 10;
/// What packs the larger pages has tables of its own.
pub(crate) const BESIDES_PACKED: usize = 2 << 20;

#[test]
fn a_hostile_json_body_is_answered_with_what_is_wrong_with_it() {
    let target = Target {
        name: "json",
        inputs: 8000,
        per_byte: 16,
        besides: BESIDES,
        longest: 16 << 10,
    };
    run(Part::Json, &target);
}

#[test]
fn a_hostile_form_or_query_is_answered_with_what_is_wrong_with_it() {
    let target = Target {
        name: "form",
        inputs: 4000,
        per_byte: 16,
        besides: BESIDES,
        longest: 8 << 10,
    };
    run(Part::Form, &target);
}

#[test]
fn a_hostile_head_is_answered_with_what_is_wrong_with_it() {
    let target = Target {
        name: "head",
        inputs: 4000,
        per_byte: 16,
        besides: BESIDES_PACKED,
        longest: 8 << 10,
    };
    run(Part::Head, &target);
}

/// Every operation that the descriptions list has a request in the corpus.
#[test]
fn the_corpus_asks_for_everything_that_is_served() {
    let asked: Vec<(String, String)> = corpus::of("http")
        .iter()
        .filter_map(|seed| {
            let text = String::from_utf8_lossy(seed).into_owned();
            let mut words = text.lines().next()?.split(' ').map(str::to_owned);
            let (method, target) = (words.next()?, words.next()?);
            Some((method, target.split('?').next()?.to_owned()))
        })
        .collect();
    let mut missing = Vec::new();
    for description in [
        workqueue::http::openapi_json(),
        workqueue::admin::openapi_json(),
    ] {
        let description: serde_json::Value =
            serde_json::from_str(&description).expect("a description is JSON");
        for (path, methods) in description["paths"].as_object().expect("paths") {
            for method in methods.as_object().expect("methods").keys() {
                let fits = |one: &&(String, String)| {
                    one.0.eq_ignore_ascii_case(method) && matches(path, &one.1)
                };
                if !asked.iter().any(|one| fits(&one)) {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no request for {missing:?}");
    let with_token = corpus::of("http");
    let needle = TOKEN.as_bytes();
    assert!(
        with_token
            .iter()
            .any(|seed| { seed.windows(needle.len()).any(|window| window == needle) })
    );
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(path)
            .all(|(part, found)| part.starts_with('{') || *part == found)
}
