"""TLS settings, and what remains of pykafka 2's connections."""

import os
import socket
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from . import _engine

__all__ = ["BrokerConnection", "SslConfig"]


class SslConfig:
    """How a client uses TLS: whom it trusts, and the certificate that it shows.

    A broker must have a certificate for the host that was dialled, signed by a trusted authority. All files are in PEM
    format, and are read again when they change; keys and certificates may also be given as text.

    :param cafile: the file with the certificates of the trusted authorities; None: those that the system trusts.
    :param certfile: the file with the client's own certificate, for brokers that require one.
    :param keyfile: the file with the private key for `certfile`; by default it is in `certfile`.
    :param password: the password of the private key, str or bytes; or a callable that returns it. It is called when a
        client is created, and again when one of the files has changed; if they cannot be used then, with new
        connections until they can, at most once a second.
    :param ca_pem: the text of a `cafile`. New in version 3, like the following.
    :param cert_pem: the text of a `certfile`. It is not shown, because people also paste the private key into it.
    :param key_pem: the text of a `keyfile`.
    :param check_hostname: False accepts a certificate for any host, so that everybody with a certificate of a trusted
        authority can pass for a broker.
    :param insecure_accept_any_certificate: True accepts every certificate, so that everybody on the network can pass
        for a broker and read passwords. Only for experiments.
    :param minimum_version: the oldest version of TLS: TLSv1.2 or TLSv1.3.
    """

    def __init__(
        self,
        cafile: str | os.PathLike[str] | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        password: str | bytes | Callable[[], str | bytes] | None = None,
        *,
        ca_pem: str | None = None,
        cert_pem: str | None = None,
        key_pem: str | None = None,
        check_hostname: bool = True,
        insecure_accept_any_certificate: bool = False,
        minimum_version: str = "TLSv1.2",
    ) -> None:
        try:
            _engine.check_ssl_argument("cafile", cafile)
            _engine.check_ssl_argument("certfile", certfile)
            _engine.check_ssl_argument("keyfile", keyfile)
            _engine.check_ssl_argument("ca_pem", ca_pem)
            _engine.check_ssl_argument("cert_pem", cert_pem)
            _engine.check_ssl_argument("check_hostname", check_hostname)
            _engine.check_ssl_argument("insecure_accept_any_certificate", insecure_accept_any_certificate)
            _engine.check_ssl_argument("minimum_version", minimum_version)
            self.cafile = cafile
            self.certfile = certfile
            self.keyfile = keyfile
            self.ca_pem = ca_pem
            self.check_hostname = check_hostname
            self.insecure_accept_any_certificate = insecure_accept_any_certificate
            self.minimum_version = minimum_version
            # Neither `vars` nor a debugger shows what is inside.
            self._password = (
                password if password is None or callable(password) else _engine.Secret(password, "password")
            )
            self._cert_pem = None if cert_pem is None else _engine.Secret(cert_pem, "cert_pem")
            self._key_pem = None if key_pem is None else _engine.Secret(key_pem, "key_pem")
        finally:
            # A traceback that shows local variables must not show secrets.
            del cafile, certfile, keyfile, password, cert_pem, key_pem

    @property
    def password(self) -> Any:
        """What was given as `password`."""
        return self._password.reveal() if isinstance(self._password, _engine.Secret) else self._password

    @property
    def cert_pem(self) -> Any:
        """What was given as `cert_pem`."""
        return None if self._cert_pem is None else self._cert_pem.reveal()

    @property
    def key_pem(self) -> Any:
        """What was given as `key_pem`."""
        return None if self._key_pem is None else self._key_pem.reveal()

    def wrap_socket(self, sock: socket.socket) -> NoReturn:
        """Not available: the engine owns the sockets.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError(
            "the engine owns the sockets, and encrypts them; pass this to KafkaClient(ssl_config=...)"
        )

    def _tls(self) -> _engine.Tls:
        return _engine.Tls(
            cafile=self.cafile,
            certfile=self.certfile,
            keyfile=self.keyfile,
            ca_pem=self.ca_pem,
            cert_pem=self._cert_pem,
            key_pem=self._key_pem,
            password=self._password,
            check_hostname=self.check_hostname,
            accept_any_certificate=self.insecure_accept_any_certificate,
            minimum_version=self.minimum_version,
        )

    def __repr__(self) -> str:
        # A debugger shows also one whose constructor fails, or whose attributes were changed.
        files = {name: vars(self).get(name) for name in ("cafile", "certfile", "keyfile")}
        shown = ", ".join(
            f"{name}={'***' if _engine.may_be_secret(file) else repr(file)}" for name, file in files.items()
        )
        return f"<{type(self).__module__}.{type(self).__name__} ({shown})>"


def _tls(ssl_config: Any) -> _engine.Tls | None:
    """The engine's settings for the argument `ssl_config` of a client.

    Warns the caller of `KafkaClient` if brokers are not verified.
    """
    if ssl_config is None:
        return None
    tls: Any = ssl_config._tls() if isinstance(ssl_config, SslConfig) else ssl_config
    if not isinstance(tls, _engine.Tls):
        kind = type(ssl_config).__name__
        # It may be a key, which a traceback that shows local variables must not show.
        del ssl_config, tls
        raise TypeError(
            f"ssl_config must be an SslConfig, not {kind}: the engine does not use Python's ssl; "
            "pass pykafka.SslConfig(cafile, certfile, keyfile, password) with the files that the context was made from"
        )
    if tls.unverified is not None:
        # This function, Cluster and KafkaClient come before the caller.
        warnings.warn(tls.unverified, stacklevel=4)
    return tls


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
