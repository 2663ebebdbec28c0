//! The topics of a snapshot, by name, in chunks that snapshots share.
//!
//! A snapshot never changes, and an answer about one topic makes a new one. Copying a map of ten thousand topics for
//! each answer would cost more than the answer, so a copy shares all chunks, and a change copies one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::metadata::Topic;

/// A chunk that would grow beyond this is split in two.
const MAX_CHUNK: usize = 64;

/// Topics, ordered by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TopicMap {
    /// No chunk is empty; names ascend within a chunk and from chunk to chunk.
    chunks: Vec<Arc<Vec<Arc<Topic>>>>,
    len: usize,
}

impl TopicMap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        let chunk = self.chunks.get(self.chunk_of(name))?;
        chunk.get(find(chunk, name).ok()?)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Arc<Topic>> {
        let at = self.chunk_of(name);
        let chunk = self.chunks.get_mut(at)?;
        let at = find(chunk, name).ok()?;
        Arc::make_mut(chunk).get_mut(at)
    }

    /// Adds a topic, or replaces the one of the same name.
    pub(super) fn insert(&mut self, topic: Arc<Topic>) {
        if let Some(known) = self.get_mut(&topic.name) {
            *known = topic;
            return;
        }
        self.len += 1;
        let at = self.chunk_of(&topic.name);
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![topic]));
            return;
        };
        let chunk = Arc::make_mut(chunk);
        chunk.insert(chunk.partition_point(|known| *known.name < *topic.name), topic);
        if chunk.len() > MAX_CHUNK {
            let upper = chunk.split_off(chunk.len() / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
    }

    /// Drops the topics for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for chunk in &mut self.chunks {
            if !chunk.iter().all(|topic| keep(&topic.name)) {
                Arc::make_mut(chunk).retain(|topic| keep(&topic.name));
            }
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self.len = self.chunks.iter().map(|chunk| chunk.len()).sum();
    }

    /// The names of the topics that differ from those in `before`, or are in one of the two maps only. Looks at chunks
    /// that both share as a whole.
    pub(super) fn changed(&self, before: &Self) -> BTreeSet<Arc<str>> {
        let (new, old) = (self.topics_beside(&before.chunk_set()), before.topics_beside(&self.chunk_set()));
        let of_new = new.iter().filter(|(name, topic)| old.get(*name).is_none_or(|old| !Arc::ptr_eq(old, topic)));
        let of_old = old.keys().filter(|name| !new.contains_key(*name));
        of_new.map(|(name, _)| name).chain(of_old).map(|name| Arc::clone(name)).collect()
    }

    fn chunk_set(&self) -> BTreeSet<*const Vec<Arc<Topic>>> {
        self.chunks.iter().map(Arc::as_ptr).collect()
    }

    /// The topics that are in none of these chunks.
    fn topics_beside(&self, chunks: &BTreeSet<*const Vec<Arc<Topic>>>) -> BTreeMap<&Arc<str>, &Arc<Topic>> {
        let others = self.chunks.iter().filter(|chunk| !chunks.contains(&Arc::as_ptr(chunk)));
        others.flat_map(|chunk| chunk.iter()).map(|topic| (&topic.name, topic)).collect()
    }

    /// The index of the chunk that has the name, if any chunk has it: the last one that does not begin behind it.
    fn chunk_of(&self, name: &str) -> usize {
        let begins_before = |chunk: &Arc<Vec<Arc<Topic>>>| chunk.first().is_some_and(|first| *first.name <= *name);
        self.chunks.partition_point(begins_before).saturating_sub(1)
    }
}

fn find(chunk: &[Arc<Topic>], name: &str) -> Result<usize, usize> {
    chunk.binary_search_by(|topic| (*topic.name).cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PartitionList;
    use crate::wire::error_code::ErrorCode;
    use crate::wire::primitives::Uuid;

    fn topic(name: &str) -> Arc<Topic> {
        let (topic_id, error) = (Uuid::ZERO, ErrorCode::NONE);
        Arc::new(Topic { name: name.into(), topic_id, error, is_internal: false, partitions: PartitionList::default() })
    }

    fn name(number: u32) -> String {
        format!("t-{number:04}")
    }

    /// A thousand topics, inserted in an order that is neither up nor down.
    fn thousand() -> TopicMap {
        let mut map = TopicMap::default();
        for number in 0..1_000 {
            map.insert(topic(&name(number * 7 % 1_000)));
        }
        map
    }

    #[test]
    fn topics_are_found_and_listed_by_name() {
        let map = thousand();
        assert_eq!(map.len(), 1_000);
        assert!(map.iter().map(|topic| topic.name.to_string()).eq((0..1_000).map(name)));
        for number in 0..1_000 {
            assert_eq!(*map.get(&name(number)).unwrap().name, *name(number));
        }
        assert!(["", "t", "t-0500x", "u"].iter().all(|absent| map.get(absent).is_none()));
    }

    #[test]
    fn a_map_tells_which_topics_differ_from_those_of_another() {
        let before = thousand();
        assert!(before.clone().changed(&before).is_empty());
        let mut after = before.clone();
        after.insert(topic(&name(77)));
        after.insert(topic("t-0500x"));
        after.retain(|topic| *topic != *name(3));
        let names: Vec<_> = after.changed(&before).iter().map(ToString::to_string).collect();
        assert_eq!(names, [&name(3), &name(77), "t-0500x"]);
        assert_eq!(before.changed(&after), after.changed(&before));
        assert_eq!(before.changed(&TopicMap::default()).len(), 1_000);
    }

    #[test]
    fn a_change_copies_one_chunk_and_leaves_the_other_snapshot_alone() {
        let before = thousand();
        let mut after = before.clone();
        after.insert(topic("t-0500"));
        Arc::make_mut(after.get_mut("t-0501").unwrap()).is_internal = true;
        let shared = after.chunks.iter().zip(&before.chunks).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert_eq!((after.len(), shared), (1_000, before.chunks.len() - 1));
        assert!(!before.get("t-0501").unwrap().is_internal);
    }

    #[test]
    fn what_is_dropped_is_gone_and_the_rest_is_still_found() {
        let mut map = thousand();
        map.retain(|name| name > "t-0899" || name == "t-0007");
        assert_eq!((map.len(), map.iter().count()), (101, 101));
        assert!(map.get("t-0007").is_some() && map.get("t-0008").is_none() && map.get("t-0950").is_some());
        map.retain(|_| false);
        assert_eq!((map.len(), map.get("t-0950").is_some()), (0, false));
        map.insert(topic("again"));
        assert!(map.get("again").is_some());
    }
}
