"""The checker of `tests/chaos` sees each violation in a history that has it, and none in one that has not."""

import json
import random
import zlib

import pytest
from chaos.consumers import Group
from chaos.faults import BROKERS, KINDS, MIX, TOPIC, choose, mix
from chaos.logs import read_dump
from chaos.producers import Producer, ProducerCheck, murmur2
from chaos.run import MEMORY, check_memory
from chaos.verdict import Pauses, Verdict

RECORD = "| offset: {0} CreateTime: 1764296000000 keySize: -1 valueSize: 3 sequence: 0 headerKeys: [] payload: {1}\n"


def dump(*partitions, record=RECORD):
    """The output of DumpLogSegments for partitions with these values."""
    for partition, values in enumerate(partitions):
        yield f"Dumping /data/t-{partition}/00000000000000000000.log\n".encode()
        yield b"Log starting offset: 0\n"
        yield b"baseOffset: 0 lastOffset: 1 count: 2 isvalid: true\n"
        for offset, value in enumerate(values):
            yield record.format(offset, value).encode()


def success(number, partition, offset, prefix=1, **others):
    event = {"timestamp": 1000 + number, "name": "producer_send_success", "key": None, "value": f"{prefix}.{number}"}
    return event | {"topic": "t", "partition": partition, "offset": offset, "age_ms": 5} | others


def error(number, outcome, partition=0, accepted=0, age=5):
    event = {"timestamp": 1000 + number, "name": "producer_send_error", "key": None, "value": f"1.{number}"}
    event |= {"topic": "t", "partition": partition, "age_ms": age, "accepted": accepted}
    return event | {"exception": "X", "message": "", "outcome": outcome}


def lines(*events):
    return [json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events]


def end(sent):
    return {"timestamp": 2000, "name": "tool_data", "sent": sent, "acked": sent}


GOOD = [
    success(0, 0, 0),
    success(1, 1, 0),
    success(2, 0, 1),
    error(3, "not_written"),
    error(4, "maybe_written"),
    end(5),
]
LOG = (["1.0", "1.2", "1.4"], ["1.1"])


def check_producer(events, *partitions, keys=0, record=RECORD, counts=()):
    verdict = Verdict()
    logs = read_dump(dump(*partitions, record=record), keys)
    producer = Producer(lines(*events), 1, "t", verdict, Pauses())
    ProducerCheck({1: producer}, [logs], verdict, keys, counts).run()
    return verdict


def test_a_true_history_of_a_producer_has_no_violation():
    verdict = check_producer(GOOD, *LOG)
    assert verdict.violations == {}
    figures = verdict.figures
    assert (figures["messages"], figures["delivered"]) == (5, 3)
    assert (figures["not_written"], figures["maybe_written"], figures["maybe written and stored"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "events", "log"),
    [
        ("lost", GOOD, (["1.0", "1.4"], ["1.1"])),
        ("misplaced", GOOD, (["1.0", "1.4", "1.2"], ["1.1"])),
        ("duplicated", GOOD, (["1.0", "1.2", "1.4", "1.4"], ["1.1"])),
        ("duplicated", GOOD, (["1.0", "1.2", "1.4"], ["1.1", "1.4"])),
        ("reordered", [*GOOD[:3], error(3, "maybe_written"), *GOOD[4:]], (["1.0", "1.2", "1.4", "1.3"], ["1.1"])),
        ("written after all", GOOD, (["1.0", "1.2", "1.3", "1.4"], ["1.1"])),
        ("no report", [*GOOD[:4], end(5)], LOG),
        ("two reports", [GOOD[0], *GOOD], LOG),
        ("two reports", [*GOOD[:5], error(0, "not_written"), end(5)], LOG),
        ("reports out of order", [GOOD[2], GOOD[0], GOOD[1], *GOOD[3:]], LOG),
        ("foreign", [success(0, 0, 0, topic="u"), *GOOD[1:]], LOG),
        ("foreign", GOOD, (["1.0", "1.2", "1.4", "2.0"], ["1.1"])),
        ("foreign", GOOD, (["1.0", "1.2", "1.4", "rubbish"], ["1.1"])),
        ("foreign", GOOD, (["1.0", "1.2", "1.4", "1.5"], ["1.1"])),
        ("hole", [*GOOD[:3], error(3, "not_written", accepted=5), *GOOD[4:]], LOG),
        ("late report", [*GOOD[:2], success(2, 0, 1, age_ms=123_001), *GOOD[3:]], LOG),
        ("late report", [*GOOD[:3], error(3, "not_written", age=123_001), *GOOD[4:]], LOG),
        ("report after the end", [*GOOD[:4], {"timestamp": 1, "name": "shutdown_complete"}, *GOOD[4:]], LOG),
    ],
)
def test_a_producer_that_breaks_a_promise_is_seen(kind, events, log):
    assert kind in check_producer(events, *log).violations


