"""Divides a topic's partitions among the consumers of a group, through ZooKeeper.

Each member decides by the same rule (`membershipprotocol`) which partitions are whose, and claims its own as nodes in
ZooKeeper (`_znodes`). A thread of the member (`_member`) watches these nodes: it gives up partitions that are no longer
the member's, claims new ones, and adds them to the engine's consumer, which is the same one all the time.

What holds:

- Before a claim is given up, no more messages of the partition are handed out, and finished ones are committed.
- Messages are handed out only while the member's ZooKeeper session is certain to live. A program that was frozen or
  cut off from ZooKeeper hands out and commits nothing until it knows that its claims still exist.
- A claim is for the partition number, whichever leader its node names: the leader may have moved meanwhile.
"""

import contextlib
import logging
import socket
import weakref
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import _greenlets, _uncommitted
from .common import OffsetType
from .exceptions import ConsumerStoppedException, KafkaException, UnknownTopicOrPartition, ZooKeeperError
from .membershipprotocol import GroupMembershipProtocol, RangeProtocol, check
from .partition import Partition
from .simpleconsumer import FETCH_BUFFER, FETCH_MAX_BYTES, NOTHING_CONSUMED, SimpleConsumer
from .utils.error_handlers import valid_int

if TYPE_CHECKING:
    from ._member import Member
    from .cluster import Cluster
    from .topic import Topic

log = logging.getLogger(__name__)

#: `f(consumer, old offsets, new offsets)`, by partition id; may return offsets to continue from.
RebalanceCallback = Callable[[Any, dict[int, int], dict[int, int]], dict[int, int | datetime] | None]


