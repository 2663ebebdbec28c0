"""Invalid arguments raise at once, with a helpful text, and leave the object usable."""

import math
import ssl
import time
import traceback

import pytest
from pykafka import KafkaClient, PlainAuthenticator, ScramAuthenticator, SslConfig, sasl
from pykafka.exceptions import (
    InvalidTopic,
    KafkaException,
    ProducerQueueFullError,
    UnicodeException,
    UnknownTopicOrPartition,
)

CANARY = "hunter2-canary"


@pytest.fixture(scope="module")
def module_topic(shared_broker):
    shared_broker.create_topic("misused", partitions=3)
    return KafkaClient(shared_broker.bootstrap_servers).topics["misused"]


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a\0b", "x" * 250])
def test_a_name_that_no_broker_accepts_is_refused_without_asking_one(client, name):
    with pytest.raises(InvalidTopic):
        client.topics[name]


def test_a_name_that_is_not_ascii(client):
    with pytest.raises(UnicodeException):
        client.topics["gr\u00fcn"]


@pytest.mark.parametrize("name", [1, None, ("a",)])
def test_a_topic_name_of_another_type_is_refused(client, name):
    with pytest.raises(TypeError):
        client.topics[name]


def test_an_internal_topic_is_hidden_unless_asked_for(client):
    with pytest.raises(KeyError):
        client.topics["__consumer_offsets"]


def test_a_topic_that_the_broker_does_not_create(client):
    with pytest.raises(UnknownTopicOrPartition, match="nobody-made-it"):
        client.cluster._engine.topic("nobody-made-it", False)


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("required_acks", "all", TypeError),
        ("required_acks", None, TypeError),
        ("ack_timeout_ms", -1, ValueError),
        ("compression", 9, ValueError),
        ("compression", "gzip", ValueError),
        ("delivery_timeout_ms", 0, ValueError),
        ("linger_ms", -1, ValueError),
        ("linger_ms", math.nan, ValueError),
        ("linger_ms", math.inf, ValueError),
        ("linger_ms", "5", TypeError),
        ("linger_ms", 10**30, ValueError),
        ("linger_ms", 200_000, ValueError),
        ("max_queued_messages", 0, ValueError),
        ("max_request_size", 0, ValueError),
        ("max_request_size", 1 << 31, ValueError),
        ("max_retries", -1, ValueError),
        ("max_retries", "3", TypeError),
        ("min_queued_messages", 0, ValueError),
        ("partitioner", 7, TypeError),
        ("pending_timeout_ms", -2, ValueError),
        ("retry_backoff_ms", 0, ValueError),
        ("serializer", "utf-8", TypeError),
        ("no_such_setting", 1, TypeError),
    ],
)
def test_a_producer_s_setting_that_cannot_work(module_topic, setting, value, error):
    with pytest.raises(error, match=setting):
        module_topic.get_producer(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("auto_commit_interval_ms", 0, ValueError),
        ("auto_offset_reset", 0, ValueError),
        ("auto_offset_reset", "earliest", ValueError),
        ("consumer_group", 1, TypeError),
        ("consumer_timeout_ms", "x", TypeError),
        ("consumer_timeout_ms", math.nan, ValueError),
        ("deserializer", 7, TypeError),
        ("fetch_buffer", 0, ValueError),
        ("fetch_max_bytes", 0, ValueError),
        ("fetch_message_max_bytes", 0, ValueError),
        ("fetch_message_max_bytes", 1 << 31, ValueError),
        ("fetch_message_max_bytes", 1 << 40, ValueError),
        ("fetch_min_bytes", -1, ValueError),
        ("fetch_wait_max_ms", -1, ValueError),
        ("num_consumer_fetchers", 0, ValueError),
        ("partitions", [0], TypeError),
        ("partitions", [None], TypeError),
        ("queued_max_messages", 0, ValueError),
        ("no_such_setting", 1, TypeError),
    ],
)
def test_a_consumer_s_setting_that_cannot_work(module_topic, setting, value, error):
    with pytest.raises(error, match=setting):
        module_topic.get_simple_consumer(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("buffer_memory", 1, ValueError),
        ("max_block_ms", -1, ValueError),
        ("max_response_bytes", "x", TypeError),
        ("socket_timeout_ms", 0, ValueError),
        ("socket_timeout_ms", "30", TypeError),
        ("offsets_channel_socket_timeout_ms", -1, ValueError),
        ("source_address", "127.0.0.1:99", ValueError),
        ("source_address", "nowhere.invalid", ValueError),
        ("source_address", 7, TypeError),
        ("ssl_config", object(), TypeError),
        ("sasl", object(), TypeError),
    ],
)
def test_a_client_s_setting_that_cannot_work(bootstrap, setting, value, error):
    with pytest.raises(error, match=setting):
        KafkaClient(bootstrap, **{setting: value})