def test_what_is_accepted_behind_a_failure_may_be_stored_and_what_may_be_stored_is_no_hole():
    later = [*GOOD[:3], error(3, "not_written", accepted=4), *GOOD[4:]]
    stored = [*GOOD[:3], error(3, "maybe_written", accepted=5), *GOOD[4:]]
    assert check_producer(later, *LOG).violations == {}
    assert check_producer(stored, ["1.0", "1.2", "1.3", "1.4"], ["1.1"]).violations == {}


def test_a_record_with_another_key_is_altered():
    record = RECORD.replace("payload", "key: 1 payload")
    assert check_producer([success(0, 0, 0), end(1)], ["1.0"], keys=2, record=record).violations == {"altered": 1}
    assert check_producer([success(1, 0, 0, prefix=1), end(2)], ["1.1"], keys=2, record=record).violations == {
        "no report": 1
    }


def test_a_key_in_the_wrong_partition_is_seen_unless_the_number_of_partitions_has_changed():
    record = RECORD.replace("payload", "key: 0 payload")
    right = (murmur2(b"0") & 0x7FFFFFFF) % 2
    events = [success(0, 1 - right, 0), end(1)]
    logs = [[], []]
    logs[1 - right] = ["1.0"]
    assert "key in another partition" in check_producer(events, *logs, keys=1, record=record, counts=[2]).violations
    counts = [2, next(n for n in range(1, 99) if (murmur2(b"0") & 0x7FFFFFFF) % n == 1 - right)]
    assert check_producer(events, *logs, keys=1, record=record, counts=counts).violations == {}


def test_the_hash_of_a_key_is_that_of_java():
    # From org.apache.kafka.common.utils.UtilsTest.
    assert [murmur2(key) for key in (b"21", b"foobar")] == [-973932308 & 0xFFFFFFFF, -790332482 & 0xFFFFFFFF]
    assert murmur2(b"a-little-bit-long-string") == -985981536 & 0xFFFFFFFF


def test_a_batch_with_a_wrong_checksum_is_seen():
    broken = [line.replace(b"isvalid: true", b"isvalid: false") for line in dump(["1.0"])]
    verdict = Verdict()
    ProducerCheck({1: Producer(lines(success(0, 0, 0)), 1, "t", verdict, Pauses())}, [read_dump(broken)], verdict).run()
    assert "foreign" in verdict.violations


def crc(first, values):
    return zlib.crc32(b"".join(b"%d  %s\n" % (offset, value.encode()) for offset, value in enumerate(values, first)))


VALUES = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]


def consumed(time, first, last, **others):
    place = {"topic": "t", "partition": 0, "count": last - first + 1, "minOffset": first, "maxOffset": last}
    place |= {"crc32": crc(first, VALUES[first : last + 1])} | others
    return {"timestamp": time, "name": "records_consumed", "count": place["count"], "partitions": [place]}


def committed(time, offset, success=True):
    place = {"topic": "t", "partition": 0, "offset": offset}
    return {"timestamp": time, "name": "offsets_committed", "offsets": [place], "success": success}


def assigned(time):
    return {"timestamp": time, "name": "partitions_assigned", "partitions": [{"topic": "t", "partition": 0}]}


def revoked(time, **others):
    return {"timestamp": time, "name": "partitions_revoked", "partitions": [{"topic": "t", "partition": 0}]} | others


def reset(time, start, to):
    return {"timestamp": time, "name": "offsets_reset", "topic": "t", "partition": 0, "from": start, "to": to}


FIRST = [assigned(1), consumed(2, 0, 1), committed(3, 2), consumed(4, 2, 2), committed(5, 3), revoked(6)]
SECOND = [assigned(6), consumed(7, 3, 5), committed(8, 6), revoked(9)]


def created_again(time):
    return {"timestamp": time, "name": "topic_created_again", "topic": "t", "partition": 0, "message": "anew"}


