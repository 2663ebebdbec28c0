"""One client, one direction, once: prints what it took as JSON. Called by `bench/quick.py`."""

import json
import resource
import sys
import time
from itertools import islice

VALUE = bytes(range(100))


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


def cpu_seconds():
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    """Sets up, then measures from the first message to the last acknowledgement or value."""
    client, action, bootstrap, topic, count = sys.argv[1:]
    steps = globals()[f"{action}_with_{client}"](bootstrap, topic, int(count))
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
