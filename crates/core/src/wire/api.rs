//! The APIs that the client supports: numbers, versions and headers.
//!
//! One row per API; its versions are those of its request struct.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::wire::message::{AnyRequest, Message, Request};
#[allow(clippy::wildcard_imports)]
use crate::wire::messages::*;
use crate::wire::primitives::{DecodeError, Decoder, EncodeError, Encoder};
use crate::wire::schema::MessageSchema;

macro_rules! api_keys {
    ($($number:literal $name:ident $request:ident,)*) => {
        /// A Kafka API that the client supports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("Number ", stringify!($number), ", [`", stringify!($request), "`].")] $name = $number,)*
        }

        impl ApiKey {
            /// Every API, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API with this number, if it is supported.
            pub fn from_number(number: i16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The supported versions.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $request::MIN_VERSION..=$request::MAX_VERSION,)*
                }
            }

            /// The first version with tagged fields (KIP-482); `i16::MAX` if there is none.
            pub fn flexible_since(self) -> i16 {
                match self {
                    $(Self::$name => $request::FLEXIBLE_SINCE,)*
                }
            }

            /// The schemas of its request and its response.
            pub fn schemas(self) -> [MessageSchema; 2] {
                match self {
                    $(Self::$name => [
                        MessageSchema::of::<$request>(),
                        MessageSchema::of::<<$request as Request>::Response>(),
                    ],)*
                }
            }
        }
    };
}

api_keys! {
    0 Produce ProduceRequest,
    1 Fetch FetchRequest,
    2 ListOffsets ListOffsetsRequest,
    3 Metadata MetadataRequest,
    8 OffsetCommit OffsetCommitRequest,
    9 OffsetFetch OffsetFetchRequest,
    10 FindCoordinator FindCoordinatorRequest,
    11 JoinGroup JoinGroupRequest,
    12 Heartbeat HeartbeatRequest,
    13 LeaveGroup LeaveGroupRequest,
    14 SyncGroup SyncGroupRequest,
    15 DescribeGroups DescribeGroupsRequest,
    16 ListGroups ListGroupsRequest,
    17 SaslHandshake SaslHandshakeRequest,
    18 ApiVersions ApiVersionsRequest,
    19 CreateTopics CreateTopicsRequest,
    20 DeleteTopics DeleteTopicsRequest,
    21 DeleteRecords DeleteRecordsRequest,
    22 InitProducerId InitProducerIdRequest,
    23 OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
    32 DescribeConfigs DescribeConfigsRequest,
    36 SaslAuthenticate SaslAuthenticateRequest,
    37 CreatePartitions CreatePartitionsRequest,
    42 DeleteGroups DeleteGroupsRequest,
    44 IncrementalAlterConfigs IncrementalAlterConfigsRequest,
    47 OffsetDelete OffsetDeleteRequest,
    68 ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest,
    69 ConsumerGroupDescribe ConsumerGroupDescribeRequest,
}

impl ApiKey {
    /// Kafka's number of the API.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Whether a request changes what others see in the cluster, so that it is harmful if a broker executes it long
    /// after its sender has given it up and gone on.
    pub fn changes_the_cluster(self) -> bool {
        matches!(
            self,
            Self::CreateTopics
                | Self::DeleteTopics
                | Self::DeleteRecords
                | Self::CreatePartitions
                | Self::DeleteGroups
                | Self::OffsetDelete
                | Self::IncrementalAlterConfigs
        )
    }

    /// Whether sending a request twice does no harm, whatever it contains: requests that only read, and commits, which
    /// name the offsets.
    pub fn is_repeatable(self) -> bool {
        match self {
            Self::ListOffsets
            | Self::Metadata
            | Self::OffsetCommit
            | Self::OffsetFetch
            | Self::FindCoordinator
            | Self::DescribeGroups
            | Self::ListGroups
            | Self::ApiVersions
            | Self::OffsetForLeaderEpoch
            | Self::DescribeConfigs
            | Self::ConsumerGroupDescribe => true,
            // Not repeatable: each fetch advances the epoch of its session.
            Self::Fetch
            | Self::Produce
            | Self::JoinGroup
            | Self::Heartbeat
            | Self::LeaveGroup
            | Self::SyncGroup
            | Self::SaslHandshake
            | Self::CreateTopics
            | Self::DeleteTopics
            | Self::DeleteRecords
            | Self::InitProducerId
            | Self::SaslAuthenticate
            | Self::CreatePartitions
            | Self::DeleteGroups
            | Self::IncrementalAlterConfigs
            | Self::OffsetDelete
            | Self::ConsumerGroupHeartbeat => false,
        }
    }

    fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_since()
    }

    /// Whether the response header has tagged fields in this version.
    ///
    /// Never for `ApiVersions`: the client reads that response before it knows the broker's versions (KIP-511).
    fn has_flexible_response_header(self, version: i16) -> bool {
        self != Self::ApiVersions && self.is_flexible(version)
    }

    /// Reads the part of a response header after the correlation id.
    pub fn skip_response_header(self, version: i16, decoder: &mut Decoder) -> Result<(), DecodeError> {
        if self.has_flexible_response_header(version) {
            decoder.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(())
    }
}

