"""TLS and SASL settings of a client: what is taken, what is refused, and that no secret is shown."""

import ast
import copy
import io
import logging
import pickle
import re
import socket
import ssl
import subprocess
import threading
import time
import traceback
import warnings
from pathlib import Path

import pykafka
import pytest
import tokens
from pykafka import KafkaClient, PlainAuthenticator, ScramAuthenticator, SslConfig, exceptions, sasl
from pykafka.exceptions import AuthenticationException, KafkaException
from pykafka.sasl_authenticators import BaseAuthenticator, OauthBearerAuthenticator
from pykafka.testing import Broker

CANARY = "hunter2-canary"

#: One test is about this warning; to the others it does not matter.
pytestmark = pytest.mark.filterwarnings("ignore:SASL .* without TLS")


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
        "oauth-url": lambda: sasl.OAuthBearer(
            token_endpoint_url=f"https://id.example/token?{CANARY}", client_id="me", client_secret="secret"
        ),
        "oauth-callable": lambda: sasl.OAuthBearer(lambda: CANARY),
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


def test_the_argument_of_a_wrong_type_is_named():
    for make, words in [
        (lambda: sasl.Plain(5, CANARY), "'username'"),
        (lambda: SslConfig(None, "/cert.pem", password=5), "password must be str or bytes, not int"),
        (lambda: SslConfig(None, key_pem=5), "key_pem must be str or bytes, not int"),
        (lambda: SslConfig(5)._tls(), "'cafile'"),
        (lambda: sasl.OAuthBearer(token_file=5), "'token_file'"),
        (lambda: Broker(sasl={"alice": 5}), "sasl must have users and passwords that are str, not int"),
        (lambda: Broker(sasl="alice"), "sasl must be a dict of users and their passwords, not str"),
    ]:
        with pytest.raises(TypeError, match=words):
            make()


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


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("PLAIN", {"sasl": sasl.Plain("alice", CANARY)}),
        ("PLAIN", {"sasl_authenticator": PlainAuthenticator("alice", CANARY)}),
        ("OAUTHBEARER", {"sasl": sasl.OAuthBearer(lambda: tokens.unsecured("alice"))}),
    ],
)
def test_credentials_that_everybody_on_the_network_can_read_cause_a_warning(name, given):
    with Broker(sasl={"alice": CANARY}) as broker:
        with (
            pytest.warns(UserWarning, match="SASL") as warned,
            KafkaClient(broker.bootstrap_servers, **given) as client,
        ):
            assert client.brokers
        assert [str(warning.message) for warning in warned] == [
            f"SASL {name} without TLS: everybody on the network can read the credentials, and use them; set ssl_config"
        ]
        assert warned[0].filename == __file__, "it names the program's own line"


@pytest.mark.parametrize(
    ("given", "unverified"),
    [
        ({"insecure_accept_any_certificate": True}, "certificates"),
        ({"check_hostname": False}, "host names"),
    ],
)
def test_a_check_of_tls_that_is_turned_off_causes_a_warning(given, unverified):
    with Broker(tls=True) as broker:
        with (
            pytest.warns(UserWarning, match="verified") as warned,
            KafkaClient(broker.bootstrap_servers, ssl_config=SslConfig(broker.ca_file, **given)) as client,
        ):
            assert client.brokers
        assert len(warned) == 1
        assert str(warned[0].message).startswith(f"the {unverified} of brokers are not verified: everybody ")
        assert warned[0].filename == __file__, "it names the program's own line"


def test_other_credentials_cause_no_warning(secure):
    with warnings.catch_warnings(record=True) as warned, Broker(sasl={"alice": CANARY}) as broker:
        warnings.simplefilter("always")
        KafkaClient(broker.bootstrap_servers, sasl=sasl.Scram("alice", CANARY)).close()
        connect(secure, sasl.Plain("alice", CANARY)).close()
    assert warned == []


