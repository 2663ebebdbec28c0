"""Reads messages from given partitions.

This module decides where to start, and maintains pykafka's offset attributes. `consume` and iteration are methods of
the engine's class, so that a message needs no line of Python.

There are two kinds of offset here. The engine's *position* is the offset of the next message; pykafka's offsets are
those of the *last consumed* message, which are one less.
"""

import itertools
import logging
import socket
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _engine
from .common import OffsetType
from .exceptions import (
    ConsumerStoppedException,
    KafkaException,
    OffsetRequestFailedError,
    UnknownTopicOrPartition,
)
from .partition import Partition
from .protocol import OffsetFetchPartitionResponse
from .utils.error_handlers import valid_int
from .utils.names import to_bytes
from .utils.times import to_timestamp_ms

if TYPE_CHECKING:
    from .cluster import Cluster
    from .topic import Topic

log = logging.getLogger(__name__)

#: How many bytes one fetch may return. Kafka: `fetch.max.bytes`.
FETCH_MAX_BYTES = 50 << 20

#: How many bytes may be fetched ahead of `consume`.
FETCH_BUFFER = 64 << 20

#: How many bytes a group's name may have.
_LONGEST_GROUP = (1 << 15) - 1

#: The value in `held_offsets` for a partition from which no message was consumed.
NOTHING_CONSUMED = -2


class OwnedPartition:
    """The state of one of a consumer's partitions."""

    def __init__(self, consumer: "SimpleConsumer", partition: Partition) -> None:
        self.partition = partition
        self._consumer = consumer

    @property
    def next_offset(self) -> int:
        """The offset of the next message; 0 before the consumer's first start."""
        return self._consumer._next_offset(self.partition.id) or 0

    @property
    def last_offset_consumed(self) -> int:
        """The offset before `next_offset`; -1 at the beginning of the partition."""
        return self.next_offset - 1


