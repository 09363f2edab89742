//! Input that is nearly right: a corpus, changed a little by a seed.

/// What formats give a meaning to.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b"\r\n",
    b"\n",
    b"\"",
    b"\"\"",
    b"\\u0000",
    b"..",
    b"../../",
    b"%",
    b"%00",
    b"%ff",
    b"%2F",
    b"+",
    b"&#x0;",
    b"&a;",
    b"<!DOCTYPE a [<!ENTITY a \"b\">]>",
    b"]]>",
    b"<![CDATA[",
    b"{",
    b"[",
    b"[[[[[[[[[[[[[[[[",
    b"}",
    b"]",
    b",",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"9223372036854775807",
    b"18446744073709551616",
    b"99999999999999999999",
    b"9999-12-31T23:59:59Z",
    b"-9999-01-01",
    b"0.0000000001",
    b"PAR1",
    b"ORC",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
];

/// The longest input that is made, in bytes.
const LONGEST: usize = 1 << 18;

/// Makes inputs of a corpus.
pub(crate) struct Mutator {
    random: fastrand::Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// The inputs of this seed.
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), corpus }
    }

    /// The next one.
    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.of_corpus().to_vec();
        for _ in 0..1 << self.random.u32(..5) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn of_corpus(&mut self) -> &[u8] {
        let number = self.random.usize(..self.corpus.len());
        &self.corpus[number]
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    /// A stretch of an input, short more often than long.
    fn stretch(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(input);
        let most = 1 << self.random.u32(..10);
        start..(start + self.random.usize(..most)).min(input.len())
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.place(input);
        match self.random.u8(..11) {
            0 if at < input.len() => input[at] ^= 1 << self.random.u8(..8),
            1 if at < input.len() => input[at] = self.random.u8(..),
            2 if at < input.len() => input[at] = input[at].wrapping_add(self.random.u8(..3).wrapping_sub(1)),
            3 => input.insert(at, self.random.u8(..)),
            4 => {
                let stretch = self.stretch(input);
                input.drain(stretch);
            }
            5 => {
                let piece = input[self.stretch(input)].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                let word = WORDS[self.random.usize(..WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            7 => {
                let word = WORDS[self.random.usize(..WORDS.len())];
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            8 => {
                let other = self.of_corpus().to_vec();
                let piece = other[self.stretch(&other)].to_vec();
                let end = (at + piece.len()).min(input.len());
                input.splice(at..end, piece);
            }
            9 if self.random.u8(..8) == 0 => input.truncate(at),
            _ => {
                // Many of the same: what is long where nobody expects it.
                let piece = input[self.stretch(input)].to_vec();
                let times = 1 << self.random.u32(..8);
                input.splice(at..at, piece.iter().copied().cycle().take((piece.len() * times).min(LONGEST / 4)));
            }
        }
    }
}
