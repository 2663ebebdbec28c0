"""TLS settings, and what remains of pykafka 2's connections."""

import socket
from typing import Any, NoReturn

from .exceptions import NotInThisRelease

__all__ = ["BrokerConnection", "SslConfig"]


class SslConfig:
    """The keys and certificates of a TLS connection. `KafkaClient(ssl_config=...)` refuses it in this release.

    :param cafile: the PEM file with the certificates of the trusted authorities.
    :param certfile: the PEM file with the client's own certificate, for brokers that require one.
    :param keyfile: the file with the private key for `certfile`.
    :param password: the password of `keyfile`.
    """

    def __init__(
        self,
        cafile: str | None,
        certfile: str | None = None,
        keyfile: str | None = None,
        password: str | bytes | None = None,
    ) -> None:
        self.cafile = cafile
        self.certfile = certfile
        self.keyfile = keyfile
        self.password = password

    def wrap_socket(self, sock: socket.socket) -> NoReturn:
        """Not available: the engine owns the sockets, and has no TLS in this release.

        :raises NotInThisRelease: always.
        """
        raise NotInThisRelease("TLS is not in this release of pykafka; connect to a listener without it")


class BrokerConnection:
    """Cannot be created: the engine owns the connections.

    :raises NotImplementedError: always; the text says what to use.
    """

    def __init__(
        self,
        host: str | bytes,
        port: int,
        handler: Any,
        buffer_size: int = 1024 * 1024,
        source_host: str = "",
        source_port: int = 0,
        ssl_config: Any = None,
    ) -> None:
        raise NotImplementedError(
            "BrokerConnection does not exist in pykafka 3, where the engine owns the connections; "
            "use KafkaClient and the methods of Broker"
        )
