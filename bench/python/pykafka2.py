"""PyKafka 2.8, in pure Python or with librdkafka."""

import threading
from itertools import chain, cycle, islice
from queue import Empty

import pykafka
from program import in_threads, timed_calls
from pykafka.common import CompressionType

CODECS = {"none": CompressionType.NONE, "gzip": CompressionType.GZIP, "snappy": CompressionType.SNAPPY}


def connect(job):
    # The newest protocol that it knows; librdkafka asks the broker by itself.
    return pykafka.KafkaClient(job.bootstrap, broker_version="2.0.0" if job.native else "0.9.0")


def topic_of(client, name):
    return client.topics[name.encode()]


def open_producers(job, **options):
    client = connect(job)
    # By default `stop` waits five seconds at most, and loses what is left without a word.
    options = dict(required_acks=job.acks, compression=CODECS[job.codec], pending_timeout_ms=-1, **options)
    if job.native:
        del options["pending_timeout_ms"]
        options["use_rdkafka"] = True
    return [topic_of(client, name).get_producer(**options) for name in job.topics]


def produce(job):
    producers = open_producers(job, linger_ms=5, delivery_reports=job.reports)
    yield
    in_threads(job, lambda count: produce_some(job, producers, count), threading)
    for producer in producers:
        producer.stop()
    yield job.count, job.count * job.size


def produce_some(job, producers, count):
    read = 0
    for number, (value, key, producer) in enumerate(zip(job.values(count), job.keys_or_none(), cycle(producers))):
        producer.produce(value, key)
        if job.reports and number % 10_000 == 9_999:
            read += read_reports(producer, block=False)
    if job.reports:
        job.check_reports(read + read_reports(producers[0], count=count - read))


def read_reports(producer, block=True, count=1 << 60):
    for number in range(count):
        try:
            _, error = producer.get_delivery_report(block=block)
        except Empty:
            return number
        if error:
            raise error
    return count


def latency(job):
    # With linger_ms=0 its threads spin, and a call takes thirty times as long.
    (producer,) = open_producers(job, sync=True, linger_ms=1, min_queued_messages=1)
    producer.produce(job.read_values()[0])
    yield
    timed_calls(job, producer.produce)
    yield job.count + 1, (job.count + 1) * job.size


def first(job):
    yield
    (producer,) = open_producers(job, sync=True, linger_ms=1, min_queued_messages=1)
    producer.produce(job.read_values()[0])
    yield 1, job.size


def imports(_job):
    yield
    yield 0, 0


def mend_native_consumer():
    """Bounds two settings that the extension computes from its own defaults, and that librdkafka then refuses."""
    from pykafka.rdkafka.simple_consumer import RdKafkaSimpleConsumer

    computed = RdKafkaSimpleConsumer._mk_rdkafka_config_lists

    def mended(self):
        conf, topic_conf = computed(self)
        limits = {"queued.max.messages.kbytes": "65536", "receive.message.max.bytes": "100000000"}
        return [(name, limits.get(name, value)) for name, value in conf], topic_conf

    RdKafkaSimpleConsumer._mk_rdkafka_config_lists = mended


def consume(job):
    options = {"consumer_timeout_ms": 10000}
    if job.native:
        mend_native_consumer()
        options["use_rdkafka"] = True
    client = connect(job)
    topics = [topic_of(client, name) for name in job.topics]
    yield
    consumers = [topic.get_simple_consumer(**options) for topic in topics] if job.count else []
    number = size = 0
    messages = chain(*consumers) if job.how == "iterate" else chain(*(iter(each.consume, None) for each in consumers))
    for message in islice(messages, job.count):
        number += 1
        size += len(message.value)
    yield number, size


def group(job):
    topic = topic_of(connect(job), job.topics[0])
    yield
    consumer = topic.get_balanced_consumer(job.group.encode(), managed=True)
    yield 1, len(consumer.consume().value)
