"""confluent-kafka: librdkafka for Python."""

import threading

from confluent_kafka import Consumer, Producer, TopicPartition
from program import in_threads, timed_calls


def cluster(job):
    tls = {"security.protocol": "ssl", "ssl.ca.location": job.ca} if job.ca else {}
    return {"bootstrap.servers": job.bootstrap, **tls}


def open_producer(job, **settings):
    settings = {"acks": job.acks, "enable.idempotence": job.acks == -1, "compression.type": job.codec, **settings}
    return Producer({**cluster(job), **job.settings, **settings})


def produce(job):
    producer = open_producer(job)
    for topic in job.topics:
        producer.list_topics(topic)
    yield
    in_threads(job, lambda count: produce_some(job, producer, count), threading)
    if producer.flush(120):
        raise SystemExit("messages were not delivered")
    if job.reports:
        job.check_reports(job.reported)
    yield job.count, job.count * job.size


def produce_some(job, producer, count):
    topic, produce, poll = job.topics[0], producer.produce, producer.poll
    if job.how == "many":
        values = list(job.values(1000))
        for _ in range(count // 1000):
            unsent = [{"value": value} for value in values]
            while producer.produce_batch(topic, unsent) < len(unsent):
                unsent = [message for message in unsent if "_error" in message]
                poll(0.1)
            poll(0)
        return
    options = {}
    if job.reports:
        job.reported = 0

        def report(error, _message):
            job.reported += 1
            if error:
                raise SystemExit(f"a message was not delivered: {error}")

        options = {"on_delivery": report}
    keys, topics = job.keys_or_none(), job.topics
    for index, value in enumerate(job.values(count)):
        if job.keys:
            options["key"] = next(keys)
        if len(topics) > 1:
            topic = topics[index % len(topics)]
        try:
            produce(topic, value, **options)
        except BufferError:
            poll(0.1)
            produce(topic, value, **options)
        if index % 10_000 == 0:
            poll(0)


def latency(job):
    from queue import SimpleQueue

    producer = open_producer(job, **{"linger.ms": 0})
    topic = job.topics[0]

    def produce_alone(value):
        producer.produce(topic, value)
        producer.flush(60)

    # Threads wait for their own message: `flush` would wait for those of the others too.
    is_ending = threading.Event()

    def poll():
        while not is_ending.is_set():
            producer.poll(0.1)

    def produce_together(value):
        done = SimpleQueue()
        producer.produce(topic, value, on_delivery=lambda error, _: done.put(error))
        if error := done.get(timeout=60):
            raise SystemExit(f"a message was not delivered: {error}")

    produce_alone(job.read_values()[0])
    yield
    if job.threads == 1:
        timed_calls(job, produce_alone)
    else:
        poller = threading.Thread(target=poll)
        poller.start()
        timed_calls(job, produce_together)
        is_ending.set()
        poller.join()
    yield job.count + 1, (job.count + 1) * job.size


def first(job):
    yield
    producer = open_producer(job, **{"linger.ms": 0})
    producer.produce(job.topics[0], job.read_values()[0])
    if producer.flush(60):
        raise SystemExit("the message was not delivered")
    yield 1, job.size


def imports(_job):
    yield
    yield 0, 0


def consume(job):
    consumer = Consumer({**cluster(job), "group.id": "bench", "enable.auto.commit": False, **job.settings})
    every = [
        TopicPartition(topic, partition, 0)
        for topic in job.topics
        for partition in consumer.list_topics(topic).topics[topic].partitions
    ]
    yield
    number = size = 0
    if job.count:
        consumer.assign(every)
    if job.how == "call":
        poll = consumer.poll
        while number < job.count and (message := poll(10)):
            number += 1
            size += len(message.value())
    else:
        while number < job.count and (messages := consumer.consume(min(1000, job.count - number), timeout=10)):
            number += len(messages)
            for message in messages:
                size += len(message.value())
    consumer.close()
    yield number, size


def group(job):
    """Joins a group of its own, and reads one message."""
    consumer = Consumer({**cluster(job), "group.id": job.group, "auto.offset.reset": "earliest", **job.settings})
    consumer.list_topics(job.topics[0])
    yield
    consumer.subscribe(job.topics)
    message = consumer.poll(60)
    yield 1, len(message.value())
