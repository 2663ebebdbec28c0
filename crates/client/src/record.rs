//! How a record is put together.

use kavka_core::wire::records::Header;

use crate::Record;

impl<'a> Record<'a> {
    /// A record with this value and nothing else. Without a value (`Record::default()`) it is a tombstone.
    pub fn new<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self { value: Some(value.as_ref()), ..Self::default() }
    }

    /// Gives it a key, which decides about its partition.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(self, key: &'a K) -> Self {
        Self { key: Some(key.as_ref()), ..self }
    }

    /// Gives it headers, in order.
    #[must_use]
    pub fn headers(self, headers: &'a [Header<'a>]) -> Self {
        Self { headers, ..self }
    }

    /// Sends it to this partition, whatever its key.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Gives it a time, in milliseconds since 1970, other than now.
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }
}
