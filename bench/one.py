"""One client doing one piece of work once; prints the cost as JSON. `bench/quick.py` and `bench/scale.py` run it."""

import base64
import json
import os
import resource
import statistics
import sys
import threading
import time
from functools import partial
from itertools import count as count_up
from itertools import cycle, islice, repeat
from queue import Empty

VALUE = bytes(range(100))
# Compressing it takes long, and leaves three quarters of it.
LARGE = base64.b64encode(os.urandom(742_500))
# The file with the authority to trust, if the brokers speak TLS.
CA = os.environ.get("BENCH_CA")
# Of single calls, in milliseconds, for work that is measured so.
LATENCIES = []
# What else the work has counted.
COUNTS = {}


def connect(bootstrap):
    """Returns a client of ours."""
    from pykafka import KafkaClient, SslConfig

    return KafkaClient(hosts=bootstrap, ssl_config=SslConfig(CA) if CA else None)


def cluster(bootstrap):
    """Returns confluent-kafka's settings for the brokers."""
    tls = {"security.protocol": "ssl", "ssl.ca.location": CA} if CA else {}
    return {"bootstrap.servers": bootstrap, **tls}


def produce_with_pykafka(bootstrap, topic, count):
    producer = connect(bootstrap).topics[topic].get_producer()
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
            **cluster(bootstrap),
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
    topic = connect(bootstrap).topics[topic]
    yield
    total = 0
    consumer = topic.get_simple_consumer(consumer_timeout_ms=10_000)
    for message in islice(consumer, count):
        total += len(message.value)
    consumer.stop()
    yield total // len(VALUE)


def consume_with_confluent(bootstrap, topic, count):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**cluster(bootstrap), "group.id": "bench", "fetch.queue.backoff.ms": 1})
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


def produce_topics_with_pykafka(bootstrap, topic, count, topics, partitions, burst, reports):
    client = connect(bootstrap)
    options = {"delivery_reports": True} if reports else {}
    producers = [client.topics[f"{topic}-{number}"].get_producer(**options) for number in range(topics)]
    targets = [(producer, key) for key in keys(partitions) for producer in producers]
    yield
    read = 0
    for number, (producer, key) in enumerate(bursts(count, burst, targets)):
        for _ in range(burst):
            producer.produce(VALUE, key)
        if reports and number * burst % 10_000 < burst:
            read += sum(map(read_reports, producers))
    for producer in producers:
        producer.stop()
    if reports and read + sum(map(read_reports, producers)) != count:
        sys.exit("reports are missing")
    yield count


def read_reports(producer):
    """Reads the reports of one producer that are there; returns how many they were."""
    for number in count_up():
        try:
            _, error = producer.get_delivery_report(block=False)
        except Empty:
            return number
        if error:
            raise error


