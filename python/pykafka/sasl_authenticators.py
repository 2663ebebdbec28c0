"""Credentials by the names of real-digital's fork of PyKafka 2.8; `pykafka.sasl` has more."""

import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from . import sasl

__all__ = ["BaseAuthenticator", "OauthBearerAuthenticator", "PlainAuthenticator", "ScramAuthenticator"]

_PROTOCOLS = (None, "SASL_PLAINTEXT", "SASL_SSL")


class BaseAuthenticator:
    """What the authenticators have in common. The engine speaks SASL itself, so a mechanism cannot be added here."""

    def __init__(self, mechanism: str, security_protocol: str | None = None) -> None:
        try:
            if security_protocol not in _PROTOCOLS:
                raise ValueError("security_protocol must be SASL_PLAINTEXT or SASL_SSL, and is the last argument")
            self.mechanism = mechanism
            self.security_protocol = security_protocol
        finally:
            # In another order of the arguments it is the password, which no traceback must show.
            del mechanism, security_protocol

    def authenticate(self, broker_connection: Any) -> NoReturn:
        """Not available: the engine owns the connections, and authenticates them.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("the engine authenticates its connections itself; pass this to KafkaClient(sasl=...)")

    def __repr__(self) -> str:
        # A debugger shows also one whose constructor fails.
        return f"<{type(self).__module__}.{type(self).__name__} ({vars(self).get('mechanism')})>"


class PlainAuthenticator(BaseAuthenticator):
    """PLAIN, as `pykafka.sasl.Plain`.

    :param security_protocol: SASL_SSL refuses a client without `ssl_config`.
    """

    def __init__(self, user: str, password: Any, security_protocol: str | None = None) -> None:
        try:
            super().__init__("PLAIN", security_protocol)
            self.user = user
            self._sasl = sasl.Plain(user, password)
        finally:
            # A traceback that shows local variables must not show it, whichever argument it is.
            del user, password, security_protocol


class ScramAuthenticator(BaseAuthenticator):
    """SCRAM, as `pykafka.sasl.Scram`.

    :param mechanism: SCRAM-SHA-256 or SCRAM-SHA-512.
    :param security_protocol: SASL_SSL refuses a client without `ssl_config`.
    """

    def __init__(self, mechanism: str, user: str, password: Any, security_protocol: str | None = None) -> None:
        try:
            self._sasl = sasl.Scram(user, password, mechanism)
            super().__init__(mechanism, security_protocol)
            self.user = user
        finally:
            # A traceback that shows local variables must not show it, whichever argument it is.
            del mechanism, user, password, security_protocol


class OauthBearerAuthenticator(BaseAuthenticator):
    """OAUTHBEARER, as `pykafka.sasl.OAuthBearer`.

    :param token: a callable that returns the token.
    :param security_protocol: SASL_SSL refuses a client without `ssl_config`.
    """

    def __init__(self, token: Callable[[], Any], security_protocol: str | None = None) -> None:
        try:
            super().__init__("OAUTHBEARER", security_protocol)
            self._sasl = sasl.OAuthBearer(token)
        finally:
            # It may be the token itself, which a traceback that shows local variables must not show.
            del token


def _mechanism(given: Any, authenticator: Any, ssl_config: Any) -> sasl.Mechanism | None:
    """What the arguments `sasl` and `sasl_authenticator` of a client say.

    Warns the caller of `KafkaClient` of a password or token that everybody on the network could read.
    """
    try:
        if given is not None and authenticator is not None:
            raise ValueError("sasl and sasl_authenticator are both set: keep one")
        chosen, name = (given, "sasl") if authenticator is None else (authenticator, "sasl_authenticator")
        if getattr(chosen, "security_protocol", None) == "SASL_SSL" and ssl_config is None:
            raise ValueError(
                f"{name} asks for SASL_SSL, but ssl_config is missing: give an SslConfig, or SslConfig(None) to trust "
                "the authorities that the system trusts"
            )
        if getattr(chosen, "security_protocol", None) == "SASL_PLAINTEXT" and ssl_config is not None:
            raise ValueError(
                f"{name} asks for SASL_PLAINTEXT, which is without TLS, but ssl_config is set: keep one of them"
            )
        if isinstance(chosen, BaseAuthenticator):
            chosen = getattr(chosen, "_sasl", chosen)
        if chosen is None or isinstance(chosen, sasl.Mechanism):
            if chosen is not None and chosen.sends_secret and ssl_config is None:
                warnings.warn(
                    f"SASL {chosen.name} without TLS: everybody on the network can read the credentials, and use them; "
                    "set ssl_config",
                    stacklevel=4,  # This function, Cluster and KafkaClient come before.
                )
            return chosen
        raise TypeError(
            f"{name} must be one of pykafka.sasl.Plain, Scram, OAuthBearer and Gssapi, not {type(chosen).__name__}"
        )
    finally:
        # What is refused may be a password, which a traceback that shows local variables must not show.
        del given, authenticator, ssl_config
        chosen = None
