"""Consumers that share a topic's partitions through the embedded broker."""

import logging
import threading
import time

import pykafka
import pytest
from pykafka import _engine
from pykafka.exceptions import ConsumerStoppedException, IllegalGeneration, KafkaException, UnknownTopicOrPartition
from pykafka.membershipprotocol import GroupMembershipProtocol
from sharing import BY_BROKERS, produce, values


def test_two_members_have_half_of_a_topic_each_and_one_has_all_when_the_other_leaves(start, rebalances, topic, take):
    first = start(auto_commit_enable=True)
    assert rebalances.until(first, 4) == ({}, dict.fromkeys(range(4), -2))
    read = [int(message.value) for message in take(first, 350)]
    second = start(auto_commit_enable=True)
    rebalances.until(first, 2)
    assert sorted([*first.partitions, *second.partitions]) == [0, 1, 2, 3]
    while set(read) != set(range(400)):
        read += [int(message.value) for consumer in (first, second) for message in consumer]
    # Finished messages are committed before a partition is given up, except for the one being processed just then.
    assert len(read) <= 401
    second.stop()
    old, new = rebalances.until(first, 4)
    assert len(old) == 2
    assert all(new[partition] == offset for partition, offset in old.items())
    produce(topic, range(400, 800))
    assert sorted(int(message.value) for message in take(first, 400)) == list(range(400, 800))
    assert first.consume() is None


def test_without_any_zookeeper_the_group_is_kafka_s_and_the_log_says_so(topic, group, caplog, take):
    caplog.set_level(logging.INFO, "pykafka.topic")
    consumer = topic.get_balanced_consumer(group, consumer_timeout_ms=1000, rebalance_max_retries=3, use_rdkafka=True)
    assert isinstance(consumer, pykafka.ManagedBalancedConsumer)
    assert f"no ZooKeeper is given: group '{group}' shares topic {topic.name!r} through Kafka" in caplog.text
    assert len(values(take(consumer, 400))) == 400
    consumer.stop()


def test_the_callback_says_where_to_go_on_and_nothing_is_handed_out_before(start, take):
    meanwhile = []

    def go_on_at_89(consumer, old, new):
        meanwhile.append(consumer.consume(block=False))
        return dict.fromkeys(new, 89)

    consumer = start(post_rebalance_callback=go_on_at_89)
    assert {message.offset for message in take(consumer, 40)} == set(range(90, 100))
    assert consumer.consume() is None
    assert meanwhile == [None]


def test_a_callback_that_waits_for_a_message_of_its_own_consumer_is_refused(start):
    with pytest.raises(KafkaException, match="post_rebalance_callback has returned"):
        start(post_rebalance_callback=lambda consumer, old, new: consumer.consume(), consumer_timeout_ms=-1)


def test_what_the_callback_raises_comes_out_of_start_and_later_out_of_consume(start):
    def fail(consumer, old, new):
        raise LookupError(sorted(new))

    with pytest.raises(LookupError, match=r"\[0, 1, 2, 3\]"):
        start(post_rebalance_callback=fail)
    consumer = start(post_rebalance_callback=None)
    consumer._post_rebalance_callback = fail
    start()
    with pytest.raises(LookupError):
        while True:
            consumer.consume()
    assert len(consumer.partitions) == 2


def kind(group, client):
    """Who assigns the group's partitions: "classic" a member, "consumer" the brokers."""
    return next(listed[3] for listed in _engine.list_groups(client.cluster._engine) if listed[0] == group)