def test_produce_raises_what_the_partitioner_raised_and_queues_nothing(lone_topic):
    def broken(partitions, key):
        raise LookupError("no idea")

    with lone_topic.get_producer(partitioner=broken) as producer, pytest.raises(LookupError, match="no idea"):
        producer.produce(b"v")
    assert lone_topic.latest_available_offsets()[0].offset == [0]


@pytest.mark.parametrize("chosen", [None, 0, 99, "0", object()])
def test_a_partitioner_that_returns_no_partition_is_refused_and_nothing_is_queued(lone_topic, chosen):
    with (
        lone_topic.get_producer(partitioner=lambda partitions, key: chosen) as producer,
        pytest.raises(ValueError, match="partitioner"),
    ):
        producer.produce(b"v")
    assert lone_topic.latest_available_offsets()[0].offset == [0]


def test_a_serializer_that_raises_or_returns_something_else(lone_topic):
    with lone_topic.get_producer(serializer=lambda value, key: 1 / 0) as producer, pytest.raises(ZeroDivisionError):
        producer.produce(1)
    with (
        lone_topic.get_producer(serializer=lambda value, key: value) as producer,
        pytest.raises(TypeError, match="two"),
    ):
        producer.produce(1)
    with (
        lone_topic.get_producer(serializer=lambda value, key: (1, 2)) as producer,
        pytest.raises(TypeError, match="bytes"),
    ):
        producer.produce(1)
    assert lone_topic.latest_available_offsets()[0].offset == [0]


def test_a_callback_may_use_the_producer_it_belongs_to(lone_topic):
    def busy(partitions, key):
        if key is None:
            producer.produce(b"inner", b"key")
            producer.start()
        return partitions[0]

    with lone_topic.get_producer(partitioner=busy) as producer:
        producer.produce(b"outer")
    assert lone_topic.latest_available_offsets()[0].offset == [2]


def test_a_callback_may_stop_the_producer_it_belongs_to(lone_topic):
    def rude(partitions, key):
        producer.stop()
        return partitions[0]

    producer = lone_topic.get_producer(partitioner=rude)
    with pytest.raises(KafkaException):
        producer.produce(b"v")


@pytest.mark.parametrize(
    "headers", ["text", b"bytes", 7, [1], [("a",)], [("a", "text")], [(1, b"")], [(None, b"")], [("a", b"", b"")]]
)
def test_invalid_headers_are_refused_with_the_whole_message(lone_topic, headers):
    with lone_topic.get_producer() as producer, pytest.raises(TypeError, match="header"):
        producer.produce(b"v", headers=headers)
    assert lone_topic.latest_available_offsets()[0].offset == [0]


def test_ten_thousand_headers_and_names_that_are_not_utf_8_are_taken(lone_topic):
    headers = [("\udcff", b"1")] + [("h", b"")] * 9_999
    with lone_topic.get_producer() as producer:
        producer.produce(b"v", headers=headers)
    with lone_topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        assert consumer.consume().headers == headers


def test_seconds_are_not_taken_for_milliseconds(module_topic):
    with module_topic.get_producer() as producer, pytest.raises(TypeError, match=r"time\.time\(\)"):
        producer.produce(b"v", timestamp=time.time())


@pytest.mark.parametrize(
    ("timestamp", "error"), [("now", TypeError), ([], TypeError), (math.nan, TypeError), (1 << 63, ValueError)]
)
def test_an_invalid_timestamp_is_refused(module_topic, timestamp, error):
    with module_topic.get_producer() as producer, pytest.raises(error, match="timestamp must be"):
        producer.produce(b"v", timestamp=timestamp)


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_an_invalid_timeout_is_refused(module_topic, timeout):
    refused = pytest.raises(ValueError, match=f"timeout must be a number of seconds from 0, not (?i:{timeout})")
    with module_topic.get_producer(delivery_reports=True) as producer, refused:
        producer.get_delivery_report(timeout=timeout)
    with module_topic.get_simple_consumer() as consumer:
        for call in (consumer.consume_batch, consumer.consume_arrow):
            with refused:
                call(1, timeout)


@pytest.mark.parametrize("most", [0, -1, -(1 << 62)])
def test_a_batch_of_no_messages_is_refused(module_topic, most):
    with module_topic.get_simple_consumer() as consumer:
        for call in (consumer.consume_batch, consumer.consume_arrow, consumer.record_batches):
            with pytest.raises(ValueError, match=f"must be at least 1, not {most}"):
                call(most)


