"""Brokers, topics and partitions, as `Broker.request_metadata` returns them."""

from typing import NamedTuple

from . import _gone


class _PartitionMetadata(NamedTuple):
    id: int
    #: The id of the leader, or -1.
    leader: int
    #: The ids of the brokers that hold a replica.
    replicas: list[int]
    #: The ids of the brokers whose replica is in sync.
    isr: list[int]
    #: The broker's error code, 0 for none.
    err: int


class PartitionMetadata(_PartitionMetadata):
    """A partition, as a broker knows it: a tuple with the fields of pykafka 2.8, and one attribute more."""

    #: The ids of the brokers whose replica is offline.
    offline_replicas: list[int] | None = None


class _TopicMetadata(NamedTuple):
    name: bytes
    #: By number.
    partitions: dict[int, PartitionMetadata]
    #: The broker's error code, 0 for none.
    err: int


class TopicMetadata(_TopicMetadata):
    """A topic, as a broker knows it: a tuple with the fields of pykafka 2.8, and one attribute more."""

    #: Whether it is an internal topic.
    is_internal: bool = False


class _BrokerMetadata(NamedTuple):
    id: int
    host: bytes
    port: int


class BrokerMetadata(_BrokerMetadata):
    """A broker, as another broker knows it: a tuple with the fields of pykafka 2.8, and one attribute more."""

    #: Its `broker.rack`.
    rack: bytes | None = None


class Metadata(NamedTuple):
    """The result of `Broker.request_metadata`."""

    #: By id.
    brokers: dict[int, BrokerMetadata]
    #: By name.
    topics: dict[bytes, TopicMetadata]
    #: The id of the controller, if there is one.
    controller_id: int | None
    #: The cluster's id, if it has one.
    cluster_id: bytes | None


__getattr__ = _gone.names_of(__name__)
