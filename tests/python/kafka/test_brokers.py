"""The methods of `Broker` on the oldest and the newest Kafka, with a group whose member is another client."""

import time

import confluent_kafka
import pytest
from pykafka import KafkaClient
from pykafka.common import OffsetType
from pykafka.exceptions import ProtocolClientError
from pykafka.protocol import (
    ConsumerGroupProtocolMetadata,
    CreateTopicRequest,
    MemberAssignment,
    PartitionOffsetCommitRequest,
    PartitionOffsetFetchRequest,
    PartitionOffsetRequest,
)


@pytest.mark.parametrize("version", ["0.11.0.3", "LATEST"])
def test_a_broker_is_asked_for_topics_offsets_and_groups(start_kafka, version):
    cluster = start_kafka(version)
    with KafkaClient(cluster.bootstrap) as client:
        (broker,) = client.brokers.values()
        broker.connect()
        assert broker.fetch_api_versions().api_versions[3].max >= 4
        broker.create_topics([CreateTopicRequest(b"asked", 2, 1, [], [])], timeout=10_000)
        with pytest.raises(ProtocolClientError) as told:
            broker.create_topics([CreateTopicRequest(b"asked", 2, 1, [], [])], timeout=10_000)
        assert told.value.ERROR_CODE == 36
        with client.topics["asked"].get_sync_producer() as producer:
            written = producer.produce(b"x").partition_id

        described = broker.request_metadata([b"asked"]).topics[b"asked"]
        assert [partition.leader for partition in described.partitions.values()] == [broker.id] * 2
        limits = broker.request_offset_limits([PartitionOffsetRequest(b"asked", written, OffsetType.LATEST, 1)])
        assert limits.topics == {b"asked": {written: ([1], 0)}}

        coordinator = client.cluster.get_group_coordinator("alone")
        commit = PartitionOffsetCommitRequest(b"asked", 0, 1, 0, b"note")
        assert committed(coordinator, commit) == 0
        wanted = [PartitionOffsetFetchRequest(b"asked", number) for number in (0, 1)]
        fetched = coordinator.fetch_consumer_group_offsets(b"alone", wanted)
        assert fetched.topics[b"asked"] == {0: (1, b"note", 0), 1: (-1, b"", 0)}

        member = described_member(client, cluster.bootstrap)
        assert isinstance(member.member_metadata, ConsumerGroupProtocolMetadata)
        assert member.member_metadata.topic_names == [b"asked"]
        assert isinstance(member.member_assignment, MemberAssignment)
        assert member.member_assignment.partition_assignment == [(b"asked", [0, 1])]
        assert member.client_id == b"another"

        broker.delete_topics([b"asked"], timeout=10_000)


def committed(coordinator, commit):
    """The error code of a commit, once the coordinator has loaded its groups: methods of `Broker` do not retry."""
    deadline = time.monotonic() + 60
    while True:
        code = coordinator.commit_consumer_group_offsets(b"alone", -1, b"", [commit]).topics[commit.topic_name][0].err
        if code not in (14, 16) or time.monotonic() > deadline:
            return code
        time.sleep(0.1)


def described_member(client, bootstrap):
    """The only member of a group that confluent-kafka has joined."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "shared", "client.id": "another"}
    consumer = confluent_kafka.Consumer(settings | {"partition.assignment.strategy": "range"})
    try:
        consumer.subscribe(["asked"])
        deadline = time.monotonic() + 60
        while not consumer.assignment():
            assert time.monotonic() < deadline
            consumer.poll(0.2)
        group = client.cluster.get_managed_group_descriptions()[b"shared"]
        assert (group.state, group.protocol_type, group.protocol) == (b"Stable", b"consumer", b"range")
        (member,) = group.members.values()
        return member
    finally:
        consumer.close()
