"""Writes messages to one topic.

This module checks the arguments and gives them to the engine. `produce` and `get_delivery_report`
are methods of the engine's class, so that no line of Python stands in the way of a message.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _engine
from .common import CompressionType
from .utils.error_handlers import valid_int

if TYPE_CHECKING:
    from .cluster import Cluster
    from .topic import Topic

#: How long a message may take to be acknowledged, in milliseconds. Kafka: `delivery.timeout.ms`.
DELIVERY_TIMEOUT_MS = 120_000


class Producer(_engine.Producer):
    """Writes messages to one topic; `topic.get_producer()` makes one.

    With the defaults a message counts as delivered when every in-sync replica has it, is stored once
    whatever is retried, and stays in the order of the `produce` calls within its partition. A
    message that fails makes those behind it in its partition fail too, unless it was refused for
    its own sake.

    :param partitioner: `f(partitions, key)` that returns one of the partitions. None: murmur2 of the
        key as Java does it; without a key, one partition per batch.
    :param compression: a `CompressionType`.
    :param max_retries: how often a batch is sent again; None: until `delivery_timeout_ms`.
    :param retry_backoff_ms: checked and not used: the wait grows from 100 ms to 1 s.
    :param required_acks: -1: every in-sync replica; 1: the leader alone; 0: nobody. With 0 and 1 messages
        can be lost and stored twice.
    :param ack_timeout_ms: how long the leader may wait for its replicas.
    :param max_queued_messages: how many messages may wait for their acknowledgement; None: only the
        client's memory (32 MiB for all its producers) counts.
    :param min_queued_messages: checked and not used: a batch leaves when it is full or has lingered.
    :param linger_ms: how long a batch waits for more messages. A lone message does not wait.
    :param queue_empty_timeout_ms: checked and not used: nothing polls.
    :param block_on_queue_full: whether `produce` waits for memory, up to 60 s, or raises
        `ProducerQueueFullError` at once.
    :param max_request_size: the largest message, and the largest request, in bytes.
    :param sync: whether `produce` returns only when its message is written.
    :param delivery_reports: whether there is a report of each message; see `get_delivery_report`.
    :param pending_timeout_ms: how long a sync `produce`, and `stop`, wait for outstanding messages; -1 or None:
        until they are resolved, which takes `delivery_timeout_ms` at most.
    :param auto_start: whether the constructor calls `start`.
    :param serializer: `f(value, key)` that returns both as bytes or None.
    :param delivery_timeout_ms: the limit from `produce` to the report. New in version 3.
    """

    def __init__(
        self,
        cluster: "Cluster",
        topic: "Topic",
        partitioner: Callable[[list[Any], bytes | None], Any] | None = None,
        compression: int = CompressionType.NONE,
        max_retries: int | None = None,
        retry_backoff_ms: int = 100,
        required_acks: int = -1,
        ack_timeout_ms: int = 10 * 1000,
        max_queued_messages: int | None = None,
        min_queued_messages: int = 70000,
        linger_ms: int = 5,
        queue_empty_timeout_ms: int = 0,
        block_on_queue_full: bool = True,
        max_request_size: int = 1_048_576,
        sync: bool = False,
        delivery_reports: bool = False,
        pending_timeout_ms: int | None = None,
        auto_start: bool = True,
        serializer: Callable[[Any, Any], tuple[bytes | None, bytes | None]] | None = None,
        *,
        delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
    ) -> None:
        valid_int(retry_backoff_ms, name="retry_backoff_ms")
        valid_int(min_queued_messages, name="min_queued_messages")
        valid_int(queue_empty_timeout_ms, allow_zero=True, allow_negative=True, name="queue_empty_timeout_ms")
        if compression not in (0, 1, 2, 3, 4):
            raise ValueError(f"compression must be a CompressionType, not {compression!r}")
        if valid_int(required_acks, allow_zero=True, allow_negative=True, name="required_acks") < -1:
            raise ValueError(f"required_acks must be -1, 0 or 1, not {required_acks!r}")
        for name, function in {"partitioner": partitioner, "serializer": serializer}.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be callable, not {type(function).__name__}")
        self._cluster = cluster
        self._topic = topic
        self._settings = _engine.ProducerSettings(
            acks=int(required_acks),
            ack_timeout_ms=valid_int(ack_timeout_ms, name="ack_timeout_ms"),
            block_on_queue_full=bool(block_on_queue_full),
            compression=compression,
            delivery_reports=bool(delivery_reports) and not sync,
            delivery_timeout_ms=valid_int(delivery_timeout_ms, name="delivery_timeout_ms"),
            linger_ms=valid_int(linger_ms, allow_zero=True, name="linger_ms"),
            max_queued_messages=_optional(max_queued_messages, "max_queued_messages"),
            max_request_size=valid_int(max_request_size, name="max_request_size"),
            max_retries=_optional(max_retries, "max_retries", allow_zero=True),
            pending_timeout_ms=_limit(pending_timeout_ms, "pending_timeout_ms"),
            sync=bool(sync),
            partitioner=partitioner,
            partitions=lambda: list(topic.partitions.values()),
            serializer=serializer,
        )
        if auto_start:
            self.start()

    def start(self) -> None:
        """Makes the producer ready for messages; does nothing if it is. A stopped producer can be started again."""
        self._open(self._cluster._engine, self._topic.name.decode("ascii"), self._settings)

    def stop(self) -> None:
        """Sends what is buffered, waits until it is acknowledged and closes; does nothing if it is stopped.

        :raises ProduceFailureError: if a message was not delivered and nobody has been told: its
            report could not be read (`delivery_reports` is off), or the time did not suffice.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        # Garbage collection must not wait: the engine goes on sending, and the interpreter's exit waits for it.
        self._abandon()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (topic={self._topic.name!r})>"


def _optional(value: int | None, name: str, allow_zero: bool = False) -> int | None:
    return None if value is None else valid_int(value, allow_zero=allow_zero, name=name)


def _limit(value: int | None, name: str) -> int | None:
    """A time limit in which -1 and None both mean that there is none."""
    if value is None:
        return None
    number = valid_int(value, allow_zero=True, allow_negative=True, name=name)
    if number < -1:
        raise ValueError(f"{name} must be -1, for no limit, or more, not {value!r}")
    return None if number == -1 else number
