//! Writes the seeds of the fuzz targets, one folder for each target: what Kafka's own clients and brokers wrote.
//!
//! They are the golden files of `crates/core/tests`, in the form that the targets in `fuzz/targets` read, and the keys
//! of `crates/client/tests`. What libFuzzer has added to the folders stays there.

use std::fs;
use std::io;
use std::path::Path;

use kavka_core::wire::ApiKey;

use crate::Outcome;

/// Broker messages of SASL exchanges, in the form of the target `authentication`: the mechanism comes first.
const AUTHENTICATION: [&[u8]; 4] = [b"\0", b"\x01", b"\x01\x20{\"status\":\"invalid_token\"}", b"\x03\0\0\0\0"];

/// What an identity provider answers, in the form of the target `tokens`: two bytes for HTTP come first.
const TOKENS: [&[u8]; 4] = [
    b"\0\0HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n{\"access_token\":\"abc\",\"expires_in\":\"3600\"}",
    b"\x01\0\"token_type\":\"Bearer\",\"expires_in\":1e3}",
    b"\x02\0f\r\n{\"access_token\"\r\n6\r\n:\"abc\"\r\n1\r\n}\r\n0\r\n\r\n",
    b"\x03\x01{\"error\":\"invalid_client\",\"error_description\":\"no\",\"exp\":1e99}",
];

pub(crate) fn run(repository: &Path) -> Outcome {
    let corpus = repository.join("target/fuzz/corpus");
    let written = seeds(&repository.join("crates"), &corpus);
    written.map(|count| format!("{count} seeds are in {}", corpus.display())).map_err(|error| vec![error.to_string()])
}

fn seeds(crates: &Path, corpus: &Path) -> io::Result<usize> {
    let (tests, mut count) = (crates.join("core/tests"), 0);
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
    for entry in fs::read_dir(crates.join("client/tests/tls/keys"))? {
        let entry = entry?;
        write("pem", &entry.file_name().to_string_lossy(), &fs::read(entry.path())?)?;
    }
    for (number, seed) in TOKENS.iter().enumerate() {
        write("tokens", &number.to_string(), seed)?;
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
