"""One client doing one piece of work once; prints the cost as JSON. `bench/quick.py` and `bench/scale.py` run it."""

import json
import resource
import sys
import time
from itertools import cycle, islice

VALUE = bytes(range(100))
# The size of a record with this value in a batch, and of a batch without records.
RECORD_BYTES, BATCH_BYTES = 110, 61


def produce_with_pykafka(bootstrap, topic, count):
    from pykafka import KafkaClient

    producer = KafkaClient(hosts=bootstrap).topics[topic].get_producer()
    yield
    produce = producer.produce
    for _ in range(count):
        produce(VALUE)
    producer.stop()
    yield count


def produce_with_confluent(bootstrap, topic, count):
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 5,
        }
    )
    producer.list_topics(topic)
    yield
    produce, poll = producer.produce, producer.poll
    for index in range(count):
        try:
            produce(topic, VALUE)
        except BufferError:
            poll(0.1)
            produce(topic, VALUE)
        if index % 10_000 == 0:
            poll(0)
    if producer.flush(60):
        sys.exit("messages were not delivered")
    yield count


def consume_with_pykafka(bootstrap, topic, count):
    from pykafka import KafkaClient

    topic = KafkaClient(hosts=bootstrap).topics[topic]
    yield
    total = 0
    consumer = topic.get_simple_consumer(consumer_timeout_ms=10_000)
    for message in islice(consumer, count):
        total += len(message.value)
    consumer.stop()
    yield total // len(VALUE)


def consume_with_confluent(bootstrap, topic, count):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.queue.backoff.ms": 1})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    yield
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    total = 0
    while total < count * len(VALUE):
        messages = consumer.consume(1000, timeout=10)
        if not messages:
            break
        for message in messages:
            total += len(message.value())
    consumer.close()
    yield total // len(VALUE)


def produce_topics_with_pykafka(bootstrap, topic, count, topics, burst, batch_messages):
    from pykafka import KafkaClient

    # The limit of a request also limits a batch: there is no other way to limit a batch here.
    limit = {"max_request_size": batch_messages * RECORD_BYTES + BATCH_BYTES} if batch_messages else {}
    client = KafkaClient(hosts=bootstrap)
    producers = [client.topics[f"{topic}-{number}"].get_producer(**limit) for number in range(topics)]
    yield
    for produce in bursts(count, burst, [producer.produce for producer in producers]):
        for _ in range(burst):
            produce(VALUE)
    for producer in producers:
        producer.stop()
    yield count


def produce_topics_with_confluent(bootstrap, topic, count, topics, burst, batch_messages):
    from confluent_kafka import Producer

    limit = {"batch.num.messages": batch_messages} if batch_messages else {}
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 5,
            **limit,
        }
    )
    names = [f"{topic}-{number}" for number in range(topics)]
    for name in names:
        producer.list_topics(name)
    yield
    produce, poll = producer.produce, producer.poll
    for number, name in enumerate(bursts(count, burst, names)):
        for _ in range(burst):
            try:
                produce(name, VALUE)
            except BufferError:
                poll(0.1)
                produce(name, VALUE)
        if number * burst % 10_000 < burst:
            poll(0)
    if producer.flush(120):
        sys.exit("messages were not delivered")
    yield count


def bursts(count, burst, targets):
    """Yields the target of each burst in turn, until `count` messages are sent."""
    return islice(cycle(targets), count // burst)


def idle_with_pykafka(bootstrap, topic, seconds):
    from pykafka import KafkaClient

    consumer = KafkaClient(hosts=bootstrap).topics[topic].get_simple_consumer(consumer_timeout_ms=2_000)
    read = sum(1 for _ in consumer)
    yield read
    time.sleep(seconds)
    consumer.consume(block=False)
    yield seconds
    consumer.stop()


def idle_with_confluent(bootstrap, topic, seconds):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    while consumer.consume(1000, timeout=2):
        pass
    yield
    time.sleep(seconds)
    yield seconds
    consumer.close()


def fill_with_confluent(bootstrap, topic, count, partitions):
    """Writes `count` messages, in batches of 100 to each partition in turn."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1000, "batch.num.messages": 100})
    yield
    for partition in bursts(count, 100, range(partitions)):
        for _ in range(100):
            try:
                producer.produce(topic, VALUE, partition=partition)
            except BufferError:
                producer.poll(0.1)
                producer.produce(topic, VALUE, partition=partition)
    if producer.flush(120):
        sys.exit("messages were not delivered")
    yield count


def cpu_seconds():
    """The user and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    """Sets up, then measures from the first message to the last acknowledgement or value."""
    client, action, bootstrap, topic, count, *more = sys.argv[1:]
    steps = globals()[f"{action}_with_{client}"](bootstrap, topic, int(count), *map(int, more))
    next(steps)
    started, used = time.perf_counter(), cpu_seconds()
    done = next(steps)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - used
    if done != int(count):
        sys.exit(f"{done} of {count} messages")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main()
