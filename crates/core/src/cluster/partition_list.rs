//! The partitions of a topic in a snapshot, in chunks that snapshots share.
//!
//! A snapshot never changes, and a new leader of one partition makes a new one. Copying ten thousand partitions for
//! that would cost more than everything else about it, so a copy shares all chunks, and a change copies one of them.
//! Chunks that two snapshots share are known to be equal without a look at their partitions.

use std::sync::Arc;

use crate::cluster::metadata::Partition;

/// How many partitions each chunk has, except the last one.
const CHUNK: usize = 64;

#[cfg(test)]
thread_local! {
    /// How many times a partition was made writable, which may copy its chunk; tests use it to measure work.
    pub(super) static WRITES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The partitions of a topic; the index is the partition number.
#[derive(Clone, Default, PartialEq)]
pub struct PartitionList {
    /// All have [`CHUNK`] partitions, except the last one, which may have fewer, but has at least one.
    chunks: Vec<Arc<Vec<Partition>>>,
}

impl PartitionList {
    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Whether there are none, because no response has described them yet.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The partition with this number.
    pub fn get(&self, number: usize) -> Option<&Partition> {
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)
    }

    /// The partition with number 0.
    pub fn first(&self) -> Option<&Partition> {
        self.get(0)
    }

    /// Every partition, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Partition> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Copies the partition's chunk if another snapshot shares it.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Partition> {
        #[cfg(test)]
        WRITES.set(WRITES.get() + 1);
        Arc::make_mut(self.chunks.get_mut(number / CHUNK)?).get_mut(number % CHUNK)
    }

    /// The same list; it shares with `other` the chunks that are equal.
    pub(super) fn sharing(mut self, other: &Self) -> Self {
        for (chunk, other) in self.chunks.iter_mut().zip(&other.chunks) {
            if chunk == other {
                *chunk = Arc::clone(other);
            }
        }
        self
    }

    /// The numbers of the partitions that differ from those of another list, or are in one of the two only, in order.
    pub(crate) fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let chunks = 0..self.chunks.len().max(other.chunks.len());
        let is_shared = |index: &usize| match (self.chunks.get(*index), other.chunks.get(*index)) {
            (Some(chunk), Some(other)) => Arc::ptr_eq(chunk, other),
            _ => false,
        };
        let numbers =
            chunks.filter(move |index| !is_shared(index)).flat_map(|index| index * CHUNK..(index + 1) * CHUNK);
        numbers.filter(|number| self.get(*number) != other.get(*number))
    }
}

impl std::fmt::Debug for PartitionList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<Vec<Partition>> for PartitionList {
    fn from(partitions: Vec<Partition>) -> Self {
        let mut partitions = partitions.into_iter();
        let chunk = || Some(partitions.by_ref().take(CHUNK).collect::<Vec<_>>()).filter(|chunk| !chunk.is_empty());
        Self { chunks: std::iter::from_fn(chunk).map(Arc::new).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions that are led by the broker with their number.
    fn led(count: usize) -> PartitionList {
        let partition = |leader| Partition { leader: Some(leader), ..Partition::default() };
        (0..).take(count).map(partition).collect::<Vec<_>>().into()
    }

    #[test]
    fn partitions_are_found_and_listed_by_number_whether_or_not_the_last_chunk_is_full() {
        for count in [0, 1, 63, 64, 65, 128, 1_000] {
            let list = led(count);
            assert_eq!((list.len(), list.is_empty(), list.iter().count()), (count, count == 0, count));
            let leaders = list.iter().map(|partition| partition.leader);
            assert!(leaders.eq((0..).take(count).map(Some)), "{count}");
            let found = (0..count).map(|number| list.get(number).unwrap());
            assert!(found.eq(list.iter()) && list.get(count).is_none(), "{count}");
        }
    }

    #[test]
    fn a_change_copies_one_chunk_and_is_found_without_a_look_at_the_others() {
        let before = led(1_000);
        let mut after = before.clone();
        after.get_mut(700).unwrap().leader = None;
        let shared = after.chunks.iter().zip(&before.chunks).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), before.chunks.len() - 1);
        assert_eq!(after.changed(&before).collect::<Vec<_>>(), [700]);
        assert_eq!(before.get(700).unwrap().leader, Some(700));
    }

    #[test]
    fn partitions_that_were_added_differ() {
        let (few, many) = (led(60), led(130));
        assert!(many.changed(&few).eq(60..130) && few.changed(&many).eq(60..130));
        assert_eq!(few.changed(&few).count(), 0);
    }

    #[test]
    fn a_list_that_was_made_anew_shares_what_is_equal() {
        let mut anew = led(1_000);
        anew.get_mut(3).unwrap().leader = None;
        let before = led(1_000);
        let anew = anew.sharing(&before);
        let shared = anew.chunks.iter().zip(&before.chunks).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!((shared.count(), anew.get(3).unwrap().leader), (before.chunks.len() - 1, None));
    }
}