def test_by_the_consumer_protocol_the_brokers_share_out_and_members_read_on(rebalances, topic, group, client, take):
    settings = {"managed": True, "group_protocol": "consumer", "consumer_timeout_ms": 1000, "auto_commit_enable": True}
    of_second = type(rebalances)()
    first = topic.get_balanced_consumer(group, post_rebalance_callback=rebalances.note, **settings)
    assert rebalances.until(first, 4) == ({}, dict.fromkeys(range(4), -2))
    assert kind(group, client) == "consumer"
    read = [int(message.value) for message in take(first, 350)]
    with topic.get_balanced_consumer(group, post_rebalance_callback=of_second.note, **settings) as second:
        old, new = rebalances.until(first, 2)
        of_second.until(second, 2)
        assert len(old) == 4
        assert {id_: old[id_] for id_ in new} == new, "it keeps its positions"
        assert second.partitions.keys() | new.keys() == {0, 1, 2, 3}
        while set(read) != set(range(400)):
            read += [int(message.value) for consumer in (second, first) for message in consumer]
    # The message that was being processed when its partition was given up comes again.
    assert len(read) <= 401
    rebalances.until(first, 4)
    first.stop()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "consumer"),
        ({"max_poll_interval_ms": 60_000, "group_instance_id": "one"}, "consumer"),
        ({"membership_protocol": pykafka.RoundRobinProtocol}, "classic"),
        ({"membership_protocol": "cooperative-sticky"}, "classic"),
        ({"membership_protocol": pykafka.RangeProtocol._replace(protocol_name=b"mine")}, "classic"),
        ({"session_timeout_ms": 20_000}, "classic"),
        ({"heartbeat_interval_ms": 100}, "classic"),
    ],
)
def test_with_auto_the_brokers_assign_unless_an_argument_needs_the_classic_protocol(
    topic, group, client, settings, expected
):
    with topic.get_balanced_consumer(group, managed=True, group_protocol="auto", **settings) as consumer:
        assert len(consumer.partitions) == 4
        assert kind(group, client) == expected


def test_members_of_both_protocols_read_a_group_one_after_the_other(topic, group, client, take):
    settings = {"managed": True, "consumer_timeout_ms": 1000, "auto_commit_enable": True}
    for count, protocol in enumerate(("consumer", "classic", "auto"), 1):
        with topic.get_balanced_consumer(group, group_protocol=protocol, **settings) as consumer:
            take(consumer, 100)
            consumer.commit_offsets()
        answers = topic.get_simple_consumer(group, auto_start=False).fetch_offsets()
        assert sum(max(answer.offset, 0) for _, answer in answers) == 100 * count


def test_a_member_leaves_when_its_consumer_is_dropped(start, rebalances, topic, group):
    stays = start()
    left = topic.get_balanced_consumer(group, managed=True)
    rebalances.until(stays, 2)
    del left
    rebalances.until(stays, 4)


def test_a_rule_of_the_program_decides_for_all_members(start, rebalances):
    def all_to_the_last(participants, partitions, consumer_id):
        return set(partitions.values()) if consumer_id == sorted(participants)[-1] else set()

    rule = GroupMembershipProtocol(b"consumer", b"last", None, all_to_the_last)
    one = start(membership_protocol=rule)
    assert len(one.partitions) == 4
    other = start(membership_protocol=rule)
    _, new = rebalances.until(one, 0) if other.partitions else rebalances.until(one, 4)
    assert len(new) + len(other.partitions) == 4


def test_the_error_of_a_failing_rule_is_raised_with_its_reason(start):
    def fail(participants, partitions, consumer_id):
        raise LookupError("no idea")

    rule = GroupMembershipProtocol(b"consumer", b"none", None, fail)
    with pytest.raises(ValueError, match="membership protocol .none. assigned nothing: LookupError: no idea"):
        start(membership_protocol=rule)