def test_who_makes_warnings_errors_sends_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="without TLS"):
            KafkaClient(f"127.0.0.1:{server.getsockname()[1]}", sasl=sasl.Plain("alice", CANARY))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_package_evaluates_nothing_unpickles_nothing_and_starts_no_program():
    modules = {
        "code",
        "ctypes",
        "dill",
        "importlib",
        "marshal",
        "multiprocessing",
        "pickle",
        "runpy",
        "shelve",
        "subprocess",
    }
    names = {"eval", "exec", "compile", "__import__", "system", "popen"}
    seen = set()
    for path in Path(pykafka.__file__).parent.rglob("*.py"):
        if path.name == "demo.py":
            continue  # A program of its own, which starts its other half.
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=imported):
                    used = {alias.name.split(".")[0] for alias in imported}
                case ast.ImportFrom(module=str(module), level=0):
                    used = {module.split(".")[0]}
                case (
                    ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr=name))
                ):
                    used = {name if name in names or not name.startswith(("exec", "spawn")) else "exec"}
                case _:
                    continue
            assert not used & (modules | names), f"{path}:{node.lineno} uses {used & (modules | names)}"
            seen |= used
    assert {"logging", "threading", "isinstance"} <= seen, "imports and calls are seen"


@pytest.fixture
def log_of_everything(monkeypatch):
    """What pykafka logs, at every level."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("pykafka")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.setLevel(1)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)


@pytest.mark.parametrize("kind", secretive())
def test_no_secret_is_in_the_log_of_a_client_or_in_what_it_raises(kind, log_of_everything):
    thing = secretive()[kind]()
    argument = "ssl_config" if isinstance(thing, SslConfig) else "sasl"
    with pytest.raises((KafkaException, ValueError)) as failed:
        KafkaClient("127.0.0.1:1", **{argument: thing}, socket_timeout_ms=2000)
    pykafka._engine.flush_log()
    assert CANARY not in log_of_everything.getvalue() + told_with_locals(failed.value)


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


def not_let_in(broker, ssl_config=None, mechanism=None):
    """Why a broker and a client do not come together."""
    with pytest.raises((KafkaException, ValueError)) as failed:
        KafkaClient(broker.bootstrap_servers, ssl_config=ssl_config, sasl=mechanism, socket_timeout_ms=5000)
    return failed.value


def test_errors_name_what_a_python_program_can_change(secure):
    alice = sasl.Plain("alice", CANARY)
    encrypted = Path(__file__).parents[3] / "crates/client/tests/tls/keys/ec.sec1.aes256.pem"
    with (
        Broker() as plaintext,
        Broker(tls=True, client_certificates=True) as mutual,
        Broker(sasl={"alice": CANARY}, sasl_mechanisms=["PLAIN"]) as plain,
    ):
        cert_pem = Path(mutual.client_certificate_file).read_text()
        for error, words in [
            (not_let_in(secure), "requires TLS: use the argument ssl_config"),
            (not_let_in(plaintext, SslConfig(secure.ca_file)), "check the port and ssl_config"),
            (not_let_in(plaintext, None, alice), "leave out the argument sasl"),
            (not_let_in(plain), "may require SASL (argument sasl)"),
            (not_let_in(plain, None, sasl.Scram("alice", CANARY)), "one of them by the argument sasl"),
            (not_let_in(secure, SslConfig(mutual.ca_file), alice), "SslConfig(cafile)"),
            (not_let_in(mutual, SslConfig(mutual.ca_file)), "set SslConfig(certfile) and SslConfig(keyfile)"),
            (
                not_let_in(mutual, SslConfig(None, cert_pem=cert_pem, key_pem=encrypted.read_text())),
                "set SslConfig(password)",
            ),
        ]:
            assert words in str(error)
            assert not re.search(r"\b(security|ssl|sasl)\.[a-z]", str(error)), str(error)
    with pytest.raises(ValueError, match=r"OAuthBearer\(token_endpoint_url\) is not .* OAuthBearer\(token_file\)"):
        sasl.OAuthBearer(token_endpoint_url="file:///token", client_id="me", client_secret=CANARY)


def test_refusals_have_the_classes_of_the_fork():
    with Broker(sasl={"alice": CANARY}, sasl_mechanisms=["PLAIN"]) as broker, Broker() as without:
        for at, mechanism, class_, code in [
            (broker, sasl.Plain("alice", "not-" + CANARY), exceptions.SaslAuthenticationFailed, 58),
            (broker, sasl.Scram("alice", CANARY), exceptions.UnsupportedSaslMechanism, 33),
            (without, sasl.Plain("alice", CANARY), exceptions.IllegalSaslState, 34),
        ]:
            error = not_let_in(at, None, mechanism)
            assert type(error) is class_
            assert isinstance(error, AuthenticationException)
            assert (error.ERROR_CODE, exceptions.ERROR_CODES[code]) == (code, class_)


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
            broker.bootstrap_servers, ssl_config=SslConfig(ca_pem=ca, cert_pem=cert, key_pem=key)
        ) as client:
            assert client.brokers
