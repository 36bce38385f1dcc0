//! Changes that know what forms and queries look like: a value for another, a pair twice or not at all, odd escapes.

use crate::mutate::Mutator;

/// What forms and queries are made of.
const WORDS: [&str; 12] = [
    "&",
    "=",
    "+",
    ";",
    "%",
    "%0",
    "%zz",
    "%00",
    "%0d%0a",
    "%ff",
    "%ed%a0%80",
    "%22%3E%3Cx-fuzz%3E",
];

/// Names of parameters and fields.
const NAMES: [&str; 24] = [
    "payload",
    "json",
    "kind",
    "priority",
    "exectime",
    "offset",
    "when",
    "in",
    "do",
    "to",
    "queue",
    "state",
    "limit",
    "after",
    "id",
    "id_prefix",
    "back",
    "told",
    "count",
    "span",
    "task",
    "token",
    "name",
    "last_event_id",
];

/// Values in place of others.
const VALUES: [&str; 52] = [
    "",
    "0",
    "-0",
    "1",
    "-1",
    "+1",
    "00",
    "1.0",
    "1e3",
    "100",
    "1000",
    "1001",
    "65536",
    "1440",
    "-1440",
    "1441",
    "2147483647",
    "-2147483648",
    "2147483648",
    "253402300799",
    "253402300800",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "2031-01-01T00%3A00",
    "9999-12-31T23%3A59",
    "0001-01-01T00%3A00%3A00",
    "2031-02-30T00%3A00",
    "now",
    "in",
    "at",
    "same",
    "90s",
    "1d",
    "18446744073709551615ms",
    "99999999999999d",
    "ready",
    "dead",
    "default",
    "no+such+queue",
    "%22%3E%3Cx-fuzz%3E",
    "%27%22%3E%3Cx-fuzz%3E%0a",
    "%1b%5b2J",
    "%00",
    "%ff",
    "%e2%80%ae",
    "..%2f..%2fetc%2fpasswd",
    "%2f%2fexample.org",
    "https%3A%2F%2Fexample.org",
    "0198c0de-0000-7000-8000-00000000000d",
    "ready,100,0,0198c0de-0000-7000-8000-00000000000a",
];

/// Changes `text` in one to four ways.
pub(crate) fn change(mutator: &mut Mutator, text: &mut Vec<u8>) {
    for _ in 0..=mutator.chance.below(4) {
        let mut pairs: Vec<Vec<u8>> = text.split(|byte| *byte == b'&').map(Vec::from).collect();
        let at = mutator.chance.below(pairs.len() as u64) as usize;
        let value = *mutator.chance.pick(&VALUES);
        match mutator.chance.below(8) {
            0..=3 => {
                let name = pairs[at].iter().position(|byte| *byte == b'=');
                let name = name.unwrap_or(pairs[at].len());
                pairs[at].truncate(name);
                pairs[at].extend([b"=", value.as_bytes()].concat());
            }
            4 => {
                let name = *mutator.chance.pick(&NAMES);
                pairs.push(format!("{name}={value}").into_bytes());
            }
            5 => pairs.push(pairs[at].clone()),
            6 => drop(pairs.remove(at)),
            _ => mutator.change(&mut pairs[at], &[], &WORDS),
        }
        *text = pairs.join(&b'&');
    }
}
