//! Writes the seeds of the fuzz targets, one folder for each target: what Kafka's own clients and brokers wrote.
//!
//! They are the golden files of `crates/core/tests`, in the form that the targets in `fuzz/targets` read. What
//! libFuzzer has added to the folders stays there.

use std::fs;
use std::io;
use std::path::Path;

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
