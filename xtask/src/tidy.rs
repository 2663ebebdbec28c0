//! The rules for the source that no compiler checks: sizes, imports, and claims in documents.
//!
//! The message of each rule says what to do. A file or function that must break a rule is listed in [`EXCEPTIONS`] with
//! the reason; an exception that is no longer needed is an error, too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::documents::Index;
use crate::source::Source;

/// Files and functions that may be longer than allowed: a path, or a path and a function, and the reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 60;
/// rustfmt keeps code within this width, but leaves comments as they are.
const MAX_COMMENT_WIDTH: usize = 120;

/// What core must not use: its callers pass in the time and the bytes.
const IO: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::*",
    "tokio",
    "socket2",
    "getrandom",
    "rand",
];

/// The modules of core that each of its modules may import. From `link` on, all may also import those in
/// [`EVERYBODYS`].
const LAYERS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("planted", &[]),
    ("random", &[]),
    ("secret", &[]),
    ("sync", &[]),
    ("backoff", &["random"]),
    ("config", &["backoff", "error", "secret", "time", "wire"]),
    ("error", &["wire"]),
    ("wire", &["error", "sync"]),
    ("link", &["wire"]),
    ("cluster", &["wire", "link"]),
    ("producer", &["wire", "link", "cluster"]),
    ("consumer", &["wire", "link", "cluster"]),
    ("group", &["wire", "link", "cluster", "consumer"]),
    ("share", &["wire", "link", "cluster", "group"]),
];

const EVERYBODYS: &[&str] = &["backoff", "config", "error", "planted", "random", "secret", "sync", "time"];

/// The workspace crates that each crate may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("crates/derive", &[]),
    ("crates/core", &["kavka-derive"]),
    ("crates/gssapi", &["kavka-core"]),
    ("crates/client", &["kavka-core", "kavka-gssapi"]),
    ("crates/broker", &["kavka-core"]),
    ("crates/cli", &["kavka", "kavka-broker"]),
    ("crates/python", &["kavka", "kavka-broker"]),
    ("sim", &["kavka-broker", "kavka-core"]),
    ("tests/kafka", &[]),
    ("tests/support", &["kavka", "kavka-broker", "kavka-core", "kavka-test-kafka"]),
    ("xtask", &["kavka-core"]),
];

/// The crates that call into other languages, which needs `unsafe` code.
const UNSAFE: &[&str] = &["crates/python", "crates/gssapi"];

/// What only some files of a crate may use: the crate's sources, the path prefixes, and those files and folders.
const ONLY_IN: &[(&str, &[&str], &[&str])] = &[
    (
        "crates/client/src/",
        &["tokio::net", "tokio::io", "tokio::runtime", "socket2", "rustix", "std::time::SystemTime"],
        &["crates/client/src/driver/"],
    ),
    // Nothing that a setting or a peer says may reach these.
    ("crates/client/src/", &["std::env", "std::process"], &[]),
    // Whoever reads how the client verifies brokers finds it in one place.
    (
        "crates/client/src/",
        &["rustls", "webpki", "rustls_native_certs"],
        &["crates/client/src/driver/tls.rs", "crates/client/src/driver/tls/"],
    ),
    (
        "crates/client/src/",
        &["tokio::spawn", "tokio::task", "tokio::time"],
        &["crates/client/src/driver/", "crates/client/src/role/"],
    ),
    (
        "crates/client/src/",
        // A thread that waits for the engine measures its own time limit.
        &["std::thread", "std::time::Instant"],
        &["crates/client/src/driver/", "crates/client/src/blocking/"],
    ),
    (
        "crates/broker/src/",
        &["tokio", "std::thread", "std::net", "std::time::Instant"],
        &["crates/broker/src/serve.rs", "crates/broker/src/serve/"],
    ),
    ("crates/cli/src/", &["tokio", "socket2"], &["crates/client/src/driver/"]),
    ("crates/python/src/", &["tokio", "socket2"], &["crates/client/src/driver/"]),
    (
        "sim/src/",
        // A run depends on its seed alone, so it must not depend on the machine either.
        &["tokio", "std::thread", "std::net", "std::time::Instant", "std::time::SystemTime", "std::env"],
        &["sim/src/main.rs"],
    ),
    ("sim/src/", &["std::collections::HashMap", "std::collections::HashSet", "std::hash::RandomState"], &[]),
    // Only the harness in Python starts Kafka; the crate asks it to.
    ("tests/kafka/src/", &["tokio", "std::net", "kavka", "kavka_core", "kavka_broker"], &["tests/kafka/tests/"]),
];

/// What the embedded broker may import from core: a broker that shared the client's logic would share its bugs.
const BROKER_MAY_IMPORT: &[&str] = &["wire", "error", "time", "group::assignor"];

