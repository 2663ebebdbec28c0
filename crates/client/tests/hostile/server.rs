//! A broker with a thread per connection, which follows a script, and behaves correctly where the script says nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kavka::{Client, ClientConfig, Error};
use kavka_core::wire::api::{RequestHeader, encode_response};
use kavka_core::wire::messages::api_versions::ApiVersion;
use kavka_core::wire::messages::init_producer_id::InitProducerIdResponse;
use kavka_core::wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use kavka_core::wire::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kavka_core::wire::messages::{
    ApiVersionsResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ProduceRequest, ProduceResponse,
};
use kavka_core::wire::{ApiKey, Decoder, Message, Uuid};

/// Longer than anything here takes on a busy machine, so only a failing test waits that long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const TOPIC: &str = "topic";
pub(crate) const TOPIC_ID: Uuid = Uuid([7; 16]);

/// How to answer a request.
pub(crate) enum Reply {
    /// Like a correct broker.
    Behave,
    /// With the response's header, followed by these bytes.
    Body(Vec<u8>),
    /// With these bytes only.
    Raw(Vec<u8>),
    Close,
    Silence,
}

impl Reply {
    /// With this response, in the version of the request.
    pub(crate) fn message<M: Message>(request: &Request, response: &M) -> Self {
        let header = &request.header;
        Self::Raw(encode_response(header.key, header.version, header.correlation_id, response).unwrap().concat())
    }
}

pub(crate) struct Request {
    pub(crate) header: RequestHeader,
    pub(crate) body: Bytes,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: Mutex<BTreeMap<ApiKey, usize>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Server {
    /// An address where nobody listens.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, counts: Arc::default() }
    }

    /// Passes every connection to `serve`, each in a thread of its own.
    pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (counted, serve) = (Arc::clone(&counts), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, counts }
    }

    /// Calls `script` for every request.
    pub(crate) fn scripted(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let counts = Arc::new(Mutex::new(None::<Arc<Counts>>));
        let late = Arc::clone(&counts);
        let server = Self::raw(move |stream| {
            let counts = late.lock().unwrap().clone();
            converse(stream, &script, counts.as_deref());
        });
        *counts.lock().unwrap() = Some(Arc::clone(&server.counts));
        server
    }

    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self, key: ApiKey) -> usize {
        self.counts.requests.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(ClientConfig::default())
    }

    pub(crate) fn client_with(&self, config: ClientConfig) -> Client {
        let bootstrap_servers = vec![(self.address.ip().to_string(), self.address.port())];
        Client::new(config.bootstrap_servers(bootstrap_servers)).unwrap()
    }

    /// The error of a client that cannot connect.
    pub(crate) fn refusal(&self, config: ClientConfig) -> Error {
        let client = self.client_with(config);
        let owned = client.clone();
        let connected = client.start(async move { owned.ready().await }).wait(Some(LIMIT));
        connected.expect("connecting has a limit").expect_err("this is no broker")
    }
}

fn converse(mut stream: TcpStream, script: &impl Fn(&Request) -> Reply, counts: Option<&Counts>) {
    let address = stream.local_addr().unwrap();
    while let Some(frame) = read_frame(&mut stream) {
        let mut decoder = Decoder::from(frame);
        let header = RequestHeader::decode(&mut decoder).expect("our client writes proper headers");
        if let Some(counts) = counts {
            *counts.requests.lock().unwrap().entry(header.key).or_default() += 1;
        }
        let request = Request { header, body: decoder.into_rest() };
        let answer = match script(&request) {
            Reply::Behave => behave(&request, address),
            Reply::Body(body) => framed(&request.header, &body),
            Reply::Raw(bytes) => bytes,
            Reply::Close => return,
            Reply::Silence => Vec::new(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame.into())
}

fn framed(header: &RequestHeader, body: &[u8]) -> Vec<u8> {
    let mut frame = header.correlation_id.to_be_bytes().to_vec();
    if header.key != ApiKey::ApiVersions && header.version >= header.key.flexible_since() {
        frame.push(0);
    }
    frame.extend(body);
    [(frame.len() as u32).to_be_bytes().to_vec(), frame].concat()
}

/// A broker that leads two empty partitions and accepts every record.
fn behave(request: &Request, address: SocketAddr) -> Vec<u8> {
    let version = request.header.version;
    let reply = match request.header.key {
        ApiKey::ApiVersions => Reply::message(request, &versions()),
        ApiKey::Metadata => Reply::message(request, &metadata(address)),
        ApiKey::InitProducerId => {
            let response = InitProducerIdResponse { producer_id: Some(7), ..InitProducerIdResponse::default() };
            Reply::message(request, &response)
        }
        ApiKey::Produce => Reply::message(request, &appended(request)),
        ApiKey::Fetch => {
            let asked = FetchRequest::decode_exact(version, request.body.clone()).unwrap();
            thread::sleep(Duration::from_millis(asked.max_wait_ms.max(0) as u64));
            Reply::message(request, &FetchResponse::default())
        }
        ApiKey::ListOffsets => Reply::message(request, &offsets(request)),
        other => panic!("nothing here needs {}", other.name()),
    };
    match reply {
        Reply::Raw(bytes) => bytes,
        _ => unreachable!("a message is raw bytes"),
    }
}

pub(crate) fn versions() -> ApiVersionsResponse {
    let api = |key: &ApiKey| ApiVersion {
        api_key: key.number(),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
    };
    ApiVersionsResponse { api_keys: ApiKey::ALL.iter().map(api).collect(), ..ApiVersionsResponse::default() }
}

pub(crate) fn metadata(address: SocketAddr) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: Some(1),
        leader_epoch: Some(0),
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(TOPIC.into()),
        topic_id: TOPIC_ID,
        partitions: vec![partition(0), partition(1)],
        ..MetadataResponseTopic::default()
    };
    let (host, port) = (address.ip().to_string(), address.port().into());
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: 1, host, port, rack: None }],
        cluster_id: Some("hostile".into()),
        controller_id: Some(1),
        topics: vec![topic],
        ..MetadataResponse::default()
    }
}

/// A success for every partition of a produce request.
pub(crate) fn appended(request: &Request) -> ProduceResponse {
    use kavka_core::wire::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
    let asked = ProduceRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    let responses = asked.topic_data.into_iter().map(|topic| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: (topic.partition_data.iter())
            .map(|data| PartitionProduceResponse { index: data.index, ..PartitionProduceResponse::default() })
            .collect(),
    });
    ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
}

fn offsets(request: &Request) -> ListOffsetsResponse {
    let asked = ListOffsetsRequest::decode_exact(request.header.version, request.body.clone()).unwrap();
    let topics = asked.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: (topic.partitions.iter())
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: Some(0),
                ..ListOffsetsPartitionResponse::default()
            })
            .collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}
