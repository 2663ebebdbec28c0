//! Counts the users of each topic, so that metadata requests name only topics in use.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The topics in use, each with the number of its users.
#[derive(Debug, Default)]
pub struct Interest {
    topics: BTreeMap<Arc<str>, usize>,
}

impl Interest {
    /// Adds one user of a topic. Returns whether it is the first one.
    pub fn hold(&mut self, topic: Arc<str>) -> bool {
        let users = self.topics.entry(topic).or_insert(0);
        *users += 1;
        *users == 1
    }

    /// Removes one user of a topic. Returns whether it was the last one; false if the topic has no user.
    pub fn release(&mut self, topic: &str) -> bool {
        let left = self.topics.get_mut(topic).map(|users| {
            *users -= 1;
            *users
        });
        if left == Some(0) {
            self.topics.remove(topic);
        }
        left == Some(0)
    }

    /// Whether the topic has any user.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topics in use, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_in_use_until_its_last_user_has_gone() {
        let mut interest = Interest::default();
        assert!(interest.hold("orders".into()));
        assert!(!interest.hold("orders".into()));
        assert!(!interest.release("orders"));
        assert!(interest.contains("orders"));
        assert!(interest.release("orders"));
        assert!(!interest.contains("orders") && !interest.release("orders"));
    }
}
