//! Encodes any message from its schema alone, with values from a [`Source`].

use kavka_core::wire::schema::{FieldSchema, FieldType, MessageSchema, Schema};

/// A source of values.
pub(crate) trait Source {
    /// A number of this many bytes; neither 0 nor -1 unless a default is allowed.
    fn number(&mut self, bytes: usize, is_default_allowed: bool) -> i64;

    /// The content of a string, bytes or records; not empty unless a default is allowed.
    fn text(&mut self, is_default_allowed: bool) -> String;

    /// The number of elements of an array; not 0 unless a default is allowed.
    fn elements(&mut self, is_default_allowed: bool) -> usize;

    /// Whether a nullable value is null.
    fn is_null(&mut self) -> bool;
}

/// The n-th value is n, as in what `Golden.java` writes as `full`.
#[derive(Default)]
pub(crate) struct Counting(i64);

impl Source for Counting {
    fn number(&mut self, _: usize, _: bool) -> i64 {
        self.0 += 1;
        self.0
    }

    fn text(&mut self, _: bool) -> String {
        self.0 += 1;
        format!("v{}", self.0)
    }

    fn elements(&mut self, _: bool) -> usize {
        2
    }

    fn is_null(&mut self) -> bool {
        false
    }
}

/// Pseudo-random values, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// A number below `limit`: splitmix64.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Source for Random {
    fn number(&mut self, _: usize, is_default_allowed: bool) -> i64 {
        match self.below(4) {
            _ if !is_default_allowed => self.below(100) as i64 + 1,
            0 => -1,
            1 => 0,
            2 => i64::MIN,
            _ => self.next() as i64,
        }
    }

    fn text(&mut self, is_default_allowed: bool) -> String {
        let length = match self.below(8) {
            // Around the lengths at which a varint takes one more byte.
            0 => 126 + self.below(4),
            1 => 16_382 + self.below(4),
            _ => self.below(20) + usize::from(!is_default_allowed),
        };
        "ž".repeat(length / 2) + &"x".repeat(length % 2)
    }

    fn elements(&mut self, is_default_allowed: bool) -> usize {
        self.below(3) + usize::from(!is_default_allowed)
    }

    fn is_null(&mut self) -> bool {
        self.below(3) == 0
    }
}

/// The encoding of a message in this version.
pub(crate) fn message(message: &MessageSchema, version: i16, source: &mut impl Source) -> Vec<u8> {
    let mut writer =
        Writer { bytes: Vec::new(), version, flexible: version >= message.flexible_since, in_tag: false, source };
    writer.put_struct(&message.schema);
    writer.bytes
}

struct Writer<'a, S> {
    bytes: Vec<u8>,
    version: i16,
    flexible: bool,
    /// A tagged field with its default value is left out, so no value inside one may be a default.
    in_tag: bool,
    source: &'a mut S,
}

impl<S: Source> Writer<'_, S> {
    fn put_struct(&mut self, schema: &Schema) {
        let is_in = is_in_version(self.version);
        let (mut tagged, plain): (Vec<_>, Vec<_>) = schema
            .fields
            .iter()
            .filter(|field| is_in(field.versions))
            .partition(|field| field.tag.is_some_and(|(_, from)| self.version >= from));
        for field in plain {
            let is_nullable = field.nullable.is_some_and(&is_in);
            self.put(&field.field_type, is_nullable);
        }
        if !self.flexible {
            assert!(tagged.is_empty(), "{} has tagged fields in a version without", schema.name);
            return;
        }
        tagged.sort_by_key(|field| field.tag);
        self.put_varint(tagged.len());
        for field in tagged {
            self.put_tagged(field);
        }
    }

    fn put_tagged(&mut self, field: &FieldSchema) {
        let before = std::mem::take(&mut self.bytes);
        let was_in_tag = std::mem::replace(&mut self.in_tag, true);
        self.put(&field.field_type, false);
        self.in_tag = was_in_tag;
        let value = std::mem::replace(&mut self.bytes, before);
        self.put_varint(field.tag.unwrap().0 as usize);
        self.put_varint(value.len());
        self.bytes.extend(value);
    }

    fn put(&mut self, field_type: &FieldType, is_nullable: bool) {
        match field_type {
            FieldType::Struct(schema) => {
                if is_nullable {
                    let is_null = self.source.is_null();
                    self.bytes.push(if is_null { 0xff } else { 1 });
                    if is_null {
                        return;
                    }
                }
                self.put_struct(schema);
            }
            FieldType::Primitive(name) => self.put_primitive(name, is_nullable),
            FieldType::Array(element) => {
                if is_nullable && self.source.is_null() {
                    return self.put_length(None, 4);
                }
                let count = self.source.elements(!self.in_tag);
                self.put_length(Some(count), 4);
                for _ in 0..count {
                    self.put(element, false);
                }
            }
        }
    }

    fn put_primitive(&mut self, name: &str, is_nullable: bool) {
        match name {
            "bool" => self.bytes.push(u8::from(self.in_tag || self.source.number(1, true) != 0)),
            "int8" => self.put_number(1),
            "int16" => self.put_number(2),
            "int32" => self.put_number(4),
            "int64" => self.put_number(8),
            "uuid" => {
                let half = self.source.number(8, !self.in_tag).to_be_bytes();
                self.bytes.extend([half, half].concat());
            }
            "string" | "bytes" | "records" => {
                let length_bytes = if name == "string" { 2 } else { 4 };
                if is_nullable && self.source.is_null() {
                    return self.put_length(None, length_bytes);
                }
                let text = self.source.text(!self.in_tag);
                self.put_length(Some(text.len()), length_bytes);
                self.bytes.extend(text.bytes());
            }
            _ => panic!("no values for {name}"),
        }
    }

    /// The last `bytes` bytes of a number.
    fn put_number(&mut self, bytes: usize) {
        let number = self.source.number(bytes, !self.in_tag).to_be_bytes();
        self.bytes.extend(&number[8 - bytes..]);
    }

    fn put_length(&mut self, length: Option<usize>, bytes: usize) {
        match length {
            _ if self.flexible => self.put_varint(length.map_or(0, |length| length + 1)),
            None => self.bytes.extend(&[0xff; 8][..bytes]),
            Some(length) => self.bytes.extend(&length.to_be_bytes()[8 - bytes..]),
        }
    }

    fn put_varint(&mut self, mut value: usize) {
        while value >= 128 {
            self.bytes.push((value % 128 + 128) as u8);
            value /= 128;
        }
        self.bytes.push(value as u8);
    }
}

fn is_in_version(version: i16) -> impl Fn((i16, i16)) -> bool {
    move |(first, last)| (first..=last).contains(&version)
}
