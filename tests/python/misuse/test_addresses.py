"""Wrong addresses, and peers that are not a Kafka broker: the right exception, with the root cause, in time."""

import itertools
import socket
import time

import pytest
from pykafka import KafkaClient
from pykafka.exceptions import KafkaException, NoBrokersAvailableError


def failure(hosts, **options):
    """The exception of a client that cannot connect; it must come long before `socket_timeout_ms` of ten minutes."""
    with pytest.raises(KafkaException) as raised:
        KafkaClient(hosts, **{"socket_timeout_ms": 600_000} | options)
    return raised.value


def request(connection):
    """Reads one request and returns its correlation id."""
    size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL))
    return connection.recv(size, socket.MSG_WAITALL)[4:8]


def answering(answer):
    """A peer that answers each request with `answer(correlation_id)`."""

    def serve(connection):
        while True:
            connection.sendall(answer(request(connection)))

    return serve


def framed(body):
    return len(body).to_bytes(4) + body


def test_nobody_listens():
    with socket.socket() as bound:
        # It has the port, so that nobody else gets it, and does not listen.
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        error = failure(address)
    assert type(error) is NoBrokersAvailableError
    assert address in str(error)
    assert "refused" in str(error)


def test_an_ipv6_address_is_named_with_its_brackets():
    # Where there is no IPv6, nobody listens there either.
    assert "[::1]:1" in str(failure("[::1]:1"))


def test_the_name_does_not_resolve():
    error = failure("no-such-host.invalid:9092")
    assert type(error) is NoBrokersAvailableError
    assert "no-such-host.invalid" in str(error)
    assert "cannot be resolved" in str(error)


def test_the_port_is_silent(peer):
    silent = peer(lambda connection: time.sleep(0))
    error = failure(silent.address, socket_timeout_ms=1_000)
    assert type(error) is NoBrokersAvailableError
    assert silent.address in str(error)
    assert "accepts connections but says nothing" in str(error)


def test_a_silent_port_among_good_ones_does_not_matter(peer, bootstrap):
    silent = peer(lambda connection: time.sleep(0))
    assert KafkaClient(f"{silent.address},{bootstrap}", socket_timeout_ms=1_000).brokers


def test_the_port_closes_every_connection(peer):
    closing = peer(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    error = failure(closing.address)
    assert type(error) is NoBrokersAvailableError
    assert "closed" in str(error)
    assert closing.connections <= 25


def test_the_port_speaks_http(peer):
    def http(connection):
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    error = failure(peer(http).address)
    assert type(error) is NoBrokersAvailableError
    assert "HTTP" in str(error)


def test_the_port_speaks_tls(peer):
    def tls(connection):
        connection.recv(1024)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, 10]))

    error = failure(peer(tls).address)
    assert type(error) is NoBrokersAvailableError
    assert "TLS" in str(error)


@pytest.mark.parametrize("length", [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(peer, length):
    sent_mib = itertools.count()

    def boastful(connection):
        request(connection)
        connection.sendall(length.to_bytes(4))
        while next(sent_mib) < 64:
            connection.sendall(bytes(1 << 20))

    error = failure(peer(boastful).address)
    assert type(error) is NoBrokersAvailableError
    assert "announced a frame of" in str(error)
    assert next(sent_mib) < 32, "what the kernel buffers, and no more"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(lambda _: framed(b"\0\0\x12\x34" + bytes(20)), "request 4660", id="wrong correlation id"),
        pytest.param(lambda id_: framed(id_ + b"\xff" * 50), "ApiVersionsResponse v", id="random body"),
        pytest.param(lambda id_: framed(id_ + b"\0\0\x7f\xff\xff\xff"), "ApiVersionsResponse v", id="huge count"),
        pytest.param(lambda id_: framed(id_ + b"\0\0\xff\xff\xff\x9d"), "ApiVersionsResponse v", id="negative count"),
        pytest.param(framed, "ApiVersionsResponse v", id="empty body"),
        pytest.param(lambda _: framed(b""), "malformed bytes in a header", id="empty frame"),
    ],
)
def test_an_answer_that_makes_no_sense(peer, answer, cause):
    wrong = peer(answering(answer))
    error = failure(wrong.address)
    assert type(error) is NoBrokersAvailableError
    assert cause in str(error)
    assert wrong.address in str(error)


def test_half_an_answer_and_then_nothing(peer):
    error = failure(
        peer(answering(lambda correlation_id: b"\0\0\0\x20" + correlation_id)).address, socket_timeout_ms=1_000
    )
    assert type(error) is NoBrokersAvailableError
    assert "no answer while connecting" in str(error)


@pytest.mark.parametrize(
    "hosts", ["", None, ":9092", "h:", "h:0", "h:65536", "h:-1", "h:x", "::1", "PLAINTEXT://h:9092", "h\0:9092"]
)
def test_what_is_no_address_is_a_value_error_before_anything_is_dialled(hosts):
    with pytest.raises(ValueError, match="hosts"):
        KafkaClient(hosts)
