"""What members of a group send and get, as `Broker.describe_groups` shows it."""

import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

from . import _gone


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


class JoinedGroup(NamedTuple):
    """The result of `Broker.join_group`."""

    #: The broker's error code, 0 for none.
    error_code: int
    #: The new generation; -1 if joining failed.
    generation_id: int
    #: The protocol in use, such as `b"range"`.
    group_protocol: bytes
    #: The id of the member that assigns.
    leader_id: bytes
    #: The member's own id.
    member_id: bytes
    #: What each member sent, by member id; empty unless this member leads. Plain bytes if the group is not a consumer
    #: group.
    members: dict[bytes, ConsumerGroupProtocolMetadata | bytes]


class SyncedGroup(NamedTuple):
    """The result of `Broker.sync_group`."""

    #: The broker's error code, 0 for none.
    error_code: int
    #: The member's assignment; plain bytes if the leader sent something else.
    member_assignment: MemberAssignment | bytes


class Heartbeat(NamedTuple):
    """The result of `Broker.heartbeat`."""

    #: The broker's error code, 0 for none; 27 asks the member to join again.
    error_code: int


class LeftGroup(NamedTuple):
    """The result of `Broker.leave_group`."""

    #: The broker's error code, 0 for none.
    error_code: int


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


__getattr__ = _gone.names_of(__name__)
