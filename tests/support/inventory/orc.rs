//! ORC as AWS writes it: zlib, runs of the second version, dictionaries where few values are many times there.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{Kind, Row, Writer, columns, text, truth, varint};

const ROWS_A_STRIPE: usize = 100_000;

const BLOCK: usize = 64 << 10;

/// The first second of 2015.
const EPOCH: i64 = 1_420_070_400;

pub(super) fn schema(versions: bool) -> String {
    let told = columns(versions).into_iter().map(|(name, _, kind)| match kind {
        Kind::Text | Kind::Few => format!("{name}:string"),
        Kind::Truth => format!("{name}:boolean"),
        Kind::Number => format!("{name}:bigint"),
        Kind::Time => format!("{name}:timestamp"),
    });
    format!("struct<{}>", told.collect::<Vec<_>>().join(","))
}

pub(super) struct File {
    versions: bool,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    stripes: Vec<Vec<u8>>,
    written: usize,
}

impl File {
    pub(super) fn new(versions: bool) -> Self {
        Self { versions, bytes: b"ORC".to_vec(), rows: Vec::new(), stripes: Vec::new(), written: 0 }
    }

    fn end_stripe(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return;
        }
        self.written += rows.len();
        let begins = self.bytes.len();
        let (mut footer, mut encodings) = (Proto::default(), vec![(0, 0)]);
        for (number, (name, _, kind)) in columns(self.versions).into_iter().enumerate() {
            let (streams, encoding) = column(&rows, name, kind);
            encodings.push(encoding);
            for (part, stream) in streams {
                let packed = blocks(&stream);
                let mut told = Proto::default();
                told.number(1, part).number(2, number + 1).number(3, packed.len());
                footer.bytes(1, &told.0);
                self.bytes.extend(packed);
            }
        }
        for (kind, dictionary) in encodings {
            let mut told = Proto::default();
            told.number(1, kind);
            if dictionary > 0 {
                told.number(2, dictionary);
            }
            footer.bytes(2, &told.0);
        }
        footer.bytes(3, b"UTC");
        let (data, footer) = (self.bytes.len() - begins, blocks(&footer.0));
        let mut stripe = Proto::default();
        stripe.number(1, begins).number(2, 0).number(3, data).number(4, footer.len()).number(5, rows.len());
        self.bytes.extend(footer);
        self.stripes.push(stripe.0);
    }
}

impl Writer for File {
    fn push(&mut self, row: &Row) {
        self.rows.push(row.clone());
        if self.rows.len() == ROWS_A_STRIPE {
            self.end_stripe();
        }
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        self.end_stripe();
        let columns = columns(self.versions);
        let (mut footer, mut row) = (Proto::default(), Proto::default());
        footer.number(1, 3).number(2, self.bytes.len());
        self.stripes.iter().for_each(|stripe| footer.bytes(3, stripe));
        row.number(1, 12);
        row.bytes(2, &(1..=columns.len()).flat_map(|id| varint(id as u64)).collect::<Vec<_>>());
        for (name, ..) in &columns {
            row.bytes(3, name.as_bytes());
        }
        footer.bytes(4, &row.0);
        for (.., kind) in columns {
            let mut told = Proto::default();
            told.number(
                1,
                match kind {
                    Kind::Truth => 0,
                    Kind::Number => 4,
                    Kind::Text | Kind::Few => 7,
                    Kind::Time => 9,
                },
            );
            footer.bytes(4, &told.0);
        }
        footer.number(6, self.written).number(8, 0);
        let footer = blocks(&footer.0);
        let mut end = Proto::default();
        end.number(1, footer.len()).number(2, 1).number(3, BLOCK);
        end.bytes(4, &[0, 12]);
        end.number(5, 0).number(6, 6).bytes(8000, b"ORC");
        self.bytes.extend(footer);
        self.bytes.extend(&end.0);
        self.bytes.push(u8::try_from(end.0.len()).expect("it fits"));
        self.bytes
    }
}

/// A column's streams, each with what it is.
type Streams = Vec<(usize, Vec<u8>)>;

