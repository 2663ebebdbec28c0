"""The message, and the arguments and results of the methods of `Broker`.

pykafka 2 also had classes that encoded and decoded each version of Kafka's messages. The engine does that now:
importing one of these classes raises an ImportError that says so.
"""

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn, Self

from ._engine import Message

__all__ = [
    "ApiVersions",
    "ApiVersionsSpec",
    "BrokerMetadata",
    "CommittedOffsets",
    "ConsumerGroupProtocolMetadata",
    "CreateTopicRequest",
    "DescribeGroupResponse",
    "DescribedGroups",
    "GroupListing",
    "GroupMember",
    "ListedGroups",
    "MemberAssignment",
    "Message",
    "Metadata",
    "OffsetCommitPartitionResponse",
    "OffsetCommits",
    "OffsetFetchPartitionResponse",
    "OffsetLimits",
    "OffsetPartitionResponse",
    "PartitionMetadata",
    "PartitionOffsetCommitRequest",
    "PartitionOffsetFetchRequest",
    "PartitionOffsetRequest",
    "TopicMetadata",
]


class PartitionOffsetRequest(NamedTuple):
    """One partition for `Broker.request_offset_limits`."""

    topic_name: bytes
    partition_id: int
    #: Milliseconds since 1970, or an `OffsetType`.
    offsets_before: int
    #: 0 for none; at most one offset is returned.
    max_offsets: int = 1


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


class CreateTopicRequest(NamedTuple):
    """One topic for `Broker.create_topics`."""

    topic_name: bytes
    #: The number of partitions; -1 if `replica_assignment` is given.
    num_partitions: int
    #: The number of replicas of each; -1 if `replica_assignment` is given.
    replication_factor: int
    #: `(partition, [broker ids])` pairs; empty: the cluster decides.
    replica_assignment: list[tuple[int, list[int]]]
    #: `(name, value)` pairs.
    config_entries: list[tuple[str, str]]


class OffsetPartitionResponse(NamedTuple):
    """The part of `Topic.fetch_offset_limits` for one partition."""

    #: The offsets, newest first; empty if there is none.
    offset: list[int]
    #: The broker's error code, 0 for none.
    err: int


class OffsetFetchPartitionResponse(NamedTuple):
    """The part of `SimpleConsumer.fetch_offsets` for one partition."""

    #: The committed offset, which is that of the next message to read; -1 if none is committed.
    offset: int
    #: The text that was stored with it.
    metadata: bytes
    #: The broker's error code, 0 for none.
    err: int


class OffsetCommitPartitionResponse(NamedTuple):
    """The part of `Broker.commit_consumer_group_offsets` for one partition."""

    #: The broker's error code, 0 for none.
    err: int


class OffsetLimits(NamedTuple):
    """The result of `Broker.request_offset_limits`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetPartitionResponse]]


class OffsetCommits(NamedTuple):
    """The result of `Broker.commit_consumer_group_offsets`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetCommitPartitionResponse]]


class CommittedOffsets(NamedTuple):
    """The result of `Broker.fetch_consumer_group_offsets`."""

    #: By topic, by partition.
    topics: dict[bytes, dict[int, OffsetFetchPartitionResponse]]
    #: The error code of the whole group, 0 for none.
    err: int


class PartitionMetadata(NamedTuple):
    """A partition, as a broker knows it."""

    id: int
    #: The id of the leader, or -1.
    leader: int
    #: The ids of the brokers that hold a replica.
    replicas: list[int]
    #: The ids of the brokers whose replica is in sync.
    isr: list[int]
    #: The ids of the brokers whose replica is offline.
    offline_replicas: list[int]
    #: The broker's error code, 0 for none.
    err: int


class TopicMetadata(NamedTuple):
    """A topic, as a broker knows it."""

    name: bytes
    #: Whether it is an internal topic.
    is_internal: bool
    #: By number.
    partitions: dict[int, PartitionMetadata]
    #: The broker's error code, 0 for none.
    err: int


class BrokerMetadata(NamedTuple):
    """A broker, as another broker knows it."""

    id: int
    host: bytes
    port: int
    #: Its `broker.rack`.
    rack: bytes | None


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


class ApiVersionsSpec(NamedTuple):
    """The versions of an API that a broker supports."""

    #: The number of the API.
    key: int
    min: int
    max: int


class ApiVersions(NamedTuple):
    """The result of `Broker.fetch_api_versions`."""

    #: By API number.
    api_versions: dict[int, ApiVersionsSpec]


class GroupListing(NamedTuple):
    """A group in `Broker.list_groups`."""

    group_id: bytes
    #: `b"consumer"` for a consumer group; empty for a group that has only committed offsets.
    protocol_type: bytes


class ListedGroups(NamedTuple):
    """The result of `Broker.list_groups`."""

    #: By id.
    groups: dict[bytes, GroupListing]
    #: The broker's error code, 0 for none.
    error: int


