//! A `kavka broker` for one test, and runs of the command against it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

pub const KAVKA: &str = env!("CARGO_BIN_EXE_kavka");

/// A `kavka broker` that ends with the test.
pub struct Broker {
    pub process: Child,
    pub bootstrap_servers: String,
}

impl Broker {
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(KAVKA)
            .args(["broker", "--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("kavka broker listening on 127.0.0.1:"), "{line}");
        let bootstrap_servers = line.split_whitespace().last().unwrap().to_owned();
        Self { process, bootstrap_servers }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KAVKA);
        command.args(arguments).env("KAVKA_BOOTSTRAP_SERVERS", &self.bootstrap_servers);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs the command with `input` on standard input, until it ends.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(arguments);
        // It may end without reading everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Runs the command, which must succeed; returns its output.
    pub fn succeed(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        output.stdout
    }

    pub fn consume(&self, arguments: &[&str]) -> String {
        text(&self.succeed(&[&["consume", "--exit-at-end"], arguments].concat(), b""))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn signal(name: &str, child: &Child) {
    // `kill` is a shell builtin; not every system has it as a program.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

pub fn read_line(stdout: &mut BufReader<impl Read>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line
}

/// Checks that standard error is one line that begins with our name, contains `part`, and shows no Rust internals.
pub fn assert_one_sentence(output: &Output, part: &str) {
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("kavka: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(stderr.contains(part), "{stderr}");
    for rust in ["Error(", "Some(", "Kind", "panicked"] {
        assert!(!stderr.contains(rust), "{stderr}");
    }
}
