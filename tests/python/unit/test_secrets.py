"""No password, token or key is shown: not by what holds it, what refuses it, an exception or the log."""

import copy
import pickle
import re
import traceback
from pathlib import Path

import pykafka
import pytest
import tokens
from canaries import CANARY, connect, not_let_in, told_with_locals
from pykafka import KafkaClient, PlainAuthenticator, ScramAuthenticator, SslConfig, sasl
from pykafka.exceptions import AuthenticationException, KafkaException
from pykafka.sasl_authenticators import OauthBearerAuthenticator
from pykafka.testing import Broker

#: It does not matter here that the passwords could be read.
pytestmark = pytest.mark.filterwarnings("ignore:SASL .* without TLS")


def secretive():
    """Everything that takes a secret, as a function that makes it, so that the secret is in no variable of a test."""
    return {
        "plain": lambda: sasl.Plain("alice", CANARY),
        "plain-bytes": lambda: sasl.Plain("alice", CANARY.encode()),
        "scram": lambda: sasl.Scram("alice", CANARY, mechanism="SCRAM-SHA-256"),
        "oauth": lambda: sasl.OAuthBearer(
            token_endpoint_url="https://id.example/token", client_id="me", client_secret=CANARY
        ),
        "oauth-url": lambda: sasl.OAuthBearer(
            token_endpoint_url=f"https://id.example/token?{CANARY}", client_id="me", client_secret="secret"
        ),
        "oauth-callable": lambda: sasl.OAuthBearer(lambda: CANARY),
        "plain-fork": lambda: PlainAuthenticator("alice", CANARY),
        "scram-fork": lambda: ScramAuthenticator("SCRAM-SHA-512", "alice", CANARY),
        "ssl-password": lambda: SslConfig("/ca.pem", "/cert.pem", "/key.pem", CANARY),
        "ssl-key": lambda: SslConfig(None, cert_pem="CERT", key_pem=CANARY),
        "ssl-key-in-certificate": lambda: SslConfig(None, cert_pem=f"CERT {CANARY}", key_pem="KEY"),
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


def provided(extensions):
    """Tokens of an identity provider, with these SASL extensions."""
    return sasl.OAuthBearer(token_endpoint_url="https://a/", client_id="a", client_secret=CANARY, extensions=extensions)


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
        (lambda: sasl.OAuthBearer(token_file="/t", cafile="/ca.pem"), ValueError, "are for token_endpoint_url"),
        (lambda: sasl.OAuthBearer(lambda: CANARY, extensions={}), ValueError, "are for token_endpoint_url"),
        (lambda: provided({"auth": "x"}), ValueError, 'SASL extension "auth" is not a valid one'),
        (lambda: provided({"logicalCluster": "lkc\x01auth=Bearer x"}), ValueError, "is not a valid one"),
        (lambda: provided({"logicalCluster": 1}), TypeError, "must be a dict of str to str"),
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


CONTENTS = [f"-----BEGIN PRIVATE KEY-----\n{CANARY}", f"-----BEGIN {CANARY}", f"eyJ{CANARY}", f"{CANARY}\n{CANARY}"]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("spelled", [str, str.encode, Path])
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("cafile", "SslConfig(cafile) holds a text and not a path; pass the text as SslConfig(ca_pem)"),
        ("certfile", "SslConfig(certfile) holds a text and not a path; pass the text as SslConfig(cert_pem)"),
        ("keyfile", "SslConfig(keyfile) holds a key and not a path; pass the text as SslConfig(key_pem)"),
    ],
)
def test_the_content_of_a_file_in_place_of_its_path_is_refused_and_not_shown(argument, words, spelled, content):
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        SslConfig(**{"cafile": None, argument: spelled(content)})
    assert CANARY not in told_with_locals(refused.value)
    changed = SslConfig(None, "/cert.pem", "/key.pem")
    setattr(changed, argument, spelled(content))
    with pytest.raises((ValueError, TypeError)) as refused:
        KafkaClient("127.0.0.1:1", ssl_config=changed)
    assert CANARY not in told_with_locals(refused.value) + repr(changed)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("spelled", [str, Path])
