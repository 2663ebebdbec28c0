//! What is known of the cluster, when to ask again, and whom.

mod call;
mod coordinators;
mod metadata;
mod notice;
mod refresh;
mod route;

pub use call::{Call, CoordinatorKind, Owner, Target};
pub use coordinators::Coordinators;
pub use metadata::{Broker, LeaderHint, Metadata, Partition, Topic};
pub use notice::Notice;
pub use refresh::{MetadataRefresh, RefreshConfig};
pub use route::{BootstrapServer, Endpoint, Route};
