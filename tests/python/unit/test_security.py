"""TLS and SASL settings of a client: what is taken, what is refused, and what causes a warning."""

import ast
import re
import socket
import ssl
import warnings
from pathlib import Path

import pykafka
import pytest
import tokens
from canaries import CANARY, connect, not_let_in, told_with_locals
from pykafka import KafkaClient, PlainAuthenticator, ScramAuthenticator, SslConfig, exceptions, sasl
from pykafka.exceptions import AuthenticationException
from pykafka.sasl_authenticators import BaseAuthenticator, OauthBearerAuthenticator
from pykafka.testing import Broker

#: One test is about this warning; to the others it does not matter.
pytestmark = pytest.mark.filterwarnings("ignore:SASL .* without TLS")


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


def test_the_argument_of_a_wrong_type_is_named():
    for make, words in [
        (lambda: sasl.Plain(5, CANARY), "'username'"),
        (lambda: SslConfig(None, "/cert.pem", password=5), "password must be str or bytes, not int"),
        (lambda: SslConfig(None, key_pem=5), "key_pem must be str or bytes, not int"),
        (lambda: SslConfig(5), "cafile must be a str or an os.PathLike, not int"),
        (lambda: sasl.OAuthBearer(token_file=5), "'token_file'"),
        (lambda: Broker(sasl={"alice": 5}), "sasl must have users and passwords that are str, not int"),
        (lambda: Broker(sasl="alice"), "sasl must be a dict of users and their passwords, not str"),
    ]:
        with pytest.raises(TypeError, match=words):
            make()


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
