//! What differs between the versions of Kafka, one rule per test: on the embedded broker as each version and, ignored
//! unless asked for, on that version of Kafka.

mod records;
mod requests;
mod served;

use records::*;
use requests::*;

/// Makes a test of each rule for each version that it holds for.
macro_rules! rules {
    ($($version:ident $module:ident $release:literal: $($rule:ident),+;)+) => {
        mod embedded {
            $(mod $module {
                $(#[test] fn $rule() {
                    let version = kavka_broker::KafkaVersion::$version;
                    super::super::$rule(&crate::versions::served::embedded(version));
                })+
            })+
        }
        mod kafka {
            $(mod $module {
                static KAFKA: crate::versions::served::Shared =
                    crate::versions::served::Shared::new($release, [$(stringify!($rule)),+].len());
                $(
                    #[test]
                    #[ignore = "`make kafka-test` runs it"]
                    fn $rule() {
                        KAFKA.lend(kavka_broker::KafkaVersion::$version, super::super::$rule);
                    }
                )+
            })+
        }
    };
}

rules! {
    V0_8_2 v0_8_2 "0.8.2.2":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_record_batch_is_corrupt,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        an_unknown_request_closes_the_connection;
    V0_9 v0_9 "0.9.0.1":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_record_batch_is_corrupt,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        an_unknown_request_gets_no_answer_and_the_next_one_does,
        sessions_of_members_are_limited;
    V0_10_0 v0_10_0 "0.10.0.1":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_record_batch_is_corrupt,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        messages_of_magic_0_get_no_times_when_they_become_magic_1,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V0_10_2 v0_10_2 "0.10.2.2":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_record_batch_is_corrupt,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        messages_of_magic_0_get_no_times_when_they_become_magic_1,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit;
    V0_11 v0_11 "0.11.0.3":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit,
        old_messages_become_a_batch,
        an_old_consumer_gets_messages_with_the_same_offsets,
        an_old_consumer_gets_no_headers,
        messages_in_a_new_request_are_refused,
        zstd_needs_a_version_that_has_it,
        an_unknown_producer_begins_where_the_version_lets_it,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V1_1 v1_1 "1.1.1":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit,
        old_messages_become_a_batch,
        an_old_consumer_gets_messages_with_the_same_offsets,
        an_old_consumer_gets_no_headers,
        messages_in_a_new_request_are_refused,
        zstd_needs_a_version_that_has_it,
        an_unknown_producer_begins_where_the_version_lets_it,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V2_1 v2_1 "2.1.1":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit,
        old_messages_become_a_batch,
        an_old_consumer_gets_messages_with_the_same_offsets,
        an_old_consumer_gets_no_headers,
        messages_in_a_new_request_are_refused,
        zstd_needs_a_version_that_has_it,
        an_unknown_producer_begins_where_the_version_lets_it,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V2_8 v2_8 "2.8.2":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit,
        old_messages_become_a_batch,
        an_old_consumer_gets_messages_with_the_same_offsets,
        an_old_consumer_gets_no_headers,
        messages_in_a_new_request_are_refused,
        zstd_needs_a_version_that_has_it,
        an_unknown_producer_begins_where_the_version_lets_it,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V3_9 v3_9 "3.9.2":
        plain_messages_keep_their_place,
        compressed_messages_of_magic_0_have_absolute_offsets,
        compressed_messages_in_one_request_become_one,
        a_message_with_a_wrong_crc_is_corrupt,
        a_last_message_that_is_cut_off_is_left_out,
        an_old_fetch_cuts_off_what_does_not_fit,
        times_find_the_beginnings_of_segments,
        a_member_of_no_group_cannot_commit,
        offsets_are_committed_with_any_generation_before_there_are_groups,
        messages_of_magic_1_keep_their_times,
        a_newer_fetch_returns_the_first_batch_whatever_the_limit,
        old_messages_become_a_batch,
        an_old_consumer_gets_messages_with_the_same_offsets,
        an_old_consumer_gets_no_headers,
        messages_in_a_new_request_are_refused,
        zstd_needs_a_version_that_has_it,
        an_unknown_producer_begins_where_the_version_lets_it,
        it_advertises_what_kafka_does,
        a_newer_api_versions_is_refused_in_version_0,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
    V4_4 v4_4 "4.4.0":
        a_member_of_no_group_cannot_commit,
        it_advertises_what_kafka_does,
        an_unknown_request_closes_the_connection,
        sessions_of_members_are_limited;
}
