"""`RdKafkaProducer`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..common import CompressionType
from ..producer import Producer

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..topic import Topic


class RdKafkaProducer(Producer):
    """A `Producer` with the arguments of pykafka 2's class for librdkafka.

    They have the meaning and defaults of `Producer`. It has no `block_on_queue_full`, `queue_empty_timeout_ms` and
    `pending_timeout_ms`: `produce` waits for buffer memory, and `stop` for all messages.
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
        min_queued_messages: int = 2000,
        linger_ms: int = 5,
        max_request_size: int = 1_048_576,
        sync: bool = False,
        delivery_reports: bool = False,
        auto_start: bool = True,
        serializer: Callable[[Any, Any], tuple[bytes | None, bytes | None]] | None = None,
    ) -> None:
        super().__init__(
            cluster,
            topic,
            partitioner=partitioner,
            compression=compression,
            max_retries=max_retries,
            retry_backoff_ms=retry_backoff_ms,
            required_acks=required_acks,
            ack_timeout_ms=ack_timeout_ms,
            max_queued_messages=max_queued_messages,
            min_queued_messages=min_queued_messages,
            linger_ms=linger_ms,
            max_request_size=max_request_size,
            sync=sync,
            delivery_reports=delivery_reports,
            auto_start=auto_start,
            serializer=serializer,
        )
