"""TLS and SASL on real Kafka: what is written with them comes back, whatever happens to passwords and sessions."""

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import pykafka
import pytest
import tokens
from connections import connections_to
from pykafka import SslConfig, sasl
from pykafka.cli import kafka_tools
from pykafka.exceptions import AuthenticationException, SaslAuthenticationFailed

#: The listeners without TLS are for tests.
pytestmark = pytest.mark.filterwarnings("ignore:SASL .* without TLS")

COUNT = 100_000
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


def tls(cluster):
    return SslConfig(cluster.security["ca"])


def credentials(security, mechanism):
    user, password = security["user"], security["password"]
    match mechanism:
        case "GSSAPI":
            return sasl.Gssapi()
        case "PLAIN":
            return sasl.Plain(user, password)
        case "OAUTHBEARER":
            return sasl.OAuthBearer(lambda: tokens.unsecured(user))
        case _:
            return sasl.Scram(user, password, mechanism)


def client(cluster, listener, **settings):
    return pykafka.KafkaClient(cluster.secure_listeners[listener], **settings)


def new_topic(cluster, client):
    name = f"secure-{uuid.uuid4()}"
    cluster.create_topic(name, partitions=3)
    return client.topics[name]


def read(topic, count):
    """The numbers of so many messages, which must be in order in each partition."""
    numbers, last = [], dict.fromkeys(topic.partitions, -1)
    with topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        while len(numbers) < count:
            message = consumer.consume()
            assert message is not None, f"no message for a minute after {len(numbers)}"
            numbers.append(int(message.value[:10]))
            assert numbers[-1] > last[message.partition_id], "the order of a partition is the order of produce()"
            last[message.partition_id] = numbers[-1]
    return numbers


def write_and_read(topic, count):
    """Writes messages and reads them: each comes back once."""
    with topic.get_producer() as producer:
        for number in range(count):
            producer.produce(b"%010d secret" % number)
    assert sorted(read(topic, count)) == list(range(count))


def round_trip(cluster, client, count=COUNT):
    write_and_read(new_topic(cluster, client), count)


def test_messages_come_back_over_tls(secure_kafka):
    round_trip(secure_kafka, client(secure_kafka, "SSL", ssl_config=tls(secure_kafka)))


def test_messages_come_back_to_a_client_with_a_certificate(secure_kafka):
    security = secure_kafka.security
    config = SslConfig(security["ca"], security["certificate"], security["encrypted_key"], security["key_password"])
    round_trip(secure_kafka, client(secure_kafka, "MTLS", ssl_config=config))


def test_a_program_of_pykafka_2_8_needs_no_change_for_a_cluster_with_tls(secure_kafka):
    """The arguments, and what follows, are those that 2.8's README shows."""
    security = secure_kafka.security
    config = SslConfig(
        cafile=security["ca"],
        certfile=security["certificate"],
        keyfile=security["encrypted_key"],
        password=security["key_password"],
    )
    name = f"secure-{uuid.uuid4()}"
    secure_kafka.create_topic(name, partitions=3)
    client = pykafka.KafkaClient(hosts=secure_kafka.secure_listeners["MTLS"], ssl_config=config)
    topic = client.topics[name]
    with topic.get_sync_producer() as producer:
        for number in range(4):
            producer.produce(b"test message %d" % number**2)
    squares = {b"test message %d" % number**2 for number in range(4)}
    simple = topic.get_simple_consumer()
    assert {message.value for message in itertools.islice(simple, 4)} == squares
    simple.stop()
    balanced = topic.get_balanced_consumer(consumer_group=name, auto_commit_enable=True, managed=True)
    assert {message.value for message in itertools.islice(balanced, 4)} == squares
    balanced.stop()


def test_kafka_tools_reads_the_properties_of_kafkas_own_tools(secure_kafka, tmp_path, capsys):
    security = secure_kafka.security
    file = tmp_path / "client.properties"
    file.write_text(
        f"bootstrap.servers={secure_kafka.secure_listeners['SASL_SSL']}\nsecurity.protocol=SASL_SSL\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={security['ca']}\nsasl.mechanism=SCRAM-SHA-256\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{security["user"]}" password="{security["password"]}";\n'
    )
    name = f"secure-{uuid.uuid4()}"
    assert kafka_tools.main(["-F", str(file), "create_topic", name]) == 0
    assert kafka_tools.main(["-F", str(file), "print_topics"]) == 0
    assert name in capsys.readouterr().out


