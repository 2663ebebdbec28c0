"""Names of topics, groups and hosts, and addresses.

Kafka's names are ASCII; pykafka returns them as bytes, and accepts bytes and str.
"""

import socket

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
    """Parses a comma-separated list of `host:port`; keeps the order, and drops duplicates.

    Without a port it is 9092. An IPv6 address needs brackets. White space around an entry is ignored and, as in pykafka
    2, so is everything after a `/`.

    :raises ValueError: with the invalid entry.
    """
    if not isinstance(hosts, (str, bytes)):
        raise ValueError(f"hosts must be a comma-separated list of host:port, not {hosts!r}")
    text = hosts.decode("ascii", "replace") if isinstance(hosts, bytes) else hosts
    elements = (element if "://" in element else element.partition("/")[0] for element in text.split(","))
    return _engine.parse_hosts(",".join(elements))


def parse_source_address(source_address: str | bytes | None) -> str:
    """The IP address of `host` or `host:0`; empty for none.

    :raises TypeError: if it is neither str, bytes nor None.
    :raises ValueError: if there is a port, or the host has no address.
    """
    if source_address is None:
        return ""
    if not isinstance(source_address, (str, bytes)):
        raise TypeError(f"source_address must be str, not {type(source_address).__name__}")
    text = source_address.decode("ascii", "replace") if isinstance(source_address, bytes) else source_address
    host, colon, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    if colon and port != "0":
        raise ValueError(
            f"source_address={text!r} has a port, but a client has several connections to a broker, which cannot share "
            "one; give the host alone"
        )
    if not host:
        return ""
    try:
        address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise ValueError(f"source_address={text!r} is not an address: {error}") from error
    return str(address)
