"""Clients, topics, partitions and brokers behave as in PyKafka 2.8, where that was not a fault."""

import pytest
from pykafka import Broker, KafkaClient, Topic
from pykafka.exceptions import NoBrokersAvailableError, UnicodeException


@pytest.fixture
def own_client(own_broker):
    own_broker.create_topic("a", partitions=3)
    own_broker.create_topic("b")
    return KafkaClient(own_broker.bootstrap_servers)


def test_the_constructor_connects_and_raises_when_no_seed_answers():
    with pytest.raises(NoBrokersAvailableError, match="127.0.0.1:[12]"):
        KafkaClient("127.0.0.1:1,127.0.0.1:2")


def test_what_follows_a_slash_behind_a_port_is_cut_off(bootstrap):
    client = KafkaClient(bootstrap.split(",")[0] + "/chroot")
    assert len(client.brokers) == 3


def test_every_setting_is_taken_by_position(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers, None, 30000, 10000, False, True, "", None, "2.0.0")
    assert list(client.brokers) == [1]


def test_brokers_are_known_by_id_and_name_their_host_in_bytes(client):
    assert sorted(client.brokers) == [1, 2, 3]
    for number, broker in client.brokers.items():
        assert isinstance(broker, Broker)
        assert (broker.id, type(broker.host), type(broker.port)) == (number, bytes, int)


def test_a_topic_is_the_same_object_by_text_and_by_bytes(own_client):
    topic = own_client.topics["a"]
    assert isinstance(topic, Topic)
    assert topic is own_client.topics[b"a"] is own_client.cluster.topics["a"]
    assert topic.name == b"a"
    assert list(own_client.topics) == [b"a", b"b"]
    assert isinstance(own_client.topics, dict)


def test_a_name_that_is_not_ascii_is_a_unicode_exception_and_in_no_dict(own_client):
    with pytest.raises(UnicodeException):
        own_client.topics["gr\u00fcn"]
    assert "gr\u00fcn" not in own_client.topics
    assert "a" in own_client.topics
    assert b"a" in own_client.topics


def test_an_unknown_name_creates_the_topic(own_client):
    assert "new" not in own_client.topics
    assert own_client.topics["new"].name == b"new"
    assert "new" in own_client.topics
    own_client.update_cluster()
    assert b"new" in own_client.topics


def test_an_update_drops_topics_that_are_gone_and_keeps_the_objects_of_the_others(own_client, own_broker):
    topic = own_client.topics["a"]
    partitions = dict(topic.partitions)
    own_client.brokers[1].delete_topics([b"b"], timeout=5000)
    own_broker.create_topic("c")
    own_client.update_cluster()
    assert list(own_client.topics) == [b"a", b"c"]
    assert own_client.topics["a"] is topic
    assert all(topic.partitions[number] is partition for number, partition in partitions.items())


def test_partitions_are_sorted_by_id_and_keys_of_dicts(own_client):
    topic, other = own_client.topics["a"], own_client.topics["b"]
    partitions = topic.partitions
    assert sorted(partitions) == [0, 1, 2]
    assert sorted(partitions.values(), reverse=True) == [partitions[2], partitions[1], partitions[0]]
    assert {partitions[0]: 1}[topic.partitions[0]] == 1
    assert partitions[0] != other.partitions[0]
    for number, partition in partitions.items():
        assert (partition.id, partition.topic) == (number, topic)
        assert partition.leader is own_client.brokers[1]
        assert partition.replicas == partition.isr == [own_client.brokers[1]]


def test_the_ends_of_partitions_are_told_by_topic_and_by_partition(own_client):
    topic = own_client.topics["b"]
    with topic.get_sync_producer() as producer:
        for _ in range(3):
            producer.produce(b"x")
    assert topic.earliest_available_offsets() == {0: ([0], 0)}
    latest = topic.latest_available_offsets()[0]
    assert (latest.offset, latest.err) == ([3], 0), "the next offset to be written"
    assert topic.fetch_offset_limits(-1, max_offsets=1) == {0: ([3], 0)}
    partition = topic.partitions[0]
    assert (partition.earliest_available_offset(), partition.latest_available_offset()) == (0, 3)
    assert partition.fetch_offset_limit(-2) == [0]


def test_the_coordinator_of_a_group_is_one_of_the_brokers(client):
    for group in ("group", b"group"):
        assert client.cluster.get_group_coordinator(group) in client.brokers.values()
