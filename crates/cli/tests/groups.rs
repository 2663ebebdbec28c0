//! `kavka groups` against its own broker.

mod support;

use std::io::{BufRead, BufReader};

use support::{Broker, assert_one_sentence, read_line, signal, text};

/// A broker with the topic `orders`: two partitions, 3 records in the first; the group `billing` has committed offset
/// 1.
fn billing() -> Broker {
    let broker = Broker::start(&["--partitions", "2"]);
    broker.succeed(&["produce", "orders", "-p", "0", "--quiet"], b"a\nb\nc\n");
    broker.succeed(&["groups", "reset", "billing", "--topic", "orders", "-p", "0", "--to", "1"], b"");
    broker
}

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn a_group_is_listed_described_and_removed() {
    let broker = billing();
    assert_eq!(text(&broker.succeed(&["groups"], b"")), "billing\tEmpty\tclassic\t\n");
    assert_eq!(text(&broker.succeed(&["groups", "list", "--state", "stable"], b"")), "");
    assert_eq!(text(&broker.succeed(&["groups", "describe", "billing"], b"")), "billing: Empty, classic, 0 members\n");
    assert_eq!(broker.succeed(&["groups", "delete", "billing"], b""), b"");
    assert_eq!(broker.succeed(&["groups", "list"], b""), b"");
}

#[test]
fn the_lag_is_printed_for_each_partition_and_in_total() {
    let broker = billing();
    let printed = text(&broker.succeed(&["groups", "lag", "billing"], b""));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(columns(lines[0]), ["topic", "partition", "committed", "end", "lag", "client", "host"]);
    assert_eq!(columns(lines[1]), ["orders", "0", "1", "3", "2", "-", "-"]);
    assert_eq!(lines[2..], ["total lag: 2"]);
}

