//! A plain connection to a broker: frames out, frames in.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use kavka_core::wire::api::encode_request;
use kavka_core::wire::messages::ApiVersionsRequest;
use kavka_core::wire::{ApiKey, Decoder, Message, Request};

/// Longer than a broker needs for any response here.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// A connection that has not asked for the broker's versions.
    pub(crate) fn unasked(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation_id: 0, versions: BTreeMap::new() }
    }

    pub(crate) fn open(address: &str) -> Self {
        let mut connection = Self::unasked(address);
        let request = ApiVersionsRequest {
            client_software_name: "fidelity".into(),
            client_software_version: "1".into(),
            ..ApiVersionsRequest::default()
        };
        let told = connection.call_version(3, &request);
        connection.versions =
            told.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        connection
    }

    /// The versions of an API that both this broker and this crate support.
    pub(crate) fn versions(&self, key: ApiKey) -> std::ops::RangeInclusive<i16> {
        let (min, max) = self.versions.get(&key.number()).copied().unwrap_or((0, -1));
        min.max(*key.versions().start())..=max.min(*key.versions().end())
    }

    /// The response in the newest version that both support.
    pub(crate) fn call<R: Request>(&mut self, request: &R) -> R::Response {
        let version = *self.versions(R::KEY).end();
        self.call_version(version, request)
    }

    pub(crate) fn call_version<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Sends a request without waiting for the response; returns its correlation id.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("fidelity")).unwrap();
        self.write(&frame.concat());
        self.correlation_id
    }

    /// The next response, which must be that to the oldest unanswered request.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        self.receive_with_id::<R>(version).1
    }

    /// The next response, with its correlation id.
    pub(crate) fn receive_with_id<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut decoder = Decoder::from(self.read_frame());
        let correlation_id = i32::from_be_bytes(decoder.array().unwrap());
        R::KEY.skip_response_header(version, &mut decoder).unwrap();
        (correlation_id, R::Response::decode_exact(version, decoder.into_rest()).unwrap())
    }

    /// The next frame, without its size.
    pub(crate) fn read_frame(&mut self) -> Bytes {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        frame.into()
    }

    /// Sends these bytes. The broker may have closed the connection already.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Whether the broker closes the connection without a response.
    pub(crate) fn is_closed_by_the_broker(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether a response has arrived.
    pub(crate) fn has_answer(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let has_answer = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).unwrap();
        has_answer
    }
}
