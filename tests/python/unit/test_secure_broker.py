"""The embedded broker with TLS and SASL, as another client sees it."""

import contextlib
import os
import socket
import ssl
from pathlib import Path

import confluent_kafka
import pytest
import tokens
from pykafka import testing

USER, PASSWORD = "alice", "alice-secret"


def settings(broker, mechanism=None, password=PASSWORD, tls=True):
    told = (
        {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0, "ssl.ca.location": broker.ca_file}
        if tls
        else {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}
    )
    protocol = ("sasl_" if mechanism else "") + ("ssl" if tls else "plaintext")
    told |= {"security.protocol": protocol}
    if mechanism == "OAUTHBEARER":
        return told | {"sasl.mechanism": mechanism, "oauth_cb": lambda _: (tokens.unsecured(USER), 4e9)}
    if mechanism:
        told |= {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": password}
    return told


def write_and_read(settings):
    reports = []
    producer = confluent_kafka.Producer(settings)
    producer.produce("secure", b"secret", on_delivery=lambda error, message: reports.append(error))
    assert producer.flush(60) == 0
    assert reports == [None]
    consumer = confluent_kafka.Consumer(settings | {"group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe(["secure"])
    (message,) = consumer.consume(1, timeout=60)
    assert (message.error(), message.value()) == (None, b"secret")
    consumer.close()


def first_error(settings, *names):
    """The first error of one of these codes that the client reports."""
    said = []
    producer = confluent_kafka.Producer(settings | {"error_cb": said.append})
    while not (found := [error.str() for error in said if error.name() in names]):
        producer.poll(0.1)
    return found[0]


def test_a_client_that_trusts_the_authority_writes_and_reads():
    with testing.Broker(tls=True) as broker:
        write_and_read(settings(broker))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
@pytest.mark.parametrize("tls", [True, False])
def test_a_client_that_authenticates_writes_and_reads(mechanism, tls):
    with testing.Broker(tls=tls, sasl={USER: PASSWORD}) as broker:
        write_and_read(settings(broker, mechanism, tls=tls))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_refused_until_it_is_set(mechanism):
    with testing.Broker(sasl={USER: PASSWORD}) as broker:
        wanted = settings(broker, mechanism, "another", tls=False)
        assert "Authentication failed" in first_error(wanted, "_AUTHENTICATION")
        broker.set_password(USER, "another")
        write_and_read(wanted)


def test_only_the_mechanisms_that_were_asked_for_are_offered():
    with testing.Broker(sasl={USER: PASSWORD}, sasl_mechanisms=["SCRAM-SHA-512"]) as broker:
        assert "SCRAM-SHA-512" in first_error(settings(broker, "PLAIN", tls=False), "_AUTHENTICATION")
        write_and_read(settings(broker, "SCRAM-SHA-512", tls=False))
    with pytest.raises(ValueError, match='no mechanism "GSSAPI"; it has PLAIN, SCRAM-SHA-256'):
        testing.Broker(sasl={}, sasl_mechanisms=["GSSAPI"])


def test_a_client_without_the_certificate_is_refused():
    with testing.Broker(tls=True, client_certificates=True) as broker:
        context = ssl.create_default_context(cafile=broker.ca_file)
        host, port = broker.bootstrap_servers.split(":")

        def is_served():
            with (
                contextlib.suppress(ssl.SSLError, ConnectionError),
                socket.create_connection((host, int(port))) as raw,
                context.wrap_socket(raw, server_hostname=host) as own,
            ):
                own.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff")
                return len(own.recv(8)) > 0
            return False

        assert not is_served()
        context.load_cert_chain(broker.client_certificate_file, broker.client_key_file)
        assert is_served()


def test_the_files_belong_to_the_user_alone_and_go_with_the_broker():
    broker = testing.Broker(tls=True)
    folder = Path(broker.client_key_file).parent
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.stat().st_uid == os.getuid()
    broker.stop()
    assert not folder.exists()


def test_arguments_that_need_another_one_are_refused_without_it():
    with pytest.raises(ValueError, match="only a broker with tls=True"):
        testing.Broker(client_certificates=True)
    with pytest.raises(ValueError, match="only a broker with sasl="):
        testing.Broker(session_lifetime_ms=1000)
    with testing.Broker() as broker, pytest.raises(ValueError, match="start it with tls=True"):
        _ = broker.ca_file
