//! The command-line page of the guide: every `$ kavka` line prints what the page says.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Broker, KAVKA, text};

/// The commands of the page, each with its output.
fn commands(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => {
                    printed.push_str(line);
                    printed.push('\n');
                }
                (None, None) => panic!("a block begins without a command: {line}"),
            }
        }
    }
    commands
}

#[test]
fn every_command_of_the_guide_prints_what_the_guide_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/command-line.md");
    let commands = commands(&std::fs::read_to_string(page).unwrap());
    let (ours, others): (Vec<_>, Vec<_>) = commands.into_iter().partition(|(command, _)| command.contains("kavka"));
    assert!(others.iter().all(|(command, _)| command.starts_with("kafka-tools ")), "{others:?}");
    assert!(ours.len() >= 10);
    let broker = Broker::start(&[]);
    let folder = Path::new(KAVKA).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    for (command, printed) in ours {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("PATH", &path).env("KAVKA_BOOTSTRAP_SERVERS", &broker.bootstrap_servers);
        let output = shell.output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{command}");
        assert_eq!(text(&output.stdout), printed, "{command}");
    }
}