/// Checks all files that git tracks or would add.
pub(crate) fn run(repository: &Path) -> Outcome {
    let mut check = Check::default();
    let files = files(repository)?;
    let mut index = Index::default();
    for path in &files {
        let Ok(text) = std::fs::read_to_string(repository.join(path)) else { continue };
        check.file(path, &text);
        index.file(path, &text);
    }
    let document = |name| std::fs::read_to_string(repository.join(name)).unwrap_or_default();
    check.faults.extend(index.faults(&document("KIPS.md"), &document("GUARANTEES.md")));
    check.faults.extend(index.security_faults(&document("SECURITY.md")));
    check.faults.extend(index.reliability_faults(&document("docs/reliability.md")));
    check.faults.extend(crate::reference::fault(repository));
    let unused = EXCEPTIONS.iter().filter(|(name, _)| !check.used_exceptions.contains(name));
    check.faults.extend(unused.map(|(name, _)| format!("{name} needs no exception any more")));
    if check.faults.is_empty() { Ok(format!("{} files are as they should be", files.len())) } else { Err(check.faults) }
}

fn files(repository: &Path) -> Result<Vec<String>, Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(repository).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    match git.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
        }
        Ok(output) => Err(vec![format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim())]),
        Err(error) => Err(vec![format!("git did not start: {error}")]),
    }
}

#[derive(Default)]
struct Check {
    faults: Vec<String>,
    used_exceptions: BTreeSet<&'static str>,
}

impl Check {
    fn fault(&mut self, path: &str, line: usize, what: &str) {
        self.faults.push(format!("{path}:{line}: {what}"));
    }

    /// Whether there is an exception for this.
    fn is_excepted(&mut self, name: &str) -> bool {
        let found = EXCEPTIONS.iter().find(|(exception, _)| *exception == name);
        self.used_exceptions.extend(found.map(|(exception, _)| *exception));
        found.is_some()
    }

    fn file(&mut self, path: &str, text: &str) {
        self.unfinished(path, text);
        match Path::new(path).extension().and_then(|extension| extension.to_str()) {
            Some("rs") => self.rust(path, text),
            Some("py") => self.python(path, text),
            _ if path.ends_with("Cargo.toml") => self.manifest(path, text),
            _ => {}
        }
    }

