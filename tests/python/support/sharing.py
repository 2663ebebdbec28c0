"""What tests of consumers that share a topic have in common."""

COOPERATIVE = {"membership_protocol": "cooperative-sticky"}


BY_BROKERS = {"group_protocol": "consumer", "heartbeat_interval_ms": 3000}


def produce(topic, numbers):
    with topic.get_producer(partitioner=lambda partitions, key: partitions[int(key) % 4]) as producer:
        for number in numbers:
            producer.produce(b"%d" % number, partition_key=b"%d" % number)


def values(messages):
    return {int(message.value) for message in messages}
