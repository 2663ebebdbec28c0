//! Arenas: collections whose items are named by a number of their own type.
//!
//! Look-ups with [`Arena::get`] and [`Arena::get_mut`] cannot fail, because the number of a removed item is never kept:
//! whoever removes an item first removes its number from every list that is read with them. If a bug breaks this rule,
//! the look-up returns a blank item, and [`Arena::is_broken`] says so: the machine then stops itself. Lists that may
//! hold the numbers of removed items are read with [`Arena::find`]. Numbers are reused, so it may find another item.

use std::cell::Cell;
use std::marker::PhantomData;

/// The number of an item in an arena.
pub(super) trait Key: Copy {
    fn new(index: u32) -> Self;
    fn index(self) -> usize;
}

/// Defines the type of an arena's keys.
macro_rules! key {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(u32);

        impl crate::producer::arena::Key for $name {
            fn new(index: u32) -> Self {
                Self(index)
            }

            #[inline]
            fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
pub(super) use key;

/// Items of one type; see the module's documentation.
#[derive(Debug)]
pub(super) struct Arena<K, T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    /// What a look-up returns if it finds nothing.
    blank: T,
    broken: Cell<bool>,
    /// How many slots were looked at; tests use it to measure work.
    #[cfg(test)]
    visits: Cell<usize>,
    key: PhantomData<K>,
}

impl<K: Key, T> Arena<K, T> {
    pub(super) fn new(blank: T) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            blank,
            broken: Cell::new(false),
            #[cfg(test)]
            visits: Cell::new(0),
            key: PhantomData,
        }
    }

    /// Adds the item that `make` builds from its key. Keys of removed items are reused.
    pub(super) fn insert(&mut self, make: impl FnOnce(K) -> T) -> K {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let key = K::new(index);
        let thing = Some(make(key));
        match self.slots.get_mut(key.index()) {
            Some(slot) => *slot = thing,
            None => self.slots.push(thing),
        }
        key
    }

    /// Removes the item with this key, which must exist.
    pub(super) fn remove(&mut self, key: K) -> Option<T> {
        let removed = self.slots.get_mut(key.index()).and_then(Option::take);
        match removed {
            Some(_) => self.free.push(key.index() as u32),
            None => self.broken.set(true),
        }
        removed
    }

    /// The item with this key, if there is one.
    #[inline]
    pub(super) fn find(&self, key: K) -> Option<&T> {
        self.count_visit();
        self.slots.get(key.index())?.as_ref()
    }

    /// The item with this key, which must exist.
    #[inline]
    pub(super) fn get(&self, key: K) -> &T {
        if let Some(thing) = self.find(key) {
            return thing;
        }
        self.broken.set(true);
        &self.blank
    }

    /// The item with this key, which must exist.
    #[inline]
    pub(super) fn get_mut(&mut self, key: K) -> &mut T {
        self.count_visit();
        if let Some(thing) = self.slots.get_mut(key.index()).and_then(Option::as_mut) {
            return thing;
        }
        self.broken.set(true);
        &mut self.blank
    }

    /// Whether an item that must exist was not found, which is a bug.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> + use<'_, K, T> {
        let slots = self.slots.iter().enumerate().inspect(|_| self.count_visit());
        slots.filter(|(_, slot)| slot.is_some()).map(|(index, _)| K::new(index as u32))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    #[cfg_attr(not(test), allow(clippy::unused_self, reason = "only tests count"))]
    fn count_visit(&self) {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
    }

    #[cfg(test)]
    pub(super) fn visits(&self) -> usize {
        self.visits.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    key!(
        /// A number.
        Number
    );

    #[test]
    fn looking_up_what_is_gone_gives_a_blank_and_is_noticed() {
        let mut arena: Arena<Number, &str> = Arena::new("blank");
        let key = arena.insert(|_| "thing");
        assert_eq!((*arena.get(key), arena.is_broken()), ("thing", false));
        arena.remove(key);
        assert_eq!((arena.find(key), arena.is_broken()), (None, false));
        assert_eq!((*arena.get_mut(key), arena.is_broken()), ("blank", true));
    }

    #[test]
    fn numbers_are_used_again() {
        let mut arena: Arena<Number, u8> = Arena::new(0);
        let (first, second) = (arena.insert(|_| 1), arena.insert(|_| 2));
        arena.remove(first);
        assert_eq!(arena.insert(|_| 3), first);
        assert_eq!((arena.len(), arena.keys().collect::<Vec<_>>()), (2, vec![first, second]));
    }
}
