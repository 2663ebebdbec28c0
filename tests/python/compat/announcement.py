"""The code blocks in the announcement of pykafka 2, each with its expected result.

They run against the in-memory broker and against real Kafka. Each takes `hosts` and the name of a new topic with three
partitions.
"""

import queue
import time

from pykafka import KafkaClient
from pykafka.partitioners import hashing_partitioner


def connecting(hosts, name):
    client = KafkaClient(hosts.replace("127.0.0.1", "localhost"))
    assert client.topics[name].name == name.encode()
    assert client.topics[name] is client.topics[name.encode()]


def producing(hosts, name):
    client = KafkaClient(hosts)
    topic = client.topics[name]
    with topic.get_producer() as producer:
        for i in range(10):
            producer.produce(b"test message %d" % i)
    assert count(topic) == 10


def producing_with_sync(hosts, name):
    topic = KafkaClient(hosts).topics[name]
    with topic.get_producer(sync=True) as producer:
        message = producer.produce(b"alpha")
        assert message.offset == 0
        assert count(topic) == 1
    with topic.get_sync_producer() as producer:
        producer.produce(b"beta")
    assert count(topic) == 2


def producing_with_reports(hosts, name):
    topic = KafkaClient(hosts).topics[name]
    delivered = 0
    with topic.get_producer(delivery_reports=True) as producer:
        for i in range(100):
            producer.produce(b"test msg %d" % i, partition_key=b"%d" % i)
        deadline = time.monotonic() + 60
        while delivered < 100 and time.monotonic() < deadline:
            try:
                message, error = producer.get_delivery_report(block=False, timeout=0.1)
            except queue.Empty:
                time.sleep(0.01)
                continue
            assert error is None
            assert message.partition_key is not None
            delivered += 1
    assert delivered == count(topic) == 100


def producing_with_a_key(hosts, name):
    topic = KafkaClient(hosts).topics[name]
    with topic.get_sync_producer(partitioner=hashing_partitioner) as producer:
        partitions = {producer.produce(b"alpha", partition_key=b"bravo").partition_id for _ in range(10)}
    assert len(partitions) == 1
    assert {
        number: answer.offset[0] for number, answer in topic.latest_available_offsets().items() if answer.offset[0]
    } == {partitions.pop(): 10}


def consuming(hosts, name):
    topic = filled(hosts, name)
    consumer = topic.get_simple_consumer(consumer_timeout_ms=60_000)
    values = []
    for message in consumer:
        if message is not None:
            values.append((message.partition_id, message.offset, message.value))
        if len(values) == 30:
            break
    assert len(set(values)) == 30


def consuming_in_a_group(hosts, name):
    topic = filled(hosts, name)
    consumer = topic.get_simple_consumer(consumer_group=b"charlie", auto_commit_enable=True)
    first = [consumer.consume() for _ in range(10)]
    consumer.commit_offsets()
    consumer.stop()
    consumer = topic.get_simple_consumer(consumer_group=b"charlie", auto_commit_enable=True)
    rest = [consumer.consume() for _ in range(20)]
    consumer.stop()
    assert len({(message.partition_id, message.offset) for message in first + rest}) == 30


def consuming_some_partitions(hosts, name):
    topic = filled(hosts, name)
    parts = topic.partitions
    consumer = topic.get_simple_consumer(partitions=(parts[0], parts[2]), consumer_timeout_ms=60_000)
    messages = [consumer.consume() for _ in range(20)]
    assert {message.partition_id for message in messages} == {0, 2}
    assert set(consumer.partitions) == {0, 2}


def using_rdkafka(hosts, name):
    topic = KafkaClient(hosts).topics[name]
    with topic.get_producer(use_rdkafka=True) as producer:
        producer.produce(b"fast")
    consumer = topic.get_simple_consumer(use_rdkafka=True, consumer_timeout_ms=30_000)
    assert consumer.consume().value == b"fast"


def sharing(hosts, name, **zookeeper):
    topic = filled(hosts, name)
    arguments = {"consumer_group": b"charlie", "auto_commit_enable": True, "consumer_timeout_ms": 3000, **zookeeper}
    first = topic.get_balanced_consumer(use_rdkafka=True, **arguments)
    wait_for(lambda: len(first.partitions) == 3)
    second = topic.get_balanced_consumer(use_rdkafka=True, **arguments)
    wait_for(lambda: sorted([len(first.partitions), len(second.partitions)]) == [1, 2])
    assert set(first.partitions).isdisjoint(second.partitions)
    second.stop()
    wait_for(lambda: len(first.partitions) == 3)
    read = set()
    while len(read) < 30:
        read |= {(message.partition_id, message.offset) for message in first}
    first.stop()


BLOCKS = [
    connecting,
    producing,
    producing_with_sync,
    producing_with_reports,
    producing_with_a_key,
    consuming,
    consuming_in_a_group,
    consuming_some_partitions,
    using_rdkafka,
    sharing,
]


def wait_for(holds):
    """Waits until something holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def count(topic):
    """The number of messages in the topic."""
    return sum(answer.offset[0] for answer in topic.latest_available_offsets().values())


def filled(hosts, name):
    """The topic, with ten messages in each of its partitions."""
    topic = KafkaClient(hosts).topics[name]
    turns = iter(sorted(topic.partitions.values()) * 10)
    with topic.get_producer(partitioner=lambda partitions, key: next(turns)) as producer:
        for i in range(30):
            producer.produce(b"%d" % i)
    return topic
