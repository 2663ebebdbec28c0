"""A secret that must not be shown, and clients that have it."""

import traceback

import pytest
from pykafka import KafkaClient, SslConfig
from pykafka.exceptions import KafkaException

CANARY = "hunter2-canary"


def told_with_locals(error):
    """The traceback as a debugger shows it: with the local variables of pykafka's functions."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in lines if "/pykafka/" in frame.filename]
    assert ours
    return f"{error!r} {[frame.locals for frame in ours]}"


def connect(broker, mechanism):
    return KafkaClient(broker.bootstrap_servers, ssl_config=SslConfig(broker.ca_file), sasl=mechanism)


def not_let_in(broker, ssl_config=None, mechanism=None):
    """Why a broker and a client do not come together."""
    with pytest.raises((KafkaException, ValueError)) as failed:
        KafkaClient(broker.bootstrap_servers, ssl_config=ssl_config, sasl=mechanism, socket_timeout_ms=5000)
    return failed.value
