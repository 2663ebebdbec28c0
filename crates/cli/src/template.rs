//! Prints a record by a template such as `%k: %v`, or as JSON.

use std::io::Write;

use kavka::{RecordCursor, RecordView};

use crate::escapes::unescape;

/// The parts of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Key,
    Value,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl Template {
    /// Parses the value of `--format`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut parts = text.split('%');
        let mut literal = parts.next().unwrap_or_default().to_owned();
        while let Some(part) = parts.next() {
            let piece = match part.chars().next() {
                // `%%` is a percent sign; what follows it is text.
                None => {
                    let rest = parts.next().ok_or("a % must be followed by v, k, t, p, o, T, h or another %")?;
                    literal.push('%');
                    literal.push_str(rest);
                    continue;
                }
                Some('v') => Piece::Value,
                Some('k') => Piece::Key,
                Some('t') => Piece::Topic,
                Some('p') => Piece::Partition,
                Some('o') => Piece::Offset,
                Some('T') => Piece::Timestamp,
                Some('h') => Piece::Headers,
                Some(other) => return Err(format!("%{other} is unknown: use %v, %k, %t, %p, %o, %T, %h or %%")),
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(unescape(&literal)?));
            }
            pieces.push(piece);
            part[1..].clone_into(&mut literal);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(unescape(&literal)?));
        }
        Ok(Self(pieces))
    }

    /// Appends a record; a null key or value is printed as `null`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, batch: &RecordCursor, record: &RecordView, null: &[u8]) {
        let data = batch.data();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Value => out.extend_from_slice(record.value.map_or(null, |span| span.of(data))),
                Piece::Key => out.extend_from_slice(record.key.map_or(null, |span| span.of(data))),
                Piece::Topic => out.extend_from_slice(batch.topic_partition().topic.as_bytes()),
                Piece::Partition => write_number(out, batch.topic_partition().partition.into()),
                Piece::Offset => write_number(out, record.offset),
                Piece::Timestamp => write_number(out, record.timestamp_ms),
                Piece::Headers => write_headers(out, batch, record, null),
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

/// Appends the headers as `name=value`, separated by commas.
fn write_headers(out: &mut Vec<u8>, batch: &RecordCursor, record: &RecordView, null: &[u8]) {
    for (index, header) in record.headers(batch.data()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.key);
        out.push(b'=');
        out.extend_from_slice(header.value.unwrap_or(null));
    }
}

/// Appends a record as one JSON object.
pub(crate) fn write_json(out: &mut Vec<u8>, batch: &RecordCursor, record: &RecordView) {
    let data = batch.data();
    let place = batch.topic_partition();
    // Topic names contain no character that JSON escapes.
    let _ = write!(
        out,
        r#"{{"topic":"{}","partition":{},"offset":{},"timestamp":{}"#,
        place.topic, place.partition, record.offset, record.timestamp_ms
    );
    write_field(out, "key", record.key.map(|span| span.of(data)));
    write_field(out, "value", record.value.map(|span| span.of(data)));
    out.extend_from_slice(br#","headers":["#);
    for (index, header) in record.headers(data).enumerate() {
        out.extend_from_slice(if index > 0 { b",{" } else { b"{" });
        out.extend_from_slice(br#""name":"#);
        write_string(out, &String::from_utf8_lossy(header.key));
        write_field(out, "value", header.value);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// Appends a comma and a member: a string or null, or base64 in a member whose name ends in `_base64`.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            write_string(out, text);
        }
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"_base64\":\"");
            write_base64(out, bytes);
            out.push(b'"');
        }
    }
}

pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 | 0x7f => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Base64 with padding (RFC 4648).
fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { DIGITS[index as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        let pieces = vec![Piece::Key, Piece::Text(b"\t100% ".to_vec()), Piece::Value, Piece::Text(b"!".to_vec())];
        assert_eq!(Template::parse(r"%k\t100%% %v!").unwrap(), Template(pieces));
        assert_eq!(Template::parse("").unwrap(), Template(Vec::new()));
        assert_eq!(Template::parse("%%%v%%").unwrap().0.len(), 3);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        for text in ["%x", "%", "100%", "%é", r"\q"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn base64_is_padded() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"", b""),
            (b"\xff", b"/w=="),
            (b"\xff\xfe", b"//4="),
            (b"\xff\xfe\xfd", b"//79"),
            (b"abcd", b"YWJjZA=="),
        ];
        for (bytes, text) in cases {
            let mut out = Vec::new();
            write_base64(&mut out, bytes);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn a_json_string_escapes_what_json_wants_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"\\\n\u{1}ü");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001ü\"".as_bytes());
    }
}
