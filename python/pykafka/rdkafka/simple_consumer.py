"""`RdKafkaSimpleConsumer`."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..common import OffsetType
from ..partition import Partition
from ..simpleconsumer import SimpleConsumer

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..topic import Topic


class RdKafkaSimpleConsumer(SimpleConsumer):
    """A `SimpleConsumer` with the arguments of pykafka 2's class for librdkafka.

    They have the meaning and defaults of `SimpleConsumer`; only `queued_max_messages`, which is checked and ignored,
    has another default.
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
        queued_max_messages: int = 10**5,
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
    ) -> None:
        super().__init__(
            topic,
            cluster,
            consumer_group=consumer_group,
            partitions=partitions,
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
            auto_start=auto_start,
            reset_offset_on_start=reset_offset_on_start,
            compacted_topic=compacted_topic,
            generation_id=generation_id,
            consumer_id=consumer_id,
            deserializer=deserializer,
            reset_offset_on_fetch=reset_offset_on_fetch,
        )
