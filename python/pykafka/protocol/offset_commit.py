"""The offsets of groups: arguments and results of the methods of `Broker` and `SimpleConsumer`."""

from typing import NamedTuple

from . import _gone


class PartitionOffsetCommitRequest(NamedTuple):
    """One partition for `Broker.commit_consumer_group_offsets`."""

    topic_name: bytes
    partition_id: int
    #: The offset of the next message to read.
    offset: int
    #: Ignored: the broker uses its own clock.
    timestamp: int
    #: Text to store with the offset.
    metadata: bytes


class PartitionOffsetFetchRequest(NamedTuple):
    """One partition for `Broker.fetch_consumer_group_offsets`."""

    topic_name: bytes
    partition_id: int


class OffsetCommitPartitionResponse(NamedTuple):
    """The part of `Broker.commit_consumer_group_offsets` for one partition."""

    #: The broker's error code, 0 for none.
    err: int


class OffsetCommits(NamedTuple):
    """The result of `Broker.commit_consumer_group_offsets`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetCommitPartitionResponse]]


class OffsetFetchPartitionResponse(NamedTuple):
    """The part of `SimpleConsumer.fetch_offsets` for one partition."""

    #: The committed offset, which is that of the next message to read; -1 if none is committed.
    offset: int
    #: The text that was stored with it.
    metadata: bytes
    #: The broker's error code, 0 for none.
    err: int


class CommittedOffsets(NamedTuple):
    """The result of `Broker.fetch_consumer_group_offsets`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetFetchPartitionResponse]]
    #: The error code of the whole group, 0 for none.
    err: int


__getattr__ = _gone.names_of(__name__)
