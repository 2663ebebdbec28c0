//! `kavka verifiable-producer` and `kavka verifiable-consumer`: programs whose output says all that they were told.
//!
//! Each line of standard output is a JSON object. Names and members are those of Apache Kafka's programs of the same
//! names, so Kafka's own system tests understand them. Members that those do not have: `outcome` says whether a failed
//! record may be in the log, `age_ms` how old a record was when it had no report yet, `accepted` how many records were
//! accepted a second before the report of one that failed, `lost` whether partitions were taken away without notice,
//! and `crc32` is a checksum over the records that a line counts. A line `offsets_reset` tells of a position that
//! moved, `topic_created_again` of a partition that begins anew.

pub(crate) mod arguments;
pub(crate) mod consumer;
mod lines;
pub(crate) mod producer;
mod reports;
