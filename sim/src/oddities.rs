//! Produce responses that are well-formed but wrong: a partition is missing, appears twice with different outcomes, or
//! was not in the request. Brokers and proxies have sent all of these.

use bytes::Bytes;
use kavka_core::random::Random;
use kavka_core::wire::api::{RequestHeader, encode_response};
use kavka_core::wire::message::Message;
use kavka_core::wire::messages::ProduceResponse;
use kavka_core::wire::messages::produce::PartitionProduceResponse;
use kavka_core::wire::{Decoder, ErrorCode};

/// The position of the correlation id in a frame.
const CORRELATION_ID: std::ops::Range<usize> = 4..8;

/// A produce response with something wrong in it.
pub(crate) fn odd_produce_answer(random: &mut Random, header: &RequestHeader, frame: &Bytes) -> Bytes {
    let mut decoder = Decoder::from(frame.slice(CORRELATION_ID.end..));
    header.key.skip_response_header(header.version, &mut decoder).expect("the broker writes whole headers");
    let rest = decoder.into_rest();
    let mut response = ProduceResponse::decode_exact(header.version, rest).expect("the broker writes whole answers");
    for topic in &mut response.responses {
        let entries = &mut topic.partition_responses;
        let at = random.below(entries.len());
        match random.below(3) {
            0 => drop(entries.remove(at)),
            1 => entries.push(contradiction(&entries[at])),
            _ => entries.push(PartitionProduceResponse { index: 77, base_offset: 1, ..Default::default() }),
        }
    }
    let encoded = encode_response(header.key, header.version, header.correlation_id, &response);
    encoded.expect("what was decoded can be encoded").concat().into()
}

/// Another outcome for the same partition.
fn contradiction(entry: &PartitionProduceResponse) -> PartitionProduceResponse {
    PartitionProduceResponse { error_code: ErrorCode::NONE, base_offset: entry.base_offset + 1_000, ..entry.clone() }
}
