//! Administration of topics and groups.
//!
//! Every call retries while that can help, for up to `max.block.ms`; except the requests to one broker in [`single`].

mod groups;
mod lag;
pub(crate) mod membership;
pub(crate) mod single;
mod topics;

pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use lag::PartitionLag;
pub use topics::{NewTopic, TopicOutcomes};

use crate::client::Client;

/// Creates, deletes, lists and describes topics and groups; from [`Client::admin`].
#[derive(Debug, Clone)]
pub struct Admin(Client);

impl Client {
    /// The calls for administration. Cheap: it is another clone of the client.
    pub fn admin(&self) -> Admin {
        Admin(self.clone())
    }
}
