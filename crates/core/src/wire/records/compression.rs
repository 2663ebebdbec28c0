//! The compression codecs of record batches. Each reuses its context and limits the size of its output.
//!
//! A [`Compressor`] or [`Decompressor`] is used for many batches, one after the other: a new context for each batch
//! would halve the speed of small ones. The size that a compressed batch claims never causes an allocation; it can only
//! make one smaller.

mod gzip;
pub(super) mod lz4;
mod snappy;
mod zstd;

use std::fmt;

use bytes::Bytes;

use super::batch::malformed;
use crate::error::{Error, ErrorKind};

/// How the records of a batch are compressed (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CompressionType {
    /// No compression.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, in the framing of the Xerial library.
    Snappy,
    /// LZ4, in the LZ4 frame format.
    Lz4,
    /// Zstandard (KIP-110); brokers support it from 2.1 on.
    Zstd,
}

impl CompressionType {
    const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its number in the attributes of a batch.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this number.
    ///
    /// # Errors
    ///
    /// `Malformed` if there is none.
    pub fn from_id(id: u8) -> Result<Self, Error> {
        let found = Self::ALL.get(usize::from(id)).copied();
        found.ok_or_else(|| malformed(format!("a record batch is compressed with the unknown codec {id}")))
    }

    /// Its name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression_type| compression_type.name() == name)
    }
}

impl fmt::Display for CompressionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec and its compression level (KIP-390).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    compression_type: CompressionType,
    level: Option<i32>,
}

impl Compression {
    /// A codec with a level: that of `compression.gzip.level` (1 to 9, or -1 for the default, 6),
    /// `compression.lz4.level` (1 to 17; checked, but our LZ4 has only one level) or `compression.zstd.level` (-131072
    /// to 22, default 3).
    ///
    /// # Errors
    ///
    /// `Config` if the level is out of range, or if the codec has no levels.
    pub fn new(compression_type: CompressionType, level: Option<i32>) -> Result<Self, Error> {
        let (least, most) = match compression_type {
            CompressionType::Gzip => (1, 9),
            CompressionType::Lz4 => (1, 17),
            CompressionType::Zstd => (-131_072, 22),
            CompressionType::None | CompressionType::Snappy => (0, -1),
        };
        match level {
            Some(-1) if compression_type == CompressionType::Gzip => Ok(Self { compression_type, level: None }),
            Some(_) if least > most => {
                Err(Error::new(ErrorKind::Config, format!("compression.type={compression_type} has no level")))
            }
            Some(level) if level < least || level > most => Err(Error::new(
                ErrorKind::Config,
                format!("compression.{compression_type}.level={level} is not between {least} and {most}"),
            )),
            level => Ok(Self { compression_type, level }),
        }
    }

    /// The codec.
    pub fn compression_type(self) -> CompressionType {
        self.compression_type
    }

    /// The level; `None` is the codec's default.
    pub fn level(self) -> Option<i32> {
        self.level
    }
}

/// The codec with its default level.
impl From<CompressionType> for Compression {
    fn from(compression_type: CompressionType) -> Self {
        Self { compression_type, level: None }
    }
}

/// The largest buffer that is kept for the next batch, in bytes.
const KEPT_BYTES: usize = 2 << 20;

/// Compresses batches, one after the other, with one codec.
pub struct Compressor {
    codec: Encoder,
    joined: Vec<u8>,
    output: Vec<u8>,
}

enum Encoder {
    None,
    Gzip(gzip::Encoder),
    Snappy(Box<snappy::Encoder>),
    Lz4(lz4::Encoder),
    Zstd(zstd::Encoder),
}

impl Compressor {
    /// A compressor with its context, which takes up to a few MiB at high levels.
    ///
    /// # Errors
    ///
    /// If the codec rejects the level.
    pub fn new(compression: Compression) -> Result<Self, Error> {
        let level = compression.level;
        let codec = match compression.compression_type {
            CompressionType::None => Encoder::None,
            CompressionType::Gzip => Encoder::Gzip(gzip::Encoder::new(level)),
            CompressionType::Snappy => Encoder::Snappy(Box::new(snappy::Encoder::new())),
            CompressionType::Lz4 => Encoder::Lz4(lz4::Encoder::new()),
            CompressionType::Zstd => Encoder::Zstd(zstd::Encoder::new(level)?),
        };
        Ok(Self { codec, joined: Vec::new(), output: Vec::new() })
    }

    /// The codec.
    pub fn compression_type(&self) -> CompressionType {
        match self.codec {
            Encoder::None => CompressionType::None,
            Encoder::Gzip(_) => CompressionType::Gzip,
            Encoder::Snappy(_) => CompressionType::Snappy,
            Encoder::Lz4(_) => CompressionType::Lz4,
            Encoder::Zstd(_) => CompressionType::Zstd,
        }
    }