/// The streams of a column, and its encoding with the size of its dictionary.
fn column(rows: &[Row], name: &str, kind: Kind) -> (Streams, (usize, usize)) {
    let texts: Vec<Option<&[u8]>> = rows.iter().map(|row| text(row, name)).collect();
    let there = |row: (usize, &Row)| match kind {
        Kind::Text | Kind::Few => texts[row.0].is_some(),
        Kind::Truth => true,
        Kind::Number => row.1.size.is_some(),
        Kind::Time => row.1.last_modified.is_some(),
    };
    let present: Vec<bool> = rows.iter().enumerate().map(there).collect();
    let mut streams = Vec::new();
    if present.contains(&false) {
        streams.push((0, bits(&present)));
    }
    let lengths = |texts: &[&[u8]]| integers(&texts.iter().map(|text| text.len() as u64).collect::<Vec<_>>());
    let texts: Vec<&[u8]> = texts.into_iter().flatten().collect();
    let signed = |numbers: &mut dyn Iterator<Item = i64>| {
        integers(&numbers.map(|number| (number << 1 ^ number >> 63).cast_unsigned()).collect::<Vec<_>>())
    };
    match kind {
        Kind::Text => {
            streams.extend([(1, texts.concat()), (2, lengths(&texts))]);
            (streams, (2, 0))
        }
        Kind::Few => {
            let (mut words, mut places) = (Vec::new(), HashMap::new());
            let data: Vec<u64> = texts
                .iter()
                .map(|text| {
                    *places.entry(*text).or_insert_with(|| {
                        words.push(*text);
                        words.len() as u64 - 1
                    })
                })
                .collect();
            streams.extend([(1, integers(&data)), (3, words.concat()), (2, lengths(&words))]);
            (streams, (3, words.len()))
        }
        Kind::Truth => {
            streams.push((1, bits(&rows.iter().map(|row| truth(row, name)).collect::<Vec<_>>())));
            (streams, (0, 0))
        }
        Kind::Number => {
            let size = |row: &Row| row.size.map(|size| i64::try_from(size).expect("it fits"));
            streams.push((1, signed(&mut rows.iter().filter_map(size))));
            (streams, (2, 0))
        }
        Kind::Time => {
            let times = || rows.iter().filter_map(|row| row.last_modified);
            let nanos: Vec<u64> = times().map(|time| packed_nanos(time.rem_euclid(1000).unsigned_abs())).collect();
            streams.push((1, signed(&mut times().map(|time| time.div_euclid(1000) - EPOCH))));
            streams.push((5, integers(&nanos)));
            (streams, (2, 0))
        }
    }
}

/// Milliseconds as nanoseconds, their noughts taken off and counted.
fn packed_nanos(millis: u64) -> u64 {
    let (mut number, mut noughts) = (millis * 1_000_000, 0);
    if number == 0 {
        return 0;
    }
    while number % 10 == 0 && noughts < 8 {
        (number, noughts) = (number / 10, noughts + 1);
    }
    number << 3 | (noughts - 1)
}

/// Truth values in literal runs of bytes.
fn bits(truths: &[bool]) -> Vec<u8> {
    let bytes: Vec<u8> = truths
        .chunks(8)
        .map(|eight| eight.iter().enumerate().fold(0, |byte, (place, truth)| byte | u8::from(*truth) << (7 - place)))
        .collect();
    bytes.chunks(128).flat_map(|run| [&[u8::try_from(256 - run.len()).expect("it fits")], run].concat()).collect()
}

/// Numbers in runs of 512: one that repeats itself by its difference of nothing, others packed.
fn integers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in numbers.chunks(512) {
        let count = run.len() - 1;
        let same = run.len() > 1 && run.iter().all(|number| number == &run[0]);
        let needed = run.iter().map(|number| 64 - number.leading_zeros()).max().unwrap_or_default().max(1);
        let (code, width) = (0..32_usize)
            .map(|code| (code, width_of(code)))
            .find(|(_, width)| *width >= needed)
            .expect("64 bits are enough");
        let head = if same { 0b1100_0000 } else { 0b0100_0000 | code << 1 };
        bytes.extend([u8::try_from(head | count >> 8).expect("it fits"), u8::try_from(count & 0xff).expect("it fits")]);
        if same {
            bytes.extend(varint(run[0]));
            bytes.push(0);
            continue;
        }
        let (mut pending, mut waiting) = (0_u128, 0);
        for number in run {
            pending = pending << width | u128::from(*number);
            waiting += width;
            while waiting >= 8 {
                waiting -= 8;
                bytes.push(u8::try_from(pending >> waiting & 0xff).expect("it fits"));
            }
            pending &= (1 << waiting) - 1;
        }
        if waiting > 0 {
            bytes.push(u8::try_from(pending << (8 - waiting) & 0xff).expect("it fits"));
        }
    }
    bytes
}

fn width_of(code: usize) -> u32 {
    match code {
        0..=23 => u32::try_from(code).expect("it fits") + 1,
        24..=27 => 26 + 2 * (u32::try_from(code).expect("it fits") - 24),
        _ => 40 + 8 * (u32::try_from(code).expect("it fits") - 28),
    }
}

/// Compressed blocks; one that grew is stored as it was.
fn blocks(stream: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for block in stream.chunks(BLOCK) {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(block).expect("written");
        let packed = encoder.finish().expect("compressed");
        let (bytes, original) = if packed.len() < block.len() { (packed.as_slice(), 0) } else { (block, 1) };
        let head = u32::try_from(bytes.len()).expect("it fits") << 1 | original;
        all.extend(&head.to_le_bytes()[..3]);
        all.extend(bytes);
    }
    all
}

/// A message of protocol buffers.
#[derive(Default)]
struct Proto(Vec<u8>);

impl Proto {
    fn number(&mut self, field: u64, number: usize) -> &mut Self {
        self.0.extend(varint(field << 3));
        self.0.extend(varint(number as u64));
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.0.extend(varint(field << 3 | 2));
        self.0.extend(varint(bytes.len() as u64));
        self.0.extend(bytes);
    }
}