def test_produce_needs_a_message_and_knows_its_arguments(module_topic):
    with module_topic.get_producer() as producer:
        with pytest.raises(TypeError):
            producer.produce()
        with pytest.raises(TypeError):
            producer.produce(b"v", key=b"k")


def test_unread_reports_of_a_thread_have_a_bound(lone_topic):
    with lone_topic.get_producer(delivery_reports=True) as producer:
        other = lone_topic.get_producer(delivery_reports=True)
        for produce, count in ((other.produce, 400_000), (producer.produce, 600_000)):
            for _ in range(count):
                produce(b"")
        for produce in (other.produce, producer.produce):
            with pytest.raises(ProducerQueueFullError, match="get_delivery_report"):
                produce(b"")
        producer.get_delivery_report()
        producer.produce(b"")
        other.stop()
        del other, produce
        # The unread reports of a producer that is gone do not count.
        for _ in range(1_000):
            producer.produce(b"")


def test_messages_of_a_thread_that_wait_for_reports_have_a_bound(own_broker, shared_broker):
    topic = KafkaClient(own_broker.bootstrap_servers).topics["held"]
    producers = [topic.get_producer(delivery_reports=True, block_on_queue_full=False, linger_ms=0) for _ in range(3)]
    for producer in producers:
        producer.produce(b"first")
        producer.get_delivery_report()
    own_broker.silence()
    value, accepted = bytes(1_000_000), 0
    with pytest.raises(ProducerQueueFullError, match="unacknowledged"):
        for turn in range(60):
            producers[turn % 3].produce(value)
            accepted += 1
    assert accepted == 21
    # Those of another client have a limit of their own.
    elsewhere = KafkaClient(shared_broker.bootstrap_servers).topics["elsewhere"]
    with elsewhere.get_producer(delivery_reports=True) as producer:
        producer.produce(value)
        assert producer.get_delivery_report(timeout=60)[1] is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sasl.Scram("SCRAM-SHA-256", "alice", CANARY), r"Scram\(username, password, mechanism\)"),
        (lambda: ScramAuthenticator(CANARY, "alice", "SCRAM-SHA-256"), "mechanism must be SCRAM-SHA-512 or"),
        (lambda: PlainAuthenticator("PLAIN", "alice", CANARY), "security_protocol must be SASL_PLAINTEXT or SASL_SSL"),
        (
            lambda: KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None, "/cert.pem", CANARY)),
            "the client's certificate in /cert.pem cannot be read",
        ),
        (
            lambda: KafkaClient("127.0.0.1:1", ssl_config=SslConfig(CANARY)),
            r"the CA certificates in \*\*\* cannot be read.* may be a password",
        ),
    ],
)
def test_a_password_in_the_place_of_another_argument_is_not_shown(make, words):
    with pytest.raises((ValueError, KafkaException), match=words) as refused:
        make()
    told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    ours = [frame.locals for frame in told.stack if "/pykafka/" in frame.filename]
    assert CANARY not in f"{refused.value} {ours}"


def test_a_path_that_may_be_a_password_is_not_shown_unless_the_file_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca").write_text("")
    shown = repr(SslConfig("ca", "client.pem", CANARY))
    assert "cafile='ca', certfile='client.pem', keyfile=***" in shown


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"cafile": b"/ca.pem"}, TypeError, "cafile must be a str or an os.PathLike, not bytes"),
        ({"cafile": ""}, ValueError, r"SslConfig\(cafile\) is empty"),
        ({"ca_pem": b"CA"}, TypeError, "ca_pem must be a str, not bytes"),
        ({"cert_pem": b"CERT"}, TypeError, "cert_pem must be a str, not bytes"),
        ({"check_hostname": "false"}, TypeError, "check_hostname must be True or False, not str"),
        ({"insecure_accept_any_certificate": 0}, TypeError, "insecure_accept_any_certificate must be True or False"),
        ({"minimum_version": ssl.TLSVersion.TLSv1_3}, TypeError, "minimum_version must be the str .*, not TLSVersion"),
    ],
)
def test_the_argument_of_an_ssl_config_that_is_wrong_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        SslConfig(**{"cafile": None, **arguments})


def test_an_authenticator_without_tls_is_not_used_together_with_an_ssl_config():
    plain = PlainAuthenticator("a", "b", security_protocol="SASL_PLAINTEXT")
    with pytest.raises(ValueError, match="sasl_authenticator asks for SASL_PLAINTEXT, .* but ssl_config is set"):
        KafkaClient("127.0.0.1:1", ssl_config=SslConfig(None), sasl_authenticator=plain)
