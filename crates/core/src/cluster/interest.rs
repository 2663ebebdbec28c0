//! Which topics are in use, by how many.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The topics that somebody uses; those that nobody uses any more are not asked for.
#[derive(Debug, Default)]
pub struct Interest {
    topics: BTreeMap<Arc<str>, usize>,
}

impl Interest {
    /// Notes one more user of a topic. Says whether it is the first one.
    pub fn hold(&mut self, topic: Arc<str>) -> bool {
        let users = self.topics.entry(topic).or_insert(0);
        *users += 1;
        *users == 1
    }

    /// Notes that one user of a topic has gone. Says whether it was the last one.
    pub fn release(&mut self, topic: &str) -> bool {
        let Some(users) = self.topics.get_mut(topic) else { return false };
        *users -= 1;
        let is_last = *users == 0;
        if is_last {
            self.topics.remove(topic);
        }
        is_last
    }

    /// Whether anybody uses the topic.
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
