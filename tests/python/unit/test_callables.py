"""Callables of the program that return a password, a token or a secret."""

import subprocess
import threading
import time
from pathlib import Path

import pykafka
import pytest
import tokens
from canaries import CANARY, connect
from pykafka import KafkaClient, SslConfig, sasl
from pykafka.exceptions import AuthenticationException
from pykafka.testing import Broker


class VaultIsSealed(Exception):
    """What a program's callable raises."""


def test_the_password_of_a_key_may_be_asked_for_and_what_that_raises_is_raised():
    def broken():
        raise LookupError("no vault")

    with pytest.raises(LookupError, match="no vault"):
        KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None, "/cert.pem", password=broken))
    with pytest.raises(TypeError, match="the password of the key must be str or bytes, not int"):
        KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None, "/cert.pem", password=lambda: 5))


class Vault:
    async def __call__(self):
        return CANARY


async def vault():
    return CANARY


@pytest.mark.parametrize("given", [vault, Vault()])
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("password", lambda given: sasl.Plain("alice", given)),
        ("password", lambda given: sasl.Scram("alice", given)),
        ("token", sasl.OAuthBearer),
        (
            "client_secret",
            lambda given: sasl.OAuthBearer(token_endpoint_url="https://a/", client_id="a", client_secret=given),
        ),
        ("password", lambda given: SslConfig(None, "/cert.pem", password=given)._tls()),
    ],
)
def test_an_async_callable_is_refused_in_words(argument, make, given):
    with pytest.raises(TypeError, match=f"{argument} must not be async: .* give a plain function"):
        make(given)


def encrypt(broker, path, password):
    """Writes the key of the broker's client, encrypted with this password."""
    key = Path(broker.client_key_file).read_bytes()
    command = ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{password}"]
    path.write_bytes(subprocess.run(command, input=key, stdout=-1, check=True).stdout)


def test_a_password_that_does_not_come_leaves_the_old_key_in_use(tmp_path):
    key, asked, told = tmp_path / "client.key", [], threading.Event()

    def password():
        asked.append("")
        if len(asked) > 1:
            told.wait()
        return "first"

    with Broker(tls=True, client_certificates=True) as broker:
        encrypt(broker, key, "first")
        tls = SslConfig(broker.ca_file, broker.client_certificate_file, key, password)
        with KafkaClient(broker.bootstrap_servers, ssl_config=tls) as client:
            encrypt(broker, key, "second")
            deadline = time.monotonic() + 60
            while len(asked) < 2:
                assert time.monotonic() < deadline
                with client.topics["renewed"].get_simple_consumer(consumer_timeout_ms=1):
                    pass
            for _ in range(3):
                with client.topics["renewed"].get_simple_consumer(consumer_timeout_ms=1):
                    pass
            told.set()
        assert len(asked) == 2, "it is asked for by one thread at a time"


def test_a_key_may_be_replaced_by_one_with_another_password(tmp_path, log_of_everything):
    passwords = ["first"]
    key = tmp_path / "client.key"
    with Broker(tls=True, client_certificates=True) as broker:
        encrypt(broker, key, "first")
        tls = SslConfig(broker.ca_file, broker.client_certificate_file, key, lambda: passwords[-1])
        with KafkaClient(broker.bootstrap_servers, ssl_config=tls) as client:
            encrypt(broker, key, "second")
            topic = client.topics["renewed"]
            # The password comes a moment after the key, and is asked for again until it fits.
            deadline = time.monotonic() + 60
            while "the files for TLS have changed; new connections use" not in log_of_everything.getvalue():
                assert time.monotonic() < deadline, log_of_everything.getvalue()
                with topic.get_simple_consumer(consumer_timeout_ms=1):
                    pykafka._engine.flush_log()
                if "the old ones stay in use" in log_of_everything.getvalue():
                    passwords.append("second")


def test_a_callable_gives_password_and_token_and_what_it_raises_is_the_cause(secure):
    error = VaultIsSealed("ask again later")

    def sealed():
        raise error

    newline = sasl.OAuthBearer(lambda: tokens.unsecured("alice") + "\n")
    for mechanism in (sasl.Scram("alice", lambda: CANARY), newline):
        with connect(secure, mechanism) as client:
            assert client.brokers
    for mechanism in (sasl.Scram("alice", sealed), sasl.OAuthBearer(sealed)):
        with pytest.raises(AuthenticationException, match="VaultIsSealed: ask again later") as failed:
            connect(secure, mechanism)
        assert failed.value.__cause__ is error


def test_a_callable_gives_the_secret_of_a_client_and_what_it_raises_is_the_cause(secure):
    error = VaultIsSealed("ask again later")
    asked = []

    def sealed():
        asked.append(1)
        raise error

    mechanism = sasl.OAuthBearer(token_endpoint_url="https://127.0.0.1:1/", client_id="me", client_secret=sealed)
    assert asked == [], "it is asked for when a token is"
    for times in (1, 2):
        with pytest.raises(AuthenticationException, match="VaultIsSealed: ask again later") as failed:
            connect(secure, mechanism)
        assert failed.value.__cause__ is error
        assert len(asked) == times
