"""Our client and the embedded broker with TLS and SASL, together."""

import pytest
import tokens
from connections import connections_to
from pykafka import KafkaClient, SslConfig, sasl, testing
from pykafka.exceptions import AuthenticationException, NoBrokersAvailableError

#: It does not matter here that the passwords could be read.
pytestmark = pytest.mark.filterwarnings("ignore:SASL .* without TLS")

USER, PASSWORD = "alice", "alice-secret"
CREDENTIALS = {
    "PLAIN": lambda password: sasl.Plain(USER, password),
    "SCRAM-SHA-256": lambda password: sasl.Scram(USER, password, "SCRAM-SHA-256"),
    "SCRAM-SHA-512": lambda password: sasl.Scram(USER, password),
    "OAUTHBEARER": lambda _: sasl.OAuthBearer(lambda: tokens.unsecured(USER)),
}


def connect(broker, credentials=None, tls=True, **files):
    ssl_config = SslConfig(broker.ca_file, **files) if tls else None
    return KafkaClient(broker.bootstrap_servers, ssl_config=ssl_config, sasl=credentials)


def write_and_read(client, count=100):
    topic = client.topics["secure"]
    sent = [b"%d" % number for number in range(count)]
    with topic.get_producer() as producer:
        producer.produce_many(sent)
    with topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        assert [consumer.consume().value for _ in sent] == sent


@pytest.mark.parametrize("mechanism", CREDENTIALS)
@pytest.mark.parametrize("tls", [True, False])
def test_a_client_that_authenticates_writes_and_reads(mechanism, tls):
    with testing.Broker(tls=tls, sasl={USER: PASSWORD}) as broker:
        write_and_read(connect(broker, CREDENTIALS[mechanism](PASSWORD), tls))


def test_a_client_shows_its_certificate():
    with testing.Broker(tls=True, client_certificates=True) as broker:
        write_and_read(connect(broker, certfile=broker.client_certificate_file, keyfile=broker.client_key_file))
        with pytest.raises(AuthenticationException, match="client certificate"):
            connect(broker)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_client_needs_both_its_certificate_and_its_credentials(mechanism):
    credentials = CREDENTIALS[mechanism]
    with testing.Broker(tls=True, client_certificates=True, sasl={USER: PASSWORD}) as broker:
        files = {"certfile": broker.client_certificate_file, "keyfile": broker.client_key_file}
        write_and_read(connect(broker, credentials(PASSWORD), **files))
        with pytest.raises(AuthenticationException, match="client certificate"):
            connect(broker, credentials(PASSWORD))
        with pytest.raises(NoBrokersAvailableError, match="may require SASL"):
            connect(broker, **files)


def test_the_authorities_that_the_system_trusts_vouch_for_a_broker(run_python, monkeypatch):
    program = """
        import sys
        import pykafka
        topic = pykafka.KafkaClient(sys.argv[1], ssl_config=pykafka.SslConfig(None)).topics["secure"]
        with topic.get_sync_producer() as producer:
            producer.produce(b"secret")
        with topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
            print(consumer.consume().value.decode())
        """
    with testing.Broker(tls=True) as broker:
        refused = run_python(program, broker.bootstrap_servers)
        assert "unknown authority" in refused.stderr
        # Stands in for the system's own, as OpenSSL has it.
        monkeypatch.setenv("SSL_CERT_FILE", broker.ca_file)
        done = run_python(program, broker.bootstrap_servers)
        assert (done.stdout, done.stderr) == ("secret\n", "")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_refused(mechanism):
    with (
        testing.Broker(sasl={USER: PASSWORD}) as broker,
        pytest.raises(AuthenticationException, match="(?i)authentication failed"),
    ):
        connect(broker, CREDENTIALS[mechanism]("wrong"), tls=False)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_nothing_is_lost_and_connections_stay_while_sessions_end(mechanism):
    asked, sent = [], []

    def current():
        asked.append(1)
        return PASSWORD

    def produce_one():
        sent.append(b"%d" % len(sent))
        producer.produce(sent[-1])
        assert producer.get_delivery_report(timeout=60)[1] is None

    def all_stay():
        """Whether all connections are there that were there before their sessions ended."""
        connections = connections_to(broker.bootstrap_servers)
        assert connections
        wanted = len(asked) + len(connections)
        while len(asked) < wanted:
            produce_one()
        return connections <= connections_to(broker.bootstrap_servers)

    with testing.Broker(tls=True, sasl={USER: PASSWORD}, session_lifetime_ms=3_000) as broker:
        topic = connect(broker, CREDENTIALS[mechanism](current)).topics["renewed"]
        with topic.get_producer(delivery_reports=True, linger_ms=1) as producer:
            produce_one()
            # When a machine stands still for long, a session ends before its connection is authenticated again.
            assert any(all_stay() for _ in range(10)), "connections are closed when their sessions end"
        with topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
            assert [consumer.consume().value for _ in sent] == sent


def test_what_is_buffered_at_exit_is_delivered_although_a_callable_has_the_password(run_python):
    with testing.Broker(sasl={USER: PASSWORD}) as broker:
        done = run_python(
            f"""
            import warnings
            from pykafka import KafkaClient, sasl
            warnings.filterwarnings("ignore", "SASL PLAIN without TLS")
            credentials = sasl.Plain({USER!r}, lambda: {PASSWORD!r})
            client = KafkaClient({broker.bootstrap_servers!r}, sasl=credentials)
            producer = client.topics["at-exit"].get_producer(linger_ms=1000)
            for number in range(1_000):
                producer.produce(b"%d" % number)
            """
        )
        assert (done.returncode, done.stderr) == (0, "")
        offsets = (
            connect(broker, CREDENTIALS["PLAIN"](PASSWORD), tls=False).topics["at-exit"].latest_available_offsets()
        )
        assert sum(answer.offset[0] for answer in offsets.values()) == 1_000


def test_a_callable_whose_server_is_away_for_a_moment_is_asked_again():
    answers = [OSError("the vault is away")]

    def current():
        if answers:
            raise answers.pop()
        return PASSWORD

    with testing.Broker(sasl={USER: PASSWORD}) as broker:
        write_and_read(connect(broker, CREDENTIALS["PLAIN"](current), tls=False))
