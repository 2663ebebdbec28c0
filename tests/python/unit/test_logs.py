"""The engine's log lines arrive in `logging`, whatever the program does."""

import logging
import socket
import time

import pytest
from pykafka import KafkaClient
from pykafka.exceptions import KafkaException, NoBrokersAvailableError


def told(records, *texts):
    """The log records with all these texts. Clients of earlier tests still log, so name the broker that is meant."""
    return [record for record in list(records) if all(text in record.getMessage() for text in texts)]


def heard(records, *texts, seconds=60):
    """Waits for a log record with all these texts."""
    deadline = time.monotonic() + seconds
    while not (found := told(records, *texts)):
        assert time.monotonic() < deadline, f"{texts} not in {[record.getMessage() for record in records]}"
        time.sleep(0.01)
    return found[0]


def test_a_broker_that_is_lost_and_comes_back_is_one_line_each(own_broker, caplog):
    address = own_broker.bootstrap_servers
    topic = KafkaClient(address).topics["watched"]
    with caplog.at_level(logging.INFO, "pykafka"), topic.get_producer() as producer:
        producer.produce(b"before")
        own_broker.set_broker_down(1)
        producer.produce(b"meanwhile")
        lost = heard(caplog.records, "is lost", address)
        own_broker.set_broker_up(1)
        heard(caplog.records, "is back", address)
    assert (lost.name, lost.levelno) == ("pykafka.engine", logging.INFO)
    assert len(told(caplog.records, "is lost", address)) == 1


def test_a_client_that_waits_for_a_silent_broker_says_so(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.INFO, "pykafka"):
        with pytest.raises(NoBrokersAvailableError):
            KafkaClient(f"127.0.0.1:{silent.getsockname()[1]}")
        heard(caplog.records, "after 3 s")


def test_a_look_at_offsets_says_what_it_waits_for(own_broker, caplog):
    address = own_broker.bootstrap_servers
    topic = KafkaClient(address, socket_timeout_ms=8_000).topics["away"]
    own_broker.set_broker_down(1)
    with caplog.at_level(logging.INFO, "pykafka"):
        with pytest.raises(KafkaException):
            topic.latest_available_offsets()
        heard(caplog.records, "still trying after 3 s", address)


@pytest.mark.parametrize("look", [lambda client: client.topics["unseen"], lambda client: client.update_cluster()])
def test_a_look_at_a_silent_cluster_says_what_it_waits_for(own_broker, caplog, look):
    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=5_000)
    own_broker.silence()
    with caplog.at_level(logging.INFO, "pykafka"):
        with pytest.raises(KafkaException):
            look(client)
        heard(caplog.records, "after 3 s")


def test_a_handler_that_uses_the_client_does_not_stop_the_engine(own_broker, caplog):
    address = own_broker.bootstrap_servers
    topic = KafkaClient(address, socket_timeout_ms=1_000).topics["handled"]
    answers = []

    class Curious(logging.Handler):
        def emit(self, record):
            answers.append(len(topic.partitions))

    handler = Curious(logging.INFO)
    logger = logging.getLogger("pykafka.engine")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "pykafka"), topic.get_producer() as producer:
            own_broker.set_broker_down(1)
            producer.produce(b"v")
            heard(caplog.records, "is lost", address)
            own_broker.set_broker_up(1)
            heard(caplog.records, "is back", address)
    finally:
        logger.removeHandler(handler)
    assert answers == [1] * len(answers) != []


@pytest.mark.parametrize("fork", [False, True])
def test_log_lines_arrive_in_every_process_and_nothing_is_printed_without_a_handler(run_python, fork):
    program = """
        import logging, os, sys, threading
        import pykafka, pykafka.testing
        before = pykafka.testing.Broker()
        pykafka.KafkaClient(before.bootstrap_servers)
        if FORK and (child := os.fork()):
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        arrived = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                arrived.set()
        broker = pykafka.testing.Broker()
        client = pykafka.KafkaClient(broker.bootstrap_servers, socket_timeout_ms=500)
        logger = logging.getLogger("pykafka.engine")
        logger.setLevel(logging.INFO)
        logger.addHandler(Handler())
        broker.set_broker_down(1)
        try:
            client.update_cluster()
        except pykafka.exceptions.KafkaException:
            pass
        assert arrived.wait(60)
    """
    done = run_python(program.replace("FORK", str(fork)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
