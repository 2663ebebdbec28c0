"""Names of topics, groups and hosts, and where a cluster is found.

Kafka keeps names in ASCII; pykafka shows them as bytes and accepts both.
"""

from .. import _engine
from ..exceptions import UnicodeException


def to_bytes(name: str | bytes, what: str) -> bytes:
    """A name as bytes.

    :raises UnicodeException: if it is not ASCII.
    :raises TypeError: if it is neither str nor bytes.
    """
    if not isinstance(name, (str, bytes)):
        raise TypeError(f"{what} must be bytes or str, not {type(name).__name__}")
    try:
        return name.encode("ascii") if isinstance(name, str) else name.decode("ascii").encode("ascii")
    except UnicodeError:
        raise UnicodeException(f"{what} must be ASCII, not {name!r}") from None


def parse_hosts(hosts: str | bytes) -> list[tuple[str, int]]:
    """The addresses in a comma-separated list of `host:port`, each once, in order.

    Without a port it is 9092. An IPv6 address stands in brackets. White space around an element does not count. What
    follows a `/` is ignored, as in pykafka 2.

    :raises ValueError: naming the element that is wrong.
    """
    if not isinstance(hosts, (str, bytes)):
        raise ValueError(f"hosts must be a comma-separated list of host:port, not {hosts!r}")
    text = hosts.decode("ascii", "replace") if isinstance(hosts, bytes) else hosts
    elements = (element if "://" in element else element.partition("/")[0] for element in text.split(","))
    return _engine.parse_hosts(",".join(elements))
