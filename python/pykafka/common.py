"""Names that several modules and most programs use."""

from datetime import datetime
from typing import Final

from ._engine import Message

__all__ = ["EPOCH", "CompressionType", "Message", "OffsetType"]

#: The time 0 of Kafka's timestamps; naive UTC, like every datetime in pykafka.
EPOCH: Final = datetime(1970, 1, 1)


class CompressionType:
    """The compression of message batches."""

    NONE: Final = 0
    GZIP: Final = 1
    SNAPPY: Final = 2
    LZ4: Final = 3
    #: New in version 3.
    ZSTD: Final = 4


class OffsetType:
    """The beginning and the end of a partition, in place of an offset or a time."""

    EARLIEST: Final = -2
    LATEST: Final = -1
