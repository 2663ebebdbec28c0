//! What is known of the cluster, when to ask again, and whom.

mod metadata;
mod refresh;
mod route;

pub use metadata::{Broker, LeaderHint, Metadata, Partition, Topic};
pub use refresh::{MetadataRefresh, RefreshConfig};
pub use route::{BootstrapServer, Endpoint, Route};
