//! The errors that a consumer keeps until its application asks for records.
//!
//! The application may take its time, or never ask, while errors that last are repeated, and partitions are sought and
//! stop again. So there is at most one error of each kind for each partition, topic and broker: a later one takes the
//! place of the earlier one, and its turn.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kavka_core::error::{Error, ErrorKind};

/// What an error is about. An error that names no partition, topic or broker is about what it says.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    kind: ErrorKind,
    group: Option<Arc<str>>,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    broker_id: Option<i32>,
    text: Option<String>,
}

impl Subject {
    fn of(error: &Error) -> Self {
        let place = error.place();
        // Several errors of one kind that name a group may have nothing to do with each other.
        let is_placed = place.topic.is_some() || place.broker_id.is_some() && place.group.is_none();
        Self {
            kind: error.kind(),
            group: place.group.clone(),
            topic: place.topic.clone(),
            partition: place.partition,
            broker_id: place.broker_id,
            text: (!is_placed).then(|| error.to_string()),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// By turn.
    queue: BTreeMap<i64, Error>,
    turns: HashMap<Subject, i64>,
}

impl Errors {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds an error behind the others, or in place of an earlier one about the same.
    pub(super) fn put(&mut self, error: Error) {
        let last = self.queue.last_key_value().map_or(0, |(turn, _)| *turn);
        let turn = *self.turns.entry(Subject::of(&error)).or_insert(last + 1);
        self.queue.insert(turn, error);
    }

    /// Puts an error back in front of the others, unless there is a newer one about the same.
    pub(super) fn put_back(&mut self, error: Error) {
        let first = self.queue.first_key_value().map_or(0, |(turn, _)| *turn);
        let turn = *self.turns.entry(Subject::of(&error)).or_insert(first - 1);
        self.queue.entry(turn).or_insert(error);
    }

    /// The error whose turn it is.
    pub(super) fn take(&mut self) -> Option<Error> {
        let (_, error) = self.queue.pop_first()?;
        self.turns.remove(&Subject::of(&error));
        Some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_partition(partition: i32, what: &str) -> Error {
        Error::new(ErrorKind::Malformed, what).at_partition(&"orders".into(), partition)
    }

    /// The partition and the first word of each error.
    fn all(errors: &mut Errors) -> Vec<(Option<i32>, String)> {
        let word = |error: &Error| error.to_string().split([' ', ':']).next().unwrap_or_default().to_owned();
        std::iter::from_fn(|| errors.take()).map(|error| (error.place().partition, word(&error))).collect()
    }

    #[test]
    fn partitions_that_stop_again_and_again_keep_one_error_each_and_its_turn() {
        let mut errors = Errors::default();
        for what in ["first", "second", "third"] {
            (0..1_000).for_each(|partition| errors.put(of_partition(partition, what)));
        }
        assert_eq!((errors.queue.len(), errors.turns.len()), (1_000, 1_000));
        assert!(all(&mut errors).into_iter().eq((0..1_000).map(|partition| (Some(partition), "third".into()))));
        assert!(errors.is_empty() && errors.turns.is_empty());
    }

    #[test]
    fn errors_of_other_kinds_or_without_a_place_do_not_replace_each_other() {
        let mut errors = Errors::default();
        errors.put(of_partition(0, "stopped"));
        errors.put(Error::new(ErrorKind::Fenced, "removed").at_partition(&"orders".into(), 0));
        for what in ["one", "other", "one"] {
            errors.put(Error::new(ErrorKind::Internal, what));
        }
        let told = all(&mut errors);
        assert_eq!(
            told.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>(),
            ["stopped", "removed", "one", "other"]
        );
    }

    #[test]
    fn an_error_that_is_put_back_is_the_next_one_unless_there_is_a_newer_one() {
        let mut errors = Errors::default();
        (0..3).for_each(|partition| errors.put(of_partition(partition, "old")));
        let first = errors.take().unwrap();
        errors.put_back(first);
        let first = errors.take().unwrap();
        errors.put(of_partition(0, "new"));
        errors.put_back(first);
        let told = [(Some(1), "old".into()), (Some(2), "old".into()), (Some(0), "new".into())];
        assert_eq!(all(&mut errors), told);
    }
}
