"""Datetimes and Kafka's milliseconds. As everywhere in pykafka, a naive datetime is UTC."""

from datetime import UTC, datetime, timedelta

from ..common import EPOCH


def to_timestamp_ms(when: datetime | int) -> int:
    """Milliseconds since 1970; a number stays as it is.

    :raises TypeError: if it is neither a datetime nor an int.
    """
    if isinstance(when, datetime):
        naive = when if when.tzinfo is None else when.astimezone(UTC).replace(tzinfo=None)
        return (naive - EPOCH) // timedelta(milliseconds=1)
    if isinstance(when, int):
        return when
    raise TypeError(f"a time must be a datetime or milliseconds since 1970, not {type(when).__name__}")
