"""`client.topics`: topics by name, while other threads look, create and update."""

import threading
import time

import pytest
from pykafka import KafkaClient, Topic
from pykafka.exceptions import KafkaException


@pytest.fixture
def two_topics(own_broker):
    own_broker.create_topic("a", partitions=2)
    own_broker.create_topic("b")
    own_broker.create_topic("__hidden")
    return KafkaClient(own_broker.bootstrap_servers).topics


def test_every_view_shows_topics(two_topics):
    a, b = two_topics["a"], two_topics[b"b"]
    assert isinstance(a, Topic)
    assert list(two_topics) == [b"a", b"b"]
    assert list(two_topics.values()) == [a, b]
    assert list(two_topics.items()) == [(b"a", a), (b"b", b)]
    assert dict(two_topics) == two_topics == {b"a": a, b"b": b}
    assert str(two_topics) == repr(two_topics) == f"{{b'a': {a!r}, b'b': {b!r}}}"


def test_a_topic_that_is_only_seen_in_a_view_can_be_used(two_topics):
    assert {topic.name: len(topic.partitions) for topic in two_topics.values()} == {b"a": 2, b"b": 1}


def test_a_topic_is_found_by_text_and_by_bytes_and_not_created_by_looking(two_topics):
    for name in ("a", b"a"):
        assert two_topics.get(name) is two_topics["a"]
        assert name in two_topics
    assert two_topics.get("nowhere") is None
    assert two_topics.get(b"nowhere", "default") == "default"
    assert two_topics.get("gr\u00fcn") is None
    assert two_topics.get("__hidden") is None
    assert list(two_topics) == [b"a", b"b"]


def test_the_client_s_limit_bounds_the_first_look_at_a_topic(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=500)
    own_broker.silence()
    begun = time.monotonic()
    with pytest.raises(KafkaException, match=own_broker.bootstrap_servers):
        client.topics["unseen"]
    assert time.monotonic() - begun < 25, "the default is 30 s"


def test_threads_that_update_create_and_iterate_do_not_disturb_each_other(own_broker):
    cluster = KafkaClient(own_broker.bootstrap_servers).cluster
    names = [f"t{number}".encode() for number in range(50)]
    failures = []

    def work(number):
        try:
            for turn in range(2_000):
                # What two updates see if topics are created and deleted between them.
                cluster.topics._follow(set(names[(turn + number) % 7 :: 3]))
                assert all(topic.name == name for name, topic in cluster.topics.items())
                assert all(topic.name in names for topic in cluster.topics.values())
                assert all(name in names for name in cluster.topics)
                assert repr(cluster.topics).startswith("{")
                dict(cluster.topics)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_topic_that_another_thread_removes_meanwhile_is_no_error(two_topics):
    class Names(set):
        def __rsub__(self, other):
            gone = set(other).difference(self)
            dict.pop(two_topics, b"b", None)
            return gone

    two_topics._follow(Names([b"c"]))
    assert list(two_topics) == [b"c"]


def test_a_topic_that_was_created_again_with_fewer_partitions_has_fewer(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers)
    own_broker.create_topic("shrinking", 3)
    client.update_cluster()
    topic = client.topics["shrinking"]
    assert sorted(topic.partitions) == [0, 1, 2]
    controller = client.cluster.controller_broker
    controller.delete_topics([b"shrinking"])
    own_broker.create_topic("shrinking", 1)
    client.update_cluster()
    assert sorted(client.topics["shrinking"].partitions) == [0]
    assert sorted(topic.partitions) == [0]
    assert sorted(topic.latest_available_offsets()) == [0]