    /// Finds marks of unfinished work.
    fn unfinished(&mut self, path: &str, text: &str) {
        // Concatenated, so that this file does not contain them.
        let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
        for (index, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                self.fault(path, index + 1, &format!("{mark}: do it, or write down in the open what is missing"));
            }
        }
    }

    fn rust(&mut self, path: &str, text: &str) {
        if !text.starts_with("//!") {
            self.fault(path, 1, "begin the file with what it is for (`//!`)");
        }
        self.comments(path, text);
        let source = Source::new(text);
        if !UNSAFE.iter().any(|folder| path.starts_with(&format!("{folder}/"))) {
            for line in source.lines_with("unsafe") {
                self.fault(path, line, "unsafe code belongs into crates/python and crates/gssapi only");
            }
        }
        let is_test = path.contains("/tests/") || path.contains("/benches/") || path.starts_with("bench/");
        if is_test {
            return;
        }
        self.sizes(path, &source);
        self.imports(path, &source);
    }

    fn comments(&mut self, path: &str, text: &str) {
        for (index, line) in text.lines().enumerate() {
            // A line with a table's bar cannot be wrapped.
            let is_prose = line.trim_start().starts_with("//") && !line.contains('|');
            if is_prose && line.chars().count() > MAX_COMMENT_WIDTH {
                self.fault(path, index + 1, &format!("a comment wider than {MAX_COMMENT_WIDTH} columns: wrap it"));
            }
        }
    }

    fn sizes(&mut self, path: &str, source: &Source) {
        if source.lines() > MAX_FILE_LINES && !self.is_excepted(path) {
            let what = format!("{} lines without tests, over {MAX_FILE_LINES}: split the file", source.lines());
            self.fault(path, 1, &what);
        }
        for function in source.functions() {
            let name = format!("{path}::{}", function.name);
            if function.lines > MAX_FUNCTION_LINES && !self.is_excepted(&name) {
                let what =
                    format!("{} has {} lines, over {MAX_FUNCTION_LINES}: split it", function.name, function.lines);
                self.fault(path, function.line, &what);
            }
        }
    }

    fn imports(&mut self, path: &str, source: &Source) {
        for (line, import) in source.paths() {
            if path.starts_with("crates/core/src/") {
                if IO.iter().any(|io| is_below(&import, io)) {
                    self.fault(path, line, &format!("{import}: core does no I/O and reads no clock; pass it in"));
                }
                self.layer(path, line, &import);
            }
            for (root, prefixes, homes) in ONLY_IN {
                let is_home = homes.iter().any(|home| path.starts_with(home));
                if path.starts_with(root) && !is_home && prefixes.iter().any(|prefix| is_below(&import, prefix)) {
                    self.fault(
                        path,
                        line,
                        &match homes {
                            [] => format!("{import}: {root} must do without it"),
                            homes => format!("{import} belongs into {}", homes.join(" or ")),
                        },
                    );
                }
            }
            let inner = import.strip_prefix("kavka_core::").filter(|_| path.starts_with("crates/broker/src/"));
            if inner.is_some_and(|inner| !BROKER_MAY_IMPORT.iter().any(|allowed| is_below(inner, allowed))) {
                self.fault(path, line, &format!("{import}: the broker takes nothing from core's machines"));
            }
        }
    }

    /// Checks that imports inside core go in one direction.
    fn layer(&mut self, path: &str, line: usize, import: &str) {
        let file = path.trim_start_matches("crates/core/src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<&str> = file.split('/').filter(|part| *part != "lib").collect();
        let Some(own) = module.first() else { return };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == own) else {
            self.fault(path, line, &format!("say in xtask/src/tidy.rs what core's module {own} may import"));
            return;
        };
        let Some(target) = target_module(&module, import) else { return };
        let is_below_all = EVERYBODYS.contains(own) || *own == "wire";
        let is_allowed = allowed.contains(&target) || (!is_below_all && EVERYBODYS.contains(&target));
        if LAYERS.iter().any(|(name, _)| *name == target) && target != *own && !is_allowed {
            self.fault(path, line, &format!("{import}: {own} must not import {target}"));
        }
    }

    fn python(&mut self, path: &str, text: &str) {
        let is_test = path.starts_with("tests/");
        if text.lines().count() > MAX_FILE_LINES && !is_test && !self.is_excepted(path) {
            self.fault(path, 1, &format!("over {MAX_FILE_LINES} lines: split the file"));
        }
        let first = text.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty()).unwrap_or("\"\"\"");
        if !(first.starts_with("\"\"\"") || first.starts_with("r\"\"\"")) {
            self.fault(path, 1, "begin the file with what it is for (a docstring)");
        }
    }

    fn manifest(&mut self, path: &str, text: &str) {
        let directory = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == directory) else { return };
        let mut section = "";
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let is_dependency = section == "[dependencies]" && name.starts_with("kavka");
            if is_dependency && !allowed.contains(&name) {
                self.fault(path, index + 1, &format!("{directory} must not depend on {name}"));
            }
            let is_io = section == "[dependencies]" && IO.contains(&name);
            if is_io && directory == "crates/core" {
                self.fault(path, index + 1, &format!("core must not depend on {name}: it does no I/O"));
            }
        }
        if !UNSAFE.contains(&directory) && !text.contains("[lints]\nworkspace = true") {
            self.fault(path, 1, "take over the workspace's lints");
        }
    }
}