    /// Compresses `pieces` into one stream, with `head` zero bytes in front of it.
    ///
    /// # Errors
    ///
    /// `Internal` if the codec fails.
    pub fn compress(&mut self, pieces: &[&[u8]], head: usize) -> Result<Vec<u8>, Error> {
        // Copying costs a hundredth of compressing, and codecs compress one large piece better than many small ones.
        self.joined.clear();
        let input = if let [piece] = pieces {
            *piece
        } else {
            for piece in pieces {
                self.joined.extend_from_slice(piece);
            }
            &self.joined
        };
        self.output.clear();
        match &mut self.codec {
            Encoder::None => self.output.extend_from_slice(input),
            Encoder::Gzip(encoder) => encoder.compress(input, &mut self.output)?,
            Encoder::Snappy(encoder) => encoder.compress(input, &mut self.output)?,
            Encoder::Lz4(encoder) => encoder.compress(input, &mut self.output)?,
            Encoder::Zstd(encoder) => encoder.compress(input, &mut self.output)?,
        }
        let mut compressed = Vec::with_capacity(head.saturating_add(self.output.len()));
        compressed.resize(head, 0);
        compressed.extend_from_slice(&self.output);
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        self.joined.clear();
        self.joined.shrink_to(KEPT_BYTES);
        Ok(compressed)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("compression_type", &self.compression_type()).finish_non_exhaustive()
    }
}

/// Decompresses batches, one after the other, of any codec.
#[derive(Default)]
pub struct Decompressor {
    gzip: gzip::Decoder,
    snappy: snappy::Decoder,
    zstd: zstd::Decoder,
    /// The ratio of output to input of the last batch: the guess for the next, as batches of one topic are alike.
    expansion: usize,
}

impl Decompressor {
    /// A decompressor. Its contexts are created when they are first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses `input`, if the result has at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// `Malformed` if the result is larger, or if `input` is not valid for the codec.
    pub fn decompress(
        &mut self,
        compression_type: CompressionType,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<Bytes, Error> {
        self.decompress_with(compression_type, input, max_bytes, lz4::decompress)
    }

    /// Like [`decompress`](Self::decompress), for a message of magic 0: LZ4 frames may have the header checksum of
    /// Kafka 0.8 and 0.9.
    pub(super) fn decompress_v0(
        &mut self,
        compression_type: CompressionType,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<Bytes, Error> {
        self.decompress_with(compression_type, input, max_bytes, lz4::decompress_of_kafka_0_9)
    }

    fn decompress_with(
        &mut self,
        compression_type: CompressionType,
        input: &[u8],
        max_bytes: usize,
        lz4: fn(&[u8], &mut Output) -> Result<(), Fault>,
    ) -> Result<Bytes, Error> {
        let mut output = Output { bytes: Vec::new(), max_bytes };
        let expansion = self.expansion.clamp(4, 64).saturating_add(1);
        let guess = input.len().saturating_mul(expansion).max(1024).min(max_bytes);
        let done = match compression_type {
            CompressionType::None => output.extend(input),
            CompressionType::Gzip => self.gzip.decompress(input, guess, &mut output),
            CompressionType::Snappy => self.snappy.decompress(input, &mut output),
            CompressionType::Lz4 => lz4(input, &mut output),
            CompressionType::Zstd => self.zstd.decompress(input, guess, &mut output),
        };
        match done {
            Ok(()) => {}
            Err(Fault::TooLong) => {
                return Err(malformed(format!(
                    "a record batch compressed with {compression_type} becomes longer than {max_bytes} bytes"
                )));
            }
            Err(Fault::Broken(why)) => {
                return Err(malformed(format!("a record batch cannot be decompressed as {compression_type}: {why}")));
            }
        }
        let mut bytes = output.bytes;
        self.expansion = bytes.len() / input.len().max(1);
        if bytes.capacity() / 2 > bytes.len() {
            bytes.shrink_to_fit();
        }
        Ok(bytes.into())
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// Why decompression failed.
#[derive(Debug)]
enum Fault {
    TooLong,
    Broken(&'static str),
}

/// The decompressed bytes, and their maximum size.
struct Output {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Output {
    fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.bytes.len())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() > self.room() {
            return Err(Fault::TooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Lets `write` add up to `most` bytes; it returns how many it has added.
    fn extend_with(
        &mut self,
        most: usize,
        write: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, Fault>,
    ) -> Result<(), Fault> {
        let old = self.bytes.len();
        self.bytes.resize(old.saturating_add(most.min(self.room())), 0);
        let (before, space) = self.bytes.split_at_mut_checked(old).ok_or(Fault::TooLong)?;
        let written = write(before, space);
        self.bytes.truncate(old.saturating_add(*written.as_ref().unwrap_or(&0)));
        written.map(|_| ())
    }
}
