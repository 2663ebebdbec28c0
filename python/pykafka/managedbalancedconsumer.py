"""Divides a topic's partitions among the consumers of a group that Kafka coordinates.

The engine is the group member: it joins, sends heartbeats, commits with its generation, and stops handing out messages
of partitions that the group has given to others. It calls this module, in a thread of its own, when partitions come and
go; this module updates pykafka's attributes and calls the program.
"""

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _engine, _greenlets
from .balancedconsumer import BalancedConsumer, RebalanceCallback
from .common import OffsetType
from .exceptions import ConsumerStoppedException, KafkaException
from .membershipprotocol import GroupMembershipProtocol, RangeProtocol, RoundRobinProtocol, check
from .partition import Partition
from .simpleconsumer import FETCH_BUFFER, FETCH_MAX_BYTES
from .utils.error_handlers import valid_int
from .utils.names import to_bytes

if TYPE_CHECKING:
    from .cluster import Cluster
    from .topic import Topic

log = logging.getLogger(__name__)

#: How long a member may send no heartbeat before others get its partitions, in ms. Kafka: `session.timeout.ms`.
SESSION_TIMEOUT_MS = 30_000

#: How long the program may ask for no message before its member leaves the group, in milliseconds. Kafka:
#: `max.poll.interval.ms`.
MAX_POLL_INTERVAL_MS = 300_000

#: The time between two heartbeats, in milliseconds. Kafka: `heartbeat.interval.ms`.
HEARTBEAT_INTERVAL_MS = 3000

#: How long `start` waits for the group's first assignment, in seconds. Then it asks the coordinator what is wrong.
_PATIENCE = 50

#: How long `stop` waits for the member to leave, in milliseconds.
_LEAVE_MS = 10_000