class ConsumerGroupProtocolMetadata:
    """What a consumer sends when it joins a group.

    :param version: the version of this format.
    :param topic_names: the topics it subscribes to.
    :param user_data: data for the assignor.
    """

    def __init__(
        self, version: int = 0, topic_names: Iterable[bytes] | None = None, user_data: bytes = b"testuserdata"
    ) -> None:
        self.version = version
        self.topic_names = list(topic_names or [b"dummytopic"])
        self.user_data = user_data

    def __len__(self) -> int:
        return len(self.get_bytes())

    def get_bytes(self) -> bytes:
        """The encoded form, as a member sends it."""
        topics = b"".join(struct.pack(">h", len(name)) + name for name in self.topic_names)
        head = struct.pack(">hi", self.version, len(self.topic_names))
        return head + topics + struct.pack(">i", len(self.user_data)) + self.user_data

    @classmethod
    def from_bytestring(cls, buff: bytes) -> Self:
        """Decodes what a member has sent; the additional fields of newer versions are ignored.

        :raises ValueError: if it is malformed.
        """
        if not buff:
            return cls()
        reader = _Reader(buff)
        version, count = reader.unpack(">hi")
        topics = [reader.prefixed(">h") for _ in range(count)]
        return cls(version, topics, reader.prefixed(">i"))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (topic_names={self.topic_names!r})>"


class MemberAssignment:
    """The partitions that are assigned to a group member.

    :param partition_assignment: `(topic, [partition numbers])` pairs.
    :param version: the version of this format.
    """

    def __init__(self, partition_assignment: Iterable[tuple[bytes, list[int]]], version: int = 1) -> None:
        self.version = version
        self.partition_assignment = list(partition_assignment)

    def __len__(self) -> int:
        return len(self.get_bytes())

    def get_bytes(self) -> bytes:
        """The encoded form, as the group's leader sends it, with empty user data."""
        topics = b"".join(
            struct.pack(">h", len(name)) + name + struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)
            for name, numbers in self.partition_assignment
        )
        return struct.pack(">hi", self.version, len(self.partition_assignment)) + topics + struct.pack(">i", 0)

    @classmethod
    def from_bytestring(cls, buff: bytes) -> Self:
        """Decodes what a group's leader has sent.

        :raises ValueError: if it is malformed.
        """
        if not buff:
            return cls([])
        reader = _Reader(buff)
        version, count = reader.unpack(">hi")
        topics = []
        for _ in range(count):
            name = reader.prefixed(">h")
            (numbers,) = reader.unpack(">i")
            topics.append((name, [reader.unpack(">i")[0] for _ in range(numbers)]))
        return cls(topics, version)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} ({self.partition_assignment!r})>"


class _Reader:
    """Reads values from bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def unpack(self, form: str) -> tuple[int, ...]:
        try:
            values = struct.unpack_from(form, self._data, self._at)
        except struct.error:
            raise ValueError("a group member's bytes are cut off") from None
        self._at += struct.calcsize(form)
        return values

    def prefixed(self, form: str) -> bytes:
        """Bytes after their length; length -1 stands for none."""
        length = max(self.unpack(form)[0], 0)
        taken = self._data[self._at : self._at + length]
        if len(taken) < length:
            raise ValueError("a group member's bytes are cut off")
        self._at += length
        return taken


class GroupMember(NamedTuple):
    """A member of a group."""

    member_id: bytes
    client_id: bytes
    #: The address from which it is connected.
    client_host: bytes
    #: What it sent when it joined; plain bytes if the group is not a consumer group.
    member_metadata: ConsumerGroupProtocolMetadata | bytes
    #: Its assignment; plain bytes if the group is not a consumer group.
    member_assignment: MemberAssignment | bytes


class DescribeGroupResponse(NamedTuple):
    """A group and its members."""

    #: The broker's error code, 0 for none.
    error_code: int
    group_id: bytes
    #: `b"Stable"`, `b"Empty"`, `b"PreparingRebalance"`, ...
    state: bytes
    #: `b"consumer"` for a consumer group.
    protocol_type: bytes
    #: The assignor in use, such as `b"range"`.
    protocol: bytes
    #: By member id.
    members: dict[bytes, GroupMember]


class DescribedGroups(NamedTuple):
    """The result of `Broker.describe_groups`."""

    #: By id.
    groups: dict[bytes, DescribeGroupResponse]


#: Classes of pykafka 2 that encoded or decoded one version of a message.
_OF_OLD_VERSIONS = frozenset(
    {"API_VERSIONS_080", "API_VERSIONS_090", "FetchPartitionResponse", "FetchResponseV1", "FetchResponseV2"}
    | {"MessageSet", "PartitionFetchRequest", "ProducePartitionResponse", "ApiVersionsResponseV1"}
    | {f"ListOffset{kind}{version}" for kind in ("Request", "Response") for version in ("", "V1")}
    | {f"OffsetFetch{kind}{version}" for kind in ("Request", "Response") for version in ("", "V1", "V2")}
    | {
        f"Metadata{kind}{version}"
        for kind in ("Request", "Response")
        for version in ("", *(f"V{n}" for n in range(1, 6)))
    }
    | {
        f"{api}{kind}"
        for kind in ("Request", "Response")
        for api in (
            *("ApiVersions", "CreateTopics", "DeleteTopics", "DescribeGroups", "Fetch", "GroupCoordinator"),
            *("Heartbeat", "JoinGroup", "LeaveGroup", "ListGroups", "OffsetCommit", "Produce", "SyncGroup"),
        )
    }
    | {"Request", "Response"}
)


def __getattr__(name: str) -> Any:
    if name in _OF_OLD_VERSIONS:
        _refuse(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _refuse(name: str) -> NoReturn:
    # The import statement hides the text of an AttributeError.
    raise ImportError(
        f"pykafka.protocol.{name} does not exist in pykafka 3: the engine speaks Kafka's protocol; use the methods of "
        "KafkaClient, Cluster, Topic and Broker, whose answers have the old attributes",
        name=__name__,
    )
