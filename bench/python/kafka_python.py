"""kafka-python."""

import threading

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from program import in_threads, timed_calls


def cluster(job):
    tls = {"security_protocol": "SSL", "ssl_cafile": job.ca} if job.ca else {}
    return {"bootstrap_servers": job.bootstrap, **tls}


def open_producer(job, **settings):
    codec = None if job.codec == "none" else job.codec
    settings = {"acks": job.acks, "enable_idempotence": job.acks == -1, "compression_type": codec, **settings}
    return KafkaProducer(**{**cluster(job), **job.settings, **settings})


def produce(job):
    producer = open_producer(job)
    for topic in job.topics:
        producer.partitions_for(topic)
    yield
    in_threads(job, lambda count: produce_some(job, producer, count), threading)
    producer.flush()
    yield job.count, job.count * job.size


def produce_some(job, producer, count):
    topics, send = job.topics, producer.send
    futures = []
    for index, (value, key) in enumerate(zip(job.values(count), job.keys_or_none(), strict=False)):
        future = send(topics[index % len(topics)], value, key)
        if job.reports:
            futures.append(future)
    for future in futures:
        future.get(60)


def latency(job):
    producer = open_producer(job, linger_ms=0)
    topic = job.topics[0]
    producer.send(topic, job.read_values()[0]).get(60)
    yield
    timed_calls(job, lambda value: producer.send(topic, value).get(60))
    yield job.count + 1, (job.count + 1) * job.size


def first(job):
    yield
    open_producer(job, linger_ms=0).send(job.topics[0], job.read_values()[0]).get(60)
    yield 1, job.size


def imports(_job):
    yield
    yield 0, 0


def consume(job):
    options = {"consumer_timeout_ms": 10_000} if job.how == "iterate" else {}
    consumer = KafkaConsumer(**{**cluster(job), "enable_auto_commit": False, **job.settings, **options})
    every = [
        TopicPartition(topic, partition) for topic in job.topics for partition in consumer.partitions_for_topic(topic)
    ]
    consumer.assign(every)
    yield
    number = size = 0
    if job.count:
        consumer.seek_to_beginning(*every)
    if job.how == "iterate" and job.count:
        for message in consumer:
            number += 1
            size += len(message.value)
            if number == job.count:
                break
    while number < job.count:
        batches = consumer.poll(10_000, max_records=min(10_000, job.count - number))
        if not batches:
            break
        for messages in batches.values():
            number += len(messages)
            for message in messages:
                size += len(message.value)
    yield number, size


def group(job):
    consumer = KafkaConsumer(**{**cluster(job), "group_id": job.group, "auto_offset_reset": "earliest"})
    consumer.partitions_for_topic(job.topics[0])
    yield
    consumer.subscribe(job.topics)
    yield 1, len(next(consumer).value)