class ManagedBalancedConsumer(BalancedConsumer):
    """Reads its share of a topic's partitions; `topic.get_balanced_consumer(managed=True)` makes one.

    It consumes, iterates and commits as `BalancedConsumer` does, and takes the same arguments, but needs no ZooKeeper.
    If the group has moved on without this member, the next `consume` raises `IllegalGeneration` once; after that it
    continues with the partitions that the group assigns then.

    :param rebalance_max_retries: checked and ignored: the engine keeps trying.
    :param rebalance_backoff_ms: checked and ignored: the wait grows from 100 ms to 1 s.
    :param use_rdkafka: accepted and ignored: there is only one engine.
    :param heartbeat_interval_ms: the time between two heartbeats; less than `session_timeout_ms`.
    :param membership_protocol: `RangeProtocol`, `RoundRobinProtocol`, or the name of one of Kafka's assignors: members
        of other clients that offer the same can join the group. Or a `GroupMembershipProtocol` of the program: the
        group's leader applies it for all members.
    :param session_timeout_ms: how long it may send no heartbeat before others get its partitions. New in version 3.
    :param max_poll_interval_ms: how long the program may ask for no message before its member leaves. New in version 3.
    :param group_instance_id: makes the member static: if it restarts under the same name within `session_timeout_ms`,
        it gets its partitions back without a rebalance. New in version 3.
    :param group_protocol: who assigns the partitions. `"classic"`: one of the members, by `membership_protocol`; all
        Kafka versions and clients have it. `"consumer"`: the brokers (KIP-848, Kafka 4.0 and newer), which also set
        session and heartbeats; members read on during a rebalance. `"auto"`: `"consumer"` where the group's brokers
        have it, otherwise `"classic"`; also `"classic"` if `membership_protocol`, `session_timeout_ms` or
        `heartbeat_interval_ms` is not at its default. New in version 3.
    :raises ValueError: if an argument is out of range, if `group_protocol="consumer"` has a `membership_protocol`, or
        if the protocol's type is not `b"consumer"`.
    """

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
        auto_start: bool = True,
        reset_offset_on_start: bool = False,
        post_rebalance_callback: RebalanceCallback | None = None,
        use_rdkafka: bool = False,
        compacted_topic: bool = True,
        heartbeat_interval_ms: int = HEARTBEAT_INTERVAL_MS,
        membership_protocol: GroupMembershipProtocol | str | bytes = RangeProtocol,
        deserializer: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        reset_offset_on_fetch: bool = True,
        *,
        fetch_max_bytes: int = FETCH_MAX_BYTES,
        fetch_buffer: int = FETCH_BUFFER,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS,
        group_instance_id: str | bytes | None = None,
        group_protocol: str = "classic",
    ) -> None:
        super().__init__(
            topic,
            cluster,
            consumer_group,
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
            rebalance_max_retries=rebalance_max_retries,
            rebalance_backoff_ms=rebalance_backoff_ms,
            auto_start=False,
            reset_offset_on_start=reset_offset_on_start,
            post_rebalance_callback=post_rebalance_callback,
            compacted_topic=compacted_topic,
            deserializer=deserializer,
            reset_offset_on_fetch=reset_offset_on_fetch,
            fetch_max_bytes=fetch_max_bytes,
            fetch_buffer=fetch_buffer,
        )
        assignors: str | None = None
        self._rule: GroupMembershipProtocol | None = None
        if isinstance(membership_protocol, (str, bytes)):
            assignors = to_bytes(membership_protocol, "membership_protocol").decode("ascii")
        elif membership_protocol in (RangeProtocol, RoundRobinProtocol):
            assignors = membership_protocol.protocol_name.decode("ascii")
        else:
            self._rule = check(membership_protocol)
            if to_bytes(self._rule.protocol_type, "the protocol_type of membership_protocol") != b"consumer":
                raise ValueError(
                    f"the protocol_type of membership_protocol must be b'consumer', not {self._rule.protocol_type!r}: "
                    "members of different types cannot be in one group, and consumers are of this one"
                )
        if group_protocol == "consumer" and membership_protocol is not RangeProtocol:
            name = assignors or (self._rule and self._rule.protocol_name.decode("ascii"))
            raise ValueError(
                "with group_protocol='consumer' the brokers assign the partitions, and cannot ask the membership "
                f"protocol {name!r}: leave membership_protocol out, or use group_protocol='classic'"
            )
        heartbeat: int | None = valid_int(heartbeat_interval_ms, name="heartbeat_interval_ms")
        session: int | None = valid_int(session_timeout_ms, name="session_timeout_ms")
        if group_protocol != "classic":
            # What is at its default leaves the choice to the engine.
            assignors = None if membership_protocol is RangeProtocol else assignors
            heartbeat = None if heartbeat == HEARTBEAT_INTERVAL_MS else heartbeat
            session = None if session == SESSION_TIMEOUT_MS else session
        if group_instance_id is not None:
            group_instance_id = to_bytes(group_instance_id, "group_instance_id").decode("ascii")
            if not group_instance_id:
                raise ValueError("group_instance_id must not be empty: it names one member; None: no static member")
        self._group_settings = _engine.GroupSettings(
            assignors=assignors,
            group_instance_id=group_instance_id,
            group_protocol=group_protocol,
            heartbeat_interval_ms=heartbeat,
            max_poll_interval_ms=valid_int(max_poll_interval_ms, name="max_poll_interval_ms"),
            rule=None if self._rule is None else (self._rule.protocol_name.decode("ascii"), _user_data(self._rule)),
            session_timeout_ms=session,
        )
        # The engine tracks ownership, so no lock is needed here, and `stop` waits for the engine without one.
        self._changing = contextlib.nullcontext()
        self._decided = threading.Event()
        # The offsets before the current rebalance.
        self._held_before: dict[int, int] | None = None
        # The partitions given up in the current rebalance: the position, and what the group had committed then.
        self._given_up: dict[int, tuple[int, int | None]] = {}
        # The thread in which the engine calls while it waits for the end of a rebalance.
        self._listening: int | None = None
        if auto_start:
            self.start()

    def start(self) -> None:
        """Joins the group, and returns when it has assigned the partitions; does nothing if it runs.

        :raises UnknownTopicOrPartition: if the topic does not exist.
        :raises KafkaException: if joining fails, or if the group assigns nothing within a minute.
        """
        if self._is_running():
            return
        self._cluster._register(self)
        self._begin_afresh()
        self._held_before = None
        self._given_up.clear()
        self._decided.clear()
        topic = self._topic.name.decode("ascii")
        this = weakref.ref(self)
        self._at_home = _greenlets.home(self._weak_is_running())
        failed = self._weak_commit_failed()
        self._join(self._cluster._engine, topic, self._settings, self._group_settings, failed, this)
        try:
            self._wait_for_decision()
        except BaseException:
            self._stop(last_message_done=False)
            raise

    def _wait_for_decision(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not _greenlets.wait(self._decided, 0.02):
            self._check()
            if time.monotonic() >= deadline:
                # If the coordinator cannot be reached, this raises why.
                self._committed_of(self._topic.partitions.values())
                raise KafkaException(
                    f"group {self._group!r} has not assigned partitions to this member within {_PATIENCE} s, although "
                    "its coordinator answers: another member may be holding the rebalance up; start() tries again"
                )
        # What the callback has raised.
        self._raise_pending()
        if not self._is_running():
            raise ConsumerStoppedException("post_rebalance_callback, or another thread, stopped the consumer")
        if not self._partitions:
            self._check_topic()

    def _stop(self, last_message_done: bool) -> None:
        commits = self._auto_commit_enable and self._is_running()
        # The member leaves when its callback has returned, so a callback that calls this must not wait for that.
        leave = None if self._listening == threading.get_ident() else (self._cluster._engine, _LEAVE_MS)
        self._finish(commits, last_message_done, leave)

    def _check_membership(self) -> None:
        if not self._is_running():
            raise ConsumerStoppedException(
                "nothing was committed: it is stopped, and others may have its partitions; commit before stop()"
            )

    def _may_commit(self) -> bool:
        # The coordinator refuses a commit that comes too late.
        return True

    def _in_between(self) -> set[int]:
        return set(self._held_before or ()) - {partition.id for partition in self._partitions}

    def _on_assigned(self, numbers: list[int], committed: dict[int, int]) -> None:
        """Called by the engine when a rebalance has ended, with the new partitions and their committed offsets."""
        old = self._held_before
        given_up, self._given_up, self._held_before = self._given_up, {}, None
        if old is None:
            old = self._held()
        self._listening = threading.get_ident()
        try:
            if numbers:
                self._take_over(self._find(numbers), committed, given_up)
            if numbers or old.keys() != self.partitions.keys():
                self._rebalanced(old)
            if old and not self._partitions:
                # The topic may have been deleted.
                self._check_topic()
        except ConsumerStoppedException:
            pass
        except BaseException as error:
            # The callback may also call sys.exit().
            self._raise_later(error)
        finally:
            self._listening = None
            self._decided.set()

    def _find(self, numbers: list[int]) -> dict[int, Partition]:
        known = self._topic.partitions
        if not known.keys() >= set(numbers):
            # Whoever assigns has learnt of new partitions first.
            self._cluster._engine.refresh()
            known = self._topic.partitions
        return {number: known.get(number) or Partition(self._topic, number) for number in numbers}

    def _take_over(
        self, known: dict[int, Partition], committed: dict[int, int], given_up: dict[int, tuple[int, int | None]]
    ) -> None:
        """Begins with new partitions, and finds where those start that do not start at the committed offset."""
        resets = self._reset_offset_on_start and not self._was_assigned
        self._was_assigned = True
        starts = {} if resets else committed
        # A partition that was away for one rebalance only continues at its position, even if nothing was committed for
        # it; but not if somebody else has committed meanwhile: that member had it, or moved the group.
        back = {
            number: position
            for number, (position, before) in given_up.items()
            if number in known and not resets and committed.get(number) == before and position > (before or 0)
        }
        # Before the partitions are moved: a `reset_offsets` that runs meanwhile has then moved nothing.
        self._uncommitted.begin(known.values())
        # Before the look-up: if the brokers do not answer the look-up, it must not skip messages.
        self._seek(back)
        self._uncommitted.settle(starts)
        begun: dict[int, int] = {}
        try:
            missing = known.keys() - starts.keys() - back.keys()
            begun = self._offsets_at(dict.fromkeys(missing, self._auto_offset_reset))
            self._seek(begun)
        finally:
            # Only now: until they are where they start, no other thread may commit them.
            self._add([(number, partition, starts.get(number, 0)) for number, partition in known.items()])
            self._pass(begun)
            self._partitions = self._partitions | set(known.values())
            self._uncommitted.settle(begun)
            for number, position in back.items():
                self._uncommitted.go_on(number, position, starts.get(number, 0))
        if resets:
            self._commit(begun)
        else:
            self._commit_starts(begun)

    def _on_revoked(self, numbers: list[int]) -> None:
        """Called by the engine before it gives up these partitions; no more messages of them are handed out."""
        if self._is_running():
            positions = {number: self._position(number) for number in numbers}
            gone = [partition for partition in self._partitions if partition.id in set(numbers)]
            self._lose(numbers, commits=True)
            with contextlib.suppress(KafkaException):
                committed = self._committed_of(gone)
                self._given_up |= {
                    number: (at, committed.get(number)) for number, at in positions.items() if at is not None
                }

    def _on_lost(self, numbers: list[int]) -> None:
        """Called by the engine: other members may already have these partitions."""
        if self._is_running():
            self._given_up.clear()
            self._lose(numbers, commits=False)

    def _lose(self, numbers: Iterable[int], commits: bool) -> None:
        if self._held_before is None:
            self._held_before = self._held()
        with contextlib.suppress(ConsumerStoppedException):
            self._give_up({partition for partition in self._partitions if partition.id in set(numbers)}, commits)

    def _share_out(self, members: list[str]) -> dict[str, list[int]]:
        """Called by the engine on the group's leader, to apply the program's own rule."""
        if self._rule is None:
            raise KafkaException("the group uses one of Kafka's assignors")
        ids, partitions = [member.encode() for member in members], dict(self._topic.partitions)
        decide = self._rule.decide_partitions
        shares = {id_: self._at_home(decide, ids, partitions, id_) for id_ in ids}
        return {id_.decode(): sorted(partition.id for partition in share) for id_, share in shares.items()}


def _user_data(rule: GroupMembershipProtocol) -> bytes:
    data = getattr(rule.metadata, "user_data", b"")
    return data if isinstance(data, bytes) else b""


__all__ = ["ManagedBalancedConsumer"]
