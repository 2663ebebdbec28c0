"""What travels: the message, and the answers that pykafka's methods return."""

from typing import NamedTuple

from ._engine import Message

__all__ = ["CreateTopicRequest", "Message", "OffsetFetchPartitionResponse", "OffsetPartitionResponse"]


class OffsetPartitionResponse(NamedTuple):
    """One partition's part of `Topic.fetch_offset_limits`."""

    #: The offsets found, newest first; empty if there is none.
    offset: list[int]
    #: The broker's error code, 0 for none.
    err: int


class OffsetFetchPartitionResponse(NamedTuple):
    """One partition's part of `SimpleConsumer.fetch_offsets`."""

    #: The committed offset: the next to read, or -1 if none is committed.
    offset: int
    #: The text that was committed with it.
    metadata: bytes
    #: The broker's error code, 0 for none.
    err: int


class CreateTopicRequest(NamedTuple):
    """One topic for `Broker.create_topics`."""

    topic_name: bytes
    #: How many partitions; -1 when `replica_assignment` says it.
    num_partitions: int
    #: How many copies of each; -1 when `replica_assignment` says it.
    replication_factor: int
    #: `(partition, [broker ids])` pairs, or empty to let the cluster decide.
    replica_assignment: list[tuple[int, list[int]]]
    #: `(name, value)` pairs.
    config_entries: list[tuple[str, str]]
