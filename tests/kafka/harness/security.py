"""Secure listeners of a cluster: which there are, and the files and settings that they need.

Every secure listener has the host name `localhost`, and each mechanism the same user.
"""

import base64
import json

from . import HarnessError, certificates, kerberos

#: The user that every SASL mechanism knows, and its password.
USER, PASSWORD = "alice", "alice-secret"
#: How soon a client must authenticate again on the listener REAUTH, in milliseconds.
REAUTHENTICATION_MS = 10_000
#: What the listener OIDC expects in a token.
ISSUER, AUDIENCE = "https://localhost/kavka", "kafka"

_SASL = {"SASL_PLAINTEXT", "SASL_SSL", "SASL_MTLS", "REAUTH"}
# The security protocol of each listener, and the first version that has it.
_PROTOCOLS = {
    "SSL": ("SSL", (1, 1)),
    "MTLS": ("SSL", (1, 1)),
    "SASL_PLAINTEXT": ("SASL_PLAINTEXT", (1, 1)),
    "SASL_SSL": ("SASL_SSL", (1, 1)),
    "SASL_MTLS": ("SASL_SSL", (2, 8)),
    "REAUTH": ("SASL_SSL", (2, 2)),
    "OIDC": ("SASL_SSL", (3, 9)),
}
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


class Security:
    """What makes the listeners of one cluster secure; `create` writes its files.

    :param folder: where to write them.
    :param gssapi: whether there is a Kerberos server.
    """

    def __init__(self, folder, version, gssapi):
        if version < (1, 1):
            raise HarnessError("secure listeners need Kafka 1.1 or later, which configures each listener by itself")
        self._folder, self._version = folder / "security", version
        self._pem = version >= (2, 7)
        self.kdc = kerberos.Kdc(folder / "kerberos") if gssapi else None
        self.protocols = {name: protocol for name, (protocol, since) in _PROTOCOLS.items() if version >= since}

    def create(self):
        """Makes the certificates and keys, and starts the Kerberos server."""
        certificates.create(self._folder)
        if not self._pem:
            certificates.java_stores(self._folder)
        if "OIDC" in self.protocols:
            (self._folder / "jwks.json").write_text(json.dumps(_key_set(certificates.signing_key(self._folder))))
        if self.kdc:
            self.kdc.start()

    def is_ready(self):
        """Whether the Kerberos server, if there is one, gives the client a ticket."""
        return self.kdc is None or self.kdc.is_ready()

    @property
    def process(self):
        """The Kerberos server's process, if there is one."""
        return self.kdc and self.kdc.process

    def describe(self):
        """The files, names and passwords that a client needs."""
        names = {
            "ca": "ca.pem",
            "certificate": "client.pem",
            "key": "client.key",
            "encrypted_key": "client-encrypted.key",
            "key_and_certificate": "client-all.pem",
            "server_certificate": "server-all.pem",
            "token_key": "tokens.key",
        }
        told = {name: str(self._folder / file) for name, file in names.items()}
        told |= {"user": USER, "password": PASSWORD, "key_password": certificates.PASSWORD}
        told |= {"issuer": ISSUER, "audience": AUDIENCE, "mechanisms": self._mechanisms()}
        if self.kdc:
            told["kerberos"] = {
                "environment": self.kdc.environment,
                "principal": f"{kerberos.CLIENT}@{kerberos.REALM}",
                "keytab": str(self.kdc.client_keytab),
                "kinit": self.kdc.program("kinit"),
            }
        return told

    def settings(self):
        """The brokers' settings, besides the listeners' addresses."""
        settings = self._certificate_settings()
        for listener in ("mtls", "sasl_mtls"):
            settings[f"listener.name.{listener}.ssl.client.auth"] = "required"
        for listener in _SASL & self.protocols.keys():
            settings |= self._sasl_settings(f"listener.name.{listener.lower()}.")
        settings["listener.name.reauth.connections.max.reauth.ms"] = REAUTHENTICATION_MS
        if "OIDC" in self.protocols:
            settings |= self._oidc_settings("listener.name.oidc.")
        if self.kdc:
            settings["sasl.kerberos.service.name"] = "kafka"
        return settings

    def java_options(self):
        """Options for the brokers' Java."""
        # From 4.0 on, Kafka reads tokens and their keys only from where this allows.
        allowed = "org.apache.kafka.sasl.oauthbearer.allowed"
        options = [f"-D{allowed}.urls={self._key_set_url()}", f"-D{allowed}.files={self._folder / 'jwks.json'}"]
        if self.kdc:
            options.append(f"-Djava.security.krb5.conf={self.kdc.config}")
        return options

    def _mechanisms(self):
        mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
        if self._version >= (2, 0):
            mechanisms.append("OAUTHBEARER")
        return mechanisms + ["GSSAPI"] * bool(self.kdc)

    def _certificate_settings(self):
        if self._pem:
            return {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self._folder / "server-all.pem",
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self._folder / "ca.pem",
            }
        settings = {}
        for store, file in (("keystore", "server.p12"), ("truststore", "trust.p12")):
            settings[f"ssl.{store}.type"] = "PKCS12"
            settings[f"ssl.{store}.location"] = self._folder / file
            settings[f"ssl.{store}.password"] = certificates.PASSWORD
        return settings | {"ssl.key.password": certificates.PASSWORD}

    def _sasl_settings(self, prefix):
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        modules = {
            "plain": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
            "scram-sha-256": scram,
            "scram-sha-512": scram,
            "oauthbearer": f"{_OAUTH}.OAuthBearerLoginModule required;",
        }
        if self.kdc:
            modules["gssapi"] = (
                "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true isInitiator=false "
                f'keyTab="{self.kdc.service_keytab}" principal="{kerberos.SERVICE}@{kerberos.REALM}";'
            )
        mechanisms = self._mechanisms()
        settings = {f"{prefix}sasl.enabled.mechanisms": ",".join(mechanisms)}
        for mechanism in map(str.lower, mechanisms):
            settings[f"{prefix}{mechanism}.sasl.jaas.config"] = modules[mechanism]
        return settings

    def _oidc_settings(self, prefix):
        return {
            f"{prefix}sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{prefix}oauthbearer.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
            f"{prefix}oauthbearer.sasl.server.callback.handler.class": f"{_OAUTH}.OAuthBearerValidatorCallbackHandler",
            f"{prefix}sasl.oauthbearer.jwks.endpoint.url": self._key_set_url(),
            f"{prefix}sasl.oauthbearer.expected.issuer": ISSUER,
            f"{prefix}sasl.oauthbearer.expected.audience": AUDIENCE,
        }

    def _key_set_url(self):
        return (self._folder / "jwks.json").as_uri()


def _key_set(modulus):
    """The key with which the broker checks tokens, as a JSON Web Key Set."""
    digits = base64.urlsafe_b64encode(modulus.to_bytes(256)).rstrip(b"=").decode()
    return {"keys": [{"kty": "RSA", "kid": "kavka", "alg": "RS256", "use": "sig", "n": digits, "e": "AQAB"}]}
