"""Writes messages to one topic.

This module checks the arguments and passes them to the engine. `produce` and `get_delivery_report` are methods of the
engine's class, so that a message needs no line of Python.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

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

    With the defaults, a message counts as delivered when every in-sync replica has it. It is stored once, even after
    retries, and stays in the order of the `produce` calls within its partition. If a message fails, those behind it in
    its partition fail, too, unless the broker rejected it for what it is (too large, invalid).

    :param partitioner: `f(partitions, key)` that returns one of the partitions. None: murmur2 of the key, as in Kafka's
        Java client; without a key, one partition per batch.
    :param compression: a `CompressionType`.
    :param max_retries: how often a batch is retried; None: until `delivery_timeout_ms`.
    :param retry_backoff_ms: checked and ignored: the wait grows from 100 ms to 1 s.
    :param required_acks: -1: every in-sync replica; 1: the leader only; 0: no acknowledgement. With 0 and 1, messages
        can be lost, or stored twice. Every other number means -1.
    :param ack_timeout_ms: how long the leader may wait for its replicas.
    :param max_queued_messages: how many messages may wait for their acknowledgement; None: limited only by the client's
        buffer (32 MiB for all its producers).
    :param min_queued_messages: checked and ignored: a batch is sent when it is full or has lingered.
    :param linger_ms: how long a batch waits for more messages. A lone message does not wait.
    :param queue_empty_timeout_ms: checked and ignored: nothing polls.
    :param block_on_queue_full: whether `produce` waits for buffer memory, up to 60 s, or raises
        `ProducerQueueFullError` at once.
    :param max_request_size: the largest message, and the largest request, in bytes.
    :param sync: whether `produce` returns only when the message is stored.
    :param delivery_reports: whether each message gets a report; see `get_delivery_report`.
    :param pending_timeout_ms: how long a sync `produce`, and `stop`, wait for messages to be stored; -1 or None: at
        most `delivery_timeout_ms`.
    :param auto_start: whether the constructor calls `start`.
    :param serializer: `f(value, key)` that returns both as bytes or None.
    :param delivery_timeout_ms: the time from `produce` to the report, at most. New in version 3.
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
        for name, function in {"partitioner": partitioner, "serializer": serializer}.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be callable, not {type(function).__name__}")
        self._cluster = cluster
        self._topic = topic
        self._settings = _engine.ProducerSettings(
            acks=valid_int(required_acks, allow_zero=True, allow_negative=True, name="required_acks"),
            ack_timeout_ms=valid_int(ack_timeout_ms, allow_zero=True, name="ack_timeout_ms"),
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
        """Starts the producer; does nothing if it runs. A stopped producer can be started again."""
        self._cluster._register(self)
        self._open(self._cluster._engine, self._topic.name.decode("ascii"), self._settings)

    def stop(self) -> None:
        """Sends what is buffered, waits until it is acknowledged, and stops; does nothing if it is stopped.

        :raises ProduceFailureError: if a message was not delivered and that was not reported: `delivery_reports` is
            off, or the time was too short.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _drop(self) -> None:
        """Stops without waiting: the engine sends in the background, and the interpreter's exit waits for it."""
        self._abandon()

    def __del__(self) -> None:
        self._abandon()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} (topic={self._topic.name!r})>"


def __getattr__(name: str) -> NoReturn:
    if name == "OwnedBroker":
        # The import statement hides the text of an AttributeError.
        raise ImportError(
            f"pykafka.producer.{name} does not exist in pykafka 3: the engine keeps the messages of all brokers in one "
            "place; use Producer",
            name=__name__,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _optional(value: int | None, name: str, allow_zero: bool = False) -> int | None:
    return None if value is None else valid_int(value, allow_zero=allow_zero, name=name)


def _limit(value: int | None, name: str) -> int | None:
    """A time limit for which both -1 and None mean that there is none."""
    if value is None:
        return None
    number = valid_int(value, allow_zero=True, allow_negative=True, name=name)
    if number < -1:
        raise ValueError(f"{name} must be -1, for no limit, or more, not {value!r}")
    return None if number == -1 else number
