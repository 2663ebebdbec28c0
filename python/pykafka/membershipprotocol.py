"""The rules by which the members of a group divide a topic's partitions.

Either each member applies the rule, or one applies it for all; so a rule must give the same result everywhere. As in
pykafka 2, partitions are sorted by the *text* `topic-leader-partition`: all partitions of one leader come together,
and partition 10 comes before partition 2. Members are sorted by their ids.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .exceptions import LeaderNotFoundError
from .partition import Partition
from .utils.names import to_bytes

#: The share of a member: `f(participants, partitions by number, member id)`.
DecidePartitions = Callable[[Iterable[Any], Mapping[int, Partition], Any], set[Partition]]


class GroupMembershipProtocol(NamedTuple):
    """A rule for dividing partitions; a program can pass its own as `membership_protocol`.

    :param protocol_type: `b"consumer"`.
    :param protocol_name: the same for all members of a group.
    :param metadata: data about a member; used only in groups that Kafka coordinates.
    :param decide_partitions: `f(participants, partitions_dict, consumer_id)` that returns the set of partitions for the
        member with this id. It is called often, for every member, and must not block.
    """

    protocol_type: bytes
    protocol_name: bytes
    metadata: Any
    decide_partitions: DecidePartitions


def check(protocol: Any) -> GroupMembershipProtocol:
    """Returns the protocol, with its name as bytes.

    :raises TypeError: if it is something else.
    """
    if not callable(getattr(protocol, "decide_partitions", None)):
        raise TypeError(
            "membership_protocol must be a GroupMembershipProtocol whose decide_partitions is callable, such as "
            f"RangeProtocol, not {protocol!r}"
        )
    name = to_bytes(protocol.protocol_name, "the protocol_name of membership_protocol")
    return GroupMembershipProtocol(protocol.protocol_type, name, protocol.metadata, protocol.decide_partitions)


def leader_id(partition: Partition) -> int:
    """The id of the broker that leads a partition, or -1."""
    try:
        return partition.leader.id
    except LeaderNotFoundError:
        return -1


def _in_order(partitions: Mapping[int, Partition]) -> list[Partition]:
    def text(partition: Partition) -> str:
        return f"{partition.topic.name.decode('ascii')}-{leader_id(partition)}-{partition.id}"

    return sorted(partitions.values(), key=text)


def decide_partitions_range(
    participants: Iterable[Any], partitions_dict: Mapping[int, Partition], consumer_id: Any
) -> set[Partition]:
    """A contiguous slice for each member; the first ones get one more if they cannot be divided evenly."""
    members, partitions = sorted(participants), _in_order(partitions_dict)
    index = members.index(consumer_id)
    each, rest = divmod(len(partitions), len(members))
    begin = index * each + min(index, rest)
    return set(partitions[begin : begin + each + (index < rest)])


def decide_partitions_roundrobin(
    participants: Iterable[Any], partitions_dict: Mapping[int, Partition], consumer_id: Any
) -> set[Partition]:
    """The partitions are dealt out in turn."""
    members, partitions = sorted(participants), _in_order(partitions_dict)
    return set(partitions[members.index(consumer_id) :: len(members)])


#: Contiguous slices of the partitions. Kafka: the assignor `range`.
RangeProtocol = GroupMembershipProtocol(b"consumer", b"range", None, decide_partitions_range)

#: Partitions in turn. Kafka: the assignor `roundrobin`.
RoundRobinProtocol = GroupMembershipProtocol(b"consumer", b"roundrobin", None, decide_partitions_roundrobin)

__all__ = ["GroupMembershipProtocol", "RangeProtocol", "RoundRobinProtocol"]