@pytest.mark.parametrize(
    "settings",
    [
        {"session_timeout_ms": 6000, "heartbeat_interval_ms": 100},
        {"session_timeout_ms": 4000, "group_protocol": "consumer"},
    ],
    ids=["classic", "consumer"],
)
def test_a_lost_membership_is_told_once_and_then_read_on(own_broker, take, settings):
    own_broker.create_topic("letters", partitions=2)
    topic = pykafka.KafkaClient(own_broker.bootstrap_servers).topics["letters"]
    with topic.get_sync_producer() as producer:
        for number in range(10):
            producer.produce(b"%d" % number)
    consumer = topic.get_balanced_consumer("readers", managed=True, consumer_timeout_ms=200, **settings)
    take(consumer, 1)
    own_broker.set_broker_down(1)
    with pytest.raises(IllegalGeneration, match="readers"):
        while True:
            consumer.consume()
    while consumer.partitions:
        time.sleep(0.01)
    with pytest.raises(IllegalGeneration, match=r"'readers'.*not committed were partitions .*cut off"):
        consumer.commit_offsets()
    with pytest.raises(IllegalGeneration, match=r"partitions \[0\]"):
        consumer.commit_offsets([(topic.partitions[0], 1)])
    own_broker.set_broker_up(1)
    read = set()
    while len(read) < 10:
        read |= values(consumer)
    consumer.stop()


def test_a_member_stops_although_its_broker_is_gone(own_broker):
    own_broker.create_topic("letters")
    topic = pykafka.KafkaClient(own_broker.bootstrap_servers).topics["letters"]
    consumer = topic.get_balanced_consumer("readers", managed=True)
    own_broker.set_broker_down(1)
    consumer.stop()
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()


def test_a_callback_that_runs_when_the_program_ends_is_waited_for(run_python, topic, group, bootstrap):
    program = """
        import sys, threading, time, pykafka
        hosts, topic, group = sys.argv[1:]
        topic = pykafka.KafkaClient(hosts).topics[topic]
        is_called = threading.Event()
        def slow(consumer, old, new):
            if old:
                is_called.set()
                time.sleep(0.5)
                print("returned", flush=True)
        settings = dict(managed=True, heartbeat_interval_ms=50)
        first = topic.get_balanced_consumer(group, post_rebalance_callback=slow, **settings)
        second = topic.get_balanced_consumer(group, **settings)
        is_called.wait(100)
    """
    result = run_python(program, bootstrap, topic.name.decode(), group)
    assert (result.returncode, result.stdout, result.stderr) == (0, "returned\n", "")


def test_a_member_that_a_daemon_thread_reads_leaves_when_the_program_ends(run_python, client, topic, group, bootstrap):
    program = """
        import sys, threading, pykafka
        hosts, topic, group = sys.argv[1:]
        consumer = pykafka.KafkaClient(hosts).topics[topic].get_balanced_consumer(group, managed=True)
        is_reading = threading.Event()
        def read():
            for message in consumer:
                is_reading.set()
        threading.Thread(target=read, daemon=True).start()
        is_reading.wait(100)
    """
    result = run_python(program, bootstrap, topic.name.decode(), group)
    assert (result.returncode, result.stderr) == (0, "")
    (described,) = client.cluster.get_group_coordinator(group).describe_groups([group]).groups.values()
    assert (described.state, described.members) == (b"Empty", {})


def test_a_protocol_type_that_would_not_be_sent_is_refused(topic, group):
    rule = pykafka.RangeProtocol._replace(protocol_type=b"mine", protocol_name=b"mine")
    with pytest.raises(ValueError, match="protocol_type of membership_protocol must be b'consumer', not b'mine'"):
        topic.get_balanced_consumer(group, managed=True, membership_protocol=rule, auto_start=False)


def test_an_error_changes_no_names_of_settings_of_the_broker(topic, group):
    consumer = topic.get_balanced_consumer(group, managed=True, auto_start=False, session_timeout_ms=10**8)
    limits = r"\(group\.min\.session\.timeout\.ms and group\.max\.session\.timeout\.ms\)"
    with pytest.raises(KafkaException, match=f"set session_timeout_ms to what the broker allows {limits}"):
        consumer.start()


