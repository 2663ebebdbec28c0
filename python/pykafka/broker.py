"""One broker of the cluster."""

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from . import _engine
from .exceptions import SocketDisconnectedError, error_for_code
from .protocol import (
    ApiVersions,
    ApiVersionsSpec,
    BrokerMetadata,
    CommittedOffsets,
    ConsumerGroupProtocolMetadata,
    CreateTopicRequest,
    DescribedGroups,
    DescribeGroupResponse,
    GroupListing,
    GroupMember,
    Heartbeat,
    JoinedGroup,
    LeftGroup,
    ListedGroups,
    MemberAssignment,
    Metadata,
    OffsetCommitPartitionResponse,
    OffsetCommits,
    OffsetFetchPartitionResponse,
    OffsetLimits,
    OffsetPartitionResponse,
    PartitionMetadata,
    PartitionOffsetCommitRequest,
    PartitionOffsetFetchRequest,
    PartitionOffsetRequest,
    SyncedGroup,
    TopicMetadata,
)
from .utils.error_handlers import valid_int
from .utils.names import to_bytes

if TYPE_CHECKING:
    from .cluster import Cluster
    from .membershipprotocol import GroupMembershipProtocol

log = logging.getLogger(__name__)


class Broker:
    """A broker of the cluster, from `client.brokers` or `partition.leader`.

    The engine opens connections to it when they are needed. Each method sends one request to this broker and waits for
    the response: for at most `socket_timeout_ms`, or `offsets_channel_socket_timeout_ms` for a group's offsets. Nothing
    is retried. Error codes in a response are not raised; check them.

    Every method raises `SocketDisconnectedError` if the broker cannot be reached or the connection is lost, and
    `KafkaException` if the time is over or the client is closed.
    """

    def __init__(self, id_: int, host: bytes, port: int, *, cluster: "Cluster") -> None:
        self._id = id_
        self._host = host
        self._port = port
        self._cluster = cluster

    @property
    def id(self) -> int:
        """The broker's id."""
        return self._id

    @property
    def host(self) -> bytes:
        """The advertised host."""
        return self._host

    @property
    def port(self) -> int:
        """The advertised port."""
        return self._port

    @property
    def handler(self) -> Any:
        """The client's handler: see `Cluster.handler`."""
        return self._cluster.handler

    @property
    def offsets_channel_handler(self) -> Any:
        """The client's handler: there is no separate connection for offsets."""
        return self._cluster.handler

    @property
    def connected(self) -> bool:
        """Whether the broker is part of the cluster, and the last attempt to reach it, if there was one, succeeded.

        Sends nothing; use `connect` to check.
        """
        return _engine.is_reachable(self._cluster._engine, self._id)

    @property
    def offsets_channel_connected(self) -> bool:
        """The same as `connected`."""
        return self.connected

    def connect(self, attempts: int = 3) -> None:
        """Checks that the broker answers, by sending it a request.

        :param attempts: how often to try before the last error is raised.
        """
        for left in range(valid_int(attempts, name="attempts") - 1, -1, -1):
            try:
                self.fetch_api_versions()
                return
            except SocketDisconnectedError as error:
                if left == 0:
                    raise
                log.info("broker %s does not answer, asking it again: %s", self._id, error)

    def connect_offsets_channel(self, attempts: int = 3) -> None:
        """The same as `connect`."""
        self.connect(attempts)

    def fetch_api_versions(self) -> ApiVersions:
        """The versions of each API that the broker supports, as `api_versions[key].min` and `.max`."""
        answer = _engine.ask_api_versions(self._cluster._engine, self._id)
        return ApiVersions({key: ApiVersionsSpec(key, oldest, newest) for key, oldest, newest in answer})

    def request_metadata(self, topics: Iterable[str | bytes] | None = None) -> Metadata:
        """The broker's view of the cluster: `brokers` by id and `topics` by name.

        :param topics: names of topics; None or empty: all. The broker creates missing ones, if the cluster allows that.
        """
        names = [_name(topic) for topic in topics or ()]
        brokers, controller_id, cluster_id, found = _engine.ask_metadata(
            self._cluster._engine, self._id, names if names else None
        )
        return Metadata(
            {id_: _broker(id_, host, port, rack) for id_, host, port, rack in brokers},
            {_bytes(name): _topic(name, is_internal, partitions, err) for err, name, is_internal, partitions in found},
            controller_id,
            _bytes_or_none(cluster_id),
        )

    def request_offset_limits(self, partition_requests: Iterable[PartitionOffsetRequest]) -> OffsetLimits:
        """For partitions that this broker leads, the first offset at or after a time.

        The result has `topics[name][partition]` with `offset`, a list, and `err`.
        """
        requests = list(partition_requests)
        wanted = [(_name(request.topic_name), request.partition_id, request.offsets_before) for request in requests]
        most = {(_name(request.topic_name), request.partition_id): request.max_offsets for request in requests}
        topics: dict[bytes, dict[int, OffsetPartitionResponse]] = {}
        for topic, partition, code, offset in _engine.ask_offset_limits(self._cluster._engine, self._id, wanted):
            offsets = [] if offset is None else [offset]
            answer = OffsetPartitionResponse(offsets[: most.get((topic, partition), 1)], code)
            topics.setdefault(_bytes(topic), {})[partition] = answer
        return OffsetLimits(topics)

    def commit_consumer_group_offsets(
        self,
        consumer_group: str | bytes,
        consumer_group_generation_id: int,
        consumer_id: str | bytes,
        preqs: Iterable[PartitionOffsetCommitRequest],
    ) -> OffsetCommits:
        """Commits offsets of a group that this broker coordinates.

        The result has `topics[name][partition].err`: check it, because the coordinator may refuse the commit.

        :param consumer_group_generation_id: the generation of the member that commits; -1 for none.
        :param consumer_id: the member's id; empty for none.
        """
        member = (_name(consumer_group, "consumer_group"), consumer_group_generation_id, _text(consumer_id))
        offsets = [
            (_name(request.topic_name), request.partition_id, request.offset, _text(request.metadata))
            for request in preqs
        ]
        topics: dict[bytes, dict[int, OffsetCommitPartitionResponse]] = {}
        for topic, partition, code in _engine.ask_to_commit(self._cluster._engine, self._id, member, offsets):
            topics.setdefault(_bytes(topic), {})[partition] = OffsetCommitPartitionResponse(code)
        return OffsetCommits(topics)

    def fetch_consumer_group_offsets(
        self, consumer_group: str | bytes, preqs: Iterable[PartitionOffsetFetchRequest]
    ) -> CommittedOffsets:
        """What a group that this broker coordinates has committed.

        The answer has `topics[name][partition]` with `offset` (-1: nothing is committed), `metadata` and `err`.
        """
        group = _name(consumer_group, "consumer_group")
        wanted = [(_name(request.topic_name), request.partition_id) for request in preqs]
        err, found = _engine.ask_for_committed(self._cluster._engine, self._id, group, wanted)
        topics: dict[bytes, dict[int, OffsetFetchPartitionResponse]] = {}
        for topic, partition, offset, metadata, code in found:
            answer = OffsetFetchPartitionResponse(offset, metadata.encode(), code)
            topics.setdefault(_bytes(topic), {})[partition] = answer
        return CommittedOffsets(topics, err)

    def list_groups(self) -> ListedGroups:
        """The groups that this broker coordinates, as `groups[id]` with `group_id` and `protocol_type`."""
        error, groups = _engine.ask_for_groups(self._cluster._engine, self._id)
        return ListedGroups({_bytes(id_): GroupListing(_bytes(id_), _bytes(kind)) for id_, kind in groups}, error)

    def describe_groups(self, group_ids: Iterable[str | bytes]) -> DescribedGroups:
        """State and members of groups that this broker coordinates, as `groups[id]`."""
        names = [_name(group, "a group's id") for group in group_ids]
        found = _engine.ask_about_groups(self._cluster._engine, self._id, names)
        return DescribedGroups(
            {
                _bytes(id_): DescribeGroupResponse(
                    code,
                    _bytes(id_),
                    _bytes(state),
                    _bytes(kind),
                    _bytes(protocol),
                    {_bytes(member[0]): _member(member, kind == "consumer") for member in members},
                )
                for code, id_, state, kind, protocol, members in found
            }
        )

    def create_topics(self, topic_reqs: Iterable[CreateTopicRequest], timeout: int = 0) -> None:
        """Creates topics; the request goes to the cluster's controller, whichever broker this is.

        :param timeout: how long the controller may take before it answers, in milliseconds.
        :raises ProtocolClientError: the first topic's error, after all were tried.
        """
        requests = [
            (
                _name(request.topic_name),
                request.num_partitions,
                request.replication_factor,
                [(partition, list(replicas)) for partition, replicas in request.replica_assignment],
                [(_text(name), _text(value)) for name, value in request.config_entries],
            )
            for request in topic_reqs
        ]
        self._raise_first(self._cluster._engine.create_topics(requests, _timeout(timeout)), "create")

    def delete_topics(self, topics: Iterable[str | bytes], timeout: int = 0) -> None:
        """Deletes topics; the request goes to the cluster's controller, whichever broker this is.

        :param timeout: how long the controller may take before it answers, in milliseconds.
        :raises ProtocolClientError: the first topic's error, after all were tried.
        """
        names = [_name(name) for name in topics]
        self._raise_first(self._cluster._engine.delete_topics(names, _timeout(timeout)), "delete")

    def fetch_messages(self, partition_requests: Iterable[Any], timeout: int = 30000, min_bytes: int = 1) -> NoReturn:
        """Refuses: the engine fetches for consumers.

        :raises NotImplementedError: always; it says what to use.
        """
        _refuse("fetch_messages", "topic.get_simple_consumer(partitions=[...])")

    def produce_messages(self, produce_request: Any) -> NoReturn:
        """Refuses: the engine writes for producers.

        :raises NotImplementedError: always; it says what to use.
        """
        _refuse("produce_messages", "topic.get_producer()")

    def join_group(
        self,
        connection_id: Hashable,
        consumer_group: str | bytes,
        member_id: str | bytes,
        topic_name: str | bytes,
        membership_protocol: "GroupMembershipProtocol",
    ) -> JoinedGroup:
        """Joins a group that this broker coordinates, for a program that is a member by its own code.

        Waits until all members have joined: for up to 30 s, the member's session time, and `socket_timeout_ms`. The
        members of a `ManagedBalancedConsumer` need none of this.

        :param connection_id: requests with the same id share a connection, and wait for each other.
        :param member_id: empty for a new member.
        :param topic_name: the topic that the member subscribes to.
        :param membership_protocol: what the member supports; if its `metadata` has no `user_data`, it sends none.
        """
        said = membership_protocol.metadata or ConsumerGroupProtocolMetadata(user_data=b"")
        topic = _name(topic_name).encode()
        metadata = ConsumerGroupProtocolMetadata(
            getattr(said, "version", 0), [topic], getattr(said, "user_data", b"")
        ).get_bytes()
        protocol_type = _text(membership_protocol.protocol_type)
        answer = _engine.ask_to_join(
            self._cluster._engine,
            self._over(connection_id),
            _name(consumer_group, "consumer_group"),
            _text(member_id),
            (protocol_type, _text(membership_protocol.protocol_name), metadata),
            SESSION_TIMEOUT_MS,
        )
        code, generation_id, protocol, leader_id, own_id, members = answer
        read = ConsumerGroupProtocolMetadata.from_bytestring
        return JoinedGroup(
            code,
            generation_id,
            _bytes(protocol),
            _bytes(leader_id),
            _bytes(own_id),
            {_bytes(id_): _read(read, data, protocol_type == "consumer") for id_, data in members},
        )

    def leave_group(self, connection_id: Hashable, consumer_group: str | bytes, member_id: str | bytes) -> LeftGroup:
        """Removes a member from a group that this broker coordinates.

        :param connection_id: see `join_group`.
        """
        group = _name(consumer_group, "consumer_group")
        return LeftGroup(
            _engine.ask_to_leave(self._cluster._engine, self._over(connection_id), group, _text(member_id))
        )

    def sync_group(
        self,
        connection_id: Hashable,
        consumer_group: str | bytes,
        generation_id: int,
        member_id: str | bytes,
        group_assignment: Iterable[tuple[str | bytes, MemberAssignment]],
    ) -> SyncedGroup:
        """Waits for the member's assignment, in a group that this broker coordinates.

        :param connection_id: see `join_group`.
        :param group_assignment: `(member id, assignment)` of all members, from the leader; empty from the others.
        """
        place = (_name(consumer_group, "consumer_group"), generation_id, _text(member_id))
        assignments = [(_text(id_), assignment.get_bytes()) for id_, assignment in group_assignment]
        code, own = _engine.ask_to_sync(self._cluster._engine, self._over(connection_id), place, assignments)
        return SyncedGroup(code, _read(MemberAssignment.from_bytestring, own, True))

    def heartbeat(
        self, connection_id: Hashable, consumer_group: str | bytes, generation_id: int, member_id: str | bytes
    ) -> Heartbeat:
        """Says that a member lives, in a group that this broker coordinates.

        :param connection_id: see `join_group`.
        """
        place = (_name(consumer_group, "consumer_group"), generation_id, _text(member_id))
        return Heartbeat(_engine.send_heartbeat(self._cluster._engine, self._over(connection_id), place))

    def _over(self, connection_id: Hashable) -> tuple[int, int]:
        return self._id, self._cluster._connection(connection_id)

    @staticmethod
    def _raise_first(answers: list[tuple[str, int, str]], verb: str) -> None:
        for topic, code, text in answers:
            if code != 0:
                raise error_for_code(code, f"the broker did not {verb} topic {topic!r}: {text}")

    def _move(self, host: bytes, port: int) -> None:
        self._host, self._port = host, port

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__} (id={self._id}, host={self._host!r}, port={self._port})>"
        )