/// Whether a path is `prefix` or something in it.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The module of the crate to which an import in `module` leads, if it leads to one.
fn target_module<'a>(module: &[&'a str], import: &'a str) -> Option<&'a str> {
    let mut parts = import.split("::");
    let mut place = module;
    loop {
        match parts.next()? {
            "crate" => return parts.next(),
            "super" => place = place.split_last()?.1,
            first => return if place.len() < module.len() { place.first().copied().or(Some(first)) } else { None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let mut check = Check::default();
        check.file(path, text);
        check.faults
    }

    #[test]
    fn core_reads_no_clock_however_it_is_imported() {
        for line in ["use std::time::{Duration, Instant};", "fn f() { std::time::Instant::now(); }", "use tokio::net;"]
        {
            let found = faults("crates/core/src/wire/api.rs", &format!("//! For.\n{line}\n"));
            assert!(
                found.iter().all(|fault| fault.contains("core does no I/O")) && !found.is_empty(),
                "{line}: {found:?}"
            );
        }
        assert_eq!(faults("crates/core/src/wire/api.rs", "//! For.\nuse std::time::Duration;\n"), [""; 0]);
        assert_eq!(faults("crates/client/src/driver/tcp.rs", "//! For.\nuse std::time::Instant;\n"), [""; 0]);
    }

    #[test]
    fn imports_in_core_point_one_way() {
        let import = |file: &str, import: &str| {
            faults(&format!("crates/core/src/{file}"), &format!("//! For.\nuse {import};\n")).len()
        };
        assert!(import("wire/api.rs", "crate::link::Connection") > 0);
        assert!(import("cluster/mod.rs", "super::producer::Sender") > 0);
        assert!(import("cluster/route.rs", "super::super::consumer::Fetch") > 0);
        assert!(import("producer/sender.rs", "crate::consumer") > 0);
        assert_eq!(import("cluster/route.rs", "super::metadata::Snapshot"), 0);
        assert_eq!(import("consumer/fetch.rs", "crate::cluster::metadata"), 0);
        assert_eq!(import("link/connection.rs", "crate::random::Random"), 0);
        assert!(import("error.rs", "crate::config::ClientConfig") > 0);
        assert!(import("novel/mod.rs", "crate::wire") > 0);
    }

    #[test]
    fn the_broker_takes_nothing_from_the_machines() {
        let import = |import: &str| faults("crates/broker/src/log.rs", &format!("//! For.\nuse {import};\n")).len();
        assert!(import("kavka_core::producer::Sender") > 0);
        assert_eq!(import("kavka_core::wire::messages"), 0);
        assert!(import("tokio::net::TcpListener") > 0);
    }

    #[test]
    fn a_long_function_or_file_is_a_fault() {
        let function = format!("//! For.\nfn long() {{\n{}}}\n", "    a();\n".repeat(59));
        assert_eq!(faults("xtask/src/a.rs", &function), ["xtask/src/a.rs:2: long has 61 lines, over 60: split it"]);
        assert_eq!(faults("xtask/src/a.rs", &format!("//! For.\n{}", "\n".repeat(600))).len(), 1);
    }

    #[test]
    fn a_wide_comment_is_a_fault() {
        let comment = |width: usize| format!("//! For.\n/// {}\n", "a".repeat(width - 4));
        assert_eq!(faults("xtask/src/a.rs", &comment(120)), [""; 0]);
        assert_eq!(
            faults("xtask/src/a.rs", &comment(121)),
            ["xtask/src/a.rs:2: a comment wider than 120 columns: wrap it"]
        );
    }

    #[test]
    fn sockets_tasks_and_clocks_of_the_client_have_their_places() {
        let faults =
            |file: &str, code: &str| faults(&format!("crates/client/src/{file}"), &format!("//! For.\n{code}\n")).len();
        assert_eq!(faults("offsets.rs", "use tokio::net::TcpStream;"), 1);
        assert_eq!(faults("admin.rs", "fn f() { tokio::spawn(g()); }"), 1);
        assert_eq!(faults("admin.rs", "use std::time::{Duration, Instant};"), 1);
        assert_eq!(faults("driver/network.rs", "use tokio::net::TcpStream;\nuse std::time::Instant;"), 0);
        assert_eq!(faults("role/mod.rs", "use tokio::task::JoinSet;"), 0);
        assert_eq!(faults("call.rs", "fn f() { tokio::time::sleep(a).await; }"), 1);
        assert_eq!(faults("producer/mod.rs", "fn f() { std::thread::park(); }"), 1);
    }

    #[test]
    fn the_engine_reads_no_environment_and_starts_no_program() {
        for line in ["use std::process::Command;", "fn f() { std::env::var(a); }", "use std::{env, io};"] {
            for (file, says) in [
                ("crates/core/src/wire/api.rs", "core does no I/O"),
                ("crates/client/src/driver/tls.rs", "do without it"),
            ] {
                let faults = faults(file, &format!("//! For.\n{line}\n"));
                assert!(faults.iter().any(|fault| fault.contains(says)), "{file}: {line}: {faults:?}");
            }
        }
    }

    #[test]
    fn a_run_of_the_simulator_depends_on_its_seed_alone() {
        let faults = |file: &str, code: &str| faults(&format!("sim/src/{file}"), &format!("//! For.\n{code}\n")).len();
        assert_eq!(faults("world.rs", "use std::time::Instant;"), 1);
        assert_eq!(faults("world.rs", "use std::collections::HashMap;"), 1);
        assert_eq!(faults("main.rs", "use std::time::Instant;"), 0);
        assert_eq!(faults("world.rs", "use std::time::Duration;\nuse std::collections::BTreeMap;"), 0);
    }

    #[test]
    fn a_crate_depends_only_on_those_below_it() {
        let manifest = "[dependencies]\nkavka-broker.workspace = true\n\n[lints]\nworkspace = true\n";
        assert_eq!(faults("crates/client/Cargo.toml", manifest).len(), 1);
        assert_eq!(faults("crates/cli/Cargo.toml", manifest), [""; 0]);
        assert_eq!(faults("crates/client/Cargo.toml", &manifest.replace("[dep", "[dev-dep")), [""; 0]);
    }

    #[test]
    fn unsafe_code_is_a_fault_outside_python() {
        let text = "//! For.\n// unsafe in a comment\nfn f() { unsafe { a() } }\n";
        assert_eq!(
            faults("crates/client/src/a.rs", text),
            ["crates/client/src/a.rs:3: unsafe code belongs into crates/python and crates/gssapi only"]
        );
        assert_eq!(faults("crates/python/src/a.rs", text), [""; 0]);
    }
}