def check_group(*members, logs=(VALUES,)):
    verdict = Verdict()
    group = Group([read_dump(dump(values)) for values in logs], verdict, Pauses())
    for number, events in enumerate(members):
        group.add(f"member-{number}", lines(*events))
    group.finish()
    return verdict, group


def test_a_true_history_of_a_group_has_no_violation():
    verdict, group = check_group(FIRST, SECOND)
    assert verdict.violations == {}
    assert (verdict.figures["read"], verdict.figures["read again"], verdict.figures["commits"]) == (6, 0, 3)
    assert len(group.changes) == 4


def test_what_a_killed_member_did_not_commit_may_be_read_again():
    verdict, _ = check_group([*FIRST[:4]], [assigned(9), consumed(10, 2, 5), committed(11, 6)])
    assert verdict.violations == {}
    assert verdict.figures["read again"] == 1


def test_a_member_that_learns_late_that_it_lost_its_partitions_breaks_no_promise():
    verdict, _ = check_group([*FIRST[:5], committed(8, 3, success=False), revoked(9, lost=True)], SECOND)
    assert verdict.violations == {}


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("skipped", [assigned(1), consumed(2, 0, 0), consumed(3, 2, 2), revoked(6)], SECOND),
        ("skipped", [assigned(1), consumed(2, 0, 2, count=2), revoked(6)], SECOND),
        ("delivered twice", [*FIRST[:4], consumed(5, 2, 2), revoked(6)], SECOND),
        ("read altered", [assigned(1), consumed(2, 0, 2, crc32=1), revoked(6)], SECOND),
        ("read altered", FIRST, [*SECOND[:3], consumed(8, 6, 6)]),
        ("committed unread", [*FIRST[:4], committed(5, 4), revoked(6)], SECOND),
        ("commit went back", [*FIRST[:5], committed(5, 2), revoked(6)], SECOND),
        ("commit went back", FIRST, [assigned(6), consumed(7, 2, 5)]),
        ("moved without reason", [*FIRST[:5], reset(5, 3, 0), revoked(6)], SECOND),
        ("unread", FIRST, SECOND[:1]),
        ("unread", FIRST, [assigned(6), consumed(7, 4, 5)]),
        ("two owners", FIRST, [assigned(5), *SECOND[1:]]),
        ("two owners", [*FIRST[:4], consumed(8, 3, 3), revoked(9, lost=True)], SECOND),
        ("delivered without owning", [*FIRST, consumed(7, 3, 3)], SECOND),
        ("committed without owning", [*FIRST, committed(7, 3)], SECOND),
        ("committed after the next owner began", [*FIRST[:4], committed(8, 3), revoked(8)], SECOND),
        ("told twice", [assigned(1), *FIRST], SECOND),
        ("told twice", [*FIRST, revoked(6)], SECOND),
    ],
)
def test_a_group_that_breaks_a_promise_is_seen(kind, first, second):
    verdict, _ = check_group(first, second)
    assert kind in verdict.violations


NEW_VALUES = ["2.0", "2.1", "2.2", "2.3"]
NEW = {"crc32": crc(0, NEW_VALUES[:2])}
AGAIN = [assigned(1), consumed(2, 0, 1), committed(3, 2), created_again(4), consumed(5, 0, 1, **NEW), committed(6, 2)]
REST = consumed(7, 2, 3, crc32=crc(2, NEW_VALUES[2:]))


def test_a_topic_that_was_created_again_is_read_from_its_beginning_and_the_old_one_need_not_be_read():
    verdict, _ = check_group([*AGAIN, REST], logs=(VALUES, NEW_VALUES))
    assert verdict.violations == {}
    assert (verdict.figures["deleted unread"], verdict.figures["told of a new topic"]) == (4, 1)
    verdict, _ = check_group([*AGAIN[:3], revoked(4)], [assigned(5), AGAIN[4], REST], logs=(VALUES, NEW_VALUES))
    assert verdict.violations == {}, "the committed offsets of a topic are deleted with it"


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        ("unread", AGAIN),
        ("read on in a new topic", [*AGAIN[:3], REST]),
        ("read on in a new topic", [*AGAIN, consumed(7, 2, 3)]),
        ("read altered", [*AGAIN, consumed(7, 2, 3, crc32=1)]),
        ("skipped", [*AGAIN[:5], consumed(6, 3, 3, crc32=crc(3, NEW_VALUES[3:]))]),
        ("committed unread", [*AGAIN[:4], committed(5, 2)]),
        ("commit went back", [*AGAIN, committed(7, 1)]),
    ],
)
def test_what_is_wrong_about_a_topic_that_was_created_again_is_seen(kind, events):
    verdict, _ = check_group(events, logs=(VALUES, NEW_VALUES))
    assert kind in verdict.violations


