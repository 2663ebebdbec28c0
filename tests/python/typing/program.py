# pyright: strict
"""A program that uses all of pykafka, for the type checkers: it is checked, but never run."""

import datetime
import queue
import threading
from collections.abc import Sequence

import pykafka
from pykafka import (
    Broker,
    Cluster,
    KafkaClient,
    ManagedBalancedConsumer,
    Partition,
    Producer,
    RangeProtocol,
    RoundRobinProtocol,
    SimpleConsumer,
    SslConfig,
    Topic,
)
from pykafka.common import CompressionType, Message, OffsetType
from pykafka.exceptions import ERROR_CODES, KafkaException, ProduceFailureError, ProtocolClientError
from pykafka.handlers import ThreadingHandler
from pykafka.membershipprotocol import GroupMembershipProtocol
from pykafka.partitioners import GroupHashingPartitioner, HashingPartitioner, RandomPartitioner, hashing_partitioner
from pykafka.protocol import (
    CreateTopicRequest,
    DescribeGroupResponse,
    MemberAssignment,
    PartitionOffsetCommitRequest,
    PartitionOffsetFetchRequest,
    PartitionOffsetRequest,
)
from pykafka.rdkafka import RdKafkaProducer, RdKafkaSimpleConsumer
from pykafka.testing import Broker as TestBroker
from pykafka.utils import deserialize_utf8, serialize_utf8
from pykafka.utils.compression import decode_snappy, encode_snappy


def look_around(client: KafkaClient) -> dict[bytes, int]:
    """Names, brokers and offsets."""
    cluster: Cluster = client.cluster
    broker: Broker = client.brokers[1]
    controller: Broker | None = cluster.controller_broker
    where: tuple[int, bytes, int, bool] = (broker.id, broker.host, broker.port, broker.connected)
    print(where, controller, cluster.get_group_coordinator(b"group").id)
    client.update_cluster()
    counts: dict[bytes, int] = {}
    for name, topic in client.topics.items():
        earliest, latest = topic.earliest_available_offsets(), topic.latest_available_offsets()
        counts[name] = sum(latest[number].offset[0] - earliest[number].offset[0] for number in topic.partitions)
        yesterday = datetime.datetime.now() - datetime.timedelta(days=1)
        since: list[int] = topic.fetch_offset_limits(yesterday, max_offsets=1)[0].offset
        partition: Partition = topic.partitions[0]
        isr: list[Broker] = partition.isr
        print(since, partition.leader.host, isr, partition.latest_available_offset())
    return counts


def administer(client: KafkaClient, names: Sequence[str]) -> dict[bytes, DescribeGroupResponse]:
    """Topics, groups and offsets, through a broker."""
    broker = client.brokers[1]
    broker.connect()
    requests = [CreateTopicRequest(name.encode(), 3, 1, [], [("retention.ms", "1000")]) for name in names]
    broker.create_topics(requests, timeout=5000)
    broker.delete_topics(names)
    limits = broker.request_offset_limits([PartitionOffsetRequest(b"t", 0, OffsetType.LATEST, 1)])
    offset: list[int] = limits.topics[b"t"][0].offset
    commit = PartitionOffsetCommitRequest(b"t", 0, offset[0], 0, b"")
    error: int = broker.commit_consumer_group_offsets("group", -1, b"", [commit]).topics[b"t"][0].err
    fetched = broker.fetch_consumer_group_offsets("group", [PartitionOffsetFetchRequest(b"t", 0)])
    metadata = broker.request_metadata(["t"])
    leader: int = metadata.topics[b"t"].partitions[0].leader
    newest: int = broker.fetch_api_versions().api_versions[0].max
    print(error, fetched.topics[b"t"][0].offset, leader, newest, broker.list_groups().groups)
    for group in broker.describe_groups(["group"]).groups.values():
        for member in group.members.values():
            if isinstance(member.member_assignment, MemberAssignment):
                print(member.client_id, member.member_assignment.partition_assignment)
    return client.cluster.get_managed_group_descriptions()


