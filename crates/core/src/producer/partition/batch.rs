//! One batch of a partition, from its first record to its report.
//!
//! A batch is filled in magic 2. If its leader is older than Kafka 0.11, it is converted to a message set when it is
//! sealed; the original is kept, in case the leadership moves to a newer broker.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result, Written};
use crate::producer::completion::{Acknowledged, Completion};
use crate::producer::split::rebuild;
use crate::wire::records::{
    BatchBuilder, CompressedBatch, Compression, Compressor, Decompressor, Format, Needs, ProducerStamp, Records, Stamp,
    batches, to_message_set,
};

/// The open batch, which takes records.
#[derive(Debug)]
pub(super) struct Open {
    /// Its number in the ledger.
    pub(super) number: u64,
    pub(super) builder: BatchBuilder,
    pub(super) completion: Arc<Completion>,
    /// Whether it may be sent: its linger has ended, somebody waits for it, or it was a lone record.
    pub(super) may_be_sent: bool,
}

/// The state of a closed batch.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// To be sent, for the first time or again.
    Waiting,
    /// In a request that is in flight.
    InFlight,
    /// It has its outcome, and waits for the batches before it to be reported. If it expired, it may still be in
    /// flight.
    Decided(Result<Acknowledged>),
}

/// A batch that takes no more records, or a piece of a batch that was split.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its number in its partition: every batch and every piece has its own.
    pub(super) id: u64,
    /// Its number in the ledger; the pieces of a batch share it.
    pub(super) number: u64,
    pub(super) completion: Arc<Completion>,
    /// The index of its first record in `completion`.
    pub(super) first_index: u32,
    pub(super) count: u32,
    /// Whether it holds the last record of `completion`.
    pub(super) last_piece: bool,
    pub(super) bytes: usize,
    pub(super) payload: Arc<Payload>,
    /// Its producer id, epoch and base sequence: set at the first attempt and kept for later ones.
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) attempts: u32,
    /// Whether an attempt ended without a definite response, so that it may be in the log.
    pub(super) maybe_written: bool,
    /// Whether the broker rejected its records for what they are, which does not fail the batches behind it.
    pub(super) fails_alone: bool,
    pub(super) stage: Stage,
}

impl Batch {
    pub(super) fn new(id: u64, open: Open) -> Self {
        Self {
            id,
            number: open.number,
            completion: open.completion,
            first_index: 0,
            count: open.builder.record_count(),
            last_piece: true,
            bytes: open.builder.encoded_bytes(),
            payload: Payload::new(open.builder),
            stamp: None,
            attempts: 0,
            maybe_written: false,
            fails_alone: false,
            stage: Stage::Waiting,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }

    pub(super) fn is_decided(&self) -> bool {
        matches!(self.stage, Stage::Decided(_))
    }

    pub(super) fn is_stored(&self) -> bool {
        matches!(self.stage, Stage::Decided(Ok(_)))
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Decided(Err(_)))
    }

    /// Whether it may be in the log.
    pub(super) fn written(&self) -> Written {
        match &self.stage {
            Stage::Decided(Err(error)) => error.written(),
            Stage::InFlight | Stage::Decided(Ok(_)) => Written::Maybe,
            Stage::Waiting if self.maybe_written => Written::Maybe,
            Stage::Waiting => Written::No,
        }
    }

    /// Clears its sequence number, so that it gets a new one, or is sent without one. Only for a batch that is
    /// definitely not in the log, or that brokers cannot recognise as a duplicate anyway.
    pub(super) fn renumber(&mut self) {
        self.stamp = None;
        // A batch that is not sealed yet gets its new number when it is.
        if let Some(records) = self.payload.records() {
            self.payload = Payload::part(records, 0..self.count, self.payload.needs.clone());
        }
    }
}

/// The bytes of a batch: sealed once, and the same for every attempt. The sender seals outside the producer's lock;
/// only a batch that must be taken apart for an old leader is sealed under it.
///
/// Sealing has two steps. Compressing takes long and needs only the records, so it may come first, on another thread.
/// The header and the CRC come when the batch is sent.
#[derive(Debug)]
pub(in crate::producer) struct Payload {
    seal: Mutex<Seal>,
    needs: Needs,
}

/// Records that are neither compressed nor sealed.
#[derive(Debug)]
pub(in crate::producer) enum Unsealed {
    Filled(BatchBuilder),
    /// Those of another batch, which was sealed and rejected.
    Part {
        whole: Records,
        range: Range<u32>,
    },
}

impl Unsealed {
    fn into_builder(self) -> Result<BatchBuilder> {
        match self {
            Self::Filled(builder) => Ok(builder),
            Self::Part { whole, range } => rebuild(&whole, &range),
        }
    }
}

#[derive(Debug)]
enum Seal {
    Unsealed(Unsealed),
    /// Another thread has the records, and compresses them.
    Compressing,
    Compressed(CompressedBatch),
    Sealed(Records),
    /// The message set that is sent, and the batch that it was made from.
    MessageSet {
        original: Records,
        format: Format,
        records: Records,
    },
    Broken(Error),
}

impl Payload {
    pub(super) fn new(builder: BatchBuilder) -> Arc<Self> {
        let needs = builder.needs().clone();
        Arc::new(Self { seal: Mutex::new(Seal::Unsealed(Unsealed::Filled(builder))), needs })
    }