class BalancedConsumer(SimpleConsumer):
    """Reads its share of a topic's partitions; `topic.get_balanced_consumer()` makes one.

    It consumes, iterates and commits as `SimpleConsumer` does, and takes the same arguments. Partitions come and go;
    while it has none, `consume` waits. On a new partition it starts at the group's committed offset, or where
    `auto_offset_reset` says.

    :param consumer_group: the members of a group share the topic's partitions.
    :param rebalance_max_retries: how often to try again for a partition that another member has not given up yet. In
        total it waits `rebalance_backoff_ms * n * (n - 1) / 2`, which is 20 s by default.
    :param rebalance_backoff_ms: how long to wait before it tries again, unless ZooKeeper reports a change earlier.
    :param zookeeper_connection_timeout_ms: the limit for connecting to ZooKeeper, and for how long the member keeps its
        partitions after it was cut off.
    :param zookeeper_connect: an old name of `zookeeper_hosts`, which it overrides.
    :param zookeeper_hosts: ZooKeeper's addresses, such as `host:2181,host:2181/chroot`.
    :param zookeeper: a started `kazoo.client.KazooClient` to use instead. `stop` does not stop it.
    :param reset_offset_on_start: on its first partitions, start where `auto_offset_reset` says, and commit that.
    :param post_rebalance_callback: `f(consumer, old, new)`, called when the partitions have changed, with the last
        consumed offset of each partition by id, before and after. It may return offsets by id, as `reset_offsets` takes
        them. Meanwhile no message is handed out, so it must not wait for one. `start` or the next `consume` raises what
        it raises.
    :param use_rdkafka: accepted and ignored: there is only one engine.
    :param membership_protocol: the rule that divides partitions; the same for all members.
    :param fetch_max_bytes: how many bytes one fetch may return. New in version 3.
    :param fetch_buffer: how many bytes may be fetched ahead of `consume`. New in version 3.
    :raises ImportError: without the package kazoo.
    """

    _partitions: set[Partition]  # type: ignore[assignment]

    def __init__(
        self,
        topic: "Topic",
        cluster: "Cluster",
        consumer_group: str | bytes,
        fetch_message_max_bytes: int = 1024 * 1024,
        num_consumer_fetchers: int = 1,
        auto_commit_enable: bool = False,
        auto_commit_interval_ms: int = 60 * 1000,
        queued_max_messages: int = 2000,
        fetch_min_bytes: int = 1,
        fetch_error_backoff_ms: int = 500,
        fetch_wait_max_ms: int = 100,
        offsets_channel_backoff_ms: int = 1000,
        offsets_commit_max_retries: int = 5,
        auto_offset_reset: int = OffsetType.EARLIEST,
        consumer_timeout_ms: int = -1,
        rebalance_max_retries: int = 5,
        rebalance_backoff_ms: int = 2 * 1000,
        zookeeper_connection_timeout_ms: int = 6 * 1000,
        zookeeper_connect: str | None = None,
        zookeeper_hosts: str = "127.0.0.1:2181",
        zookeeper: Any = None,
        auto_start: bool = True,
        reset_offset_on_start: bool = False,
        post_rebalance_callback: RebalanceCallback | None = None,
        use_rdkafka: bool = False,
        compacted_topic: bool = False,
        membership_protocol: GroupMembershipProtocol = RangeProtocol,
        deserializer: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        reset_offset_on_fetch: bool = True,
        *,
        fetch_max_bytes: int = FETCH_MAX_BYTES,
        fetch_buffer: int = FETCH_BUFFER,
    ) -> None:
        if consumer_group is None:
            raise TypeError("consumer_group must be str or bytes, not NoneType")
        if not consumer_group:
            raise ValueError("consumer_group must not be empty: its members share the partitions")
        from uuid import uuid4

        super().__init__(
            topic,
            cluster,
            consumer_group=consumer_group,
            partitions=(),
            fetch_message_max_bytes=fetch_message_max_bytes,
            num_consumer_fetchers=num_consumer_fetchers,
            auto_commit_enable=auto_commit_enable,
            auto_commit_interval_ms=auto_commit_interval_ms,
            queued_max_messages=queued_max_messages,
            fetch_min_bytes=fetch_min_bytes,
            fetch_error_backoff_ms=fetch_error_backoff_ms,
            fetch_wait_max_ms=fetch_wait_max_ms,
            offsets_channel_backoff_ms=offsets_channel_backoff_ms,
            offsets_commit_max_retries=offsets_commit_max_retries,
            auto_offset_reset=auto_offset_reset,
            consumer_timeout_ms=consumer_timeout_ms,
            auto_start=False,
            reset_offset_on_start=reset_offset_on_start,
            compacted_topic=compacted_topic,
            consumer_id=f"{socket.gethostname()}:{uuid4()}",
            deserializer=deserializer,
            reset_offset_on_fetch=reset_offset_on_fetch,
            fetch_max_bytes=fetch_max_bytes,
            fetch_buffer=fetch_buffer,
        )
        if post_rebalance_callback is not None and not callable(post_rebalance_callback):
            raise TypeError(f"post_rebalance_callback must be callable, not {type(post_rebalance_callback).__name__}")
        self._rebalance_max_retries = valid_int(rebalance_max_retries, allow_zero=True, name="rebalance_max_retries")
        self._rebalance_backoff_ms = valid_int(rebalance_backoff_ms, name="rebalance_backoff_ms")
        self._zookeeper_timeout_ms = valid_int(zookeeper_connection_timeout_ms, name="zookeeper_connection_timeout_ms")
        self._zookeeper_hosts = zookeeper_connect or zookeeper_hosts
        self._zookeeper = zookeeper
        self._post_rebalance_callback = post_rebalance_callback
        self._membership_protocol = check(membership_protocol)
        self._partitions = set()
        self._was_assigned = False
        self._uncommitted = _uncommitted.Uncommitted()
        self._member: Member | None = None
        # Held while partitions are added or removed, and while offsets are committed, so that all of them are ours.
        self._changing: contextlib.AbstractContextManager[Any] = _greenlets.Lock()
        # Calls the program's own functions in the right greenlet: set by `start`.
        self._at_home: Callable[..., Any]
        if auto_start:
            self.start()

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions that it reads, by number; empty until it has some."""
        return {partition.id: partition for partition in sorted(self._partitions)}

    @property
    def held_offsets(self) -> dict[int, int] | None:  # type: ignore[override]
        """For each partition the offset of the last message handed out; None until it has partitions."""
        return self._held() if self._was_assigned else None

    def start(self) -> None:
        """Joins the group and takes its share of the partitions; does nothing if it runs.

        :raises ZooKeeperError: if ZooKeeper does not answer, or if the client passed as `zookeeper` is not connected.
        :raises UnknownTopicOrPartition: if the topic does not exist.
        :raises PartitionOwnedError: if another member does not give up a partition that is now this member's.
        :raises KafkaException: for any other error.
        """
        if self._is_running():
            return
        self._cluster._register(self)
        from . import _member, _znodes

        _znodes.check_group(self._group or "")
        if self._zookeeper is not None and not getattr(self._zookeeper, "connected", False):
            raise ZooKeeperError(
                "the KazooClient that was passed as zookeeper is not connected: call its start() first, or leave it "
                "out, and the consumer connects to zookeeper_hosts itself"
            )
        client = self._zookeeper or _greenlets.apart(_znodes.connect, self._zookeeper_hosts, self._zookeeper_timeout_ms)
        self._at_home = _greenlets.home(self._weak_is_running())
        self._begin_afresh()
        self._open_unassigned()
        self._member = _member.Member(self, client)
        try:
            self._member.start()
        except BaseException:
            self._stop(last_message_done=False)
            raise

    def _check_topic(self) -> None:
        """Raises if the member has no partitions because the topic does not exist, not because other members do."""
        if (missing := self._missing_topic()) is not None:
            raise UnknownTopicOrPartition(
                f"group {self._group!r} has no partitions to assign, because topic "
                f"{self._topic.name.decode('ascii')!r} does not exist: create it, or correct its name ({missing})"
            ) from missing

    def _begin_afresh(self) -> None:
        self._partitions, self._was_assigned = set(), False
        self._uncommitted.clear()

    def _open_unassigned(self) -> None:
        topic = self._topic.name.decode("ascii")
        self._open(self._cluster._engine, topic, [], self._settings, self._weak_commit_failed())

    def _weak_is_running(self) -> Callable[[], bool]:
        this = weakref.ref(self)

        def is_running() -> bool:
            consumer = this()
            return consumer is not None and consumer._is_running()

        return is_running

    def _weak_commit_failed(self) -> Callable[[Exception], None]:
        # A bound method would keep a dropped consumer alive until the garbage collector finds it.
        this = weakref.ref(self)

        def commit_failed(error: Exception) -> None:
            if (consumer := this()) is not None:
                consumer._commit_failed(error)

        return commit_failed

    def _stop(self, last_message_done: bool) -> None:
        member = self._member
        try:
            with self._changing:
                commits = self._auto_commit_enable and self._is_running()
                if commits and self._is_fenced():
                    log.warning("%s is cut off from its group: the last messages are not committed", repr(self))
                    commits = False
                self._finish(commits, last_message_done)
        finally:
            if member is not None:
                _greenlets.apart(member.end)

    def _drop(self) -> None:
        super()._drop()
        if self._member is not None:
            self._member.begin_to_end()

    def commit_offsets(self, partition_offsets: Iterable[tuple[Partition, int]] | None = None) -> None:
        """Commits offsets for the group: see `SimpleConsumer.commit_offsets`.

        :raises ConsumerStoppedException: if the consumer is stopped: other members may have its partitions.
        :raises IllegalGeneration: if this member had to give up partitions before their messages were committed. It
            names them, once; those that the member still has are committed.
        :raises KafkaException: if the member is cut off from its group: nothing is committed.
        """
        with self._changing:
            self._check_membership()
            if partition_offsets is None:
                super().commit_offsets()
                left_out = self._uncommitted.taken()
            else:
                owned, left_out = self._uncommitted.sort_out(partition_offsets, self._partitions)
                super().commit_offsets(owned)
                left_out |= {partition.id for partition, _ in owned} & self._uncommitted.taken()
            self._uncommitted.tell("committed", left_out, self._group, self._topic.name)

    def reset_offsets(self, partition_offsets: Iterable[tuple[Partition, int | datetime]] | None = None) -> None:
        """Moves to other offsets, and commits them: see `SimpleConsumer.reset_offsets`.

        :raises IllegalGeneration: if this member had to give up partitions; those that it still has are moved.
        """
        with self._changing:
            self._check_membership()
            named, before = set(self.partitions), self._uncommitted.assignments(self.partitions)
            if partition_offsets is None:
                left_out = self._in_between()
                super().reset_offsets()
                left_out |= self._uncommitted.taken()
            else:
                owned, left_out = self._uncommitted.sort_out(partition_offsets, self._partitions)
                super().reset_offsets(owned)
                named = {partition.id for partition, _ in owned}
                left_out |= named & self._uncommitted.taken()
            # A rebalance that began meanwhile may have ended, too, and then it has moved its partitions elsewhere.
            left_out |= {id_ for id_, _ in before - self._uncommitted.assignments(self.partitions) if id_ in named}
            self._uncommitted.tell("moved", left_out, self._group, self._topic.name)

    def _in_between(self) -> set[int]:
        """The partitions that it gave up in a rebalance that has not ended."""
        return set()

    def _commit(self, positions: dict[int, int]) -> list[int]:
        left_out = super()._commit(positions)
        self._uncommitted.settle({id_: offset for id_, offset in positions.items() if id_ not in left_out})
        self._uncommitted.leave_out({id_: positions[id_] for id_ in left_out})
        return left_out

    def _check_membership(self) -> None:
        if not self._is_running() or self._member is None:
            raise ConsumerStoppedException(
                "nothing was committed: it is stopped, and others may have its partitions; commit before stop()"
            )
        if self._is_fenced() and not _greenlets.apart(self._member.has_heard, self):
            raise KafkaException(
                f"nothing was committed: this member of group {self._group!r} was cut off from ZooKeeper for longer "
                "than its session, and others may have its partitions; consume() continues with those it gets"
            )

    def _take(self, partitions: set[Partition]) -> None:
        """Adds partitions; hands out none of their messages before `_rebalanced`."""
        new = sorted(partitions - self._partitions)
        if not new:
            return
        resets = self._reset_offset_on_start and not self._was_assigned
        positions = {} if resets else self._committed_of(new)
        missing = [partition.id for partition in new if partition.id not in positions]
        found = self._offsets_at(dict.fromkeys(missing, self._auto_offset_reset))
        starts = positions | found
        with self._changing:
            self._add([(partition.id, partition, starts[partition.id]) for partition in new])
            self._uncommitted.begin(new)
            self._uncommitted.settle(starts)
            self._partitions = self._partitions | set(new)
            self._was_assigned = True
            if resets:
                self._commit(found)
            else:
                self._commit_starts(found)

    def _committed_of(self, partitions: Iterable[Partition]) -> dict[int, int]:
        assert self._group is not None
        topic, ids = self._topic.name.decode("ascii"), [partition.id for partition in partitions]
        found = self._cluster._engine.committed_offsets(self._group, topic, ids) if ids else {}
        return {id_: offset for id_, (offset, _) in found.items() if offset >= 0}

    def _give_up(self, partitions: set[Partition], commits: bool) -> None:
        """Stops handing out messages of these partitions; with `commits`, commits the finished ones.

        Notes what is left uncommitted, for the next `commit_offsets`.
        """
        with self._changing:
            ids = sorted(partition.id for partition in partitions)
            for id_ in ids:
                why = _uncommitted.REVOKED if commits else _uncommitted.LOST
                self._uncommitted.give_up(id_, self._position(id_), why)
            commits = commits and self._auto_commit_enable and self._may_commit()
            engine = self._cluster._engine if commits else None
            self._partitions = self._partitions - partitions
            try:
                self._uncommitted.settle(self._remove(engine, ids))
            except ConsumerStoppedException:
                raise
            except KafkaException as error:
                self._commit_failed(error)

    def _may_commit(self) -> bool:
        return not self._is_fenced()

    def _rebalanced(self, old: dict[int, int]) -> None:
        """Calls the program's callback, then starts to hand out messages of the new partitions."""
        try:
            if self._post_rebalance_callback is not None:
                self._pause()
                wanted = self._at_home(self._call_back, old)
                if wanted:
                    known = self.partitions
                    self.reset_offsets([(known[id_], offset) for id_, offset in wanted.items()])
        finally:
            with contextlib.suppress(ConsumerStoppedException):
                self._resume()

    def _call_back(self, old: dict[int, int]) -> dict[int, int | datetime] | None:
        assert self._post_rebalance_callback is not None
        self._callback_begins()
        try:
            return self._post_rebalance_callback(self, old, self._held())
        finally:
            self._callback_ends()

    def _held(self) -> dict[int, int]:
        return {
            partition.id: next_offset - 1 if next_offset > 0 else NOTHING_CONSUMED
            for partition in sorted(self._partitions)
            for next_offset in (self._position(partition.id) or 0,)
        }


__all__ = ["BalancedConsumer"]