def write(topic: Topic) -> int:
    """Every way to produce."""
    delivered = 0
    with topic.get_sync_producer(linger_ms=0) as sync:
        message: Message = sync.produce(b"value", partition_key=b"key", timestamp=datetime.datetime.now())
        print(message.offset, message.partition_id, message.timestamp_dt)
    producer: Producer = topic.get_producer(
        delivery_reports=True,
        compression=CompressionType.GZIP,
        partitioner=hashing_partitioner,
        serializer=serialize_utf8,
        use_rdkafka=True,
    )
    with producer:
        producer.produce("text", "key", headers=[("trace", b"1")])
        delivered += producer.produce_many([b"one", (b"another", b"key")])
        with topic.get_simple_consumer() as consumer:
            delivered += producer.produce_arrow(consumer.consume_arrow(10, timeout=1.0), value="value", key="key")
            delivered += producer.produce_arrow(consumer.record_batches(), headers="headers")
            print(sum(len(batch) for batch in consumer.record_batches(100)))
        try:
            report, error = producer.get_delivery_report(block=False, timeout=0.1)
            delivered += error is None and report.offset >= 0
        except queue.Empty:
            pass
        except ProduceFailureError as failure:
            print(failure.written)
    for partitioner in (RandomPartitioner(), HashingPartitioner(), GroupHashingPartitioner(hash, group_size=2)):
        topic.get_producer(partitioner=partitioner).stop()
    return delivered


def write_and_read_by_the_old_fast_classes(topic: Topic, cluster: Cluster) -> None:
    """The classes named after librdkafka, and the handlers."""
    with RdKafkaProducer(cluster, topic) as producer:
        producer.produce(None, partition_key=b"tombstone")
    consumer = RdKafkaSimpleConsumer(topic, cluster, consumer_group=b"group", consumer_timeout_ms=100)
    handler = ThreadingHandler()
    handler.spawn(consumer.stop)
    print(cluster.handler, handler.Event())


def read(topic: Topic) -> list[bytes]:
    """Every way to consume without a group of members."""
    values: list[bytes] = []
    consumer: SimpleConsumer = topic.get_simple_consumer(
        consumer_group="group",
        partitions=[topic.partitions[0]],
        auto_commit_enable=True,
        auto_offset_reset=OffsetType.LATEST,
        consumer_timeout_ms=1000,
        deserializer=deserialize_utf8,
    )
    with consumer:
        for message in consumer:
            values.append(message.value)
        one: Message | None = consumer.consume(block=True, unblock_event=threading.Event())
        held: dict[int, int] = consumer.held_offsets
        consumer.consumer_id = b"worker-1"
        consumer.generation_id = 1
        who: bytes = consumer.consumer_id
        consumer.reset_offsets([(topic.partitions[0], OffsetType.EARLIEST)])
        consumer.commit_offsets([(topic.partitions[0], 5)])
        values += [message.value for message in consumer.consume_batch(100, timeout=1.0)]
        print(
            one, who, held, consumer.fetch_offsets(), consumer.generation_id, next(consumer.partition_cycle).partition
        )
    return values


def share(topic: Topic, cluster: Cluster) -> None:
    """Consumers that share the topic with others."""

    def moved(consumer: object, old: dict[int, int], new: dict[int, int]) -> dict[int, int] | None:
        return {number: offset for number, offset in new.items() if number not in old}

    consumer = topic.get_balanced_consumer(
        b"group", zookeeper_connect="127.0.0.1:2181", post_rebalance_callback=moved, auto_start=False
    )
    consumer.start()
    message = consumer.consume(block=False)
    if message is not None:
        print(message.value, consumer.partitions, consumer.held_offsets)
    consumer.commit_offsets()
    consumer.stop()
    rule = GroupMembershipProtocol(b"consumer", b"mine", None, RangeProtocol.decide_partitions)
    for protocol in (rule, RoundRobinProtocol, "cooperative-sticky"):
        member = ManagedBalancedConsumer(
            topic,
            cluster,
            "group",
            membership_protocol=protocol,
            session_timeout_ms=10_000,
            max_poll_interval_ms=60_000,
            group_instance_id="worker-1",
            group_protocol="auto",
        )
        values: list[bytes] = [message.value for message in member.consume_batch(10, timeout=1.0)]
        where: dict[int, int] | None = member.held_offsets
        print(values, where)
        member.stop()


def main() -> None:
    """All of it, in a broker's life."""
    with TestBroker(brokers=3) as broker, KafkaClient(broker.bootstrap_servers, source_address="127.0.0.1") as client:
        try:
            topic = client.topics["letters"]
            print(pykafka.__version__, look_around(client), administer(client, ["a"]), write(topic), read(topic))
            write_and_read_by_the_old_fast_classes(topic, client.cluster)
            share(topic, client.cluster)
        except ProtocolClientError as error:
            print(error.ERROR_CODE, ERROR_CODES.get(error.ERROR_CODE or 0))
        except KafkaException as error:
            print(error)
    scram = pykafka.sasl.Scram("user", lambda: "secret", mechanism="SCRAM-SHA-256")
    print(SslConfig("/ca.pem", check_hostname=False).cafile, scram, pykafka.sasl.OAuthBearer(lambda: ("token", None)))
    print(decode_snappy(encode_snappy(b"x", xerial_compatible=True)))


if __name__ == "__main__":
    main()
