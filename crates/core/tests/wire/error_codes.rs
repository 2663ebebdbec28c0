//! Our error codes, compared with how Kafka's Java client treats each; `golden.sh` extracted that.

use kavka_core::wire::ErrorCode;

/// Code, name, and `fail`, `retry` or `refresh`.
fn kafkas() -> Vec<(i16, &'static str, &'static str)> {
    let lines = include_str!("error_codes.txt").lines().filter(|line| !line.starts_with('#'));
    let split = |line: &'static str| match line.split(' ').collect::<Vec<_>>()[..] {
        [code, name, then] => (code.parse().unwrap(), name, then),
        _ => panic!("not three words: {line}"),
    };
    lines.map(split).collect()
}

#[test]
fn every_code_of_kafka_has_its_name_and_there_is_no_other() {
    let ours: Vec<_> = ErrorCode::ALL.iter().map(|code| (code.0, code.name().unwrap())).collect();
    let theirs: Vec<_> = kafkas().into_iter().map(|(code, name, _)| (code, name)).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_code_is_retried_and_refreshes_the_metadata_where_the_java_client_does_so() {
    for (code, name, then) in kafkas() {
        let code = ErrorCode(code);
        let ours = match (code.refreshes_metadata(), code.is_retriable()) {
            (true, _) => "refresh",
            (false, true) => "retry",
            (false, false) => "fail",
        };
        assert_eq!(ours, then, "{name}");
    }
}

#[test]
fn a_batch_that_is_sent_again_under_other_numbers_or_in_pieces_was_not_appended() {
    for code in ErrorCode::ALL.iter().filter(|code| code.breaks_sequence() || code.is_about_records()) {
        assert!(code.appends_nothing() && !code.is_retriable(), "{code}");
    }
}

#[test]
fn an_unknown_code_belongs_to_no_class() {
    let unknown = ErrorCode(i16::MAX);
    assert!(!unknown.is_retriable() && !unknown.appends_nothing() && !unknown.denies_membership());
}
