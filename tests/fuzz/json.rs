//! Changes that know what JSON looks like: a value for another, a member twice or not at all, nesting.
//!
//! Works on text that need not be JSON any more: tokens are found by how they look.

use std::ops::Range;

use crate::mutate::Mutator;

/// What JSON, and the objects of the API, are made of.
pub(crate) const WORDS: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "\"payload\":1,",
    "\"queue\":",
    "\"priority\":",
    "\"exectime\":",
    "\"delay\":",
    "\"id\":",
    "\"unique_key\":",
    "\"max_attempts\":",
    "\"lease\":",
    "\"backoff\":",
    "\"token\":",
    "\"traceparent\":",
    "\"tracestate\":",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "\\u202e",
    "\\\"",
    "\\",
    "1e400",
    "-",
    "0.",
    "/*",
    "\u{1b}",
];

/// Values in place of others.
const VALUES: [&str; 44] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "0.5",
    "-0.0",
    "1.0",
    "100.0",
    "1e2",
    "1e308",
    "1e309",
    "-1e309",
    "1e-400",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "253402300799",
    "253402300800",
    "250000000000",
    "250000000001",
    "123456789012345678901234567890",
    "\"\"",
    "\"0\"",
    "\"-5\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u001b[2J\\r\\n\"",
    "\"'\\\"><x-fuzz>\"",
    "\"default\"",
    "\"0198c0de-0000-7000-8000-00000000000a\"",
    "[]",
    "{}",
    "[[]]",
    "{\"payload\":{\"payload\":1}}",
];

/// Members that objects of the API have.
const MEMBERS: [&str; 24] = [
    "\"payload\":[]",
    "\"queue\":\"other\"",
    "\"priority\":-1",
    "\"exectime\":1900000000",
    "\"delay\":1.5",
    "\"id\":\"0198c0de-0000-7000-8000-00000000000e\"",
    "\"unique_key\":\"key\"",
    "\"max_attempts\":1",
    "\"lease\":0.1",
    "\"backoff\":{\"base\":0}",
    "\"backoff\":{\"base\":9,\"max\":1}",
    "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"",
    "\"tracestate\":\"a=1\"",
    "\"result\":null",
    "\"retry_in\":0",
    "\"dead\":true",
    "\"error\":\"\\u001b\"",
    "\"token\":\"\"",
    "\"max\":0",
    "\"wait\":1e9",
    "\"worker\":\"w\"",
    "\"complete\":[{}]",
    "\"queues\":[]",
    "\"more\":{\"a\":1}",
];

/// How deep something may be nested, around the limits of the reader (128) and of payloads (100).
const DEPTHS: [usize; 9] = [1, 2, 98, 99, 100, 101, 126, 127, 129];

/// Changes `text` in one to four ways.
pub(crate) fn change(mutator: &mut Mutator, text: &mut Vec<u8>) {
    for _ in 0..=mutator.chance.below(4) {
        let tokens = tokens(text);
        if tokens.is_empty() {
            return;
        }
        let token = mutator.chance.pick(&tokens).clone();
        match mutator.chance.below(10) {
            0..=2 => {
                let value = *mutator.chance.pick(&VALUES);
                text.splice(token, value.bytes());
            }
            3 => {
                let other = mutator.chance.pick(&tokens).clone();
                let copy = text[other].to_vec();
                text.splice(token, copy);
            }
            4 => nest(mutator, text, &token),
            8 | 9 => another(mutator, text),
            5 => twice(text, &token),
            6 => drop(text.splice(member(text, &token), [])),
            _ => long(mutator, text, &token),
        }
    }
}

/// Scalars and keys: strings with their quotes, numbers, words.
fn tokens(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() && found.len() < 500 {
        let start = at;
        if text[at] == b'"' {
            at += 1;
            while at < text.len() && text[at] != b'"' {
                at += 1 + usize::from(text[at] == b'\\');
            }
            at = (at + 1).min(text.len());
            found.push(start..at);
        } else if text[at].is_ascii_alphanumeric() || text[at] == b'-' {
            while at < text.len()
                && (text[at].is_ascii_alphanumeric() || b"+-.".contains(&text[at]))
            {
                at += 1;
            }
            found.push(start..at);
        } else {
            at += 1;
        }
    }
    found
}

/// Another member at the beginning of an object.
fn another(mutator: &mut Mutator, text: &mut Vec<u8>) {
    let opens: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'{').collect();
    // Mostly the outermost one.
    let which = mutator.chance.below(opens.len() as u64) * mutator.chance.below(2);
    if let Some(at) = opens.get(which as usize) {
        let member = *mutator.chance.pick(&MEMBERS);
        let behind = at + 1;
        text.splice(behind..behind, format!("{member},").into_bytes());
    }
}

/// From a token to behind the next comma, as far as that can be told: a member where the token is a key.
fn member(text: &[u8], token: &Range<usize>) -> Range<usize> {
    let rest = &text[token.end..];
    let end = rest.iter().position(|byte| b",}".contains(byte));
    let end = end.map_or(rest.len(), |end| end + usize::from(rest[end] == b','));
    token.start..token.end + end
}

fn twice(text: &mut Vec<u8>, token: &Range<usize>) {
    let whole = member(text, token);
    let mut copy = text[whole.clone()].to_vec();
    if copy.last() != Some(&b',') {
        copy.push(b',');
    }
    text.splice(whole.start..whole.start, copy);
}

fn nest(mutator: &mut Mutator, text: &mut Vec<u8>, token: &Range<usize>) {
    let depth = *mutator.chance.pick(&DEPTHS);
    let (open, close) = if mutator.chance.one_in(2) {
        ("[", "]")
    } else {
        ("{\"a\":", "}")
    };
    // Now and then one too few, or one too many.
    let closes = depth + mutator.chance.below(12) as usize / 11;
    text.splice(token.end..token.end, close.repeat(closes).into_bytes());
    text.splice(token.start..token.start, open.repeat(depth).into_bytes());
}

fn long(mutator: &mut Mutator, text: &mut Vec<u8>, token: &Range<usize>) {
    let most = 1 << mutator.chance.below(13);
    let len = 1 + mutator.chance.below(most) as usize;
    let piece = *mutator.chance.pick(&["9", "a", "é", "\\u0001", "\\\\"]);
    let inside = token.start + usize::from(token.len() > 1);
    text.splice(inside..inside, piece.repeat(len / piece.len()).into_bytes());
}
