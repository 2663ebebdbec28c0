"""TLS and SASL settings of a client: what is taken, what is refused, and that no secret is shown."""

import copy
import io
import logging
import pickle
import ssl
import traceback
from pathlib import Path

import pykafka
import pytest
from pykafka import KafkaClient, PlainAuthenticator, ScramAuthenticator, SslConfig, sasl
from pykafka.exceptions import AuthenticationException, KafkaException
from pykafka.sasl_authenticators import BaseAuthenticator, OauthBearerAuthenticator
from pykafka.testing import Broker

CANARY = "hunter2-canary"


class VaultIsSealed(Exception):
    """What a program's callable raises."""


def secretive():
    """Everything that takes a secret, as a function that makes it, so that the secret is in no variable of a test."""
    return {
        "plain": lambda: sasl.Plain("alice", CANARY),
        "plain-bytes": lambda: sasl.Plain("alice", CANARY.encode()),
        "scram": lambda: sasl.Scram("alice", CANARY, mechanism="SCRAM-SHA-256"),
        "oauth": lambda: sasl.OAuthBearer(
            token_endpoint_url="https://id.example/token", client_id="me", client_secret=CANARY
        ),
        "plain-fork": lambda: PlainAuthenticator("alice", CANARY),
        "scram-fork": lambda: ScramAuthenticator("SCRAM-SHA-512", "alice", CANARY),
        "ssl-password": lambda: SslConfig("/ca.pem", "/cert.pem", "/key.pem", CANARY),
        "ssl-key": lambda: SslConfig(None, cert_pem="CERT", key_pem=CANARY),
    }


def shown(thing):
    attributes = getattr(thing, "__dict__", {})
    return f"{thing!r} {thing!s} {thing} {attributes!r} {[f'{value!r}' for value in attributes.values()]}"


@pytest.mark.parametrize("kind", secretive())
def test_no_secret_is_shown_or_pickled(kind):
    thing = secretive()[kind]()
    assert CANARY not in shown(thing)
    assert CANARY not in shown(copy.copy(thing)) + shown(copy.deepcopy(thing))
    with pytest.raises(TypeError, match="cannot be pickled") as refused:
        pickle.dumps(thing)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: sasl.Plain("", CANARY), ValueError, "username is empty"),
        (lambda: sasl.Plain("", lambda: CANARY), ValueError, "username is empty"),
        (lambda: sasl.Plain("alice", ""), ValueError, "password is empty"),
        (lambda: sasl.Plain("alice", CANARY + "\0"), ValueError, "NUL"),
        (lambda: sasl.Plain("alice", CANARY + "\ud800"), ValueError, "not valid Unicode"),
        (lambda: sasl.Plain("alice", [CANARY]), TypeError, "password must be str or bytes, not list"),
        (lambda: sasl.Scram("alice", CANARY, "SCRAM-MD5"), ValueError, "must be SCRAM-SHA-512 or SCRAM-SHA-256"),
        (lambda: sasl.OAuthBearer(CANARY), TypeError, "callable that returns the token"),
        (sasl.OAuthBearer, ValueError, "give one of token, token_file and token_endpoint_url"),
        (lambda: sasl.OAuthBearer(token_file="/t", client_secret=CANARY), ValueError, "are for token_endpoint_url"),
        (
            lambda: sasl.OAuthBearer(token_endpoint_url="https://a/", client_secret=CANARY),
            ValueError,
            "needs client_id and client_secret",
        ),
        (
            lambda: sasl.OAuthBearer(token_endpoint_url="http://a/", client_id="a", client_secret=CANARY),
            ValueError,
            "not an https URL",
        ),
        (
            lambda: sasl.OAuthBearer(token_endpoint_url="file:///etc/passwd", client_id="a", client_secret=CANARY),
            ValueError,
            "not an https URL",
        ),
        (lambda: sasl.Gssapi(""), ValueError, "service_name is empty"),
        (
            lambda: PlainAuthenticator("alice", CANARY, security_protocol="SSL"),
            ValueError,
            "SASL_PLAINTEXT or SASL_SSL",
        ),
    ],
)
def test_credentials_that_cannot_work_are_refused_without_showing_them(make, error, words):
    with pytest.raises(error, match=words) as refused:
        make()
    assert CANARY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SslConfig(None, keyfile="/key.pem"), "keyfile is set, but certfile is missing"),
        (SslConfig(None, password=CANARY), "there is no private key"),
        (SslConfig(None, cert_pem="CERT"), "key_pem is missing"),
        (SslConfig(None, key_pem=CANARY), "cert_pem is missing"),
        (SslConfig("/ca.pem", ca_pem="CA"), "keep one"),
        (SslConfig(None, "/cert.pem", cert_pem="CERT", key_pem=CANARY), "either files"),
        (SslConfig(None, minimum_version="TLSv1.1"), "must be TLSv1.2 or TLSv1.3"),
    ],
)
def test_tls_settings_that_contradict_each_other_are_refused(config, words):
    with pytest.raises(ValueError, match=words) as refused:
        KafkaClient("127.0.0.1:1", ssl_config=config)
    assert CANARY not in told_with_locals(refused.value)


