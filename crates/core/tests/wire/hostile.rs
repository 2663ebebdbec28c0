//! Bytes from a broken or hostile peer: they are decoded or rejected, and never cause a panic.

use allocation_counter::measure;

use super::{every_version, fill, reencode};

#[test]
fn random_bytes_never_panic() {
    for (message, version) in every_version() {
        for seed in 0..50 {
            let mut random = fill::Random::new(seed);
            let length = random.below(200);
            let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            let _ = reencode(message.schema.name, version, bytes);
        }
    }
}

#[test]
fn a_message_with_damaged_bytes_never_panics() {
    for (message, version) in every_version() {
        let sound = fill::message(&message, version, &mut fill::Counting::default());
        for seed in 0..50 {
            let mut random = fill::Random::new(seed);
            let mut bytes = sound.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() + 1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(6)];
                }
            }
            let _ = reencode(message.schema.name, version, bytes);
        }
    }
}

#[test]
fn every_message_that_ends_too_early_is_refused() {
    for (message, version) in every_version() {
        let sound = fill::message(&message, version, &mut fill::Counting::default());
        for end in 0..sound.len() {
            let outcome = reencode(message.schema.name, version, sound[..end].to_vec());
            assert!(outcome.is_err(), "{} v{version} of {end} bytes", message.schema.name);
        }
    }
}

#[test]
fn a_byte_too_many_is_refused() {
    for (message, version) in every_version() {
        let mut bytes = fill::message(&message, version, &mut fill::Counting::default());
        bytes.push(0);
        assert!(reencode(message.schema.name, version, bytes).is_err(), "{} v{version}", message.schema.name);
    }
}

#[test]
fn a_vast_count_anywhere_in_any_message_takes_little_memory() {
    // 2^31 - 1 and -2 as the counts of old versions, and as those of newer ones.
    let counts: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0x80, 0x80, 0x80, 0x80, 8],
        &[0xff, 0xff, 0xff, 0xff, 15],
    ];
    for (message, version) in every_version() {
        let sound = fill::message(&message, version, &mut fill::Counting::default());
        for (at, count) in (0..sound.len()).flat_map(|at| counts.map(|count| (at, count))) {
            let mut bytes = sound.clone();
            bytes.splice(at..(at + count.len()).min(sound.len()), count.iter().copied());
            let taken = measure(|| drop(reencode(message.schema.name, version, bytes)));
            let most = 64 << 10;
            assert!(taken.bytes_max < most, "{} v{version} at {at}: {} bytes", message.schema.name, taken.bytes_max);
        }
    }
}
