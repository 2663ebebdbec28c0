"""A member of a group whose members share a topic's partitions through ZooKeeper: claims them, and gives them up."""

import logging
import os
import threading
import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _forks, _greenlets, _znodes
from .exceptions import (
    ConsumerStoppedException,
    KafkaException,
    PartitionOwnedError,
    UnknownTopicOrPartition,
    ZooKeeperError,
)
from .membershipprotocol import leader_id
from .partition import Partition

if TYPE_CHECKING:
    from .balancedconsumer import BalancedConsumer

log = logging.getLogger(__name__)


class Member:
    """The thread that maintains a consumer's membership. It does not keep the consumer alive."""

    def __init__(self, consumer: "BalancedConsumer", client: Any) -> None:
        self._process = os.getpid()
        # Log records must not keep the consumer alive.
        self._about = repr(consumer)
        self._changed = threading.Event()
        self._is_ending = False
        self._consumer = weakref.ref(consumer, lambda _: self._changed.set())
        self._keeps_client = consumer._zookeeper is not None
        self._errors = (KafkaException, _znodes.KazooException)
        # Nothing is handed out before the session is confirmed.
        consumer._fence(0)
        self._nodes = _znodes.Znodes(
            client,
            consumer._group or "",
            consumer._topic.name,
            consumer.consumer_id,
            consumer._zookeeper_timeout_ms,
            changed=self._changed.set,
            lost=self._session_lost,
        )
        retries, self._backoff = consumer._rebalance_max_retries, consumer._rebalance_backoff_ms / 1000
        self._patience = self._backoff * retries * max(retries - 1, 0) / 2
        self._known_partitions = self._created_partitions = 0
        self._is_unsettled = True
        self._leaving, self._has_left = _forks.Lock(), False
        self._first: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="pykafka.BalancedConsumer", daemon=True)

    def start(self) -> None:
        """Takes the member's partitions; returns when that is done, or raises what prevents it."""
        self._thread.start()
        _greenlets.apart(self._first.result)

    def begin_to_end(self) -> None:
        """Makes the thread leave the group; does not wait for that."""
        self._is_ending = True
        self._changed.set()

    def end(self) -> None:
        """Leaves the group; does nothing in a forked child, because the parent is the member."""
        self.begin_to_end()
        if self._process != os.getpid():
            return
        if not self._keeps_client:
            # This also ends whatever the thread is waiting for.
            self._leave()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            # Only the program's own callback can still block the thread without a limit.
            self._thread.join(2 * self._nodes.session_ms / 1000)

    def has_heard(self, consumer: "BalancedConsumer") -> bool:
        """Whether ZooKeeper still knows the member; if so, its partitions are its own for another session."""
        sent_ms = consumer._now_ms()
        try:
            is_member = self._nodes.is_member()
        except self._errors:
            return False
        if is_member:
            consumer._fence(sent_ms + self._nodes.session_ms)
        return is_member

    def _session_lost(self) -> None:
        consumer = self._consumer()
        if consumer is not None:
            consumer._fence(0)

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._leaving:
            if self._has_left:
                return
            self._has_left = True
        try:
            self._nodes.close(self._keeps_client)
        except self._errors as error:
            log.warning("the nodes of a member that ended stay until its session ends: %s", error)

    def _follow(self) -> None:
        while not self._is_ending:
            consumer = self._consumer()
            if consumer is None:
                return
            try:
                self._look(consumer)
            except BaseException as error:
                # The callback may also call sys.exit().
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                if not self._is_ending:
                    log.error("%s: %s", self._about, error)
                    consumer._raise_later(error)
            if not self._first.done():
                self._first.set_result(None)
            del consumer
            self._changed.wait(self._nodes.session_ms / 3000)

    def _look(self, consumer: "BalancedConsumer") -> None:
        """Confirms the membership, and rebalances if something has changed."""
        has_heard = self.has_heard(consumer)
        if self._changed.is_set() or len(consumer._topic.partitions) != self._known_partitions:
            self._is_unsettled = True
        # Cut off from ZooKeeper. Reconnecting will be a change; until then the fence stays.
        if self._is_unsettled and (has_heard or self._nodes.client.connected):
            self._rebalance(consumer)

    def _rebalance(self, consumer: "BalancedConsumer") -> None:
        old, before = consumer._held(), consumer._partitions
        try:
            self._settle(consumer)
        finally:
            # Every change makes a new set, so this also detects partitions that were lost and returned.
            if consumer._partitions is not before and not self._is_ending:
                consumer._rebalanced(old)
            if consumer._is_fenced():
                self.has_heard(consumer)

    def _settle(self, consumer: "BalancedConsumer") -> None:
        """Gives up and takes partitions until the member has exactly its share.

        A partition may still be claimed by a member that has only just learnt of the change and commits before it gives
        the partition up. So it is normal that the first attempts fail.
        """
        deadline = time.monotonic() + self._patience
        while not self._is_ending:
            self._changed.clear()
            failure: Exception | None
            try:
                failure = self._exchange(consumer)
            except ConsumerStoppedException:
                return
            except self._errors as error:
                failure = error
            if failure is None:
                # ZooKeeper knows of new partitions before the brokers do.
                self._is_unsettled = self._known_partitions < self._created_partitions
                return
            if isinstance(failure.__cause__, UnknownTopicOrPartition):
                consumer._check_topic()
            left = deadline - time.monotonic()
            if left <= 0 and not isinstance(failure, KafkaException):
                # Many of kazoo's exceptions have no text.
                raise ZooKeeperError(f"{self._about} cannot take its partitions: {failure!r} in ZooKeeper") from failure
            if left <= 0:
                raise failure
            log.info("%s tries again to get its partitions: %s", self._about, failure)
            self._wait(consumer, min(self._backoff, left))

    def _exchange(self, consumer: "BalancedConsumer") -> PartitionOwnedError | None:
        """One attempt: the error that prevents it, or None."""
        nodes = self._nodes
        if not nodes.is_member():
            self._lose(consumer)
            nodes.join()
        wanted = self._decide(consumer)
        surplus = consumer._partitions - wanted
        if surplus:
            consumer._give_up(surplus, commits=True)
        claims = nodes.claims()
        for number in claims.keys() - {partition.id for partition in wanted}:
            nodes.release(self._own(claims, number))
        claimed = {partition for partition in wanted if self._claim(partition, claims)}
        # Two members may have claimed one partition under different leaders' names; both can see that now.
        claims = nodes.claims()
        for partition in claimed - consumer._partitions:
            if self._others(claims, partition.id):
                nodes.release(self._own(claims, partition.id))
                claimed.discard(partition)
        self.has_heard(consumer)
        consumer._take(claimed)
        for partition in sorted(wanted - claimed):
            for path in self._others(claims, partition.id):
                nodes.watch_claim(path)
            return PartitionOwnedError(
                partition,
                f"another member of group {consumer._group!r} has not given {partition!r} up; it goes on trying",
            )
        return None

    def _decide(self, consumer: "BalancedConsumer") -> set[Partition]:
        self._created_partitions = self._nodes.watch_cluster()
        consumer._cluster._engine.refresh()
        partitions = consumer._topic.partitions
        self._known_partitions = len(partitions)
        members = self._nodes.members()
        decide = consumer._membership_protocol.decide_partitions
        wanted = set(consumer._at_home(decide, members, dict(partitions), self._nodes.member))
        log.info("%d members share %d partitions; %d are ours", len(members), len(partitions), len(wanted))
        if not wanted:
            log.warning("there are more members than partitions: %s has none", self._about)
        return wanted

    def _claim(self, partition: Partition, claims: dict[int, dict[str, bytes]]) -> bool:
        if self._others(claims, partition.id):
            return False
        return self._nodes.claim(partition.id, leader_id(partition), self._own(claims, partition.id))

    def _own(self, claims: dict[int, dict[str, bytes]], partition: int) -> list[str]:
        return [path for path, owner in claims.get(partition, {}).items() if owner == self._nodes.member]

    def _others(self, claims: dict[int, dict[str, bytes]], partition: int) -> list[str]:
        return [path for path, owner in claims.get(partition, {}).items() if owner != self._nodes.member]

    def _lose(self, consumer: "BalancedConsumer") -> None:
        """The session has ended, and all claims with it: other members may already have the partitions."""
        if lost := consumer._partitions:
            numbers = sorted(partition.id for partition in lost)
            log.warning("%s has lost its session with ZooKeeper, and partitions %s with it", self._about, numbers)
            consumer._fence(0)
            consumer._give_up(lost, commits=False)

    def _wait(self, consumer: "BalancedConsumer", limit: float) -> None:
        """Waits for a change, and maintains the membership meanwhile."""
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0 and not self._is_ending:
            if self._changed.wait(min(left, self._nodes.session_ms / 3000)):
                return
            self.has_heard(consumer)


__all__ = ["Member"]
