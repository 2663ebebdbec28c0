"""aiokafka."""

import asyncio
import ssl
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


def cluster(job):
    context = ssl.create_default_context(cafile=job.ca) if job.ca else None
    return {"bootstrap_servers": job.bootstrap} | (
        {"security_protocol": "SSL", "ssl_context": context} if context else {}
    )


async def open_producer(job, **settings):
    codec = None if job.codec == "none" else job.codec
    acks = "all" if job.acks == -1 else job.acks
    settings = {"acks": acks, "enable_idempotence": acks == "all", "compression_type": codec, **settings}
    producer = AIOKafkaProducer(**{**cluster(job), **job.settings, **settings})
    await producer.start()
    for topic in job.topics:
        await producer.partitions_for(topic)
    return producer


def produce(job):
    loop = asyncio.new_event_loop()
    producer = loop.run_until_complete(open_producer(job))
    yield
    loop.run_until_complete((send_batches if job.how == "many" else send_each)(job, producer))
    yield job.count, job.count * job.size


async def send_each(job, producer):
    topics, send = job.topics, producer.send
    futures = []
    for index, (value, key) in enumerate(zip(job.values(), job.keys_or_none(), strict=False)):
        future = await send(topics[index % len(topics)], value, key)
        if job.reports:
            futures.append(future)
    await producer.flush()
    await asyncio.gather(*futures)


async def send_batches(job, producer):
    """Fills batches by hand, and sends them to the partitions in turn."""
    number, sent = 0, []
    batch = producer.create_batch()
    for value in job.values():
        if batch.append(key=None, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, job.topics[0], partition=number % job.partitions))
            number += 1
            batch = producer.create_batch()
            batch.append(key=None, value=value, timestamp=None)
    if batch.record_count():
        sent.append(await producer.send_batch(batch, job.topics[0], partition=number % job.partitions))
    await asyncio.gather(*sent)


def latency(job):
    loop = asyncio.new_event_loop()
    producer = loop.run_until_complete(open_producer(job, linger_ms=0))
    value, topic = job.read_values()[0], job.topics[0]
    loop.run_until_complete(producer.send_and_wait(topic, value))

    async def run(count):
        for _ in range(count):
            started = time.perf_counter_ns()
            await producer.send_and_wait(topic, value)
            job.latencies.append(time.perf_counter_ns() - started)

    async def run_tasks():
        await asyncio.gather(*(run(job.count // job.threads) for _ in range(job.threads)))

    yield
    loop.run_until_complete(run_tasks())
    yield job.count + 1, (job.count + 1) * job.size


def first(job):
    async def run():
        producer = await open_producer(job, linger_ms=0)
        await producer.send_and_wait(job.topics[0], job.read_values()[0])

    yield
    asyncio.new_event_loop().run_until_complete(run())
    yield 1, job.size


def imports(_job):
    yield
    yield 0, 0


def consume(job):
    loop = asyncio.new_event_loop()

    async def open_consumer():
        consumer = AIOKafkaConsumer(**{**cluster(job), "enable_auto_commit": False, **job.settings})
        await consumer.start()
        every = []
        for topic in job.topics:
            partitions = await consumer._client._wait_on_metadata(topic)
            every += [TopicPartition(topic, partition) for partition in partitions]
        return consumer, every

    consumer, every = loop.run_until_complete(open_consumer())
    yield
    yield loop.run_until_complete(READ[job.how](job, consumer, every)) if job.count else (0, 0)


async def read_each(job, consumer, every):
    await begin(consumer, every)
    number = size = 0
    async for message in consumer:
        number += 1
        size += len(message.value)
        if number == job.count:
            break
    return number, size


async def read_batches(job, consumer, every):
    await begin(consumer, every)
    number = size = 0
    while number < job.count:
        batches = await consumer.getmany(timeout_ms=10_000, max_records=min(10_000, job.count - number))
        if not batches:
            break
        for messages in batches.values():
            number += len(messages)
            for message in messages:
                size += len(message.value)
    return number, size


async def begin(consumer, every):
    consumer.assign(every)
    await consumer.seek_to_beginning(*every)


READ = {"iterate": read_each, "batch": read_batches}


def group(job):
    loop = asyncio.new_event_loop()

    async def run():
        consumer = AIOKafkaConsumer(
            *job.topics, **{**cluster(job), "group_id": job.group, "auto_offset_reset": "earliest"}
        )
        await consumer.start()
        return await consumer.getone()

    yield
    message = loop.run_until_complete(run())
    yield 1, len(message.value)