#[test]
fn a_watched_lag_follows_until_ctrl_c_which_is_its_orderly_end() {
    let broker = billing();
    let mut watch = broker.spawn(&["groups", "lag", "billing", "-w"]);
    let mut stdout = BufReader::new(watch.stdout.take().unwrap());
    let mut next_total = || loop {
        let line = read_line(&mut stdout);
        assert!(!line.is_empty() && !line.contains('\x1b'), "{line:?}");
        if line.starts_with("total") {
            return line;
        }
    };
    assert_eq!(next_total(), "total lag: 2\n");
    broker.succeed(&["produce", "orders", "-p", "0", "--quiet"], b"d\n");
    while next_total() != "total lag: 3\n" {}
    signal("INT", &watch);
    let output = watch.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn a_group_is_moved_to_where_it_is_told() {
    let broker = billing();
    let moved = |arguments: &[&str]| {
        let printed = text(&broker.succeed(&[&["groups", "reset", "billing"], arguments].concat(), b""));
        printed.lines().skip(1).map(|line| columns(line).join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(moved(&["--to", "latest", "--dry-run"]), ["orders 0 1 3"]);
    assert_eq!(moved(&["--to", "earliest"]), ["orders 0 1 0"], "the dry run has moved nothing");
    assert_eq!(moved(&["--to", "-2"]), ["orders 0 0 1"]);
    assert_eq!(moved(&["--topic", "orders", "--to", "@0"]), ["orders 0 1 0", "orders 1 - 0"]);
    assert_eq!(moved(&["--to", "@9999-01-01"]), ["orders 0 0 3", "orders 1 0 0"]);
}

#[test]
fn what_cannot_be_done_to_a_group_is_one_sentence() {
    let broker = billing();
    for (arguments, part) in [
        (&["describe", "nobody"][..], "group nobody"),
        (&["lag", "nobody"], "group nobody"),
        (&["delete", "nobody"], "there is no such group"),
        (&["reset", "nobody", "--to", "latest"], "name a --topic"),
        (&["reset", "billing", "--to", "4"], "orders-0 has no offset 4: it has those from 0 to 3"),
        (&["reset", "billing", "--topic", "nowhere", "--to", "latest"], "nowhere"),
    ] {
        let output = broker.run(&[&["groups"], arguments].concat(), b"");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        assert_one_sentence(&output, part);
    }
    for arguments in [&["reset", "billing"][..], &["lag", "billing", "--interval", "5"]] {
        assert_eq!(broker.run(&[&["groups"], arguments].concat(), b"").status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_member_prints_what_its_group_has_not_read_and_leaves_when_it_ends() {
    let broker = billing();
    let printed = broker.succeed(&["consume", "orders", "-G", "billing", "-n", "1"], b"");
    assert_eq!(text(&printed), "b\n");
    let described = text(&broker.succeed(&["groups", "describe", "billing"], b""));
    assert!(described.starts_with("billing: Empty, consumer, consumer, uniform, epoch "), "{described}");
    assert!(described.ends_with(", 0 members\n"), "{described}");
    let mut member = broker.spawn(&["consume", "orders", "-G", "billing"]);
    let mut stdout = BufReader::new(member.stdout.take().unwrap());
    assert_eq!(read_line(&mut stdout), "c\n");
    signal("INT", &member);
    member.wait().unwrap();
    let printed = text(&broker.succeed(&["groups", "lag", "billing"], b""));
    assert!(printed.ends_with("total lag: 0\n"), "{printed}");
}

#[test]
fn a_member_prints_what_is_there_and_leaves_and_the_next_one_finds_nothing_more() {
    let broker = billing();
    broker.succeed(&["produce", "orders", "-p", "1", "--quiet"], b"d\n");
    for protocol in ["group.protocol=classic", "group.protocol=consumer"] {
        let drain = ["consume", "orders", "-G", "billing", "--exit-at-end", "-X", protocol];
        let printed = text(&broker.succeed(&drain, b""));
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["b", "c", "d"], "{protocol}");
        assert_eq!(broker.succeed(&drain, b""), b"", "{protocol}");
        assert!(text(&broker.succeed(&["groups", "lag", "billing"], b"")).ends_with("total lag: 0\n"), "{protocol}");
        broker.succeed(&["groups", "reset", "billing", "--topic", "orders", "-p", "0", "--to", "1"], b"");
        broker.succeed(&["groups", "reset", "billing", "--topic", "orders", "-p", "1", "--to", "0"], b"");
    }
}

#[test]
fn members_that_read_to_the_end_together_leave_nothing_unread() {
    let broker = Broker::start(&["--partitions", "4"]);
    let mut expected: Vec<String> = (0..20_000).map(|number: i32| number.to_string()).collect();
    broker.succeed(&["produce", "orders", "--quiet"], expected.join("\n").as_bytes());
    expected.sort_unstable();
    for protocol in ["classic", "consumer"] {
        let setting = format!("group.protocol={protocol}");
        let drain = ["consume", "orders", "-G", protocol, "--exit-at-end", "-X", &setting];
        let members = [(); 3].map(|()| broker.spawn(&drain));
        let outputs = members.map(|member| std::thread::spawn(|| member.wait_with_output().unwrap()));
        let printed: String = outputs.map(|output| text(&output.join().unwrap().stdout)).concat();
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        // What was printed just before a partition moved to another member may come twice.
        lines.dedup();
        assert!(lines == expected, "{protocol}: {} of 20000", lines.len());
    }
}

#[test]
fn a_member_that_was_frozen_beyond_its_session_says_so_and_goes_on() {
    let broker = billing();
    let settings = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"];
    let mut frozen = broker.spawn(&[&["consume", "orders", "-G", "billing"][..], &settings].concat());
    let mut stdout = BufReader::new(frozen.stdout.take().unwrap());
    assert_eq!(read_line(&mut stdout), "b\n");
    assert_eq!(read_line(&mut stdout), "c\n");
    signal("STOP", &frozen);
    // The group is empty when the frozen member's session has expired.
    while !text(&broker.succeed(&["groups"], b"")).contains("Empty") {}
    signal("CONT", &frozen);
    let mut told = String::new();
    BufReader::new(frozen.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
    assert!(told.starts_with("kavka: ") && told.contains("group billing"), "{told}");
    broker.succeed(&["produce", "orders", "-p", "1", "--quiet"], b"d\n");
    while read_line(&mut stdout) != "d\n" {}
    signal("INT", &frozen);
    assert_eq!(frozen.wait().unwrap().code(), Some(130));
}

#[test]
fn a_member_of_a_group_does_not_choose_its_partitions_or_offsets() {
    let broker = Broker::start(&[]);
    assert_one_sentence(
        &broker.run(&["consume", "orders", "-G", "g", "--from", "7"], b""),
        "a group stores its position",
    );
}

#[test]
fn the_protocol_of_a_group_is_chosen_by_its_setting() {
    let broker = billing();
    for (protocol, kind) in [("consumer", "consumer, consumer, uniform"), ("classic", "classic, consumer")] {
        let setting = format!("group.protocol={protocol}");
        broker.succeed(&["consume", "orders", "-G", protocol, "-n", "1", "-X", &setting], b"");
        let described = text(&broker.succeed(&["groups", "describe", protocol], b""));
        assert!(described.starts_with(&format!("{protocol}: Empty, {kind}, ")), "{described}");
    }
    let output = broker.run(&["consume", "orders", "-X", "group.protocol=consumer"], b"");
    assert_one_sentence(&output, "group.protocol is not a setting of this kind; it is a setting of a group's member");
}

#[test]
fn a_member_with_a_pattern_reads_the_topics_that_match_it() {
    let broker = billing();
    broker.succeed(&["produce", "orders-old", "--quiet"], b"d\n");
    broker.succeed(&["produce", "letters", "--quiet"], b"e\n");
    for protocol in ["classic", "consumer"] {
        let setting = format!("group.protocol={protocol}");
        let arguments = ["consume", "--pattern", "orders.*", "-G", protocol, "-n", "4", "-X", &setting];
        let mut lines: Vec<_> = text(&broker.succeed(&arguments, b"")).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["a", "b", "c", "d"], "{protocol}");
    }
    assert_one_sentence(
        &broker.run(&["consume", "--pattern", "orders(", "-G", "g"], b""),
        "invalid pattern for topics \"orders(\": unclosed group",
    );
    for wrong in [&["consume", "--pattern", "a"][..], &["consume", "orders", "--pattern", "a", "-G", "g"], &["consume"]]
    {
        assert_eq!(broker.run(wrong, b"").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn members_are_described_with_what_they_have_and_shall_have() {
    let broker = billing();
    let mut members: Vec<_> = [&["orders"][..], &["--pattern", "ord.*"]]
        .into_iter()
        .map(|topics| broker.spawn(&[&["consume", "-G", "shared"][..], topics].concat()))
        .collect();
    let (head, rows) = loop {
        let output = broker.run(&["groups", "describe", "shared"], b"");
        let printed = text(&output.stdout);
        let rows: Vec<_> = printed.lines().skip(2).map(|line| columns(line)[4..].join(" ")).collect();
        let are_settled = ["orders-0 orders-0", "orders-1 orders-1"]
            .iter()
            .all(|has| rows.iter().filter(|row| row.contains(has)).count() == 1);
        if printed.contains("Stable") && are_settled {
            break (printed.lines().nth(1).map(|line| columns(line).join(" ")).unwrap_or_default(), rows);
        }
    };
    assert_eq!(head, "member instance client host protocol epoch partitions target subscription");
    for subscription in [" orders", " /ord.*/"] {
        assert_eq!(rows.iter().filter(|row| row.ends_with(subscription)).count(), 1, "{rows:?}");
    }
    assert!(rows.iter().all(|row| row.starts_with("consumer ")), "{rows:?}");
    for member in &mut members {
        signal("INT", member);
        member.wait().unwrap();
    }
}
