//! Parquet as AWS writes it: Snappy, pages of the first version, dictionaries where few values are many times there.

use std::collections::HashMap;

use super::{Kind, Row, Writer, columns, text, truth, varint};

const ROWS_A_GROUP: usize = 100_000;

const ROWS_A_PAGE: usize = 20_000;

pub(super) fn schema(versions: bool) -> String {
    let told = columns(versions).into_iter().map(|(name, optional, kind)| {
        let there = if optional { "optional" } else { "required" };
        match kind {
            Kind::Text | Kind::Few => format!("  {there} binary {name} (STRING);"),
            Kind::Truth => format!("  {there} boolean {name};"),
            Kind::Number => format!("  {there} int64 {name};"),
            Kind::Time => format!("  {there} int64 {name} (TIMESTAMP(MILLIS,true));"),
        }
    });
    format!("message s3.inventory {{{}}}", told.collect::<String>())
}

pub(super) struct File {
    versions: bool,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// Of each group, its rows and the encoded descriptions of its columns.
    groups: Vec<(usize, Vec<Vec<u8>>)>,
}

impl File {
    pub(super) fn new(versions: bool) -> Self {
        Self { versions, bytes: b"PAR1".to_vec(), rows: Vec::new(), groups: Vec::new() }
    }

    fn end_group(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return;
        }
        let columns = columns(self.versions);
        let told = columns.iter().map(|(name, optional, kind)| self.chunk(&rows, name, *optional, *kind)).collect();
        self.groups.push((rows.len(), told));
    }

    /// Writes a column of these rows, and describes it.
    fn chunk(&mut self, rows: &[Row], name: &str, optional: bool, kind: Kind) -> Vec<u8> {
        let begins = self.bytes.len();
        let mut words = HashMap::new();
        if kind == Kind::Few {
            let mut dictionary = Vec::new();
            for value in rows.iter().filter_map(|row| text(row, name)) {
                let next = words.len();
                if !words.contains_key(value) {
                    words.insert(value.to_vec(), next);
                    put_text(&mut dictionary, value);
                }
            }
            let mut head = Thrift::default();
            head.small(1, words.len()).small(2, 0);
            self.page(2, 7, &head.end(), &dictionary);
        }
        let data = self.bytes.len();
        for rows in rows.chunks(ROWS_A_PAGE) {
            let (present, values) = values(rows, name, kind, &words);
            let mut page = Vec::new();
            if optional {
                let levels = packed(present.iter().map(|there| u64::from(*there)), 1);
                page.extend(u32::try_from(levels.len()).expect("it fits").to_le_bytes());
                page.extend(levels);
            }
            page.extend(values);
            let mut head = Thrift::default();
            head.small(1, rows.len()).small(2, if kind == Kind::Few { 8 } else { 0 }).small(3, 3).small(4, 3);
            self.page(0, 5, &head.end(), &page);
        }
        let mut told = Thrift::default();
        told.small(1, physical(kind)).list(2, 5, &[&[0], &[6], &[16]]).list(3, 8, &[&named(name)]).small(4, 1);
        told.int(5, rows.len()).int(6, self.bytes.len() - begins).int(7, self.bytes.len() - begins).int(9, data);
        if kind == Kind::Few {
            told.int(11, begins);
        }
        let mut chunk = Thrift::default();
        chunk.int(2, begins).structure(3, &told.end());
        chunk.end()
    }

    fn page(&mut self, kind: usize, member: u8, head: &[u8], page: &[u8]) {
        let packed = snap::raw::Encoder::new().compress_vec(page).expect("compressed");
        let mut header = Thrift::default();
        header.small(1, kind).small(2, page.len()).small(3, packed.len()).structure(member, head);
        self.bytes.extend(header.end());
        self.bytes.extend(packed);
    }
}

impl Writer for File {
    fn push(&mut self, row: &Row) {
        self.rows.push(row.clone());
        if self.rows.len() == ROWS_A_GROUP {
            self.end_group();
        }
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        self.end_group();
        let columns = columns(self.versions);
        let mut root = Thrift::default();
        root.binary(4, b"s3.inventory").small(5, columns.len());
        let mut schema = vec![root.end()];
        for (name, optional, kind) in columns {
            let mut column = Thrift::default();
            column.small(1, physical(kind)).small(3, usize::from(optional)).binary(4, name.as_bytes());
            match kind {
                Kind::Text | Kind::Few => column.small(6, 0),
                Kind::Time => column.small(6, 9),
                Kind::Truth | Kind::Number => &mut column,
            };
            schema.push(column.end());
        }
        let groups = self.groups.iter().map(|(rows, columns)| {
            let mut group = Thrift::default();
            let columns: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
            group.list(1, 12, &columns).int(2, 0).int(3, *rows);
            group.end()
        });
        let groups: Vec<Vec<u8>> = groups.collect();
        let mut footer = Thrift::default();
        footer.small(1, 1).list(2, 12, &slices(&schema));
        footer.int(3, self.groups.iter().map(|(rows, _)| rows).sum::<usize>()).list(4, 12, &slices(&groups));
        let footer = footer.end();
        self.bytes.extend(&footer);
        self.bytes.extend(u32::try_from(footer.len()).expect("it fits").to_le_bytes());
        self.bytes.extend(b"PAR1");
        self.bytes
    }
}

