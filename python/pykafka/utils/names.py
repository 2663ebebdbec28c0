"""Names of topics, groups and hosts, and where a cluster is found.

Kafka keeps names in ASCII; pykafka shows them as bytes and accepts both.
"""

import re
from collections.abc import Iterable

from ..exceptions import UnicodeException

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")


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

    An IPv6 address stands in brackets. What follows a `/` is ignored, as in pykafka 2.

    :raises ValueError: naming the element that is wrong.
    """
    if not isinstance(hosts, (str, bytes)):
        raise ValueError(f"hosts must be a comma-separated list of host:port, not {hosts!r}")
    text = hosts.decode("ascii", "replace") if isinstance(hosts, bytes) else hosts
    elements = [element.strip(" ") for element in text.split(",")]
    addresses = [_parse_host(element) for element in elements if element]
    if not addresses:
        raise ValueError(f"hosts names no broker: {hosts!r}; give host:port, separated by commas")
    return _unique(addresses)


def _parse_host(element: str) -> tuple[str, int]:
    if "://" in element:
        raise ValueError(f"hosts: {element!r} begins with a protocol; give host:port")
    host, colon, port = element.partition("/")[0].rpartition(":")
    if not colon or not host:
        raise ValueError(f"hosts: {element!r} has no {'host' if colon else 'port'}; give host:port")
    if host.startswith("[") and host.endswith("]"):
        host, valid = host[1:-1], _IPV6.fullmatch(host[1:-1])
    elif ":" in host:
        raise ValueError(f"hosts: {element!r} has too many colons; give an IPv6 address as [address]:port")
    else:
        valid = _HOST.fullmatch(host)
    if not valid or len(host) > 255:
        raise ValueError(f"hosts: {element!r} does not begin with a host name or address")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"hosts: the port in {element!r} must be a number from 1 to 65535")
    return host, int(port)


def _unique(addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return list(dict.fromkeys(addresses))