/// The header of a request: version 1, or version 2 in the API's flexible versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// The version of the request and of the response.
    pub version: i16,
    /// The number that the response repeats.
    pub correlation_id: i32,
    /// `client.id`.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Appends the header.
    pub fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encode_header(self.key, self.version, self.correlation_id, self.client_id.as_deref(), encoder)
    }

    /// Reads a header from the front of a request.
    ///
    /// An error if the API is not supported. The version may be an unsupported one.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let number = i16::from_be_bytes(decoder.array()?);
        let key = ApiKey::from_number(number).ok_or_else(|| DecodeError::new("the API key is unknown"))?;
        let version = i16::from_be_bytes(decoder.array()?);
        let correlation_id = i32::from_be_bytes(decoder.array()?);
        let client_id = decoder.string(false)?;
        if key.is_flexible(version) {
            decoder.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { key, version, correlation_id, client_id })
    }
}

fn encode_header(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    encoder: &mut Encoder,
) -> Result<(), EncodeError> {
    encoder.put_slice(&key.number().to_be_bytes());
    encoder.put_slice(&version.to_be_bytes());
    encoder.put_slice(&correlation_id.to_be_bytes());
    // The client id has a fixed-size length even in flexible versions, because a broker reads it before it knows the
    // version.
    encoder.put_string(client_id, false).map_err(|error| error.in_field("client_id"))?;
    if key.is_flexible(version) {
        encoder.put_unsigned_varint(0);
    }
    Ok(())
}

/// A complete request frame: size, header, body. Records remain separate segments.
pub fn encode_request(
    request: &dyn AnyRequest,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut encoder = Encoder::for_frame();
    encode_header(request.key(), version, correlation_id, client_id, &mut encoder)?;
    request.encode_body(version, &mut encoder)?;
    encoder.finish_frame()
}

/// A complete response frame: size, header, body. Records remain separate segments.
pub fn encode_response<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut encoder = Encoder::for_frame();
    encoder.put_slice(&correlation_id.to_be_bytes());
    if key.has_flexible_response_header(version) {
        encoder.put_unsigned_varint(0);
    }
    response.encode(version, &mut encoder)?;
    encoder.finish_frame()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: ApiKey, version: i16) -> RequestHeader {
        RequestHeader { key, version, correlation_id: 7, client_id: Some("me".into()) }
    }

    fn bytes(header: &RequestHeader) -> Vec<u8> {
        let mut encoder = Encoder::new();
        header.encode(&mut encoder).unwrap();
        encoder.finish().concat()
    }

    #[test]
    fn a_request_header_has_tagged_fields_in_flexible_versions_only() {
        assert_eq!(bytes(&header(ApiKey::Produce, 8)), b"\0\x00\0\x08\0\0\0\x07\0\x02me");
        assert_eq!(bytes(&header(ApiKey::Produce, 9)), b"\0\x00\0\x09\0\0\0\x07\0\x02me\0");
        assert_eq!(bytes(&header(ApiKey::SaslHandshake, 1)), b"\0\x11\0\x01\0\0\0\x07\0\x02me");
    }

    #[test]
    fn a_request_header_is_read_as_it_was_written() {
        for (key, version) in [(ApiKey::Produce, 8), (ApiKey::Produce, 9), (ApiKey::ApiVersions, 99)] {
            let header = header(key, version);
            let mut decoder = Decoder::from(Bytes::from(bytes(&header)));
            assert_eq!(RequestHeader::decode(&mut decoder), Ok(header));
            assert_eq!(decoder.remaining(), 0);
        }
    }

    #[test]
    fn an_api_we_do_not_speak_is_refused() {
        assert!(
            RequestHeader::decode(&mut Decoder::from(Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0]))).is_err()
        );
    }

    #[test]
    fn a_response_header_has_tagged_fields_in_flexible_versions_but_never_for_api_versions() {
        let frame = |key, version| encode_response(key, version, 7, &HeartbeatResponse::default()).unwrap().concat();
        assert_eq!(frame(ApiKey::Heartbeat, 3), b"\0\0\0\x0a\0\0\0\x07\0\0\0\0\0\0");
        assert_eq!(frame(ApiKey::Heartbeat, 4), b"\0\0\0\x0c\0\0\0\x07\0\0\0\0\0\0\0\0");
        assert_eq!(frame(ApiKey::ApiVersions, 4), b"\0\0\0\x0b\0\0\0\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_request_frame_begins_with_its_size() {
        let request = SaslHandshakeRequest { mechanism: "PLAIN".into() };
        let frame = encode_request(&request, 1, 7, None).unwrap().concat();
        assert_eq!(frame, b"\0\0\0\x11\0\x11\0\x01\0\0\0\x07\xff\xff\0\x05PLAIN");
    }

    #[test]
    fn every_api_is_found_by_its_number() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_number(key.number()), Some(*key));
        }
        assert_eq!(ApiKey::from_number(4), None);
    }
}