    /// This range of the records of a sealed batch. They are read when they are compressed or sealed, outside the
    /// producer's lock.
    pub(super) fn part(whole: Records, range: Range<u32>, needs: Needs) -> Arc<Self> {
        Arc::new(Self { seal: Mutex::new(Seal::Unsealed(Unsealed::Part { whole, range })), needs })
    }

    pub(super) fn sealed(records: Records) -> Arc<Self> {
        Arc::new(Self { seal: Mutex::new(Seal::Sealed(records)), needs: Needs::default() })
    }

    fn state(&self) -> MutexGuard<'_, Seal> {
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The formats that carry its records.
    pub(in crate::producer) fn needs(&self) -> &Needs {
        &self.needs
    }

    /// The sealed bytes in this format; seals or converts the batch if this is its first attempt in it.
    pub(in crate::producer) fn seal(
        &self,
        format: Format,
        producer: Option<ProducerStamp>,
        compressor: &mut Compressor,
    ) -> Result<Records> {
        let mut seal = self.state();
        let stamp = Stamp { producer, ..Stamp::default() };
        let before = std::mem::replace(&mut *seal, Seal::Broken(interrupted()));
        let sealed = match format {
            Format::V2 => before.into_batch(stamp, compressor).map(Seal::Sealed),
            Format::V0 | Format::V1 => before.into_message_set(format, compressor),
        };
        *seal = sealed.unwrap_or_else(Seal::Broken);
        match &*seal {
            Seal::Sealed(records) | Seal::MessageSet { records, .. } => Ok(records.clone()),
            Seal::Broken(error) => Err(error.clone()),
            Seal::Unsealed(_) | Seal::Compressing | Seal::Compressed(_) => Err(interrupted()),
        }
    }

    /// Seals the batch in magic 2 without compressing it, unless it is sealed: it is to be taken apart.
    pub(super) fn seal_plain(&self, producer: Option<ProducerStamp>) -> Result<()> {
        if self.records().is_none() {
            self.seal(Format::V2, producer, &mut Compressor::new(Compression::default())?)?;
        }
        Ok(())
    }

    /// Takes out the records, to be compressed elsewhere; `None` if that was done.
    pub(in crate::producer) fn take_unsealed(&self) -> Option<Unsealed> {
        let mut seal = self.state();
        match std::mem::replace(&mut *seal, Seal::Compressing) {
            Seal::Unsealed(records) => Some(records),
            other => {
                *seal = other;
                None
            }
        }
    }

    /// Compresses the records that were taken out with [`take_unsealed`](Self::take_unsealed), for a leader that reads
    /// this format, and puts them in.
    pub(in crate::producer) fn put_compressed(&self, taken: Unsealed, format: Format, with: &mut Compressor) {
        let compressed = match format {
            Format::V2 => taken.into_builder().and_then(|filled| filled.compress(with)).map(Seal::Compressed),
            Format::V0 | Format::V1 => Seal::Unsealed(taken).into_message_set(format, with),
        };
        *self.state() = compressed.unwrap_or_else(Seal::Broken);
    }

    /// Breaks it if it still is being compressed: whoever did that has stopped.
    pub(in crate::producer) fn end_compressing(&self) {
        let mut seal = self.state();
        if let Seal::Compressing = &*seal {
            *seal = Seal::Broken(interrupted());
        }
    }

    /// The sealed batch of magic 2, if it was sealed.
    pub(super) fn records(&self) -> Option<Records> {
        match &*self.state() {
            Seal::Sealed(records) | Seal::MessageSet { original: records, .. } => Some(records.clone()),
            Seal::Unsealed(_) | Seal::Compressing | Seal::Compressed(_) | Seal::Broken(_) => None,
        }
    }

    /// Whether nothing was done yet to compress it.
    pub(in crate::producer) fn is_unsealed(&self) -> bool {
        matches!(&*self.state(), Seal::Unsealed(_))
    }

    /// Whether it is being compressed, so that it cannot be sent yet.
    pub(super) fn is_compressing(&self) -> bool {
        matches!(&*self.state(), Seal::Compressing)
    }
}

impl Seal {
    /// The sealed batch of magic 2.
    fn into_batch(self, stamp: Stamp, compressor: &mut Compressor) -> Result<Records> {
        match self {
            Self::Unsealed(records) => records.into_builder()?.seal(stamp, compressor),
            Self::Compressed(batch) => batch.seal(stamp),
            Self::Compressing => Err(Error::new(ErrorKind::Internal, "a record batch was sent before its compression")),
            Self::Sealed(records) => Ok(records),
            Self::MessageSet { original, .. } => rebuild(&original, &(0..u32::MAX))?.seal(stamp, compressor),
            Self::Broken(error) => Err(error),
        }
    }

    fn into_message_set(self, format: Format, compressor: &mut Compressor) -> Result<Self> {
        let original = match self {
            Self::MessageSet { format: sealed_in, .. } if sealed_in == format => return Ok(self),
            Self::MessageSet { original, .. } => original,
            other => other.into_batch(Stamp::default(), &mut Compressor::new(Compression::default())?)?,
        };
        let batch = batches(original.clone().into_bytes()).next().ok_or_else(interrupted)??;
        let opened = batch.open(&mut Decompressor::new(), usize::MAX)?;
        let records = to_message_set(opened, format, compressor)?.into();
        Ok(Self::MessageSet { original, format, records })
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Internal, "sealing a record batch was interrupted")
}
