"""The methods of `Broker`: one request to one broker, and a result with the attributes of pykafka 2."""

import copy
import os
import signal
import threading
import time
from unittest.mock import ANY

import pytest
from pykafka import KafkaClient
from pykafka.common import OffsetType
from pykafka.exceptions import KafkaException, ProtocolClientError, SocketDisconnectedError
from pykafka.membershipprotocol import RangeProtocol, RoundRobinProtocol
from pykafka.protocol import (
    ConsumerGroupProtocolMetadata,
    CreateTopicRequest,
    MemberAssignment,
    PartitionOffsetCommitRequest,
    PartitionOffsetFetchRequest,
    PartitionOffsetRequest,
)


@pytest.fixture
def broker(client):
    return client.brokers[1]


def test_a_broker_says_where_it_is_and_that_it_answers(broker, bootstrap):
    assert broker.id == 1
    assert isinstance(broker.host, bytes)
    assert f"{broker.host.decode()}:{broker.port}" in bootstrap
    broker.connect()
    broker.connect_offsets_channel(attempts=1)
    assert broker.connected
    assert broker.offsets_channel_connected


def test_a_broker_that_is_down_is_not_connected(shared_broker):
    from pykafka import testing

    with testing.Broker(brokers=2) as cluster:
        broker = KafkaClient(cluster.bootstrap_servers).brokers[2]
        broker.connect()
        cluster.set_broker_down(2)
        with pytest.raises(SocketDisconnectedError, match="broker 2"):
            broker.connect()
        assert not broker.connected


def test_the_versions_of_each_api_are_told(broker, client):
    versions = broker.fetch_api_versions().api_versions
    assert versions[3].key == 3
    assert versions[3].min <= 1 <= versions[3].max
    assert client.cluster.fetch_api_versions() == versions


def test_metadata_has_brokers_and_topics(broker, topic):
    metadata = broker.request_metadata([topic.name])
    assert metadata.brokers[1] == (1, broker.host, broker.port)
    assert metadata.controller_id == 1
    assert list(metadata.topics) == [topic.name]
    described = metadata.topics[topic.name]
    assert (described.name, described.err, described.is_internal) == (topic.name, 0, False)
    partition = described.partitions[2]
    assert (partition.id, partition.err) == (2, 0)
    assert partition.leader in partition.isr
    assert sorted(partition.replicas) == [1, 2, 3]
    assert topic.name in broker.request_metadata().topics


def test_metadata_can_be_unpacked_as_in_2_8_and_says_more_by_name(broker, topic):
    metadata = broker.request_metadata([topic.name])
    id_, host, port = metadata.brokers[1]
    assert (id_, host, port, metadata.brokers[1].rack) == (1, broker.host, broker.port, None)
    name, partitions, err = metadata.topics[topic.name]
    assert (name, err, metadata.topics[topic.name].is_internal) == (topic.name, 0, False)
    number, leader, replicas, isr, err = partitions[0]
    assert (number, err, partitions[0].offline_replicas) == (0, 0, [])
    assert leader in isr
    assert sorted(replicas) == [1, 2, 3]
    again = copy.copy(partitions[0])
    assert (again, again.offline_replicas) == (partitions[0], [])


def test_offset_limits_are_those_of_the_partitions_that_the_broker_leads(client, lone_topic):
    with lone_topic.get_sync_producer() as producer:
        for _ in range(3):
            producer.produce(b"x")
    leader = lone_topic.partitions[0].leader
    name = lone_topic.name

    def limit(broker, when, most=1):
        return broker.request_offset_limits([PartitionOffsetRequest(name, 0, when, most)]).topics[name][0]

    assert limit(leader, OffsetType.LATEST) == ([3], 0)
    assert limit(leader, OffsetType.EARLIEST) == ([0], 0)
    assert limit(leader, OffsetType.LATEST, 0) == ([], 0)
    assert limit(leader, 4_000_000_000_000) == ([], 0)
    another = next(broker for broker in client.brokers.values() if broker is not leader)
    assert limit(another, OffsetType.LATEST) == ([], 6), "it is not the leader"


