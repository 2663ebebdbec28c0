//! The tasks that check the project's own source: `cargo run -p xtask -- TASK`.
//!
//! - `gen`: writes the pages of `docs/reference/`, which are generated from the source;
//! - `parity [JAR_OR_DIRECTORY...]`: compares our messages with the schemas in Kafka's client jars;
//! - `seeds`: writes the seeds of the fuzz targets to `target/fuzz/corpus/`;
//! - `tidy`: checks the rules for the source that no compiler checks.
//!
//! A task prints what it has checked. If anything is wrong, or it cannot check, its exit code is 1.

mod documents;
mod parity;
mod reference;
mod seeds;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The result of a task: a line about what it has checked, or all errors.
type Outcome = Result<String, Vec<String>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let outcome = match task.as_str() {
        "gen" => reference::generate(&repository()),
        "parity" => parity::run(&repository(), &arguments.map(PathBuf::from).collect::<Vec<_>>()),
        "seeds" => seeds::run(&repository()),
        "tidy" => tidy::run(&repository()),
        _ => Err(vec!["usage: cargo run -p xtask -- gen | parity [JAR_OR_DIRECTORY...] | seeds | tidy".to_owned()]),
    };
    match outcome {
        Ok(summary) => {
            println!("{task}: {summary}");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            for fault in &faults {
                eprintln!("{task}: {fault}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
