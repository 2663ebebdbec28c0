"""`KafkaClient` and `Cluster`: which address connections come from, and what remains when the client is closed."""

import concurrent.futures
import contextlib
import gc
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
from pykafka import KafkaClient
from pykafka.exceptions import (
    ConsumerStoppedException,
    KafkaException,
    NoBrokersAvailableError,
    ProducerStoppedException,
    ZooKeeperError,
)


class Peers:
    """Listens, remembers who connects, and closes the connection."""

    def __init__(self):
        self.addresses = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            self.addresses.append(address[0])
            connection.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def peers():
    peers = Peers()
    yield peers
    peers.close()


@pytest.mark.parametrize("given", ["127.0.0.7", "127.0.0.7:0", b"127.0.0.7"])
def test_connections_go_out_from_the_source_address(peers, given):
    with pytest.raises(NoBrokersAvailableError):
        KafkaClient(f"127.0.0.1:{peers.port}", source_address=given)
    assert set(peers.addresses) == {"127.0.0.7"}


def test_zookeeper_that_does_not_answer_is_told_apart_from_brokers_that_do_not(peers):
    with pytest.raises(ZooKeeperError, match=f"ZooKeeper at 127.0.0.1:{peers.port}"):
        KafkaClient(zookeeper_hosts=f"127.0.0.1:{peers.port}", socket_timeout_ms=500)


@pytest.mark.parametrize("given", ["localhost", "", None])
def test_a_client_works_with_and_without_a_source_address(bootstrap, given):
    with KafkaClient(bootstrap, source_address=given) as client:
        assert len(client.brokers) == 3


def test_the_cluster_is_asked_while_any_of_its_brokers_is_up():
    from pykafka import testing

    with testing.Broker(brokers=3) as cluster, KafkaClient(cluster.bootstrap_servers) as client:
        for down in [1, 2, 3] * 4:
            cluster.set_broker_down(down)
            client.update_cluster()
            cluster.set_broker_up(down)
            client.update_cluster()
        for down in [1, 2, 3]:
            cluster.set_broker_down(down)
        with pytest.raises(NoBrokersAvailableError, match="refused"):
            client.update_cluster()
        with pytest.raises(NoBrokersAvailableError, match="refused"):
            client.topics["new"]


def test_an_address_of_another_machine_is_told_when_nothing_can_be_reached(bootstrap):
    with pytest.raises(NoBrokersAvailableError, match="Cannot assign requested address"):
        KafkaClient(bootstrap, source_address="192.0.2.1")


def test_a_closed_client_has_stopped_its_producers_and_consumers(topic, bootstrap):
    client = KafkaClient(bootstrap)
    own = client.topics[topic.name]
    producer = own.get_producer(linger_ms=60_000)
    consumer = own.get_simple_consumer(b"group", auto_commit_enable=True)
    producer.produce(b"buffered")
    client.close()
    client.close()
    with pytest.raises(ProducerStoppedException):
        producer.produce(b"late")
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()
    producer.stop()
    consumer.stop()
    assert sum(len(answer.offset) and answer.offset[0] for answer in topic.latest_available_offsets().values()) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda client, topic: client.update_cluster(),
        lambda client, topic: client.topics["another"],
        lambda client, topic: client.brokers,
        lambda client, topic: topic.latest_available_offsets(),
        lambda client, topic: topic.get_producer(),
        lambda client, topic: topic.get_simple_consumer(),
        lambda client, topic: client.cluster.get_group_coordinator("group"),
    ],
)
def test_calls_on_a_closed_client_raise_with_a_helpful_text(topic, bootstrap, use):
    with KafkaClient(bootstrap) as client:
        own = client.topics[topic.name]
    with pytest.raises(KafkaException, match="the client is closed; create a new KafkaClient"):
        use(client, own)


def test_a_failure_to_stop_does_not_keep_the_client_open(own_broker):
    own_broker.create_topic("t")
    client = KafkaClient(own_broker.bootstrap_servers, socket_timeout_ms=1000)
    producer = client.topics["t"].get_producer(pending_timeout_ms=100)
    own_broker.silence()
    producer.produce(b"lost")
    with pytest.raises(KafkaException, match="not acknowledged"):
        client.close()
    with pytest.raises(KafkaException, match="the client is closed"):
        client.update_cluster()


