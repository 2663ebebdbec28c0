"""PyKafka 3."""

import threading
from itertools import chain, cycle, islice
from itertools import count as count_up
from queue import Empty

import pykafka
from program import in_threads, timed_calls
from pykafka.common import CompressionType

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": CompressionType.ZSTD}


def connect(job):
    return pykafka.KafkaClient(job.bootstrap, ssl_config=pykafka.SslConfig(job.ca) if job.ca else None)


def open_producers(job, **options):
    client = connect(job)
    options = {"required_acks": job.acks, "compression": CODECS[job.codec], **options}
    return [client.topics[topic].get_producer(**options) for topic in job.topics]


def produce(job):
    producers = open_producers(job, delivery_reports=job.reports)
    yield
    if job.how == "many":
        messages = list(job.values(1000))
        for _ in range(job.count // 1000):
            producers[0].produce_many(messages)
    else:
        in_threads(job, lambda count: produce_each(job, producers, count), threading)
    for producer in producers:
        producer.stop()
    yield job.count, job.count * job.size


def produce_each(job, producers, count):
    produce, values = producers[0].produce, job.values(count)
    if job.keys:
        for value, key in zip(values, job.keys_or_none(), strict=False):
            produce(value, key)
    elif len(producers) > 1:
        for value, producer in zip(values, cycle(producers), strict=False):
            producer.produce(value)
    elif job.reports:
        read = 0
        for number, value in enumerate(values):
            produce(value)
            if number % 10_000 == 9_999:
                read += read_reports(producers[0], block=False)
        job.check_reports(read + read_reports(producers[0], count=count - read))
    else:
        for value in values:
            produce(value)


def read_reports(producer, block=True, count=None):
    """Reads this many reports, or all that are there; returns how many they were."""
    for number in count_up() if count is None else range(count):
        try:
            _, error = producer.get_delivery_report(block=block, timeout=60 if block else None)
        except Empty:
            return number
        if error:
            raise error
    return count


def latency(job):
    (producer,) = open_producers(job, sync=True)
    producer.produce(job.read_values()[0])
    yield
    timed_calls(job, producer.produce)
    yield job.count + 1, (job.count + 1) * job.size


def first(job):
    """Connects, and waits for one message to be acknowledged."""
    yield
    (producer,) = open_producers(job, sync=True)
    producer.produce(job.read_values()[0])
    yield 1, job.size


def imports(_job):
    """Importing this module has done it."""
    yield
    yield 0, 0


def consume(job):
    client = connect(job)
    consumers = [client.topics[topic] for topic in job.topics]
    yield
    consumers = [topic.get_simple_consumer(consumer_timeout_ms=10_000) for topic in consumers] if job.count else []
    count, size = READ[job.how](consumers, job.count)
    for consumer in consumers:
        consumer.stop()
    yield count, size


def iterate(consumers, count):
    number = size = 0
    for message in islice(chain(*consumers), count):
        number += 1
        size += len(message.value)
    return number, size


def call(consumers, count):
    number = size = 0
    for consumer in consumers:
        consume = consumer.consume
        while number < count and (message := consume()):
            number += 1
            size += len(message.value)
    return number, size


def batch(consumers, count):
    number = size = 0
    for consumer in consumers:
        while number < count and (messages := consumer.consume_batch(min(1000, count - number))):
            number += len(messages)
            for message in messages:
                size += len(message.value)
    return number, size


def arrow(consumers, count):
    import numpy
    import pyarrow

    number = size = 0
    for consumer in consumers:
        while number < count:
            messages = pyarrow.record_batch(consumer.consume_arrow(min(65_536, count - number)))
            if not messages.num_rows:
                break
            number += messages.num_rows
            # The first four bytes of a view, of sixteen, are the length of the value.
            views = numpy.frombuffer(messages["value"].buffers()[1], numpy.int32)
            size += int(views[::4][: messages.num_rows].sum())
    return number, size


READ = {"iterate": iterate, "call": call, "batch": batch, "arrow": arrow}


def group(job):
    """Joins a group of its own, and reads one message."""
    topic = connect(job).topics[job.topics[0]]
    yield
    consumer = topic.get_balanced_consumer(job.group, managed=True, auto_commit_enable=False)
    message = consumer.consume()
    yield 1, len(message.value)