def test_offsets_are_committed_and_fetched_at_the_coordinator(client, topic):
    group = b"group-of-" + topic.name
    coordinator = client.cluster.get_group_coordinator(group)
    commit = PartitionOffsetCommitRequest(topic.name, 1, 7, 0, b"a note")
    assert coordinator.commit_consumer_group_offsets(group, -1, b"", [commit]).topics == {topic.name: {1: (0,)}}
    wanted = [PartitionOffsetFetchRequest(topic.name, partition) for partition in (0, 1)]
    found = coordinator.fetch_consumer_group_offsets(group, wanted)
    assert found.err == 0
    assert found.topics[topic.name] == {0: (-1, b"", 0), 1: (7, b"a note", 0)}
    refused = coordinator.commit_consumer_group_offsets(group, 5, b"nobody", [commit])
    assert refused.topics[topic.name][1].err == 25, "no such member"


def test_groups_are_listed_and_described(client, topic):
    group = b"group-of-" + topic.name
    coordinator = client.cluster.get_group_coordinator(group)
    coordinator.commit_consumer_group_offsets(group, -1, b"", [PartitionOffsetCommitRequest(topic.name, 0, 1, 0, b"")])
    listed = coordinator.list_groups()
    assert listed.error == 0
    assert listed.groups[group].group_id == group
    described = coordinator.describe_groups([group]).groups[group]
    assert (described.error_code, described.group_id, described.state) == (0, group, b"Empty")
    assert described.members == {}
    assert client.cluster.get_managed_group_descriptions()[group] == described


@pytest.mark.parametrize(("protocol", "assignor"), [("classic", b"range"), ("consumer", b"uniform")])
def test_members_are_described_alike_whoever_assigns_their_partitions(client, topic, protocol, assignor):
    group = b"group-of-" + topic.name
    with topic.get_balanced_consumer(group, managed=True, group_protocol=protocol):
        described = client.cluster.get_group_coordinator(group).describe_groups([group, b"nobody"]).groups
        assert described[b"nobody"].members == {}
        found = described[group]
        assert (found.error_code, found.state, found.protocol_type) == (0, b"Stable", b"consumer")
        assert found.protocol == assignor
        (member,) = found.members.values()
        assert member.member_metadata.topic_names == [topic.name]
        assert member.member_assignment.partition_assignment == [(topic.name, [0, 1, 2])]
        assert client.cluster.get_managed_group_descriptions()[group] == found._replace(members=ANY)


def test_a_program_can_be_a_member_of_a_group_by_its_own_code(client, topic):
    group = b"group-of-" + topic.name
    coordinator = client.cluster.get_group_coordinator(group)
    joined = coordinator.join_group("mine", group, b"", topic.name, RangeProtocol)
    assert (joined.error_code, joined.group_protocol, joined.leader_id) == (0, b"range", joined.member_id)
    assert [said.topic_names for said in joined.members.values()] == [[topic.name]]
    place = (group, joined.generation_id, joined.member_id)
    share = MemberAssignment([(topic.name, [0, 2])])
    synced = coordinator.sync_group("mine", *place, [(joined.member_id, share)])
    assert (synced.error_code, synced.member_assignment.partition_assignment) == (0, [(topic.name, [0, 2])])
    described = coordinator.describe_groups([group]).groups[group]
    assert (described.state, list(described.members)) == (b"Stable", [joined.member_id])
    assert coordinator.heartbeat("mine", *place) == (0,)
    assert coordinator.heartbeat("another", group, joined.generation_id + 1, joined.member_id).error_code == 22
    assert coordinator.leave_group("mine", group, joined.member_id).error_code == 0
    assert coordinator.heartbeat("mine", *place).error_code == 25, "it is no member any more"


def test_what_a_foreign_member_says_in_a_group_stays_bytes(client, topic):
    class Foreign(MemberAssignment):
        def get_bytes(self):
            return b"foreign"

    group = b"group-of-" + topic.name
    coordinator = client.cluster.get_group_coordinator(group)
    joined = coordinator.join_group(1, group, b"", topic.name, RangeProtocol._replace(metadata=b"plain"))
    assert [(said.topic_names, said.user_data) for said in joined.members.values()] == [([topic.name], b"")]
    place = (group, joined.generation_id, joined.member_id)
    assert coordinator.sync_group(1, *place, [(joined.member_id, Foreign([]))]) == (0, b"foreign")
    assert coordinator.leave_group(1, group, joined.member_id).error_code == 0


