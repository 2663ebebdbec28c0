"""Kafka's compression codecs, as functions on bytes. The engine implements them; no other package is needed.

Each `decode_` function raises `MessageSetDecodeFailure` for malformed input.
"""

from typing import NoReturn

from .. import _engine
from ..exceptions import NotInThisRelease
from .error_handlers import valid_int

__all__ = [
    "decode_gzip",
    "decode_lz4",
    "decode_lz4_old_kafka",
    "decode_lz4f",
    "decode_snappy",
    "decode_zstd",
    "encode_gzip",
    "encode_lz4",
    "encode_lz4_old_kafka",
    "encode_snappy",
    "encode_zstd",
]

#: The largest output of one call, in bytes: a small input can claim to be a huge one.
MAX_DECODED_BYTES = (1 << 31) - 1


def encode_gzip(buff: bytes) -> bytes:
    """Compresses with gzip."""
    return _engine.compress("gzip", bytes(buff), False)


def decode_gzip(buff: bytes) -> bytes:
    """Decompresses gzip."""
    return _engine.decompress("gzip", bytes(buff), MAX_DECODED_BYTES)


def encode_snappy(buff: bytes, xerial_compatible: bool = False, xerial_blocksize: int = 32 * 1024) -> bytes:
    """Compresses with Snappy.

    :param xerial_compatible: whether to use the framing of the Xerial library, which Kafka requires.
    :param xerial_blocksize: checked and ignored: blocks have 32 KiB.
    """
    valid_int(xerial_blocksize, name="xerial_blocksize")
    return _engine.compress("snappy", bytes(buff), bool(xerial_compatible))


def decode_snappy(buff: bytes) -> bytes:
    """Decompresses Snappy, with or without the framing of the Xerial library."""
    return _engine.decompress("snappy", bytes(buff), MAX_DECODED_BYTES)


def encode_lz4(buff: bytes) -> bytes:
    """Compresses with LZ4, in the LZ4 frame format."""
    return _engine.compress("lz4", bytes(buff), False)


def decode_lz4(buff: bytes) -> bytes:
    """Decompresses LZ4, in the LZ4 frame format."""
    return _engine.decompress("lz4", bytes(buff), MAX_DECODED_BYTES)


def decode_lz4f(buff: bytes) -> bytes:
    """The same as `decode_lz4`."""
    return decode_lz4(buff)


def encode_zstd(buff: bytes) -> bytes:
    """Compresses with Zstandard. New in version 3."""
    return _engine.compress("zstd", bytes(buff), False)


def decode_zstd(buff: bytes) -> bytes:
    """Decompresses Zstandard. New in version 3."""
    return _engine.decompress("zstd", bytes(buff), MAX_DECODED_BYTES)


def encode_lz4_old_kafka(buff: bytes) -> NoReturn:
    """Not available: only brokers older than 0.10 use such frames.

    :raises NotInThisRelease: always.
    """
    raise NotInThisRelease(_OLD_LZ4)


def decode_lz4_old_kafka(buff: bytes) -> NoReturn:
    """Not available: only brokers older than 0.10 use such frames.

    :raises NotInThisRelease: always.
    """
    raise NotInThisRelease(_OLD_LZ4)


_OLD_LZ4 = (
    "the LZ4 frames of brokers older than 0.10, whose header checksum is wrong, are not in this release of pykafka; "
    "encode_lz4 and decode_lz4 are for all others"
)