def told_with_locals(error):
    """The traceback as a debugger shows it: with the local variables of pykafka's functions."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in lines if "/pykafka/" in frame.filename]
    assert ours
    return f"{error!r} {[frame.locals for frame in ours]}"


def test_the_password_of_a_key_may_be_asked_for_and_what_that_raises_is_raised():
    def broken():
        raise LookupError("no vault")

    with pytest.raises(LookupError, match="no vault"):
        KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None, "/cert.pem", password=broken))
    with pytest.raises(TypeError, match="the password of the key must be str or bytes, not int"):
        KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None, "/cert.pem", password=lambda: 5))


@pytest.mark.parametrize("given", [ssl.create_default_context(), object(), "/ca.pem"])
def test_what_is_no_ssl_config_is_refused_with_what_to_pass(given):
    with pytest.raises(TypeError, match=r"ssl_config must be an SslConfig, not \w+: .* pass pykafka.SslConfig"):
        KafkaClient("127.0.0.1:1", ssl_config=given)


@pytest.mark.parametrize("given", [("alice", "secret"), BaseAuthenticator("PLAIN"), object()])
def test_what_is_no_mechanism_is_refused_with_what_to_pass(given):
    with pytest.raises(TypeError, match="must be one of pykafka.sasl.Plain"):
        KafkaClient("127.0.0.1:1", sasl=given)


def test_the_names_of_the_fork_are_taken_but_not_together_with_ours():
    oauth = OauthBearerAuthenticator(lambda: "token")
    assert oauth.mechanism == "OAUTHBEARER"
    assert ScramAuthenticator("SCRAM-SHA-256", "a", "b").user == "a"
    with pytest.raises(ValueError, match="keep one"):
        KafkaClient("127.0.0.1:1", sasl=sasl.Gssapi(), sasl_authenticator=oauth)
    with pytest.raises(NotImplementedError):
        oauth.authenticate(None)


def test_an_authenticator_that_asks_for_tls_is_not_used_without_it():
    with pytest.raises(ValueError, match="sasl_authenticator asks for SASL_SSL, but ssl_config is missing"):
        KafkaClient("127.0.0.1:1", sasl_authenticator=PlainAuthenticator("a", "b", security_protocol="SASL_SSL"))


@pytest.mark.parametrize("kind", secretive())
def test_no_secret_is_in_the_log_of_a_client_or_in_what_it_raises(kind, monkeypatch):
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("pykafka")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.setLevel(1)
    logger.addHandler(handler)
    thing = secretive()[kind]()
    argument = "ssl_config" if isinstance(thing, SslConfig) else "sasl"
    try:
        with pytest.raises((KafkaException, ValueError)) as failed:
            KafkaClient("127.0.0.1:1", **{argument: thing}, socket_timeout_ms=2000)
        pykafka._engine.flush_log()
    finally:
        logger.removeHandler(handler)
    assert CANARY not in text.getvalue() + told_with_locals(failed.value)


@pytest.fixture(scope="module")
def secure():
    with Broker(tls=True, sasl={"alice": CANARY}) as broker:
        yield broker


def connect(broker, mechanism):
    return KafkaClient(broker.bootstrap_servers, ssl_config=SslConfig(broker.ca_file), sasl=mechanism)


def test_a_callable_gives_password_and_token_and_what_it_raises_is_the_cause(secure):
    error = VaultIsSealed("ask again later")

    def sealed():
        raise error

    with connect(secure, sasl.Scram("alice", lambda: CANARY)) as client:
        assert client.brokers
    for mechanism in (sasl.Scram("alice", sealed), sasl.OAuthBearer(sealed)):
        with pytest.raises(AuthenticationException, match="VaultIsSealed: ask again later") as failed:
            connect(secure, mechanism)
        assert failed.value.__cause__ is error


@pytest.mark.parametrize("given", [None, 5, CANARY + "\0", ""])
def test_what_a_callable_returns_is_checked_without_showing_it(secure, given):
    with pytest.raises((AuthenticationException, ValueError)) as failed:
        connect(secure, sasl.Plain("alice", lambda: given))
    assert CANARY not in told_with_locals(failed.value)


@pytest.mark.parametrize("make", [sasl.Plain, sasl.Scram])
def test_a_refused_password_is_named_and_not_shown(secure, make):
    with pytest.raises(AuthenticationException, match="refused the credentials") as failed:
        connect(secure, make("alice", "not-" + CANARY))
    assert CANARY not in told_with_locals(failed.value)


@pytest.mark.parametrize("spelled", [lambda user: {"sasl": user}, lambda user: {"sasl_authenticator": user}])
def test_the_authenticators_of_the_fork_are_let_in(secure, spelled):
    user = ScramAuthenticator("SCRAM-SHA-256", "alice", CANARY, security_protocol="SASL_SSL")
    with KafkaClient(secure.bootstrap_servers, ssl_config=SslConfig(secure.ca_file), **spelled(user)) as client:
        assert client.brokers


def test_a_certificate_and_its_key_may_be_texts():
    with Broker(tls=True, client_certificates=True) as broker:
        ca, cert, key = (
            Path(file).read_text() for file in (broker.ca_file, broker.client_certificate_file, broker.client_key_file)
        )
        with KafkaClient(
            broker.bootstrap_servers, ssl_config=SslConfig(None, ca_pem=ca, cert_pem=cert, key_pem=key)
        ) as client:
            assert client.brokers