def produce_topics_with_confluent(bootstrap, topic, count, topics, partitions, burst, reports):
    from confluent_kafka import Producer

    producer = Producer(
        {
            **cluster(bootstrap),
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
    )
    names = [f"{topic}-{number}" for number in range(topics)]
    for name in names:
        producer.list_topics(name)
    targets = [(name, key) for key in keys(partitions) for name in names]
    read = 0

    def report(error, _message):
        nonlocal read
        read += 1
        if error:
            sys.exit(f"a message was not delivered: {error}")

    options = {"on_delivery": report} if reports else {}
    yield
    produce, poll = producer.produce, producer.poll
    for number, (name, key) in enumerate(bursts(count, burst, targets)):
        for _ in range(burst):
            try:
                produce(name, VALUE, key, **options)
            except BufferError:
                poll(0.1)
                produce(name, VALUE, key, **options)
        if number * burst % 10_000 < burst:
            poll(0)
    if producer.flush(120):
        sys.exit("messages were not delivered")
    if reports and read != count:
        sys.exit("reports are missing")
    yield count


def keys(partitions):
    """Returns a key of four bytes for each partition, as Kafka's murmur2 assigns them."""
    found = {}
    for number in count_up():
        key = number.to_bytes(4)
        found.setdefault((murmur2(key) & 0x7FFF_FFFF) % partitions, key)
        if len(found) == partitions:
            return [found[partition] for partition in range(partitions)]


def murmur2(key):
    """Returns the hash of a key of four bytes that decides on its partition."""
    multiplier, mask = 0x5BD1_E995, 0xFFFF_FFFF
    word = int.from_bytes(key, "little") * multiplier & mask
    word = (word ^ word >> 24) * multiplier & mask
    state = (0x9747_B28C ^ 4) * multiplier & mask ^ word
    state = (state ^ state >> 13) * multiplier & mask
    return state ^ state >> 15


def bursts(count, burst, targets):
    """Yields the target of each burst in turn, until `count` messages are sent."""
    return islice(cycle(targets), count // burst)


def flood_with_pykafka(bootstrap, topic, count):
    from pykafka.common import CompressionType

    client = connect(bootstrap)
    flood = client.topics[f"{topic}-flood"].get_producer(compression=CompressionType.GZIP)
    waits = client.topics[topic].get_producer(sync=True)
    waits.produce(VALUE)
    beside(partial(flood.produce, LARGE))
    yield
    LATENCIES.extend(map(timed, repeat(partial(waits.produce, VALUE), count)))
    yield count


def flood_with_confluent(bootstrap, topic, count):
    from confluent_kafka import Producer

    settings = {**cluster(bootstrap), "enable.idempotence": True}
    flood = Producer({**settings, "compression.type": "gzip"})
    waits = Producer({**settings, "linger.ms": 0})

    def produce_large():
        try:
            flood.produce(f"{topic}-flood", LARGE)
        except BufferError:
            flood.poll(0.1)

    def produce():
        waits.produce(topic, VALUE)
        waits.flush(60)

    produce()
    beside(produce_large)
    yield
    LATENCIES.extend(map(timed, repeat(produce, count)))
    yield count


def beside(produce_large):
    """Calls this again and again in another thread, until the process ends; returns when it has begun."""
    begun = threading.Event()

    def run():
        for number in count_up():
            produce_large()
            # By then much is buffered.
            if number == 50:
                begun.set()

    threading.Thread(target=run, daemon=True).start()
    begun.wait()


def timed(call):
    """Returns how many milliseconds a call takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def idle_with_pykafka(bootstrap, topic, seconds):
    consumer = connect(bootstrap).topics[topic].get_simple_consumer(consumer_timeout_ms=2_000)
    read = sum(1 for _ in consumer)
    yield read
    time.sleep(seconds)
    consumer.consume(block=False)
    yield seconds
    consumer.stop()


def idle_with_confluent(bootstrap, topic, seconds):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**cluster(bootstrap), "group.id": "bench"})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    while consumer.consume(1000, timeout=2):
        pass
    yield
    time.sleep(seconds)
    yield seconds
    consumer.close()


def objects_with_pykafka(bootstrap, topic, seconds, producers, consumers):
    """One client with a producer for each topic, and consumers; all have worked, and now idle."""
    client = connect(bootstrap)
    topics = [client.topics[f"{topic}-{number}"] for number in range(producers)]
    makers = [topic.get_producer(delivery_reports=True) for topic in topics]
    for maker in makers:
        maker.produce(VALUE)
    for maker in makers:
        maker.get_delivery_report()
    readers = [topic.get_simple_consumer() for topic in islice(cycle(topics), consumers)]
    for reader in readers:
        reader.consume()
    yield
    time.sleep(seconds)
    COUNTS.update(threads=len(os.listdir("/proc/self/task")), descriptors=len(os.listdir("/proc/self/fd")))
    yield seconds


def fill_with_confluent(bootstrap, topic, count, partitions):
    """Writes `count` messages, in batches of 100 to each partition in turn."""
    from confluent_kafka import Producer

    producer = Producer({**cluster(bootstrap), "linger.ms": 1000, "batch.num.messages": 100})
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
    result = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib}
    result |= COUNTS
    if LATENCIES:
        result |= {"median": statistics.median(LATENCIES), "p99": statistics.quantiles(LATENCIES, n=100)[-1]}
        result |= {"max": max(LATENCIES)}
    print(json.dumps(result), flush=True)
    # Without waiting for what still runs in other threads.
    os._exit(0)


if __name__ == "__main__":
    main()
