//! Versions, headers and frames.

use kavka_core::wire::messages::{ApiVersionsRequest, MetadataRequest};
use kavka_core::wire::{ApiKey, ErrorCode};

use crate::cluster::{Cluster, batch, end_offset, produce_request};
use crate::connection::Connection;

on_every_broker!(
    every_api_we_need_is_spoken_in_a_version_we_speak,
    a_client_that_is_too_new_is_told_the_versions_of_api_versions,
    a_client_without_a_proper_software_name_is_refused,
    a_version_that_is_not_spoken_closes_the_connection,
    an_api_that_does_not_exist_closes_the_connection,
    a_frame_longer_than_100_mib_closes_the_connection,
    a_negative_length_closes_the_connection,
    a_frame_without_a_whole_header_closes_the_connection,
    a_body_that_ends_too_soon_closes_the_connection,
    requests_in_one_segment_are_answered_in_order,
    a_request_that_comes_byte_by_byte_is_answered,
);

fn named() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "fidelity".into(),
        client_software_version: "1.0".into(),
        ..ApiVersionsRequest::default()
    }
}

fn every_api_we_need_is_spoken_in_a_version_we_speak(cluster: &Cluster) {
    let connection = cluster.connect(1);
    for key in ApiKey::ALL {
        // The embedded broker has no authentication.
        let not_everywhere = [ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
        assert!(not_everywhere.contains(key) || !connection.versions(*key).is_empty(), "{}", key.name());
    }
}

fn a_client_that_is_too_new_is_told_the_versions_of_api_versions(cluster: &Cluster) {
    let mut connection = cluster.connect(1);
    // ApiVersions v99 with the header that its flexible versions have.
    connection.write(b"\0\0\0\x0c\0\x12\0\x63\0\0\0\x07\xff\xff\0\0");
    let (correlation_id, answer) = connection.receive_with_id::<ApiVersionsRequest>(0);
    assert_eq!((correlation_id, answer.error_code), (7, ErrorCode::UNSUPPORTED_VERSION));
    let told = answer.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.number()).unwrap();
    assert!(told.min_version == 0 && told.max_version >= 3, "{told:?}");
    assert_eq!(connection.call_version(3, &named()).error_code, ErrorCode::NONE, "the connection goes on");
}

fn a_client_without_a_proper_software_name_is_refused(cluster: &Cluster) {
    let request = ApiVersionsRequest { client_software_name: "-no good-".into(), ..named() };
    assert_eq!(cluster.connect(1).call_version(3, &request).error_code, ErrorCode::INVALID_REQUEST);
}

fn closes(cluster: &Cluster, bytes: &[u8]) {
    let mut connection = cluster.connect(1);
    connection.write(bytes);
    assert!(connection.is_closed_by_the_broker());
}

fn a_version_that_is_not_spoken_closes_the_connection(cluster: &Cluster) {
    closes(cluster, b"\0\0\0\x0f\0\x03\0\x63\0\0\0\x07\xff\xff\0\0\0\0\0");
}

fn an_api_that_does_not_exist_closes_the_connection(cluster: &Cluster) {
    closes(cluster, b"\0\0\0\x0a\x7f\0\0\0\0\0\0\x07\xff\xff");
}

fn a_frame_longer_than_100_mib_closes_the_connection(cluster: &Cluster) {
    closes(cluster, &(100_u32 * 1024 * 1024 + 1).to_be_bytes());
}

fn a_negative_length_closes_the_connection(cluster: &Cluster) {
    closes(cluster, &(-1_i32).to_be_bytes());
}

fn a_frame_without_a_whole_header_closes_the_connection(cluster: &Cluster) {
    closes(cluster, b"\0\0\0\x03\0\x03\0");
}

fn a_body_that_ends_too_soon_closes_the_connection(cluster: &Cluster) {
    // Metadata v1 that announces two topics but contains none.
    closes(cluster, b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\0\x02");
}

fn requests_in_one_segment_are_answered_in_order(cluster: &Cluster) {
    let topic = cluster.topic();
    let mut connection = cluster.connect_to_leader(&topic);
    let produce = *connection.versions(ApiKey::Produce).end();
    let metadata = *connection.versions(ApiKey::Metadata).end();
    for offset in 0..5 {
        let first = connection.send(produce, &produce_request(&topic, 0, -1, batch(&["one"])));
        let second = connection.send(metadata, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
        assert_eq!((first, second), (offset * 2 + 2, offset * 2 + 3));
    }
    for offset in 0..5 {
        let (id, answer) = connection.receive_with_id::<kavka_core::wire::messages::ProduceRequest>(produce);
        let base_offset = answer.responses[0].partition_responses[0].base_offset;
        assert_eq!((id, base_offset), (offset * 2 + 2, i64::from(offset)));
        assert_eq!(connection.receive_with_id::<MetadataRequest>(metadata).0, offset * 2 + 3);
    }
    assert_eq!(end_offset(&mut connection, &topic), 5);
}

fn a_request_that_comes_byte_by_byte_is_answered(cluster: &Cluster) {
    let mut connection = Connection::open(cluster.address(1));
    for byte in b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\0\0" {
        connection.write(&[*byte]);
    }
    assert_eq!(connection.receive_with_id::<MetadataRequest>(1).0, 7);
}