def of_the_guide(pattern):
    """The parts of the guide that match."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "security.md").read_text()
    return re.findall(pattern, text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("secure_kafka", ["LATEST"], indirect=True)
def test_the_properties_and_commands_of_the_guide_work(secure_kafka, kavka, tmp_path, monkeypatch, capfd):
    def adapted(text):
        text = text.replace("kafka-1:9093", secure_kafka.secure_listeners["SASL_SSL"])
        return text.replace("/etc/kafka/ca.pem", secure_kafka.security["ca"])

    topic = f"secure-{uuid.uuid4()}"
    secure_kafka.create_topic(topic)
    (properties,) = of_the_guide(r"^```properties\n(.*?)^```")
    monkeypatch.chdir(tmp_path)
    Path("client.properties").write_text(adapted(properties))
    monkeypatch.setenv("KAVKA_SASL_PASSWORD", secure_kafka.security["password"])
    commands = of_the_guide(r"`((?:kavka|kafka-tools) [^`]+)`")
    assert len(commands) >= 3
    for command in commands:
        program, *arguments = shlex.split(adapted(command))
        if program == "kavka":
            assert subprocess.run([kavka, *arguments]).returncode == 0, command
        else:
            assert kafka_tools.main(arguments) == 0, command
        printed = capfd.readouterr()
        assert topic in printed.out, command
        assert printed.err == "", command


@pytest.mark.parametrize("secure_kafka", ["LATEST"], indirect=True)
def test_the_commands_of_the_guide_convert_the_stores_of_java(secure_kafka, tmp_path):
    security, password = secure_kafka.security, "store-secret"

    def run(command, passwords=0):
        """In a session without a terminal, so that it asks for passwords on stdin."""
        answers = f"{password}\n" * passwords
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, input=answers, text=True, capture_output=True, start_new_session=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    store = f"-storetype JKS -storepass {password}"
    run(f"keytool -importcert -noprompt -alias ca -file {security['ca']} -keystore truststore.jks {store}")
    chain = f"-in {security['certificate']} -inkey {security['key']} -passout pass:{password}"
    run(f"openssl pkcs12 -export {chain} -out client.p12")
    source = f"-srckeystore client.p12 -srcstorepass {password}"
    run(f"keytool -importkeystore {source} -destkeystore keystore.jks -deststoretype JKS -deststorepass {password}")
    run(f"openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in {security['key']} -passout pass:{password} -out old.key")
    new_key, truststore, truststore_pkcs12, pkcs12, jks = of_the_guide(r"`((?:keytool|openssl) [^`]+ [^`]+ [^`]+)`")
    run(new_key, passwords=3)
    run(truststore, passwords=1)
    run(
        f"keytool -importkeystore -srckeystore truststore.jks -srcstorepass {password} -destkeystore truststore.p12"
        f" -deststoretype PKCS12 -deststorepass {password}"
    )
    run(truststore_pkcs12, passwords=1)
    run(jks, passwords=3)
    run(pkcs12, passwords=3)
    encrypted = SslConfig(str(tmp_path / "ca.pem"), security["certificate"], str(tmp_path / "new.key"), password)
    assert client(secure_kafka, "MTLS", ssl_config=encrypted).brokers
    config = SslConfig(str(tmp_path / "ca.pem"), str(tmp_path / "client.pem"), None, password)
    assert client(secure_kafka, "MTLS", ssl_config=config).brokers


def test_a_client_without_a_certificate_is_told_that_it_needs_one(secure_kafka):
    with pytest.raises(AuthenticationException, match="client certificate"):
        client(secure_kafka, "MTLS", ssl_config=tls(secure_kafka))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("listener", "count"),
    [
        ("SASL_SSL", COUNT),
        ("SASL_PLAINTEXT", 1_000),
        pytest.param("SASL_PLAINTEXT", COUNT, marks=pytest.mark.long),
    ],
)
def test_messages_come_back_to_a_client_that_has_authenticated(secure_kafka, listener, count, mechanism):
    ssl_config = tls(secure_kafka) if listener == "SASL_SSL" else None
    round_trip(
        secure_kafka,
        client(secure_kafka, listener, ssl_config=ssl_config, sasl=credentials(secure_kafka.security, mechanism)),
        count,
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"])
def test_messages_come_back_to_a_client_with_a_certificate_that_has_authenticated(secure_kafka, mechanism):
    security = secure_kafka.security
    config = SslConfig(security["ca"], security["certificate"], security["key"])
    user = credentials(security, mechanism)
    round_trip(secure_kafka, client(secure_kafka, "SASL_MTLS", ssl_config=config, sasl=user), 1_000)
    with pytest.raises(AuthenticationException, match="client certificate"):
        client(secure_kafka, "SASL_MTLS", ssl_config=tls(secure_kafka), sasl=user)
    with pytest.raises(SaslAuthenticationFailed, match=r"(?i)authentication failed"):
        client(secure_kafka, "SASL_MTLS", ssl_config=config, sasl=sasl.Plain("alice", "wrong"))


@pytest.mark.parametrize("wrong", [sasl.Plain("alice", "wrong"), sasl.Scram("alice", "wrong"), sasl.Plain("bob", "b")])
def test_wrong_credentials_are_refused_in_words(secure_kafka, wrong):
    with pytest.raises(SaslAuthenticationFailed, match=r"(?i)authentication failed"):
        client(secure_kafka, "SASL_SSL", ssl_config=tls(secure_kafka), sasl=wrong)


def test_messages_come_back_with_tokens_of_an_endpoint(secure_kafka):
    with tokens.Endpoint(secure_kafka.security) as endpoint:
        bearer = sasl.OAuthBearer(
            token_endpoint_url=endpoint.url,
            client_id=endpoint.client_id,
            client_secret=endpoint.client_secret,
            cafile=secure_kafka.security["ca"],
        )
        round_trip(secure_kafka, client(secure_kafka, "OIDC", ssl_config=tls(secure_kafka), sasl=bearer))
        assert endpoint.requests >= 1


@contextlib.contextmanager
def program(cluster, verb, listener, mechanism, environment=None, **about):
    """This file as a program, in a process of its own: only at its start does one take the environment of Kerberos."""
    topic = f"secure-{uuid.uuid4()}"
    cluster.create_topic(topic, partitions=3)
    about |= {"hosts": cluster.secure_listeners[listener], "topic": topic, "mechanism": mechanism}
    about |= {"security": cluster.security, "tls": listener != "SASL_PLAINTEXT"}
    environment = cluster.security["kerberos"]["environment"] | (environment or {})
    environment = os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, verb, json.dumps(about)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def output_of(process):
    """What a program prints at its end, which is the end of its stdin."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


