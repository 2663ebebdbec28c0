"""Groups, topics and versions: arguments and results of the methods of `Broker`."""

from typing import NamedTuple

from . import _gone
from .group_membership import ConsumerGroupProtocolMetadata, MemberAssignment


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


__getattr__ = _gone.names_of(__name__)
