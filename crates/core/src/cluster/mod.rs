//! What the client knows of the cluster, when it asks for metadata again, and which broker it asks.

mod call;
mod coordinators;
mod doubt;
mod interest;
mod lookup;
mod metadata;
mod notice;
mod outdated;
mod partition_list;
mod refresh;
mod route;
mod topic_map;

pub use call::{Call, CoordinatorKind, Owner, Target, limit_of_one_attempt};
pub use coordinators::Coordinators;
pub use interest::Interest;
pub use lookup::{Lookup, Reachability, Step};
pub use metadata::{Broker, LeaderHint, Metadata, Partition, Topic};
pub use notice::Notice;
pub use outdated::Outdated;
pub use partition_list::PartitionList;
pub use refresh::{MetadataRefresh, RefreshConfig, RefreshOutcomes, Ticket};
pub use route::{BootstrapServer, Endpoint, Route};
