//! Messages encoded by Kafka's Java client; `golden.sh` made them.

use std::collections::BTreeMap;

use super::{every_version, fill, reencode};

/// The name, version and kind of each line, with its bytes.
fn golden() -> BTreeMap<(&'static str, i16, &'static str), Vec<u8>> {
    let lines = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#'));
    let mut golden = BTreeMap::new();
    for line in lines {
        let [name, version, kind, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not four words: {line}")
        };
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let twice = golden.insert((name, version.parse().unwrap(), kind), bytes);
        assert_eq!(twice, None, "the two releases encode {name} v{version} differently");
    }
    golden
}

#[test]
fn every_version_has_golden_bytes() {
    let golden = golden();
    for (message, version) in every_version() {
        for kind in ["full", "null"] {
            let key = (message.schema.name, version, kind);
            assert!(golden.contains_key(&key), "{key:?} is missing: run golden.sh");
        }
    }
}

#[test]
fn what_the_java_client_writes_is_read_and_written_again_byte_for_byte() {
    for ((name, version, kind), bytes) in golden() {
        let again = reencode(name, version, bytes.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(again, bytes, "{name} v{version} {kind}");
    }
}

#[test]
fn the_java_client_writes_the_fields_that_the_schema_says() {
    let golden = golden();
    for (message, version) in every_version() {
        let name = message.schema.name;
        let bytes = fill::message(&message, version, &mut fill::Counting::default());
        assert_eq!(Some(&bytes), golden.get(&(name, version, "full")), "{name} v{version}");
    }
}