class SimpleConsumer(_engine.Consumer):
    """Reads given partitions of one topic; `topic.get_simple_consumer()` makes one.

    Iteration ends when `consumer_timeout_ms` passes without a message. The consumer starts at the group's committed
    offset, if there is one; otherwise, with a group or `reset_offset_on_start`, where `auto_offset_reset` says;
    otherwise at the oldest message.

    :param consumer_group: the group that offsets are committed for.
    :param partitions: which of the topic's partitions to read; None: all.
    :param fetch_message_max_bytes: how many bytes of one partition one fetch may return.
    :param num_consumer_fetchers: checked and ignored: fetching takes no thread.
    :param auto_commit_enable: whether `consume` commits automatically. It commits only messages that earlier calls
        returned. Where it starts without a committed offset is committed at once.
    :param auto_commit_interval_ms: the time between two automatic commits.
    :param queued_max_messages: checked and ignored: `fetch_buffer` limits what is fetched ahead.
    :param fetch_min_bytes: how many bytes a broker waits for, up to `fetch_wait_max_ms`.
    :param fetch_error_backoff_ms: checked and ignored: the wait grows from 100 ms to 1 s.
    :param offsets_channel_backoff_ms: checked and ignored: the wait grows from 100 ms to 1 s.
    :param offsets_commit_max_retries: checked and ignored: commits and fetches of offsets are retried for the client's
        `offsets_channel_socket_timeout_ms`.
    :param auto_offset_reset: an `OffsetType`: where to continue if an offset is out of range.
    :param consumer_timeout_ms: how long `consume` waits for a message; 0 or less: for ever.
    :param auto_start: whether the constructor calls `start`.
    :param reset_offset_on_start: start where `auto_offset_reset` says and, with a group, commit that.
    :param compacted_topic: accepted and ignored: gaps between offsets are normal.
    :param generation_id: accepted and ignored.
    :param consumer_id: stored in the metadata of every committed offset.
    :param deserializer: `f(value, key)` that returns both, called by `consume`.
    :param reset_offset_on_fetch: whether `fetch_offsets` also moves the consumer.
    :param fetch_max_bytes: how many bytes one fetch may return. New in version 3.
    :param fetch_buffer: how many bytes may be fetched ahead of `consume`. New in version 3.
    """

    def __init__(
        self,
        topic: "Topic",
        cluster: "Cluster",
        consumer_group: str | bytes | None = None,
        partitions: Iterable[Partition] | None = None,
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
        auto_start: bool = True,
        reset_offset_on_start: bool = False,
        compacted_topic: bool = False,
        generation_id: int = -1,
        consumer_id: str | bytes = b"",
        deserializer: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        reset_offset_on_fetch: bool = True,
        *,
        fetch_max_bytes: int = FETCH_MAX_BYTES,
        fetch_buffer: int = FETCH_BUFFER,
    ) -> None:
        for name, value in {
            "num_consumer_fetchers": num_consumer_fetchers,
            "queued_max_messages": queued_max_messages,
            "fetch_error_backoff_ms": fetch_error_backoff_ms,
        }.items():
            valid_int(value, name=name)
        if auto_offset_reset not in (OffsetType.EARLIEST, OffsetType.LATEST):
            raise ValueError(f"auto_offset_reset must be an OffsetType, not {auto_offset_reset!r}")
        if deserializer is not None and not callable(deserializer):
            raise TypeError(f"deserializer must be callable, not {type(deserializer).__name__}")
        self._topic = topic
        self._cluster = cluster
        group = None if consumer_group is None else to_bytes(consumer_group, "consumer_group").decode("ascii")
        if group is not None and len(group) > _LONGEST_GROUP:
            raise ValueError(
                f"consumer_group has {len(group)} bytes, but Kafka's requests hold only {_LONGEST_GROUP}; "
                f"it begins with {group[:40]!r}"
            )
        # As in pykafka 2, an empty name means no group.
        self._group = group or None
        owned = self._own(partitions)
        self._partitions = {partition: OwnedPartition(self, partition) for partition in owned}
        #: Cycles over the owned partitions, for programs that use it; `consume` does not.
        self.partition_cycle = itertools.cycle(self._partitions.values())
        # Where a stopped consumer was moved to.
        self._moved_to: dict[int, int] = {}
        self._auto_commit_enable = bool(auto_commit_enable)
        self._auto_offset_reset = auto_offset_reset
        valid_int(offsets_channel_backoff_ms, allow_zero=True, name="offsets_channel_backoff_ms")
        valid_int(offsets_commit_max_retries, allow_zero=True, name="offsets_commit_max_retries")
        self._reset_offset_on_start = bool(reset_offset_on_start)
        self._reset_offset_on_fetch = bool(reset_offset_on_fetch)
        timeout_ms = valid_int(consumer_timeout_ms, allow_zero=True, allow_negative=True, name="consumer_timeout_ms")
        commit_interval_ms = valid_int(auto_commit_interval_ms, name="auto_commit_interval_ms")
        self._settings = _engine.ConsumerSettings(
            auto_commit_interval_ms=commit_interval_ms if self._auto_commit_enable and self._group else None,
            auto_offset_reset=auto_offset_reset,
            consumer_group=self._group,
            consumer_timeout_ms=timeout_ms if timeout_ms > 0 else None,
            fetch_buffer=valid_int(fetch_buffer, name="fetch_buffer"),
            fetch_max_bytes=valid_int(fetch_max_bytes, name="fetch_max_bytes"),
            fetch_message_max_bytes=valid_int(fetch_message_max_bytes, name="fetch_message_max_bytes"),
            fetch_min_bytes=valid_int(fetch_min_bytes, allow_zero=True, name="fetch_min_bytes"),
            fetch_wait_max_ms=valid_int(fetch_wait_max_ms, allow_zero=True, name="fetch_wait_max_ms"),
            deserializer=deserializer,
        )
        self.consumer_id = consumer_id
        self.generation_id = generation_id
        if auto_start:
            self.start()

    def _own(self, partitions: Iterable[Partition] | None) -> list[Partition]:
        known = self._topic.partitions
        owned = list(known.values() if partitions is None else partitions)
        for partition in owned:
            if not isinstance(partition, Partition):
                raise TypeError(f"partitions must be Partition objects, not {type(partition).__name__}")
            if known.get(partition.id) != partition:
                raise KafkaException(f"{partition!r} is not a partition of topic {self._topic.name!r}")
        return sorted(owned)

    @property
    def consumer_id(self) -> bytes:
        """The id that, with the host name, is stored in the metadata of every committed offset."""
        return self._consumer_id

    @consumer_id.setter
    def consumer_id(self, value: str | bytes) -> None:
        self._consumer_id = to_bytes(value, "consumer_id")
        import json

        who = {"consumer_id": self._consumer_id.decode("ascii"), "hostname": socket.gethostname()}
        self._settings.commit_metadata = json.dumps(who)

    @property
    def generation_id(self) -> int:
        """A value that the program can set; it has no effect."""
        return self._generation_id

    @generation_id.setter
    def generation_id(self, value: int) -> None:
        self._generation_id = valid_int(value, allow_zero=True, allow_negative=True, name="generation_id")

    @property
    def topic(self) -> "Topic":
        """The topic that it reads."""
        return self._topic

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions that it reads, by number."""
        return {partition.id: partition for partition in self._partitions}

    @property
    def held_offsets(self) -> dict[int, int]:
        """For each partition the offset of the last message handed out, or -2 if there is none."""
        return {
            partition.id: owned.last_offset_consumed if owned.next_offset > 0 else NOTHING_CONSUMED
            for partition, owned in self._partitions.items()
        }

    def start(self) -> None:
        """Finds the offsets to start at, and starts to fetch; does nothing if it runs.

        Without a group, a stopped consumer continues where it was, unless `reset_offset_on_start` is set.
        """
        if self._is_running():
            return
        self._cluster._register(self)
        reset = self._auto_offset_reset
        positions: dict[int, int] = {}
        if self._group is not None and not self._reset_offset_on_start:
            positions = {id_: answer.offset for id_, answer in self._committed() if answer.offset >= 0}
        elif not self._reset_offset_on_start:
            positions = self._known_positions()
            reset = OffsetType.EARLIEST
        missing = [partition.id for partition in self._partitions if partition.id not in positions]
        found = self._offsets_at(dict.fromkeys(missing, reset))
        positions.update(found)
        self._open(
            self._cluster._engine,
            self._topic.name.decode("ascii"),
            [(partition.id, partition, positions[partition.id]) for partition in self._partitions],
            self._settings,
            self._commit_failed,
        )
        self._moved_to.clear()
        if self._group is not None and self._reset_offset_on_start:
            self._commit(found)
        else:
            self._commit_starts(found)

    def _commit_starts(self, starts: dict[int, int]) -> None:
        """Commits where partitions start for which nothing was committed, if `auto_commit_enable` is set.

        If the consumer died before its first commit, the next one would start elsewhere, and might skip messages.
        """
        if self._group is not None and self._auto_commit_enable:
            try:
                self._commit(starts)
            except ConsumerStoppedException:
                raise
            except KafkaException as error:
                self._commit_failed(error)

    def stop(self) -> None:
        """Commits, if `auto_commit_enable` is set, and stops; does nothing if it is stopped.

        If the topic was deleted, there are no offsets to commit any more; that is logged.
        """
        self._stop(last_message_done=True)

    def _stop(self, last_message_done: bool) -> None:
        commits = self._auto_commit_enable and self._group is not None
        self._finish(commits, last_message_done)

    def _finish(self, commits: bool, last_message_done: bool, leave: tuple[_engine.Client, int] | None = None) -> None:
        """Closes the engine's consumer; with `commits`, commits before, unless the topic is gone."""
        try:
            self._close(self._cluster._engine if commits else None, last_message_done, leave)
        except UnknownTopicOrPartition as error:
            if self._missing_topic() is None:
                raise
            log.warning(
                "topic %r does not exist any more, so its offsets were not committed: %s",
                self._topic.name.decode("ascii"),
                error,
            )

    def _missing_topic(self) -> UnknownTopicOrPartition | None:
        """The error with which the brokers say that the topic does not exist; None if it does, or if none answers."""
        engine, name = self._cluster._engine, self._topic.name.decode("ascii")
        try:
            engine.refresh()
            engine.topic(name, False)
        except UnknownTopicOrPartition as error:
            return error
        except KafkaException as error:
            log.info("whether topic %r exists is not known, because no broker says so: %s", name, error)
        return None

    def fetch(self) -> None:
        """Does nothing: the engine fetches ahead by itself."""

    def cleanup(self) -> None:
        """Does nothing: `stop` cleans up."""

    def commit_offsets(self, partition_offsets: Iterable[tuple[Partition, int]] | None = None) -> None:
        """Commits offsets for the group.

        :param partition_offsets: for each partition the offset of the next message to read; None: for all partitions,
            the offset after the last message handed out. A consumer that was never started has nothing to commit then.
        :raises KafkaException: without a consumer_group, or for a partition that this consumer does not read.
        :raises ValueError: if an offset is invalid; nothing is committed.
        :raises ProtocolClientError: if the group's coordinator refuses the commit, or retries do not succeed.
        """
        if self._group is None:
            raise KafkaException("offsets can only be committed with a consumer_group")
        if partition_offsets is None:
            self._commit(self._known_positions())
            return
        positions = {self._check_owned(partition).id: offset for partition, offset in partition_offsets}
        for offset in positions.values():
            # A negative offset would count as no commit, and the group would start anew.
            if not isinstance(offset, int) or not 0 <= offset < 1 << 63:
                raise ValueError(f"an offset to commit must be an int from 0, not {offset!r}")
        self._commit(positions)

    def fetch_offsets(self) -> list[tuple[int, OffsetFetchPartitionResponse]]:
        """The group's committed offsets. Also moves the consumer there, unless `reset_offset_on_fetch` is off.

        :raises KafkaException: without a consumer_group.
        """
        if self._group is None:
            raise KafkaException("offsets can only be fetched with a consumer_group")
        committed = self._committed()
        if self._reset_offset_on_fetch:
            positions = {id_: answer.offset for id_, answer in committed if answer.offset >= 0}
            missing = [id_ for id_, answer in committed if answer.offset < 0]
            self._move({**positions, **self._offsets_at(dict.fromkeys(missing, self._auto_offset_reset))})
        return committed

    def reset_offsets(self, partition_offsets: Iterable[tuple[Partition, int | datetime]] | None = None) -> None:
        """Moves to other offsets and, with a group, commits them.

        :param partition_offsets: for each partition the offset of the last message to count as consumed, an
            `OffsetType`, or a datetime (naive: UTC). None: all partitions, to `auto_offset_reset`.
        :raises ValueError: if an offset is none of these.
        :raises OffsetRequestFailedError: if an offset cannot be found.
        """
        wanted: list[tuple[Partition, int | datetime]]
        if partition_offsets is None:
            wanted = [(partition, self._auto_offset_reset) for partition in self._partitions]
        else:
            wanted = [(self._check_owned(partition), offset) for partition, offset in partition_offsets]
        positions: dict[int, int] = {}
        lookups: dict[int, int] = {}
        for partition, offset in wanted:
            if isinstance(offset, datetime) or offset in (OffsetType.EARLIEST, OffsetType.LATEST):
                lookups[partition.id] = to_timestamp_ms(offset)
            elif isinstance(offset, int) and -2 < offset < (1 << 63) - 1:
                positions[partition.id] = offset + 1
            else:
                raise ValueError(f"an offset must be an int from -2, an OffsetType or a datetime, not {offset!r}")
        positions.update(self._offsets_at(lookups))
        self._move(positions)
        if self._group is not None:
            self._commit(positions)

    def _next_offset(self, partition: int) -> int | None:
        return self._moved_to.get(partition, self._position(partition))

    def _known_positions(self) -> dict[int, int]:
        known = {partition.id: self._next_offset(partition.id) for partition in self._partitions}
        return {id_: position for id_, position in known.items() if position is not None}

    def _move(self, positions: dict[int, int]) -> None:
        if self._is_running():
            self._pass(positions)
            self._seek(positions)
        else:
            self._moved_to.update(positions)

    def _check_owned(self, partition: Partition) -> Partition:
        if partition not in self._partitions:
            raise KafkaException(f"{partition!r} is not one of this consumer's partitions")
        return partition

    def _offsets_at(self, timestamps: dict[int, int]) -> dict[int, int]:
        """The offsets at these times; if no message is that new, the oldest offset, as in pykafka 2."""
        if not timestamps:
            return {}
        name = self._topic.name.decode("ascii")
        try:
            found = self._cluster._engine.list_offsets(name, timestamps, True)
        except KafkaException as error:
            raise OffsetRequestFailedError(f"no offset found in topic {name}: {error}") from error
        nothing = [partition for partition, offset in found.items() if offset is None]
        oldest = self._offsets_at(dict.fromkeys(nothing, OffsetType.EARLIEST))
        return {partition: oldest[partition] if offset is None else offset for partition, offset in found.items()}

    def _committed(self) -> list[tuple[int, OffsetFetchPartitionResponse]]:
        assert self._group is not None
        partitions = [partition.id for partition in self._partitions]
        found = self._cluster._engine.committed_offsets(self._group, self._topic.name.decode("ascii"), partitions)
        committed = ((partition, *found.get(partition, (-1, ""))) for partition in partitions)
        return [
            (partition, OffsetFetchPartitionResponse(offset, metadata.encode(), 0))
            for partition, offset, metadata in committed
        ]

    def _commit(self, positions: dict[int, int]) -> list[int]:
        """Commits offsets; returns the partitions that it left out because a group has taken them."""
        assert self._group is not None
        if not positions:
            return []
        left_out: list[int] | None = self._commit_offsets(self._cluster._engine, positions)
        if left_out is not None:
            return left_out
        self._cluster._engine.commit_offsets(
            self._group,
            self._topic.name.decode("ascii"),
            [(partition, offset, self._settings.commit_metadata) for partition, offset in positions.items()],
        )
        return []

    def _commit_failed(self, error: Exception) -> None:
        """Called by `consume` when the auto-commit of an earlier call has failed."""
        log.error("offsets of group %r were not committed; the next attempt follows: %s", self._group, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop(last_message_done=error is None)

    def _drop(self) -> None:
        """Stops without waiting for a commit, so the last messages are handed out again."""
        self._close(None, False)

    def __del__(self) -> None:
        self._close(None, False)

    def __repr__(self) -> str:
        group = "" if self._group is None else f", consumer_group={self._group!r}"
        return f"<{type(self).__module__}.{type(self).__name__} (topic={self._topic.name!r}{group})>"


__all__ = ["ConsumerStoppedException", "OwnedPartition", "SimpleConsumer"]
