"""A ready-made pair for `serializer=` and `deserializer=`: text as UTF-8."""


def serialize_utf8(value: str | bytes | None, partition_key: str | bytes | None) -> tuple[bytes | None, bytes | None]:
    """Encodes value and key as UTF-8; bytes and None stay as they are."""
    return _encode(value), _encode(partition_key)


def _encode(text: str | bytes | None) -> bytes | None:
    return text.encode("utf-8") if isinstance(text, str) else text


def deserialize_utf8(value: bytes | None, partition_key: bytes | None) -> tuple[str | None, str | None]:
    """Decodes value and key from UTF-8; None stays None."""
    return (
        None if value is None else value.decode("utf-8"),
        None if partition_key is None else partition_key.decode("utf-8"),
    )
