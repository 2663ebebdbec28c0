//! An owned copy of a record that waits for buffer memory after its `send` call has returned.

use kavka_core::wire::records::Header;

use super::Record;

/// An owned [`Record`].
pub(super) struct KeptRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
}

impl KeptRecord {
    pub(super) fn new(record: &Record<'_>) -> Self {
        let header = |header: &Header<'_>| (header.key.to_vec(), header.value.map(<[u8]>::to_vec));
        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(header).collect(),
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
        }
    }

    /// The headers, in the form that [`record`](Self::record) takes.
    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }

    pub(super) fn record<'a>(&'a self, headers: &'a [Header<'a>]) -> Record<'a> {
        let Self { partition, timestamp_ms, .. } = *self;
        Record { key: self.key.as_deref(), value: self.value.as_deref(), headers, partition, timestamp_ms }
    }
}
