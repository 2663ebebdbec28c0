//! A cluster under test, and requests for it.
#![allow(dead_code, unreachable_pub, reason = "every test file takes what it needs")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kavka_broker::{Cluster, ClusterConfig, ConnectionId, Event};
use kavka_core::time::Instant;
use kavka_core::wire::api::encode_request;
use kavka_core::wire::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use kavka_core::wire::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use kavka_core::wire::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use kavka_core::wire::records::Records;
use kavka_core::wire::{Decoder, Message, Request};

/// A cluster, its clock, and the frames that it has sent.
pub struct Harness {
    pub cluster: Cluster,
    pub now: Instant,
    frames: BTreeMap<ConnectionId, VecDeque<Vec<u8>>>,
    closed: BTreeSet<ConnectionId>,
}

impl Harness {
    /// With this many brokers and one topic, `t`, with one partition, led by broker 1.
    pub fn new(brokers: u16) -> Self {
        Self::with(ClusterConfig { brokers, ..ClusterConfig::default() })
    }

    pub fn with(config: ClusterConfig) -> Self {
        let mut cluster = Cluster::new(config);
        cluster.create_topic("t", 1, 1).unwrap();
        Self { cluster, now: Instant(0), frames: BTreeMap::new(), closed: BTreeSet::new() }
    }

    pub fn connect(&mut self, broker_id: i32) -> ConnectionId {
        self.cluster.handle_connect(broker_id).expect("the broker is up")
    }

    /// Collects what the cluster wants to send and close.
    pub fn collect(&mut self) {
        while let Some(event) = self.cluster.poll_event() {
            match event {
                Event::Response { connection, segments } => {
                    self.frames.entry(connection).or_default().push_back(segments.concat());
                }
                Event::Close { connection } => {
                    self.closed.insert(connection);
                }
            }
        }
    }

    pub fn send<R: Request>(&mut self, connection: ConnectionId, version: i16, request: &R) {
        let frame = encode_request(request, version, 7, Some("test")).expect("the request exists in the version");
        self.send_frame(connection, Bytes::from(frame.concat()).slice(4..));
    }

    pub fn send_frame(&mut self, connection: ConnectionId, frame: Bytes) {
        self.cluster.handle_frame(self.now, connection, frame);
        self.collect();
    }

    /// The next response on a connection, if there is one.
    pub fn receive<R: Request>(&mut self, connection: ConnectionId, version: i16) -> Option<R::Response> {
        let frame = self.frames.get_mut(&connection)?.pop_front()?;
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes(), "the size of the frame");
        assert_eq!(frame[4..8], [0, 0, 0, 7], "the correlation id");
        let mut decoder = Decoder::from(Bytes::from(frame).slice(8..));
        R::KEY.skip_response_header(version, &mut decoder).unwrap();
        let response = R::Response::decode(version, &mut decoder).unwrap();
        decoder.expect_end().unwrap();
        Some(response)
    }

    /// Sends a request that is answered at once; returns the response.
    pub fn call<R: Request>(&mut self, connection: ConnectionId, version: i16, request: &R) -> R::Response {
        self.send(connection, version, request);
        self.receive::<R>(connection, version)
            .unwrap_or_else(|| panic!("{} v{version} has no answer", R::Response::NAME))
    }

    /// Advances the clock.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.cluster.handle_timeout(self.now);
        self.collect();
    }

    pub fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.contains(&connection)
    }

    /// Produces one batch to partition 0 of `t`.
    pub fn produce(&mut self, connection: ConnectionId, records: Records) -> PartitionProduceResponse {
        let response = self.call(connection, 12, &produce_request(records));
        only_produced(response)
    }
}

pub fn only_produced(response: ProduceResponse) -> PartitionProduceResponse {
    response.responses.into_iter().next().unwrap().partition_responses.into_iter().next().unwrap()
}

/// A request to append to partition 0 of `t`, to be answered by all replicas.
pub fn produce_request(records: Records) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
    let topic = TopicProduceData { name: "t".into(), partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// A request to read partition 0 of `t` without a session.
pub fn fetch_request(fetch_offset: i64) -> FetchRequest {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchRequest {
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

pub fn only_fetched(response: FetchResponse) -> PartitionData {
    response.responses.into_iter().next().unwrap().partitions.into_iter().next().unwrap()
}
