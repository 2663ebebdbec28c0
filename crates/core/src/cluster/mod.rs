//! What is known of the cluster, when to ask again, and whom.

mod call;
mod coordinators;
mod interest;
mod lookup;
mod metadata;
mod notice;
mod refresh;
mod route;

pub use call::{Call, CoordinatorKind, Owner, Target};
pub use coordinators::Coordinators;
pub use interest::Interest;
pub use lookup::{Lookup, Reachability, Step};
pub use metadata::{Broker, LeaderHint, Metadata, Partition, Topic};
pub use notice::Notice;
pub use refresh::{MetadataRefresh, Progress, RefreshConfig, Scope, Ticket};
pub use route::{BootstrapServer, Endpoint, Route};
