//! One connection to one broker, without its socket.

mod connection;
mod frames;
mod handshake;
mod versions;

pub use connection::{Answer, Connection, ConnectionConfig, Failed, RequestId, SendOptions};
pub use frames::{FrameReader, ReadPool};
pub use versions::ApiVersions;