fn slices(all: &[Vec<u8>]) -> Vec<&[u8]> {
    all.iter().map(Vec::as_slice).collect()
}

fn physical(kind: Kind) -> usize {
    match kind {
        Kind::Truth => 0,
        Kind::Number | Kind::Time => 2,
        Kind::Text | Kind::Few => 6,
    }
}

/// Which rows have a value, and the values.
fn values(rows: &[Row], name: &str, kind: Kind, words: &HashMap<Vec<u8>, usize>) -> (Vec<bool>, Vec<u8>) {
    let mut bytes = Vec::new();
    let numbers = |number: &dyn Fn(&Row) -> Option<i64>| {
        let present = rows.iter().map(|row| number(row).is_some()).collect();
        (present, rows.iter().filter_map(number).flat_map(i64::to_le_bytes).collect())
    };
    match kind {
        Kind::Number => return numbers(&|row| row.size.map(|size| size.try_into().expect("it fits"))),
        Kind::Time => return numbers(&|row| row.last_modified),
        Kind::Truth => {
            let bits = rows.chunks(8).map(|eight| {
                eight.iter().enumerate().fold(0, |byte, (place, row)| byte | u8::from(truth(row, name)) << place)
            });
            return (vec![true; rows.len()], bits.collect());
        }
        Kind::Text => rows.iter().filter_map(|row| text(row, name)).for_each(|text| put_text(&mut bytes, text)),
        Kind::Few => {
            let width = usize::BITS - words.len().saturating_sub(1).leading_zeros();
            bytes.push(u8::try_from(width).expect("it fits"));
            let places = rows.iter().filter_map(|row| text(row, name)).map(|text| words[text] as u64);
            bytes.extend(packed(places, width as usize));
        }
    }
    (rows.iter().map(|row| text(row, name).is_some()).collect(), bytes)
}

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend(u32::try_from(text.len()).expect("it fits").to_le_bytes());
    to.extend(text);
}

/// A run of packed numbers, the least significant bits first.
fn packed(numbers: impl Iterator<Item = u64>, width: usize) -> Vec<u8> {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.resize(numbers.len().next_multiple_of(8), 0);
    let mut run = varint((numbers.len() / 8 * 2 + 1) as u64);
    let mut bits = vec![0_u8; numbers.len() / 8 * width];
    for (place, number) in numbers.iter().enumerate() {
        for bit in (0..width).filter(|bit| number >> bit & 1 == 1) {
            bits[(place * width + bit) / 8] |= 1 << ((place * width + bit) % 8);
        }
    }
    run.extend(bits);
    run
}

fn named(name: &str) -> Vec<u8> {
    [varint(name.len() as u64), name.as_bytes().to_vec()].concat()
}

/// A structure of Thrift's compact protocol; members come in the order of their numbers.
#[derive(Default)]
struct Thrift {
    bytes: Vec<u8>,
    last: u8,
}

impl Thrift {
    fn member(&mut self, id: u8, kind: u8) {
        self.bytes.push((id - self.last) << 4 | kind);
        self.last = id;
    }

    /// A number of four bytes at most.
    fn small(&mut self, id: u8, number: usize) -> &mut Self {
        self.member(id, 5);
        self.bytes.extend(varint(number as u64 * 2));
        self
    }

    fn int(&mut self, id: u8, number: usize) -> &mut Self {
        self.member(id, 6);
        self.bytes.extend(varint(number as u64 * 2));
        self
    }

    fn binary(&mut self, id: u8, bytes: &[u8]) -> &mut Self {
        self.member(id, 8);
        self.bytes.extend(varint(bytes.len() as u64));
        self.bytes.extend(bytes);
        self
    }

    fn structure(&mut self, id: u8, encoded: &[u8]) -> &mut Self {
        self.member(id, 12);
        self.bytes.extend(encoded);
        self
    }

    fn list(&mut self, id: u8, kind: u8, elements: &[&[u8]]) -> &mut Self {
        self.member(id, 9);
        self.bytes.push(0xf0 | kind);
        self.bytes.extend(varint(elements.len() as u64));
        self.bytes.extend(elements.concat());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}
