//! [`Mutator`]: makes an input of others, from a seed.
//!
//! Knows what bytes and numbers look like, not what a target reads. What has a structure of its own is told by dictionaries
//! and by the targets themselves.

/// Numbers from a seed (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    /// Those of a seed, others for each name.
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        let mut chance = Self(seed);
        for byte in name.bytes() {
            chance.0 = chance.next() ^ u64::from(byte);
        }
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One in `count`.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A place in something of this length, its end included.
    fn place(&mut self, len: usize) -> usize {
        self.below(len as u64 + 1) as usize
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// A length: mostly short.
    fn length(&mut self) -> usize {
        let most = 1 << self.below(9);
        1 + self.below(most) as usize
    }
}

/// Whole numbers at the edges of types, of what floats hold exactly, and of our own ranges.
const NUMBERS: [&str; 34] = [
    "0",
    "-0",
    "1",
    "-1",
    "00",
    "+1",
    "100",
    "127",
    "128",
    "255",
    "256",
    "32768",
    "65535",
    "65536",
    "604800",
    "604801",
    "1000001",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967296",
    "9007199254740993",
    "253402300799",
    "253402300800",
    "-62135596801",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e309",
    "0.1e-400",
];

/// What any text may get.
const WORDS: [&str; 24] = [
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\"",
    "\\",
    "/",
    "../",
    "%00",
    "%",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{feff}",
    "\u{202e}",
    "\u{fffd}",
    "é",
    "١",
    "\u{10ffff}",
    "'\"><x-fuzz>",
    "NaN",
    "-",
    ",",
    "=",
];

/// Bytes that are no text.
const RAW: [&[u8]; 6] = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\x80",
    b"\xf4\x90\x80\x80",
    b"\xc3",
];

/// See the [module](self).
pub(crate) struct Mutator {
    pub(crate) chance: Chance,
    /// The longest that it makes, in bytes.
    longest: usize,
}

impl Mutator {
    pub(crate) const fn new(chance: Chance, longest: usize) -> Self {
        Self { chance, longest }
    }

    /// Changes `bytes` in one to eight ways; `words` are those of the format.
    pub(crate) fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
        let most = 1 << self.chance.below(4);
        for _ in 0..=self.chance.below(most) {
            self.once(bytes, pool, words);
        }
        bytes.truncate(self.longest);
    }

    fn once(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
        let at = self.chance.place(bytes.len());
        match self.chance.below(16) {
            0 => self.flip(bytes),
            1 => self.set(bytes),
            2 => insert(bytes, at, &[self.chance.next() as u8]),
            3 | 4 => {
                let word = if words.is_empty() {
                    *self.chance.pick(&WORDS)
                } else {
                    *self.chance.pick(words)
                };
                insert(bytes, at, word.as_bytes());
            }
            5 => insert(bytes, at, self.chance.pick(&WORDS).as_bytes()),
            6 => {
                let raw: &&[u8] = self.chance.pick(&RAW);
                insert(bytes, at, raw);
            }
            7 => {
                let cut = self.range(bytes);
                bytes.drain(cut);
            }
            8 => bytes.truncate(at),
            9 => {
                let copied = self.range(bytes);
                let copy = bytes[copied].to_vec();
                insert(bytes, at, &copy);
            }
            10 => self.repeat(bytes),
            11 => self.splice(bytes, pool),
            12 | 13 => self.number(bytes),
            14 => self.integer(bytes),
            _ => {
                let (a, b) = (self.range(bytes), self.range(bytes));
                let copy = bytes[a].to_vec();
                bytes.splice(b, copy);
            }
        }
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.chance.place(bytes.len());
        start..bytes.len().min(start + self.chance.length())
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.chance.place(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.chance.below(8);
        }
    }

    fn set(&mut self, bytes: &mut [u8]) {
        let at = self.chance.place(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = *self.chance.pick(b"\0\x01\x7f\x80\xff 09azAZ{}[]<>&\"\\");
        }
    }

    /// The same piece again and again: nesting without end, long names, long numbers.
    fn repeat(&mut self, bytes: &mut Vec<u8>) {
        let piece = self.range(bytes);
        let piece = bytes[piece.start..piece.end.min(piece.start + 8)].to_vec();
        if piece.is_empty() {
            return;
        }
        let room = self.longest.saturating_sub(bytes.len()) / piece.len();
        let most = 1 << self.chance.below(14);
        let times = (1 + self.chance.below(most) as usize).min(room);
        let at = self.chance.place(bytes.len());
        insert(bytes, at, &piece.repeat(times));
    }

    /// The beginning of this one and the end of another, or a piece of the other in the middle.
    fn splice(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        if pool.is_empty() {
            return;
        }
        let other = self.chance.pick(pool);
        let from = self.chance.place(other.len());
        let at = self.chance.place(bytes.len());
        if self.chance.one_in(2) {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        } else {
            let end = other.len().min(from + self.chance.length());
            insert(bytes, at, &other[from..end]);
        }
    }

    /// Puts another number where one is written in digits.
    fn number(&mut self, bytes: &mut Vec<u8>) {
        let start = self.chance.place(bytes.len());
        let digit = |byte: &u8| byte.is_ascii_digit();
        let Some(first) = bytes[start..].iter().position(digit) else {
            return;
        };
        let first = start + first;
        let len = bytes[first..]
            .iter()
            .position(|byte| !digit(byte))
            .unwrap_or(bytes.len() - first);
        let number = *self.chance.pick(&NUMBERS);
        bytes.splice(first..first + len, number.bytes());
    }

    /// Puts a number at the edge of a type where one may stand in binary, least byte first.
    fn integer(&mut self, bytes: &mut [u8]) {
        let width = 1 << self.chance.below(4);
        let at = self.chance.place(bytes.len());
        let edge = [0, 1, u64::MAX, i64::MAX as u64, u32::MAX.into(), 1 << 31];
        let value = self
            .chance
            .pick(&edge)
            .wrapping_add(self.chance.below(3))
            .wrapping_sub(1);
        if let Some(place) = bytes.get_mut(at..at + width) {
            place.copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