def test_an_interrupted_close_closes_the_rest_without_waiting(topic, bootstrap, monkeypatch):
    class Interrupted:
        def stop(self):
            raise KeyboardInterrupt

        def _drop(self):
            pass

    client = KafkaClient(bootstrap)
    own = client.topics[topic.name]
    producer = own.get_producer(linger_ms=60_000)
    consumer = own.get_simple_consumer()
    producer.produce(b"buffered")
    monkeypatch.setattr(client.cluster, "_users", [Interrupted(), producer, consumer])
    with pytest.raises(KeyboardInterrupt):
        client.close()
    with pytest.raises(ProducerStoppedException):
        producer.produce(b"late")
    with pytest.raises(ConsumerStoppedException):
        consumer.consume()
    with pytest.raises(KafkaException, match="the client is closed"):
        client.update_cluster()
    assert next(iter(topic.get_simple_consumer())).value == b"buffered"


def test_a_thread_that_waits_for_a_topic_is_told_when_the_client_is_closed(own_broker, caplog):
    caplog.set_level(logging.INFO, "pykafka.cluster")
    client = KafkaClient(own_broker.bootstrap_servers)
    own_broker.silence()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(client.topics.__getitem__, "missing")
        while "asking the cluster for it" not in caplog.text:
            time.sleep(0.01)
        client.close()
        with pytest.raises(KafkaException, match="the client (was|is) closed"):
            found.result(30)


def test_topics_of_a_client_that_nobody_keeps_work(bootstrap, topic):
    found = KafkaClient(bootstrap).topics[topic.name]
    gc.collect()
    assert found.latest_available_offsets().keys() == {0, 1, 2}
    partition = KafkaClient(bootstrap).topics[topic.name].partitions[1]
    gc.collect()
    assert partition.topic.name == topic.name


def test_brokers_are_one_dict_that_follows_the_cluster(own_broker):
    client = KafkaClient(own_broker.bootstrap_servers)
    assert client.brokers is client.cluster.brokers
    assert client.topics is client.cluster.topics
    assert client.cluster.controller_broker is client.brokers[1]
    assert client.cluster.handler is client.brokers[1].handler is client.brokers[1].offsets_channel_handler


def test_the_old_name_of_the_coordinator_works_and_warns(client, caplog):
    with caplog.at_level(logging.WARNING, "pykafka.cluster"):
        assert client.cluster.get_offset_manager("group") is client.cluster.get_group_coordinator(b"group")
    assert "use Cluster.get_group_coordinator" in caplog.text


def test_a_topic_and_a_partition_are_brought_up_to_date(topic):
    partition = topic.partitions[0]
    topic.update()
    partition.update()
    assert topic.partitions[0] is partition


def test_internal_topics_are_hidden_unless_they_are_wanted(own_broker):
    own_broker.create_topic("__internal")
    hiding = KafkaClient(own_broker.bootstrap_servers)
    assert b"__internal" not in hiding.topics
    with pytest.raises(KeyError, match="exclude_internal_topics=False shows it"):
        hiding.topics["__internal"]
    showing = KafkaClient(own_broker.bootstrap_servers, exclude_internal_topics=False)
    assert showing.topics["__internal"].name == b"__internal"


def test_a_closed_client_leaves_no_thread_although_its_objects_are_kept(own_broker):
    def engines():
        found = set()
        for thread in Path("/proc/self/task").iterdir():
            # A thread may end while it is being looked at.
            with contextlib.suppress(OSError):
                # Not the broker's thread, which names itself and may not have done so yet.
                if (thread / "comm").read_text().strip() == "kavka":
                    found.add(thread.name)
        return found

    own_broker.create_topic("t")
    before = engines()
    client = KafkaClient(own_broker.bootstrap_servers)
    topic = client.topics["t"]
    kept = [topic.get_producer(), topic.get_simple_consumer()]
    started = engines() - before
    assert started
    client.close()
    # Engines of earlier tests may end, too.
    deadline = time.monotonic() + 60
    while engines() & started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert kept
