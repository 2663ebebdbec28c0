"""Names that several modules and every program share."""

from datetime import datetime
from typing import Final

from ._engine import Message

__all__ = ["EPOCH", "CompressionType", "Message", "OffsetType"]

#: The zero of Kafka's timestamps, as naive UTC like every datetime in pykafka.
EPOCH: Final = datetime(1970, 1, 1)


class CompressionType:
    """How a batch of messages is compressed."""

    NONE: Final = 0
    GZIP: Final = 1
    SNAPPY: Final = 2
    LZ4: Final = 3
    #: New in version 3.
    ZSTD: Final = 4


class OffsetType:
    """Names for the two ends of a partition."""

    EARLIEST: Final = -2
    LATEST: Final = -1
