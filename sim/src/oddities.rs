//! Responses that a correct broker would not send. Brokers, proxies and broken memory have sent all of these.
//!
//! A partition is missing, appears twice, or was not asked for; a record batch is damaged; the correlation id is that
//! of another request; the client is told to wait.

use bytes::Bytes;
use kavka_core::random::Random;
use kavka_core::wire::api::{RequestHeader, encode_response};
use kavka_core::wire::message::Message;
use kavka_core::wire::messages::fetch::PartitionData;
use kavka_core::wire::messages::produce::PartitionProduceResponse;
use kavka_core::wire::messages::{FetchResponse, ProduceResponse};
use kavka_core::wire::{Decoder, ErrorCode};

/// The position of the correlation id in a frame.
const CORRELATION_ID: std::ops::Range<usize> = 4..8;
/// A partition that nobody asks for.
const FOREIGN: i32 = 77;
/// The longest time that a client is told to wait, in milliseconds.
const LONGEST_THROTTLE_MS: usize = 5_000;
/// The header of a record batch of magic 2: where its checksum covers it, its magic, and its size.
const CRC_COVERS_FROM: usize = 21;
const MAGIC_AT: usize = 16;
const HEADER_BYTES: usize = 61;

fn decoded<M: Message>(header: &RequestHeader, frame: &Bytes) -> M {
    let mut decoder = Decoder::from(frame.slice(CORRELATION_ID.end..));
    header.key.skip_response_header(header.version, &mut decoder).expect("the broker writes whole headers");
    M::decode_exact(header.version, decoder.into_rest()).expect("the broker writes whole answers")
}

fn encoded<M: Message>(header: &RequestHeader, response: &M) -> Bytes {
    let encoded = encode_response(header.key, header.version, header.correlation_id, response);
    encoded.expect("what was decoded can be encoded").concat().into()
}

/// A produce response with something wrong in it.
pub(crate) fn odd_produce_answer(random: &mut Random, header: &RequestHeader, frame: &Bytes) -> Bytes {
    let mut response: ProduceResponse = decoded(header, frame);
    for topic in &mut response.responses {
        let entries = &mut topic.partition_responses;
        let at = random.below(entries.len());
        match random.below(3) {
            0 => drop(entries.remove(at)),
            1 => entries.push(contradiction(&entries[at])),
            _ => {
                entries.push(PartitionProduceResponse { index: FOREIGN, base_offset: 1, ..Default::default() });
                if random.below(2) == 0 {
                    entries.remove(at);
                }
            }
        }
    }
    encoded(header, &response)
}

/// Another outcome for the same partition.
fn contradiction(entry: &PartitionProduceResponse) -> PartitionProduceResponse {
    PartitionProduceResponse { error_code: ErrorCode::NONE, base_offset: entry.base_offset + 1_000, ..entry.clone() }
}

/// A response to a fetch that repeats a partition, or holds one that was not asked for.
pub(crate) fn odd_fetch_answer(random: &mut Random, header: &RequestHeader, frame: &Bytes) -> Bytes {
    let mut response: FetchResponse = decoded(header, frame);
    for topic in &mut response.responses {
        if topic.partitions.is_empty() {
            continue;
        }
        let mut entry = topic.partitions[random.below(topic.partitions.len())].clone();
        if random.below(2) == 0 {
            entry.partition_index = FOREIGN;
        }
        topic.partitions.push(entry);
    }
    encoded(header, &response)
}

/// A response to a fetch in which a record batch is damaged; `None` if it has none.
pub(crate) fn damaged_fetch_answer(random: &mut Random, header: &RequestHeader, frame: &Bytes) -> Option<Bytes> {
    let mut response: FetchResponse = decoded(header, frame);
    let all = response.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
    let mut filled: Vec<_> = all.filter(|data| records_of(data) > HEADER_BYTES).collect();
    let chosen = random.below(filled.len());
    let data = filled.get_mut(chosen)?;
    let mut bytes = data.records.take().unwrap_or_default().into_bytes().to_vec();
    let first = 12 + u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
    match random.below(4) {
        // The number of records.
        0 => bytes[HEADER_BYTES - 1] ^= 1 << random.below(3),
        1 => bytes[MAGIC_AT] = 9,
        // The last batch of a response may be cut off, so this is not even wrong.
        2 => bytes.truncate(1 + random.below(bytes.len() - 1)),
        _ => bytes[CRC_COVERS_FROM + random.below(first - CRC_COVERS_FROM)] ^= 1 << random.below(8),
    }
    data.records = Some(Bytes::from(bytes).into());
    Some(encoded(header, &response))
}

fn records_of(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, kavka_core::wire::records::Records::len)
}

/// The response to a produce or fetch request, with a time that the client must wait (KIP-219).
pub(crate) fn throttled(random: &mut Random, header: &RequestHeader, frame: &Bytes) -> (Bytes, i32) {
    let throttle_time_ms = 1 + random.below(LONGEST_THROTTLE_MS) as i32;
    let frame = if header.key == kavka_core::wire::ApiKey::Produce {
        encoded(header, &ProduceResponse { throttle_time_ms, ..decoded(header, frame) })
    } else {
        encoded(header, &FetchResponse { throttle_time_ms, ..decoded(header, frame) })
    };
    (frame, throttle_time_ms)
}

/// The same response for a request that there was not.
pub(crate) fn with_wrong_id(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[CORRELATION_ID.start] ^= 1;
    bytes.into()
}
