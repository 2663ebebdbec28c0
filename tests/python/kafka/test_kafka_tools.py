"""`kafka-tools` with real Kafka and with the embedded broker, which must give the same output."""

import subprocess
import sys
import time

import confluent_kafka
import pykafka
import pykafka.testing
import pytest
from pykafka.cli.kafka_tools import main


@pytest.fixture(scope="module")
def embedded():
    """The embedded broker."""
    with pykafka.testing.Broker(brokers=3) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(params=["embedded", "kafka"])
def bootstrap(request):
    """Both of them."""
    cluster = request.getfixturevalue(request.param)
    return cluster if isinstance(cluster, str) else cluster.bootstrap


@pytest.fixture
def tools(bootstrap):
    """Runs a command; returns its exit code, the cells of each line of output, and its standard error."""

    def run(*arguments):
        command = [sys.executable, "-m", "pykafka.cli", "-b", bootstrap, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        return result.returncode, [line.split() for line in result.stdout.splitlines()], result.stderr

    return run


def rows(result):
    code, printed, error = result
    assert (code, error) == (0, "")
    return printed[2:]


def message_of(consumer):
    """The next message; a consumer also returns errors, such as of a broker that does not know a new topic yet."""
    while True:
        message = consumer.poll(120)
        assert message is not None
        if message.error() is None:
            return message


def wait_for(holds):
    """What one broker or the controller knows or has answered, other brokers know a moment later."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_all_commands_do_what_they_say(bootstrap, tools, tmp_path):
    assert rows(tools("create_topic", "tools", "-p", "2", "-r", "3", "-c", '{"retention.ms": 3600000}')) == []
    topic = pykafka.KafkaClient(bootstrap).topics["tools"]
    first = topic.partitions[0]
    wait_for(lambda: ["tools", "2", "3"] in rows(tools("print_topics")))
    code, described, _ = tools("desc_topic", "tools")
    assert (code, described[:3]) == (0, [["Topic:", "tools"], ["Partitions:", "2"], ["Replicas:", "3"]])
    assert sorted("".join(described[5][2:5]).split(",")) == ["1", "2", "3"]

    settings = {"bootstrap.servers": bootstrap, "group.id": "tools", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**settings, "enable.auto.commit": False, "client.id": "reader"})
    consumer.subscribe(["tools"])
    with topic.get_sync_producer(partitioner=lambda partitions, key: first) as producer:
        for number in range(3):
            producer.produce(b"%d" % number)
    read = message_of(consumer)
    assert read.value() == b"0"
    consumer.commit(read, asynchronous=False)
    assert rows(tools("print_managed_consumer_groups", "tools"))[1:] == [["tools", "Stable", "range", "consumer"]]
    lag = rows(tools("print_consumer_lag", "tools", "tools"))
    assert (lag[0][:4], lag[0][5], lag[2]) == (["0", "2", "3", "1"], "reader", ["Total", "lag:", "2", "messages."])

    code, _, error = tools("reset_offsets", "tools", "tools", "latest")
    assert (code, error.count("\n")) == (1, 1)
    assert "the group has live members" in error
    consumer.close()
    wait_for(lambda: tools("reset_offsets", "tools", "tools", "latest")[1][2:] == [["0", "3"], ["1", "0"]])
    assert rows(tools("print_consumer_lag", "tools", "tools"))[-1] == ["Total", "lag:", "0", "messages."]
    assert rows(tools("print_offsets", "tools", "earliest")) == [["0", "0"], ["1", "0"]]

    outfile = tmp_path / "out"
    command = [sys.executable, "-m", "pykafka.cli", "-b", bootstrap, "consume_topic", "tools", "-l", "2"]
    with subprocess.Popen([*command, "-o", str(outfile)]) as process, topic.get_sync_producer() as producer:
        while process.poll() is None:
            producer.produce(b"new")
    assert (process.returncode, outfile.read_text()) == (0, "new\nnew\n")
    assert rows(tools("delete_topic", "tools")) == []
    wait_for(lambda: "there is no topic 'tools'" in tools("desc_topic", "tools")[2])
    assert tools("desc_topic", "tools")[0] == 1


def test_a_group_of_the_newer_protocol_is_shown_and_left_alone_while_it_lives(kafka, capsys):
    topic = pykafka.KafkaClient(kafka.bootstrap).topics["newer"]
    with topic.get_sync_producer() as producer:
        producer.produce(b"value")
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "newer", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**settings, "group.protocol": "consumer", "enable.auto.commit": False})
    consumer.subscribe(["newer"])
    consumer.commit(message_of(consumer), asynchronous=False)

    def tools(*arguments):
        code = main(["-b", kafka.bootstrap, *arguments])
        printed = capsys.readouterr()
        return code, [line.split() for line in printed.out.splitlines()], printed.err

    assert tools("print_managed_consumer_groups", "newer")[1][3][:2] == ["newer", "Stable"]
    assert ["Total", "lag:", "0", "messages."] in tools("print_consumer_lag", "newer", "newer")[1]
    code, _, error = tools("reset_offsets", "newer", "newer", "earliest")
    assert code == 1
    assert "the group has live members" in error
    consumer.close()
    wait_for(lambda: tools("reset_offsets", "newer", "newer", "earliest")[0] == 0)