#: A partition from the engine: error code, number, leader, replicas, in-sync replicas, offline replicas.
_Partition = tuple[int, int, int, list[int], list[int], list[int]]

#: How long a member that joins with `join_group` may send no heartbeat, as in pykafka 2.
SESSION_TIMEOUT_MS = 30_000


def _refuse(method: str, instead: str) -> NoReturn:
    raise NotImplementedError(
        f"Broker.{method} does not exist in pykafka 3, where the engine speaks Kafka's protocol; use {instead}"
    )


def _name(name: str | bytes, what: str = "a topic's name") -> str:
    return to_bytes(name, what).decode("ascii")


def _timeout(timeout: int) -> int:
    return valid_int(timeout, allow_zero=True, name="timeout")


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode()


def _bytes(text: str) -> bytes:
    return text.encode()


def _bytes_or_none(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _broker(id_: int, host: str, port: int, rack: str | None) -> BrokerMetadata:
    broker = BrokerMetadata(id_, _bytes(host), port)
    broker.rack = _bytes_or_none(rack)
    return broker


def _topic(name: str, is_internal: bool, partitions: Iterable[_Partition], err: int) -> TopicMetadata:
    described = {}
    for code, number, leader, replicas, isr, offline_replicas in partitions:
        described[number] = PartitionMetadata(number, leader, replicas, isr, code)
        described[number].offline_replicas = offline_replicas
    topic = TopicMetadata(_bytes(name), described, err)
    topic.is_internal = is_internal
    return topic


def _member(member: tuple[str, str, str, bytes, bytes], is_consumer: bool) -> GroupMember:
    id_, client, host, metadata, assignment = member
    return GroupMember(
        _bytes(id_),
        _bytes(client),
        _bytes(host),
        _read(ConsumerGroupProtocolMetadata.from_bytestring, metadata, is_consumer),
        _read(MemberAssignment.from_bytestring, assignment, is_consumer),
    )


def _read(reader: Callable[[bytes], Any], data: bytes, is_consumer: bool) -> Any:
    # What a member says is its own business: what is not in the format of consumers stays bytes.
    try:
        return reader(data) if is_consumer else data
    except ValueError:
        return data