def test_a_join_that_waits_for_others_does_not_delay_them(client, topic):
    group = b"group-of-" + topic.name
    coordinator = client.cluster.get_group_coordinator(group)
    first = coordinator.join_group(1, group, b"", topic.name, RoundRobinProtocol)
    assert coordinator.sync_group(1, group, first.generation_id, first.member_id, []).error_code == 0
    second = []
    joining = threading.Thread(
        target=lambda: second.append(coordinator.join_group(2, group, b"", topic.name, RoundRobinProtocol))
    )
    joining.start()
    # The first member hears of the second one while that waits for it.
    while coordinator.heartbeat(1, group, first.generation_id, first.member_id).error_code != 27:
        assert joining.is_alive()
    again = coordinator.join_group(1, group, first.member_id, topic.name, RoundRobinProtocol)
    joining.join()
    assert set(again.members) == {first.member_id, second[0].member_id}
    assert (second[0].error_code, second[0].generation_id) == (0, again.generation_id)
    assert second[0].members == {}
    for number, member in ((1, again), (2, second[0])):
        assert coordinator.leave_group(number, group, member.member_id).error_code == 0


def test_topics_are_created_and_deleted(client, broker):
    request = CreateTopicRequest("created", 2, 1, [], [("retention.ms", "1000")])
    broker.create_topics([request], timeout=5000)
    client.update_cluster()
    assert len(client.topics[b"created"].partitions) == 2
    with pytest.raises(ProtocolClientError, match="created") as told:
        broker.create_topics([request], timeout=5000)
    assert told.value.ERROR_CODE == 36
    broker.delete_topics([b"created"], timeout=5000)
    client.update_cluster()
    assert b"created" not in client.topics


@pytest.mark.parametrize(
    ("method", "arguments", "instead"),
    [
        ("fetch_messages", ([],), "get_simple_consumer"),
        ("produce_messages", (None,), "get_producer"),
    ],
)
def test_requests_that_only_the_engine_sends_are_refused_with_an_alternative(broker, method, arguments, instead):
    with pytest.raises(NotImplementedError, match=instead):
        getattr(broker, method)(*arguments)


def test_a_silent_broker_is_waited_for_no_longer_than_the_limit(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=1500, offsets_channel_socket_timeout_ms=500)
    broker = client.brokers[1]
    broker.connect()
    own_broker.silence()
    begun = time.monotonic()
    with pytest.raises(KafkaException, match="ListGroups"):
        broker.list_groups()
    assert time.monotonic() - begun >= 1.4
    begun = time.monotonic()
    with pytest.raises(KafkaException, match="OffsetFetch"):
        broker.fetch_consumer_group_offsets(b"group", [PartitionOffsetFetchRequest(b"t", 0)])
    assert time.monotonic() - begun >= 0.4


def test_a_wait_for_a_broker_lets_threads_run_and_ends_with_a_signal(own_broker):
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=60_000)
    broker = client.brokers[1]
    broker.connect()
    own_broker.silence()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for ask in (broker.list_groups, client.update_cluster, broker.connect):
            # It runs while the main thread waits; otherwise nobody would send the signal.
            another = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
            with pytest.raises(Interrupted):
                another.start()
                ask()
            another.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_member_metadata_is_decoded_as_it_was_encoded():
    said = ConsumerGroupProtocolMetadata(topic_names=[b"a", b"bc"], user_data=b"mine")
    read = ConsumerGroupProtocolMetadata.from_bytestring(said.get_bytes())
    assert (read.version, read.topic_names, read.user_data) == (0, [b"a", b"bc"], b"mine")
    assert len(said) == len(said.get_bytes())
    share = MemberAssignment([(b"a", [0, 2]), (b"bc", [])])
    again = MemberAssignment.from_bytestring(share.get_bytes())
    assert (again.version, again.partition_assignment) == (1, [(b"a", [0, 2]), (b"bc", [])])
    for reader in (ConsumerGroupProtocolMetadata, MemberAssignment):
        with pytest.raises(ValueError, match="cut off"):
            reader.from_bytestring(said.get_bytes()[:9])
    assert MemberAssignment.from_bytestring(b"").partition_assignment == []


def test_a_name_that_is_not_ascii_is_refused_before_anything_is_sent(broker):
    from pykafka.exceptions import UnicodeException

    for ask in (
        lambda: broker.delete_topics(["gr\u00fcn"]),
        lambda: broker.describe_groups(["gr\u00fcn"]),
        lambda: broker.request_metadata(["gr\u00fcn"]),
    ):
        with pytest.raises(UnicodeException, match="must be ASCII"):
            ask()