def test_a_token_in_place_of_the_path_of_its_file_is_refused_and_not_shown(spelled, content):
    words = r"OAuthBearer\(token_file\) holds a token and not a path; write the token to a file, or let a callback"
    with pytest.raises(ValueError, match=words) as refused:
        sasl.OAuthBearer(token_file=spelled(content))
    assert CANARY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: PlainAuthenticator("alice", CANARY, "SSL"), ValueError),
        (lambda: PlainAuthenticator("", CANARY), ValueError),
        (lambda: PlainAuthenticator("alice", [CANARY]), TypeError),
        (lambda: ScramAuthenticator("SCRAM-MD5", "alice", CANARY), ValueError),
        (lambda: ScramAuthenticator("SCRAM-SHA-256", "alice", [CANARY]), TypeError),
        (lambda: OauthBearerAuthenticator(CANARY), TypeError),
        (lambda: SslConfig(None, "/cert.pem", password=[CANARY]), TypeError),
        (lambda: SslConfig(None, cert_pem="CERT", key_pem=[CANARY]), TypeError),
        (lambda: SslConfig(None, cert_pem=[CANARY], key_pem="KEY"), TypeError),
        (lambda: KafkaClient("127.0.0.1:1", sasl=CANARY), TypeError),
        (lambda: KafkaClient("127.0.0.1:1", sasl=("alice", CANARY)), TypeError),
        (lambda: KafkaClient("127.0.0.1:1", sasl_authenticator=CANARY), TypeError),
        (lambda: KafkaClient("127.0.0.1:1", sasl=sasl.Gssapi(), sasl_authenticator=CANARY), ValueError),
        (lambda: KafkaClient("127.0.0.1:1", ssl_config=CANARY), TypeError),
        (lambda: Broker(sasl={"alice": [CANARY]}), TypeError),
        (lambda: Broker(sasl={"alice": CANARY}, version="0.1"), ValueError),
        (lambda: Broker(sasl={"alice": CANARY}, client_certificates=True), ValueError),
        (lambda: Broker(sasl=[CANARY]), TypeError),
    ],
)
def test_no_secret_is_among_the_local_variables_of_what_refuses_it(make, error):
    with pytest.raises(error) as refused:
        make()
    told = told_with_locals(refused.value)
    assert CANARY not in told
    assert "repr() failed" not in told


@pytest.mark.parametrize("kind", secretive())
def test_no_secret_is_in_the_log_of_a_client_or_in_what_it_raises(kind, log_of_everything):
    thing = secretive()[kind]()
    argument = "ssl_config" if isinstance(thing, SslConfig) else "sasl"
    with pytest.raises((KafkaException, ValueError)) as failed:
        KafkaClient("127.0.0.1:1", **{argument: thing}, socket_timeout_ms=2000)
    pykafka._engine.flush_log()
    assert CANARY not in log_of_everything.getvalue() + told_with_locals(failed.value)


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


MECHANISMS = {
    "plain": lambda password: sasl.Plain("alice", password),
    "scram-256": lambda password: sasl.Scram("alice", password, "SCRAM-SHA-256"),
    "scram-512": lambda password: sasl.Scram("alice", password),
    "fork": lambda password: ScramAuthenticator("SCRAM-SHA-512", "alice", password),
}


def test_no_token_is_in_the_log_of_a_client_at_work_or_in_what_it_raises(secure, log_of_everything):
    given = []

    def give():
        # So short that it is replaced soon.
        given.append(tokens.unsecured("alice", seconds=8))
        return given[-1]

    error = not_let_in(secure, SslConfig(secure.ca_file), sasl.OAuthBearer(lambda: CANARY))
    with connect(secure, sasl.OAuthBearer(give)) as client:
        topic = client.topics["token"]
        with topic.get_producer(delivery_reports=True) as producer:
            while len(given) < 2:
                producer.produce(b"message")
                assert producer.get_delivery_report(timeout=60)[1] is None
    pykafka._engine.flush_log()
    told = log_of_everything.getvalue() + told_with_locals(error)
    assert "token" in told, "the log has something to say"
    # The beginning is that of all tokens, and so it is that of a part of one.
    for secret in (CANARY, given[0][:40]):
        assert secret not in told


@pytest.mark.parametrize("kind", MECHANISMS)
def test_neither_secrets_nor_messages_are_in_the_log_of_a_client_at_work(kind, log_of_everything):
    asked = []

    def current():
        asked.append(1)
        return CANARY

    with Broker(tls=True, client_certificates=True, sasl={"alice": CANARY}, session_lifetime_ms=2000) as broker:
        key = Path(broker.client_key_file).read_text()
        ssl_config = SslConfig(
            broker.ca_file, cert_pem=Path(broker.client_certificate_file).read_text(), key_pem=key, password=CANARY
        )
        error = not_let_in(broker, ssl_config, MECHANISMS[kind]("not-" + CANARY))
        with KafkaClient(broker.bootstrap_servers, ssl_config=ssl_config, sasl=MECHANISMS[kind](current)) as client:
            topic = client.topics["secret"]
            with topic.get_producer(delivery_reports=True) as producer:
                # More often than there are connections, so some have authenticated again.
                while len(asked) < 6:
                    payload = CANARY.encode()
                    producer.produce(payload, partition_key=payload, headers=[(CANARY, payload)])
                    assert producer.get_delivery_report(timeout=60)[1] is None
            assert topic.get_simple_consumer(consumer_timeout_ms=60_000).consume().value == CANARY.encode()
    pykafka._engine.flush_log()
    assert "secret" in log_of_everything.getvalue(), "the log has something to say"
    told = log_of_everything.getvalue() + told_with_locals(error)
    assert CANARY not in told
    assert key.splitlines()[1] not in told
