"""A ready-made pair for `serializer=` and `deserializer=`: text as UTF-8."""


def serialize_utf8(value: str | None, partition_key: str | None) -> tuple[bytes | None, bytes | None]:
    """Encodes value and key as UTF-8; None stays None."""
    return (
        None if value is None else value.encode("utf-8"),
        None if partition_key is None else partition_key.encode("utf-8"),
    )


def deserialize_utf8(value: bytes | None, partition_key: bytes | None) -> tuple[str | None, str | None]:
    """Decodes value and key from UTF-8; None stays None."""
    return (
        None if value is None else value.decode("utf-8"),
        None if partition_key is None else partition_key.decode("utf-8"),
    )
