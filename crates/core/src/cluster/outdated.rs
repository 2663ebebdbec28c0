//! Which topics' metadata may be out of date.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The topics to ask for in the next refresh.
///
/// A partition without a leader concerns one topic. A lost broker may have led partitions of any topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// Only these.
    Topics(BTreeSet<Arc<str>>),
    /// All topics in use.
    InUse,
}

impl Default for Outdated {
    /// No topic.
    fn default() -> Self {
        Self::Topics(BTreeSet::new())
    }
}

impl Outdated {
    /// Whether there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Topics(topics) if topics.is_empty())
    }

    /// Adds one topic.
    pub fn add_topic(&mut self, topic: &Arc<str>) {
        if let Self::Topics(topics) = self
            && !topics.contains(topic)
        {
            topics.insert(Arc::clone(topic));
        }
    }

    /// Removes topics that have become known, unless all in use are to be asked for.
    pub(super) fn retain(&mut self, is_outdated: impl FnMut(&Arc<str>) -> bool) {
        if let Self::Topics(topics) = self {
            topics.retain(is_outdated);
        }
    }

    /// Adds whatever `other` holds.
    pub fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Topics(topics), Self::Topics(mut others)) => topics.append(&mut others),
            (_, other @ Self::InUse) => *self = other,
            (Self::InUse, Self::Topics(_)) => {}
        }
    }

    /// The topics named here; none if it stands for all in use.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        match self {
            Self::Topics(topics) => Some(topics),
            Self::InUse => None,
        }
        .into_iter()
        .flatten()
    }

    /// Takes everything out; `None` if nothing was in it.
    pub fn take(&mut self) -> Option<Self> {
        if self.is_empty() { None } else { Some(std::mem::take(self)) }
    }
}
