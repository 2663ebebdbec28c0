//! The protocol of one connection to one broker, without the socket.

mod connection;
mod frames;
mod handshake;
mod old_broker;
mod request;
pub mod sasl;
mod versions;

pub use connection::{Connection, ConnectionConfig};
pub use frames::{FrameReader, ReadPool};
pub use old_broker::{Greeting, OldBroker, Snub};
pub use request::{Answer, Failed, RequestId, SendOptions};
pub use versions::ApiVersions;