@pytest.mark.parametrize("listener", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_messages_come_back_to_a_client_with_a_ticket(secure_kafka, listener):
    with program(secure_kafka, "round-trip", listener, "GSSAPI") as process:
        assert output_of(process) == COUNT


def _no_ticket(kerberos, folder):
    return {"KRB5CCNAME": f"FILE:{folder / 'no.ccache'}"}


def _expired_ticket(kerberos, folder):
    cache, environment = f"FILE:{folder / 'expired.ccache'}", os.environ | kerberos["environment"]
    kinit = [kerberos["kinit"], "-l", "1s", "-k", "-t", kerberos["keytab"], "-c", cache, kerberos["principal"]]
    subprocess.run(kinit, env=environment, check=True)
    is_valid = [Path(kerberos["kinit"]).with_name("klist"), "-s", "-c", cache]
    while subprocess.run(is_valid, env=environment).returncode == 0:
        time.sleep(0.1)
    # For the library, the ticket is good until the end of the second in which klist calls it expired.
    last = int(time.time())
    while int(time.time()) == last:
        time.sleep(0.05)
    return {"KRB5CCNAME": cache}


def _changed_keytab(kerberos, folder):
    """A keytab with keys that the principal does not have (any more)."""
    data, end = bytearray(Path(kerberos["keytab"]).read_bytes()), 2
    while end < len(data):
        end += 4 + int.from_bytes(data[end : end + 4])
        # The end of the key, ahead of its version number.
        data[end - 5] ^= 1
    (folder / "changed.keytab").write_bytes(data)
    return _no_ticket(kerberos, folder) | {"KRB5_CLIENT_KTNAME": str(folder / "changed.keytab")}


def _foreign_keytab(kerberos, folder):
    data = Path(kerberos["keytab"]).read_bytes().replace(b"kavka-client", b"kavka-nobody")
    (folder / "foreign.keytab").write_bytes(data)
    return _no_ticket(kerberos, folder) | {"KRB5_CLIENT_KTNAME": str(folder / "foreign.keytab")}


def _no_kdc(kerberos, folder):
    config = Path(kerberos["environment"]["KRB5_CONFIG"]).read_text()
    (folder / "krb5.conf").write_text(re.sub(r"kdc = 127\.0\.0\.1:\d+", "kdc = 127.0.0.1:1", config))
    keytab = {"KRB5_CLIENT_KTNAME": kerberos["keytab"]}
    return _no_ticket(kerberos, folder) | keytab | {"KRB5_CONFIG": str(folder / "krb5.conf")}


def _no_library(kerberos, folder):
    """An empty file in its place hides that of the system."""
    (folder / "libgssapi_krb5.so.2").touch()
    return {"LD_LIBRARY_PATH": str(folder)}


@pytest.mark.parametrize(
    ("environment", "service_name", "error", "words"),
    [
        (
            _no_ticket,
            "kafka",
            "AuthenticationException",
            ["there is no Kerberos ticket", "kinit", "KRB5_CLIENT_KTNAME"],
        ),
        (_expired_ticket, "kafka", "AuthenticationException", ["the Kerberos ticket has expired", "kinit"]),
        (
            _changed_keytab,
            "kafka",
            "AuthenticationException",
            ["Kerberos refuses the keytab", "KRB5_CLIENT_KTNAME"],
        ),
        (
            _foreign_keytab,
            "kafka",
            "AuthenticationException",
            ["Kerberos refuses the keytab", "'kavka-nobody@"],
        ),
        (_no_kdc, "kafka", "NoBrokersAvailableError", ["(KDC) cannot be reached", "krb5.conf"]),
        (_no_library, "kafka", "AuthenticationException", ["library cannot be loaded", "libgssapi-krb5-2 on Debian"]),
        (
            lambda *_: {},
            "nobody",
            "AuthenticationException",
            ["Kerberos does not know the principal nobody/localhost", "correct Gssapi(service_name)"],
        ),
    ],
)
@pytest.mark.parametrize("secure_kafka", ["LATEST"], indirect=True)
def test_a_client_without_kerberos_is_told_at_once_what_to_do(
    secure_kafka, tmp_path, environment, service_name, error, words
):
    given = environment(secure_kafka.security["kerberos"], tmp_path)
    with program(secure_kafka, "refused", "SASL_SSL", "GSSAPI", given, service_name=service_name) as process:
        kind, text, seconds = output_of(process)
    assert kind == error, text
    assert "at localhost:" in text
    for part in words:
        assert part in text
    assert seconds < 30, "it does not wait for the limit of a minute"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_are_used_as_kafkas_own_tool_stores_them(secure_kafka, mechanism):
    # RFC 4013, which Kafka does not follow, would change this password. Of names, Kafka takes only ASCII.
    user, password = f"user-{uuid.uuid4()}", "p\u00bdss a\u00a0b cafe\u0301"
    command = [*secure_kafka.tool_command("configs"), "--alter", "--entity-type", "users", "--entity-name", user]
    command += ["--add-config", f"{mechanism}=[iterations=4096,password={password}]"]
    # Java reads its arguments in the encoding of the locale.
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"})
    ended = time.monotonic() + 30
    while True:
        ours = sasl.Scram(user, password, mechanism)
        try:
            client(secure_kafka, "SASL_SSL", ssl_config=tls(secure_kafka), sasl=ours).close()
            return
        except SaslAuthenticationFailed:
            # The broker may not have heard of it yet.
            assert time.monotonic() < ended


def test_a_running_client_survives_a_new_password(secure_kafka):
    user, password, changing = f"user-{uuid.uuid4()}", ["first"], threading.Lock()

    def current():
        # Whoever authenticates in the meantime waits for the new password.
        with changing:
            return password[0]

    secure_kafka.set_scram_password(user, password[0])
    running = client(secure_kafka, "REAUTH", ssl_config=tls(secure_kafka), sasl=sasl.Scram(user, current))
    topic = new_topic(secure_kafka, running)
    with running, topic.get_producer(delivery_reports=True) as producer:
        producer.produce(b"%010d before" % 0)
        assert producer.get_delivery_report(timeout=60)[1] is None
        connections = connections_to(secure_kafka.secure_listeners["REAUTH"])
        with changing:
            secure_kafka.set_scram_password(user, "second")
            password[0] = "second"
        # By then every session that began with the first password has ended.
        ended = time.monotonic() + 12
        number = 0
        while time.monotonic() < ended:
            number += 1
            producer.produce(b"%010d after" % number)
            assert producer.get_delivery_report(timeout=60)[1] is None
        # Longer than a session: only with the new password can one that began with the old one be open.
        assert connections & connections_to(secure_kafka.secure_listeners["REAUTH"]), "all connections were closed"
        assert sorted(read(topic, number + 1)) == list(range(number + 1))
    with pytest.raises(AuthenticationException):
        client(secure_kafka, "SASL_SSL", ssl_config=tls(secure_kafka), sasl=sasl.Scram(user, "first"))


def connections_of(process):
    """The connections of a program under load, which it prints when it gets a line."""
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return set(json.loads(line))


@pytest.mark.parametrize(
    ("mechanisms", "sessions", "burst"),
    [
        pytest.param([*MECHANISMS, "GSSAPI"], 1, 2, id="all-together"),
        *(pytest.param([each], 4, 500, marks=pytest.mark.long, id=each) for each in [*MECHANISMS, "GSSAPI"]),
    ],
)
def test_nothing_is_lost_and_connections_stay_while_sessions_end_under_load(secure_kafka, mechanisms, sessions, burst):
    """The broker counts that connections authenticate again, and the kernel shows that they are the same ones."""
    clients = []

    def all_stay():
        """Whether all connections are there that were there before the sessions ended."""
        begun, before = [connections_of(client) for client in clients], secure_kafka.counted("REAUTH")
        assert all(begun)
        wanted = before["successful-reauthentication-total"] + sessions * sum(map(len, begun))
        while (counted := secure_kafka.counted("REAUTH"))["successful-reauthentication-total"] < wanted:
            assert [client.poll() for client in clients] == [None] * len(clients)
        expired = counted["expired-connections-killed-count"] - before["expired-connections-killed-count"]
        return expired == 0 and all(was <= connections_of(client) for was, client in zip(begun, clients, strict=True))

    with contextlib.ExitStack() as stack:
        for mechanism in mechanisms:
            started = program(secure_kafka, "under-load", "REAUTH", mechanism, burst=burst)
            clients.append(stack.enter_context(started))
            connections_of(clients[-1])
        # When a machine stands still for seconds, a client takes a connection for dead, and opens another one.
        assert any(all_stay() for _ in range(5)), "connections are closed when their sessions end"
        for client in clients:
            assert output_of(client) > 0


def test_kafka_1_1_speaks_tls_1_2(start_kafka):
    cluster = start_kafka("1.1.1", secure=True)
    round_trip(cluster, client(cluster, "SSL", ssl_config=SslConfig(cluster.security["ca"])), 100_000)
    for mechanism in MECHANISMS[:3]:
        given = credentials(cluster.security, mechanism)
        round_trip(cluster, client(cluster, "SASL_SSL", ssl_config=tls(cluster), sasl=given), 100_000)
    with pytest.raises(pykafka.exceptions.KafkaException, match=r"TLS"):
        config = SslConfig(cluster.security["ca"], minimum_version="TLSv1.3")
        client(cluster, "SSL", ssl_config=config)


def _connected(about):
    security = about["security"]
    ssl_config = SslConfig(security["ca"]) if about["tls"] else None
    return pykafka.KafkaClient(about["hosts"], ssl_config=ssl_config, sasl=credentials(security, about["mechanism"]))


def _refused(about):
    begun = time.monotonic()
    ssl_config, mechanism = SslConfig(about["security"]["ca"]), sasl.Gssapi(about["service_name"])
    with pytest.raises(pykafka.exceptions.KafkaException) as refused:
        pykafka.KafkaClient(about["hosts"], ssl_config=ssl_config, sasl=mechanism, socket_timeout_ms=60_000)
    return type(refused.value).__name__, str(refused.value), time.monotonic() - begun


def _round_trip(about):
    write_and_read(_connected(about).topics[about["topic"]], COUNT)
    return COUNT


def _under_load(about):
    """Writes and reads until the end of stdin, and prints its connections for each line; returns how much it wrote."""
    topic = _connected(about).topics[about["topic"]]
    over, written = threading.Event(), 0

    def write():
        nonlocal written
        with topic.get_producer(linger_ms=1) as producer:
            is_last = False
            while not is_last:
                # What is written after that wakes the reader, which then sees that it is over.
                is_last = over.is_set()
                for _ in range(about["burst"]):
                    producer.produce(b"%010d under load" % written)
                    written += 1
                time.sleep(0.01)

    def tell():
        for _ in sys.stdin:
            print(json.dumps(sorted(connections_to(about["hosts"]))), flush=True)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    with topic.get_simple_consumer(consumer_timeout_ms=60_000) as consumer:
        numbers = [int(consumer.consume().value[:10])]
        # Now it has all its connections.
        threading.Thread(target=tell, daemon=True).start()
        while not over.is_set():
            numbers.append(int(consumer.consume().value[:10]))
        writer.join()
        while len(numbers) < written:
            message = consumer.consume()
            assert message is not None, f"{len(numbers)} of {written} messages came"
            numbers.append(int(message.value[:10]))
        assert sorted(numbers) == list(range(written))
    return written


if __name__ == "__main__":
    # A shell ignores it in background jobs, and so do the programs that a test starts there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    verbs = {"refused": _refused, "round-trip": _round_trip, "under-load": _under_load}
    warnings.filterwarnings("ignore", "SASL .* without TLS")
    print(json.dumps(verbs[sys.argv[1]](json.loads(sys.argv[2]))))
