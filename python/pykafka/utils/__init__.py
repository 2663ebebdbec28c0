"""Stock serializers and the helpers of the other modules."""

from .serde import deserialize_utf8, serialize_utf8

__all__ = ["deserialize_utf8", "serialize_utf8"]
