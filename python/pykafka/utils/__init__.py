"""Ready-made serializers, and helpers of the other modules."""

from typing import Any

from . import compat as compat
from . import compression as compression
from . import error_handlers as error_handlers
from . import socket as socket
from .serde import deserialize_utf8, serialize_utf8

__all__ = ["deserialize_utf8", "serialize_utf8"]

#: Names of pykafka 2 for encoding messages and choosing their versions.
_OF_OLD_VERSIONS = frozenset({"ApiVersionAware", "Serializable", "VERSIONS_CACHE", "msg_protocol_version"})


def __getattr__(name: str) -> Any:
    if name in _OF_OLD_VERSIONS:
        # The import statement hides the text of an AttributeError.
        raise ImportError(
            f"pykafka.utils.{name} does not exist in pykafka 3: the engine encodes messages and negotiates versions "
            "with each broker by itself",
            name=__name__,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