def test_invalid_arguments_raise_at_once(topic, group):
    def create(**kwargs):
        topic.get_balanced_consumer(group, managed=True, auto_start=False, **kwargs)

    create(use_rdkafka=True)
    with pytest.raises(ValueError, match="heartbeat.interval.ms"):
        create(heartbeat_interval_ms=30_000)
    with pytest.raises(ValueError, match="session.timeout.ms"):
        create(session_timeout_ms=0)
    with pytest.raises(ValueError, match="group_protocol must be auto, classic or consumer, not cooperative"):
        create(group_protocol="cooperative")
    mine = pykafka.RangeProtocol._replace(protocol_name=b"mine")
    for protocol, name in ((mine, "mine"), (pykafka.RoundRobinProtocol, "roundrobin"), ("sticky", "sticky")):
        with pytest.raises(ValueError, match=f"cannot ask the membership protocol '{name}': leave"):
            create(group_protocol="consumer", membership_protocol=protocol)
    consumer = topic.get_balanced_consumer(group, managed=True, auto_start=False, membership_protocol="alphabetical")
    with pytest.raises(ValueError, match="alphabetical"):
        consumer.start()


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_a_member_of_a_group_whose_topic_was_deleted_says_so_when_it_starts(own_broker, group_protocol):
    own_broker.create_topic("letters", partitions=2)
    client = pykafka.KafkaClient(own_broker.bootstrap_servers, broker_version="2.0.0")
    topic = client.topics["letters"]
    assert len(topic.partitions) == 2
    client.cluster.controller_broker.delete_topics([b"letters"], 5000)
    with pytest.raises(UnknownTopicOrPartition, match="topic 'letters' does not exist"):
        topic.get_balanced_consumer("readers", managed=True, group_protocol=group_protocol)


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_a_member_is_assigned_partitions_that_its_client_has_not_heard_of(
    start, monkeypatch, take, offsets, group_protocol
):
    partitions = pykafka.Topic.partitions.fget
    lagging = property(lambda topic: {number: partitions(topic)[number] for number in (0, 1)})
    settings = {} if group_protocol == "classic" else BY_BROKERS
    with monkeypatch.context() as lag:
        lag.setattr(pykafka.Topic, "partitions", lagging)
        consumer = start(**settings, auto_commit_enable=True)
        assert set(consumer.partitions) == {0, 1, 2, 3}
        messages = take(consumer, 400)
        assert {(message.partition_id, message.partition.id) for message in messages} == {(n, n) for n in range(4)}
        consumer.stop()
    assert offsets() == dict.fromkeys(range(4), 100)


def test_closing_the_client_stops_its_members_and_commits(bootstrap, topic, group, take, offsets):
    with pykafka.KafkaClient(bootstrap) as client:
        consumer = client.topics[topic.name].get_balanced_consumer(group, managed=True, auto_commit_enable=True)
        take(consumer, 10)
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()
    assert sum(max(offset, 0) for offset in offsets().values()) == 10


def test_start_raises_why_the_group_does_not_decide(own_broker, monkeypatch):
    own_broker.create_topic("letters")
    client = pykafka.KafkaClient(own_broker.bootstrap_servers, offsets_channel_socket_timeout_ms=1000)
    topic = client.topics["letters"]
    monkeypatch.setattr("pykafka.managedbalancedconsumer._PATIENCE", 0.5)
    own_broker.set_broker_down(1)
    with pytest.raises(KafkaException, match="readers"):
        topic.get_balanced_consumer("readers", managed=True)


def test_start_raises_if_other_members_hold_the_group_up(start, topic, group, monkeypatch):
    is_asked, go_on = threading.Event(), threading.Event()

    def never(participants, partitions, consumer_id):
        is_asked.set()
        go_on.wait(60)
        return set()

    rule = GroupMembershipProtocol(b"consumer", b"slow", None, never)
    monkeypatch.setattr("pykafka.managedbalancedconsumer._PATIENCE", 0.5)
    try:
        with pytest.raises(KafkaException, match="has not assigned"):
            start(membership_protocol=rule)
        assert is_asked.is_set()
    finally:
        go_on.set()
