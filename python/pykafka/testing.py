"""An in-memory Kafka in this process, for tests and for trying things out.

It speaks the real protocol on a real port::

    with pykafka.testing.Broker() as broker:
        client = pykafka.KafkaClient(broker.bootstrap_servers)

It can be an older Kafka, to see whether a program works with it::

    with pykafka.testing.Broker(version="0.9") as broker:
        client = pykafka.KafkaClient(broker.bootstrap_servers)

With TLS and SASL, a program can be tested as it is in production::

    with pykafka.testing.Broker(tls=True, sasl={"alice": "alice-secret"}) as broker:
        client = pykafka.KafkaClient(
            broker.bootstrap_servers,
            ssl_config=pykafka.SslConfig(broker.ca_file),
            sasl=pykafka.sasl.Scram("alice", "alice-secret"),
        )
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import _engine

_FILES = ("ca.pem", "client.pem", "client.key")


def _check_users(sasl: Any) -> None:
    try:
        if not isinstance(sasl, Mapping | None):
            raise TypeError(f"sasl must be a dict of users and their passwords, not {type(sasl).__name__}")
        for thing in [*sasl, *sasl.values()] if sasl else []:
            if not isinstance(thing, str):
                raise TypeError(f"sasl must have users and passwords that are str, not {type(thing).__name__}")
    finally:
        # A traceback that shows local variables must not show the passwords.
        thing = sasl = None


class Broker:
    """An in-memory cluster that listens on loopback ports. It starts empty; when it stops, everything is lost.

    :param brokers: the number of brokers; their ids start at 1.
    :param partitions: the number of partitions of a topic that is created automatically.
    :param ports: the ports of the brokers; for missing ones, free ports are used.
    :param version: the version of Kafka to be, from "0.8.2" on, with what that version has and no more; by default the
        newest. Of a patch release, like "0.9.0.1", the first numbers count.
    :param tls: speak TLS on all ports, with a certificate for 127.0.0.1 and `localhost` from an authority that is made
        now and forgotten with the broker: see `ca_file`.
    :param client_certificates: with TLS, refuse clients without a certificate of that authority: see
        `client_certificate_file` and `client_key_file`.
    :param sasl: the password of each user, as PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 want it. OAUTHBEARER takes
        unsecured tokens, and believes whoever they name. Without it nobody needs to authenticate.
    :param sasl_mechanisms: the mechanisms that clients may use; by default all four.
    :param session_lifetime_ms: how long a connection may be used before it must authenticate again.
    """

    def __init__(
        self,
        brokers: int = 1,
        partitions: int = 1,
        ports: Sequence[int] = (),
        *,
        version: str | None = None,
        tls: bool = False,
        client_certificates: bool = False,
        sasl: Mapping[str, str] | None = None,
        sasl_mechanisms: Sequence[str] | None = None,
        session_lifetime_ms: int | None = None,
    ) -> None:
        try:
            if client_certificates and not tls:
                raise ValueError("client_certificates: only a broker with tls=True can ask for certificates")
            if sasl is None and (sasl_mechanisms, session_lifetime_ms) != (None, None):
                raise ValueError("sasl_mechanisms and session_lifetime_ms: only a broker with sasl={...} has them")
            _check_users(sasl)
            self._broker = _engine.Broker(
                brokers,
                partitions,
                list(ports),
                client_certificates if tls else None,
                None if sasl is None else (dict(sasl), sasl_mechanisms, session_lifetime_ms),
                version,
            )
        finally:
            # A traceback that shows local variables must not show the passwords.
            del sasl
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if certificates := self._broker.certificates:
            self._folder = tempfile.TemporaryDirectory(prefix="pykafka-broker-")
            for name, text in zip(_FILES, certificates, strict=True):
                # The folder is the user's alone.
                (Path(self._folder.name) / name).write_text(text)

    def _file(self, name: str) -> str:
        if not self._folder:
            raise ValueError("this broker has no certificates: start it with tls=True")
        return str(Path(self._folder.name) / name)

    @property
    def ca_file(self) -> str:
        """With TLS, the file with the authority's certificate, in PEM, until the broker stops."""
        return self._file("ca.pem")

    @property
    def client_certificate_file(self) -> str:
        """With TLS, the file with a client's certificate, in PEM."""
        return self._file("client.pem")

    @property
    def client_key_file(self) -> str:
        """With TLS, the file with the key of that certificate, in PEM."""
        return self._file("client.key")

    def set_password(self, user: str, password: str) -> None:
        """Changes a user's password, or adds a user. Connections that are authenticated stay so."""
        try:
            self._broker.set_password(user, password)
        finally:
            # A traceback that shows local variables must not show it.
            del password

    @property
    def bootstrap_servers(self) -> str:
        """The addresses, for `KafkaClient(hosts=...)`."""
        return self._broker.bootstrap_servers

    def create_topic(self, name: str, partitions: int = 1, replication_factor: int = 1) -> None:
        """Creates a topic."""
        self._broker.create_topic(name, partitions, replication_factor)

    def set_broker_down(self, broker_id: int) -> None:
        """Stops a broker: closes its connections, refuses new ones, and moves its partitions to other leaders."""
        self._broker.set_broker_down(broker_id)

    def set_broker_up(self, broker_id: int) -> None:
        """Starts a stopped broker again, on its old port."""
        self._broker.set_broker_up(broker_id)

    def refuse_produce(self, error_code: int, times: int = 1) -> None:
        """Answers the next `times` produce requests with an error code, without executing them."""
        self._broker.refuse_produce(error_code, times)

    def refuse_commits(self, error_code: int, times: int = 1) -> None:
        """Answers the next `times` offset commits with an error code, without executing them."""
        self._broker.refuse_commits(error_code, times)

    def silence(self) -> None:
        """From now on, reads requests but answers none."""
        self._broker.silence()

    def delay(self, milliseconds: int) -> None:
        """From now on, delays every response."""
        self._broker.delay(milliseconds)

    def heal(self) -> None:
        """Ends `silence`, `delay`, `refuse_produce` and `refuse_commits`.

        Connections on which a request was left without an answer are closed, so that clients send it again.
        """
        self._broker.heal()

    def stop(self) -> None:
        """Closes all connections and ports; does nothing if it is stopped."""
        self._broker.stop()
        if self._folder:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        # A debugger shows also one whose constructor fails.
        servers = self.bootstrap_servers if "_broker" in vars(self) else "not started"
        return f"<{type(self).__module__}.{type(self).__name__} ({servers})>"
