//! Asks the assignors of Java's consumer: starts `java/Assignors.java`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kavka_core::group::assignor::{Assignor, PartitionCounts, PartitionRacks, Racks, Subscriber};
use kavka_test_kafka::LATEST;

/// A group whose partitions are to be assigned, as the Java program reads it.
pub(crate) fn line(
    assignor: Assignor,
    counts: &PartitionCounts,
    racks: &PartitionRacks,
    members: &[Subscriber],
) -> String {
    let partition = |racks: &Racks| match racks.iter().map(AsRef::as_ref).collect::<Vec<_>>() {
        racks if racks.is_empty() => "-".to_owned(),
        racks => racks.join("+"),
    };
    let racks = |topic: &Arc<str>| racks[topic].iter().map(partition).collect::<Vec<_>>().join("/");
    let topics: Vec<_> = counts.keys().map(|topic| format!("{topic}={}", racks(topic))).collect();
    let mut line = format!("{} {}", assignor.name(), topics.join(","));
    for member in members {
        let instance = member.group_instance_id.as_deref().unwrap_or("-");
        write!(line, " {}|{instance}|", member.member_id).unwrap();
        for byte in member.subscription.encode().unwrap() {
            write!(line, "{byte:02x}").unwrap();
        }
    }
    line
}

/// What Java answers, line by line.
pub(crate) fn ask_java(arguments: &[&str], lines: &[String]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let jars = Command::new("python3").arg(folder.join("kafka.py")).args(["fetch", "--version", LATEST]).output();
    let jars = jars.expect("python3 runs the harness");
    let jars_folder = String::from_utf8(jars.stdout).unwrap().trim().to_owned();
    assert!(jars.status.success(), "{jars_folder}");
    let mut java = Command::new("java")
        .args(["-Xmx512m", "-cp", &format!("{jars_folder}/*")])
        .arg(folder.join("java/Assignors.java"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java is there");
    let mut stdin = java.stdin.take().unwrap();
    let question = lines.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(question.as_bytes()));
    let output = java.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
