//! Checks where dependencies come from, and their licences.
//!
//! Every package in `Cargo.lock` must come from crates.io, and have a licence that [`ALLOWED`] permits. It asks
//! `cargo metadata`, so it needs no other tool. It does not know published vulnerabilities: `cargo audit` does, with a
//! database from the network.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Outcome;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that let everybody use, change and sell a program, and ask only for notices.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn run(repository: &Path) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(repository);
    let output = command.output().map_err(|error| vec![format!("cargo metadata does not run: {error}")])?;
    if !output.status.success() {
        return Err(vec![String::from_utf8_lossy(&output.stderr).into_owned()]);
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| vec![error.to_string()])?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let foreign: Vec<&Value> = packages.iter().filter(|package| !package["source"].is_null()).collect();
    let faults: Vec<String> = foreign.iter().filter_map(|package| fault(package)).collect();
    if faults.is_empty() { Ok(format!("{} packages may be used", foreign.len())) } else { Err(faults) }
}

/// What is wrong with a package.
fn fault(package: &Value) -> Option<String> {
    let [name, version, source, licence] =
        ["name", "version", "source", "license"].map(|key| package[key].as_str().unwrap_or_default());
    if source != CRATES_IO {
        return Some(format!("{name} {version} does not come from crates.io, but from {source}"));
    }
    (!is_allowed(licence)).then(|| {
        format!("{name} {version} has the licence {licence:?}, which is not in the list of xtask/src/dependencies.rs")
    })
}

/// Whether a licence expression (SPDX) can be satisfied with allowed licences. `/` is an old spelling of `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words);
    }
    allowed
}

fn both(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return either(words) & words.next_if_eq(&")").is_some();
    }
    let is_known = words.next().is_some_and(|licence| ALLOWED.contains(&licence));
    // An exception grants more than the licence does.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    is_known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_sum_all() {
        for expression in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "ISC AND (Apache-2.0 OR GPL-2.0)",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(expression), "{expression}");
        }
        for expression in
            ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT AND", "(MIT", "(MIT OR GPL-3.0) AND GPL-2.0", "MIT ISC"]
        {
            assert!(!is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn a_package_from_elsewhere_is_refused() {
        let package = |source: &str, licence: &str| serde_json::json!({"name": "a", "version": "1.0.0", "source": source, "license": licence});
        assert_eq!(fault(&package(CRATES_IO, "MIT")), None);
        assert!(fault(&package("git+https://example.org/a", "MIT")).unwrap().contains("does not come from crates.io"));
        assert!(fault(&package(CRATES_IO, "AGPL-3.0")).unwrap().contains("a 1.0.0 has the licence \"AGPL-3.0\""));
    }
}