def test_a_record_of_a_deleted_topic_that_shows_up_in_the_new_one_is_seen():
    verdict = Verdict()
    logs = [read_dump(dump(["1.0"])), read_dump(dump(["1.1", "1.0"]))]
    producer = Producer(lines(success(0, 0, 0), success(1, 0, 0), end(2)), 1, "t", verdict, Pauses())
    ProducerCheck({1: producer}, logs, verdict).run()
    assert "duplicated" in verdict.violations


def test_a_group_at_rest_that_has_not_shared_all_partitions_evenly_is_seen():
    def settled(given, members, partitions):
        events = {"timestamp": 1, "name": "partitions_assigned", "partitions": [{"partition": n} for n in given]}
        verdict, group = check_group([events, consumed(20_000, 0, 5)])
        group.settled(10_000, members, partitions)
        return verdict

    assert settled([0, 1], ["member-0"], 2).violations == {}
    assert settled([0, 1], ["member-0"], 3).violations == {"unowned": 1}
    assert settled([0, 1], ["member-0", "member-1"], 2).violations == {"unbalanced": 1}


def test_a_group_that_has_just_changed_is_not_at_rest():
    verdict, group = check_group(FIRST, SECOND)
    group.settled(5000, ["member-0"], 1)
    assert (verdict.violations, verdict.figures["settled"]) == ({}, 0)
    group.settled(5010, ["member-0"], 1)
    assert verdict.violations == {"unowned": 1}


def test_a_frozen_member_that_is_told_of_a_revocation_in_place_of_a_loss_is_seen():
    verdict, group = check_group([*FIRST[:5], revoked(9, lost=True)], SECOND)
    group.sessions_ended([("member-0", 6)])
    assert verdict.violations == {}
    verdict, group = check_group([*FIRST[:5], revoked(9)])
    verdict.violations.clear()
    group.sessions_ended([("member-0", 6)])
    assert verdict.violations == {"revoked in place of lost": 1}


def test_a_program_that_uses_more_memory_than_its_bound_is_seen():
    verdict = Verdict()
    check_memory({"producer-1": MEMORY["producer"], "consumer-1": MEMORY["consumer"]}, verdict)
    assert verdict.violations == {}
    check_memory({"producer-1": MEMORY["producer"] + 1, "consumer-1": MEMORY["consumer"] + 1}, verdict)
    assert verdict.violations == {"too much memory": 2}


def test_a_whole_name_means_one_kind_and_a_part_all_that_have_it():
    assert choose("answers lost", netns=True) == ["answers lost"]
    assert choose("kill", netns=False) == ["kill a leader", "kill the coordinator", "kill any broker", "kill a member"]
    assert choose("", netns=False) == [*(name for name, kind in KINDS.items() if not kind.needs_netns), MIX]
    with pytest.raises(ValueError, match="NETNS=1"):
        choose("answers lost", netns=False)


def test_a_mix_is_decided_by_the_seed_and_breaks_brokers_or_the_topic_but_not_both():
    mixes = [mix(random.Random(seed), netns=True) for seed in range(500)]
    assert mixes == [mix(random.Random(seed), netns=True) for seed in range(500)]
    for names in mixes:
        broken = [KINDS[name].breaks for name in names]
        assert 2 <= len(names) == len(set(names)) <= 4
        assert sum(what in (BROKERS, TOPIC) for what in broken) == 1
    assert {name for names in mixes for name in names} == {name for name, kind in KINDS.items() if kind.is_mixed}
    assert not any(KINDS[name].needs_netns for seed in range(500) for name in mix(random.Random(seed), netns=False))


def test_a_rebalance_where_none_may_be_is_seen():
    verdict, group = check_group(FIRST, SECOND)
    group.rebalances(since=7, until=8)
    assert verdict.violations == {}
    group.rebalances(since=6, until=8)
    assert verdict.violations == {"rebalanced": 2}


def test_the_longest_pause_is_found_over_all_programs():
    pauses = Pauses()
    for time in (5000, 5100, 9000, 4000, 7000):
        pauses.mark(time)
    assert pauses.longest() == 2.0
