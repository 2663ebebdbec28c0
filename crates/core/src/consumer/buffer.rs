//! What was fetched of one partition and is not yet behind its position, in the order of offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::wire::records::RawBatch;

use super::handout::Pinned;
use super::lease::Lease;

#[derive(Debug)]
struct Buffered {
    last_offset: i64,
    bytes: usize,
    content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Batch(RawBatch, Arc<Pinned>),
    /// A control batch, or one of an aborted transaction: the position moves over it.
    Hidden,
    /// From here on nothing can be read.
    Bad(Error),
}

/// What the front of the buffer is, once what is behind the position is gone.
#[derive(Debug, PartialEq)]
pub(super) enum Front {
    Nothing,
    /// Its turn has not come: somebody holds the batch before it.
    Taken,
    Batch,
    Bad,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    queue: VecDeque<Buffered>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many bytes of record batches it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it ends with something that cannot be read: there is nothing to fetch behind it.
    pub(super) fn ends_bad(&self) -> bool {
        self.queue.back().is_some_and(|back| matches!(back.content, Content::Bad(_)))
    }

    pub(super) fn push(&mut self, last_offset: i64, content: Content) {
        // What is hidden counts for nothing in the fetch buffer, so a run of it must not grow with its length.
        if matches!(content, Content::Hidden)
            && let Some(back) = self.queue.back_mut().filter(|back| matches!(back.content, Content::Hidden))
        {
            back.last_offset = last_offset;
            return;
        }
        let bytes = if let Content::Batch(batch, _) = &content { batch.bytes().len() } else { 0 };
        self.bytes += bytes;
        self.queue.push_back(Buffered { last_offset, bytes, content });
    }

    /// Lets go of what is behind the position, and moves the position over what is hidden.
    pub(super) fn settle(&mut self, lease: &Lease) -> Front {
        while let Some(front) = self.queue.front() {
            let Some(position) = lease.position() else { return Front::Nothing };
            match front.content {
                Content::Batch(..) if front.last_offset >= position => {
                    return if lease.is_open() { Front::Taken } else { Front::Batch };
                }
                Content::Bad(_) => return if lease.is_open() { Front::Taken } else { Front::Bad },
                Content::Batch(..) => {}
                Content::Hidden => {
                    if lease.is_open() {
                        return Front::Taken;
                    }
                    lease.claim(position, position.max(front.last_offset.saturating_add(1)));
                }
            }
            self.bytes = self.bytes.saturating_sub(front.bytes);
            self.queue.pop_front();
        }
        Front::Nothing
    }

    /// The batch at the front, if that is what [`Buffer::settle`] found.
    pub(super) fn batch(&self) -> Option<(RawBatch, Arc<Pinned>)> {
        let Content::Batch(batch, pinned) = &self.queue.front()?.content else { return None };
        Some((batch.clone(), Arc::clone(pinned)))
    }

    /// Why the front cannot be read, if it cannot.
    pub(super) fn take_bad_front(&mut self) -> Option<Error> {
        let Content::Bad(error) = &self.queue.front()?.content else { return None };
        let error = error.clone();
        self.queue.pop_front();
        Some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_hidden_batches_takes_the_place_of_one() {
        let (mut buffer, lease) = (Buffer::default(), Lease::new(0));
        (0..1_000).for_each(|offset| buffer.push(offset, Content::Hidden));
        assert_eq!(buffer.queue.len(), 1);
        assert_eq!(buffer.settle(&lease), Front::Nothing);
        assert_eq!(lease.position(), Some(1_000));
    }
}
