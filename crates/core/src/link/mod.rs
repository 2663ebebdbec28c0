//! The protocol of one connection to one broker, without the socket.

mod connection;
mod frames;
mod handshake;
mod old_broker;
pub mod sasl;
mod versions;

pub use connection::{Answer, Connection, ConnectionConfig, Failed, RequestId, SendOptions};
pub use frames::{FrameReader, ReadPool};
pub use old_broker::{Greeting, OldBroker, Snub};
pub use versions::ApiVersions;
