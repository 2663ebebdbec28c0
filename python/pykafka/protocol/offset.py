"""The beginnings and ends of partitions: arguments and results of the methods of `Broker` and `Topic`."""

from typing import NamedTuple

from . import _gone


class PartitionOffsetRequest(NamedTuple):
    """One partition for `Broker.request_offset_limits`."""

    topic_name: bytes
    partition_id: int
    #: Milliseconds since 1970, or an `OffsetType`.
    offsets_before: int
    #: 0 for none; at most one offset is returned.
    max_offsets: int = 1


class OffsetPartitionResponse(NamedTuple):
    """The part of `Topic.fetch_offset_limits` for one partition."""

    #: The offsets, newest first; empty if there is none.
    offset: list[int]
    #: The broker's error code, 0 for none.
    err: int


class OffsetLimits(NamedTuple):
    """The result of `Broker.request_offset_limits`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetPartitionResponse]]


__getattr__ = _gone.names_of(__name__)
