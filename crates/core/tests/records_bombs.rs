//! Half a GiB of zeros in a small batch, with every codec: opening it must stop at the limit, and so must its memory. A
//! separate file, because it measures the memory of the whole process.
#![cfg(target_os = "linux")]

use bytes::Bytes;
use kavka_core::wire::records::{CompressionType, Decompressor, batches};

const BOMB_BYTES: usize = 512 << 20;
const MOST_BYTES: usize = 8 << 20;

#[test]
fn a_bomb_stops_at_the_bound_and_takes_no_more_memory_than_that() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let codec = CompressionType::from_name(codec).unwrap();
        let bomb = batch(codec, &bomb(codec));
        let batch = batches(bomb).next().unwrap().unwrap();
        let before = peak_memory_bytes();
        let error = batch.open(&mut Decompressor::new(), MOST_BYTES).unwrap_err();
        assert!(error.to_string().contains("becomes longer than 8388608 bytes"), "{codec}: {error}");
        // A growing buffer is copied into one of twice its size; the rest is the codec's context.
        let taken = peak_memory_bytes() - before;
        assert!(taken < 3 * MOST_BYTES, "{codec} took {taken} bytes");
    }
}

fn batch(codec: CompressionType, body: &[u8]) -> Bytes {
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&i32::try_from(49 + body.len()).unwrap().to_be_bytes());
    batch[16] = 2;
    batch[22] = codec.id();
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    batch.extend_from_slice(body);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A stream of `BOMB_BYTES` zeros: one frame, except with gzip, with which such a large frame takes too long to make.
fn bomb(codec: CompressionType) -> Vec<u8> {
    match codec {
        CompressionType::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &vec![0; 16 << 20]).unwrap();
            encoder.finish().unwrap().repeat(BOMB_BYTES / (16 << 20))
        }
        CompressionType::Snappy => {
            let block = snap::raw::Encoder::new().compress_vec(&vec![0; 1 << 20]).unwrap();
            let mut block_with_length = u32::try_from(block.len()).unwrap().to_be_bytes().to_vec();
            block_with_length.extend_from_slice(&block);
            let mut bomb = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            bomb.extend(block_with_length.repeat(BOMB_BYTES >> 20));
            bomb
        }
        CompressionType::Lz4 => {
            let block = lz4_flex::block::compress(&vec![0; 4 << 20]);
            let mut block_with_length = u32::try_from(block.len()).unwrap().to_le_bytes().to_vec();
            block_with_length.extend_from_slice(&block);
            let mut bomb = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
            bomb.extend(block_with_length.repeat(BOMB_BYTES / (4 << 20)));
            bomb
        }
        CompressionType::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            std::io::copy(&mut std::io::Read::take(std::io::repeat(0), BOMB_BYTES as u64), &mut encoder).unwrap();
            encoder.finish().unwrap()
        }
        CompressionType::None => unreachable!("nothing to decompress"),
    }
}

fn peak_memory_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
