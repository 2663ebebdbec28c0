//! Round trips of values of all kinds.

use super::{every_version, fill, reencode};

#[test]
fn every_message_comes_back_as_it_was_in_every_version() {
    for (message, version) in every_version() {
        for seed in 0..20 {
            let name = message.schema.name;
            let bytes = fill::message(&message, version, &mut fill::Random::new(seed));
            let again = reencode(name, version, bytes.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(again == bytes, "{name} v{version}, seed {seed}");
        }
    }
}
