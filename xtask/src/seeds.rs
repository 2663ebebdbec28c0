//! Writes the seeds of the fuzz targets, one folder for each target: what Kafka's own clients and brokers wrote.
//!
//! They are the golden files of `crates/core/tests`, in the form that the targets in `fuzz/targets` read. What
//! libFuzzer has added to the folders stays there.

use std::fs;
use std::io;
use std::path::Path;

use kavka_core::wire::ApiKey;

use crate::Outcome;

/// Broker messages of SASL exchanges, in the form of the target `authentication`: the mechanism comes first.
const AUTHENTICATION: [&[u8]; 4] = [b"\0", b"\x01", b"\x01\x20{\"status\":\"invalid_token\"}", b"\x03\0\0\0\0"];

pub(crate) fn run(repository: &Path) -> Outcome {
    let corpus = repository.join("target/fuzz/corpus");
    let written = seeds(&repository.join("crates/core/tests"), &corpus);
    written.map(|count| format!("{count} seeds are in {}", corpus.display())).map_err(|error| vec![error.to_string()])
}

fn seeds(tests: &Path, corpus: &Path) -> io::Result<usize> {
    let mut count = 0;
    let mut write = |target: &str, name: &str, seed: &[u8]| {
        count += 1;
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), seed)
    };
    let golden = fs::read_to_string(tests.join("wire/golden.txt"))?;
    for (name, seed) in golden.lines().filter_map(message) {
        write("responses", &name, &seed)?;
        write("round_trips", &name, &seed)?;
    }
    for folder in ["records", "message_sets"] {
        for entry in fs::read_dir(tests.join("data").join(folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "README.md" {
                // The three bytes say that nothing is to be compressed or wrapped again.
                write("batches", &name, &[&[3, 0, 0], fs::read(entry.path())?.as_slice()].concat())?;
            }
        }
    }
    for (number, seed) in AUTHENTICATION.iter().enumerate() {
        write("authentication", &number.to_string(), seed)?;
    }
    Ok(count)
}

/// The name and the seed of a line of `golden.txt`: the API's number, whose highest bit means a request, the version
/// and the body.
fn message(line: &str) -> Option<(String, Vec<u8>)> {
    let [name, version, kind, hex] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let (api, is_request) = match name.strip_suffix("Request") {
        Some(api) => (api, true),
        None => (name.strip_suffix("Response")?, false),
    };
    let key = ApiKey::ALL.iter().find(|key| key.name() == api)?;
    let mut seed = vec![key.number() as u8 | u8::from(is_request) << 7, version.parse().ok()?];
    for at in (0..hex.len()).step_by(2) {
        seed.push(u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?);
    }
    Some((format!("{name}-{version}-{kind}"), seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_line_becomes_an_api_a_version_and_a_body() {
        let request = message("FetchRequest 4 full 00ff").unwrap();
        assert_eq!(request, ("FetchRequest-4-full".to_owned(), vec![0x81, 4, 0, 0xff]));
        assert_eq!(message("FetchResponse 4 null ").unwrap().1, [1, 4]);
        assert_eq!(message("# a comment"), None);
        assert_eq!(message("Unknown 4 full 00"), None);
    }
}
