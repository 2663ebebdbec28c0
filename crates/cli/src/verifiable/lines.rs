//! The lines of JSON on standard output.

use std::fmt::Display;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use kavka::TopicPartition;

use crate::failure::Failure;
use crate::output::{Output, is_closed};
use crate::template::{write_field, write_string};

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// A line that is being written. [`Line::end`] completes it.
#[must_use]
pub(super) struct Line<'a>(&'a mut Vec<u8>);

// Writing to a Vec cannot fail.
impl<'a> Line<'a> {
    /// Begins the line of an event.
    pub(super) fn new(out: &'a mut Vec<u8>, now_ms: u128, name: &str) -> Self {
        let _ = write!(out, r#"{{"timestamp":{now_ms},"name":"{name}""#);
        Self(out)
    }

    /// Adds a number or a truth value.
    pub(super) fn member(self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.0, r#","{name}":{value}"#);
        self
    }

    /// Adds a text.
    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let _ = write!(self.0, r#","{name}":"#);
        write_string(self.0, value);
        self
    }

    /// Adds bytes as a text, or as base64 under a name that ends in `_base64`.
    pub(super) fn bytes(self, name: &str, value: Option<&[u8]>) -> Self {
        write_field(self.0, name, value);
        self
    }

    /// Adds a list, of which `write` writes each item.
    pub(super) fn list<T>(self, name: &str, items: impl IntoIterator<Item = T>, write: fn(&mut Vec<u8>, T)) -> Self {
        let _ = write!(self.0, r#","{name}":["#);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write(self.0, item);
        }
        self.0.push(b']');
        self
    }

    pub(super) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }
}

/// Writes a partition as an object.
pub(super) fn write_partition(out: &mut Vec<u8>, key: &TopicPartition) {
    // Topic names contain no character that JSON escapes.
    let _ = write!(out, r#"{{"topic":"{}","partition":{}}}"#, key.topic, key.partition);
}

/// Writes what was appended. Returns `false` if nobody reads it any more.
pub(super) fn flush(output: &mut Output) -> Result<bool, Failure> {
    match output.flush() {
        Ok(()) => Ok(true),
        Err(error) if is_closed(&error) => Ok(false),
        Err(error) => Err(Output::failure(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_that_begins_with_the_time_and_the_name() {
        let mut out = Vec::new();
        let key = TopicPartition::new("t", 3);
        let line = Line::new(&mut out, 17, "event").member("sent", 5).text("error", "\"no\"").bytes("key", None);
        line.list("partitions", [&key, &key], write_partition).end();
        let expected = concat!(
            r#"{"timestamp":17,"name":"event","sent":5,"error":"\"no\"","key":null,"#,
            r#""partitions":[{"topic":"t","partition":3},{"topic":"t","partition":3}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
