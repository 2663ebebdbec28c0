"""`kafka-tools` against the embedded broker: its output and exit codes."""

import datetime
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pykafka
import pykafka.testing
import pytest
from pykafka.cli import kafka_tools
from pykafka.cli.kafka_tools import main


@pytest.fixture
def tools(own_broker, capsys):
    """Runs a command that must succeed; returns the cells of each line of output."""

    def run(*arguments):
        assert main(["-b", own_broker.bootstrap_servers, *arguments]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return [line.split() for line in printed.out.splitlines()]

    return run


@pytest.fixture
def fail(own_broker, capsys):
    """Runs a command that must fail; returns the one line that says why."""

    def run(*arguments):
        assert main(["-b", own_broker.bootstrap_servers, *arguments]) == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert printed.err.startswith("kafka-tools: ")
        return printed.err

    return run


@pytest.fixture
def orders(own_broker):
    """The topic `orders` with two partitions and three messages in the first; `billing` has committed offset 1."""
    own_broker.create_topic("orders", partitions=2)
    topic = pykafka.KafkaClient(own_broker.bootstrap_servers).topics["orders"]
    first = topic.partitions[0]
    with topic.get_sync_producer(partitioner=lambda partitions, key: first) as producer:
        for number in range(3):
            producer.produce(b"%d" % number, timestamp=1000 * (number + 1))
    consumer = topic.get_simple_consumer("billing", auto_start=False)
    consumer.commit_offsets([(first, 1)])
    return topic


def test_create_topic_waits_until_every_broker_lists_the_topic(tools, monkeypatch):
    ask, answers = pykafka.Broker.request_metadata, []

    def late(broker):
        answers.append(ask(broker))
        if len(answers) < 3:
            del answers[-1].topics[b"new"]
        return answers[-1]

    monkeypatch.setattr(pykafka.Broker, "request_metadata", late)
    tools("create_topic", "new")
    assert [b"new" in answer.topics for answer in answers] == [False, False, True]


def test_topics_are_made_listed_described_and_removed(tools):
    assert tools("create_topic", "new", "-p", "2", "-c", '{"retention.ms": 60000}', "-t", "100") == []
    assert tools("create_topic", "placed", "-a", '{"0": [1], "1": [1], "2": [1]}') == []
    assert tools("print_topics") == [
        ["Topic", "Partitions", "Replication"],
        ["------", "----------", "-----------"],
        ["new", "2", "1"],
        ["placed", "3", "1"],
    ]
    assert tools("desc_topic", "new") == [
        ["Topic:", "new"],
        ["Partitions:", "2"],
        ["Replicas:", "1"],
        ["Partition", "Leader", "Replicas", "ISR"],
        ["---------", "------", "--------", "---"],
        ["0", "1", "1", "1"],
        ["1", "1", "1", "1"],
    ]
    assert tools("delete_topic", "new") == []
    assert [row[0] for row in tools("print_topics")[2:]] == ["placed"]


def test_offsets_are_printed_for_both_ends_and_for_a_time(tools, orders):
    assert tools("print_offsets", "orders", "Earliest")[2:] == [["0", "0"], ["1", "0"]]
    assert tools("print_offsets", "orders", "LATEST")[2:] == [["0", "3"], ["1", "0"]]
    assert tools("print_offsets", "orders", "1970-01-01T00:00:02")[2:] == [["0", "1"], ["1", "0"]]
    in_future = (datetime.datetime.now() + datetime.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S")
    assert tools("print_offsets", "orders", in_future)[2:] == [["0", "3"], ["1", "0"]]


def test_groups_and_their_lag_are_printed_for_a_topic(tools, orders, own_broker):
    own_broker.create_topic("other", partitions=1)
    assert tools("print_managed_consumer_groups", "orders") == [
        ["Topic:", "orders"],
        ["GroupId", "State", "Protocol", "ProtocolType"],
        ["-------", "-----", "--------", "------------"],
        ["billing", "Empty", "-", "-"],
    ]
    assert tools("print_managed_consumer_groups", "other")[3:] == []
    lag = tools("print_consumer_lag", "orders", "billing")
    assert lag[2:] == [
        ["0", "2", "3", "1", "-", "-"],
        ["1", "-", "0", "-", "-", "-"],
        ["Total", "lag:", "2", "messages."],
    ]


def test_a_group_is_moved_and_begins_there(tools, orders):
    for where, then in [("earliest", 0), ("latest", 3), ("1970-01-01T00:00:03", 2)]:
        assert tools("reset_offsets", "orders", "billing", where)[2:] == [["0", str(then)], ["1", "0"]]
        committed = dict(
            orders.get_simple_consumer("billing", auto_start=False, reset_offset_on_fetch=False).fetch_offsets()
        )
        assert committed[0].offset == then


def test_programs_find_the_functions_of_old(orders):
    assert kafka_tools.fetch_offsets(None, orders, "latest")[0].offset == [3]
    assert kafka_tools.fetch_offsets(None, orders, "1970-01-01T00:00:03")[0].offset == [2]
    orders.get_simple_consumer("old", auto_start=False).commit_offsets([(orders.partitions[0], 1)])
    assert kafka_tools.fetch_consumer_lag(None, orders, "old") == {0: (3, 1), 1: (0, -1)}


def test_new_messages_are_printed_until_there_were_enough(own_broker, orders, tmp_path):
    outfile = tmp_path / "out"
    command = [sys.executable, "-m", "pykafka.cli", "-b", own_broker.bootstrap_servers, "-o", "0.10.2"]
    consume = [*command, "consume_topic", "orders", "-l", "3", "-o", str(outfile)]
    with subprocess.Popen(consume, stderr=subprocess.PIPE, text=True) as process:
        # It starts at the end, so messages produced before that do not count.
        with orders.get_sync_producer() as producer:
            while process.poll() is None:
                producer.produce("grün".encode() + b"\xff")
                # Messages without a value are not printed.
                producer.produce(b"")
        assert (process.returncode, process.stderr.read()) == (0, "")
    assert outfile.read_text("utf-8") == "grün�\n" * 3


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_no_message_is_waited_for_if_none_is_wanted_and_an_old_outfile_is_emptied(tools, orders, tmp_path, limit):
    outfile = tmp_path / "out"
    outfile.write_text("of yesterday\n")
    assert tools("consume_topic", "orders", "-l", limit, "-o", str(outfile)) == []
    assert outfile.read_text() == ""


def test_minus_one_leaves_partitions_and_replicas_to_the_cluster(capsys):
    with pykafka.testing.Broker(partitions=3) as broker:
        for command in (["usual", "-p", "-1", "-r", "-1"], ["one"]):
            assert main(["-b", broker.bootstrap_servers, "create_topic", *command]) == 0
        assert main(["-b", broker.bootstrap_servers, "print_topics"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["one", "1", "1"], ["usual", "3", "1"]]


def test_what_cannot_be_done_is_one_line(fail, orders):
    for command in (
        ["consume_topic", "nowhere"],
        ["desc_topic", "nowhere"],
        ["print_managed_consumer_groups", "nowhere"],
        ["print_consumer_lag", "nowhere", "billing"],
        ["print_offsets", "nowhere", "latest"],
        ["reset_offsets", "nowhere", "billing", "latest"],
        ["delete_topic", "nowhere"],
    ):
        assert "there is no topic 'nowhere'" in fail(*command), command
    assert "group nobody" in fail("print_consumer_lag", "orders", "nobody")
    assert "TOPIC_ALREADY_EXISTS" in fail("create_topic", "orders")
    assert "nowhere" not in orders._cluster.topics


def test_a_broker_that_is_not_there_is_one_line(capsys):
    assert main(["-b", "127.0.0.1:1", "print_topics"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["desc_topic"],
        ["print_offsets", "orders", "yesterday"],
        ["create_topic", "t", "-p", "0"],
        ["create_topic", "t", "-r", "-2"],
        ["create_topic", "t", "-t", "-1"],
        ["consume_topic", "t", "-l", "many"],
        ["create_topic", "t", "-c", "retention.ms=1"],
        ["create_topic", "t", "-a", '{"0": 1}'],
        ["consume_topic", "t", "-o", "/nowhere/at/all"],
    ],
)
def test_wrong_usage_is_told_from_failure(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_without_a_command_help_is_printed_and_every_command_has_its_own(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    for command in ("consume_topic", "desc_topic", "print_managed_consumer_groups", "print_consumer_lag"):
        assert command in printed
        with pytest.raises(SystemExit) as raised:
            main([command, "--help"])
        assert raised.value.code == 0
        assert command in capsys.readouterr().out


def test_ctrl_c_and_a_reader_that_has_enough_leave_no_traceback(own_broker, orders):
    command = [sys.executable, "-m", "pykafka.cli", "-b", own_broker.bootstrap_servers]
    piped = subprocess.run(
        f"{' '.join(command)} print_topics | true", shell=True, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert piped.stderr == ""
    program = "import sys, signal; from pykafka.cli.kafka_tools import main;"
    program += "signal.signal(signal.SIGALRM, signal.default_int_handler); signal.alarm(1); sys.exit(main())"
    waiting = [sys.executable, "-c", program, "-b", own_broker.bootstrap_servers, "consume_topic", "orders"]
    result = subprocess.run(waiting, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_every_command_of_the_guide_prints_what_the_guide_says(own_broker, capsys):
    page = Path(__file__).resolve().parents[3] / "docs" / "guide" / "command-line.md"
    blocks = "".join(re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL))
    commands = re.findall(r"^\$ kafka-tools (.*)\n((?:(?!\$ ).*\n)*)", blocks, re.MULTILINE)
    assert len(commands) >= 8
    for command, printed in commands:
        assert main(["-b", own_broker.bootstrap_servers, *shlex.split(command)]) == 0
        assert capsys.readouterr() == (printed, ""), command


PASSWORD = "hunter2-canary"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


@pytest.fixture(scope="module")
def secure_broker():
    with pykafka.testing.Broker(tls=True, client_certificates=True, sasl={"alice": PASSWORD}) as broker:
        broker.create_topic("orders")
        yield broker


@pytest.fixture
def certificates(secure_broker):
    """The options with the files."""
    files = secure_broker.ca_file, secure_broker.client_certificate_file, secure_broker.client_key_file
    return ["--tls-ca", files[0], "--tls-certificate", files[1], "--tls-key", files[2]]


def properties(path, broker, **more):
    settings = {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "SASL_SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": broker.ca_file,
        "ssl.certificate.location": broker.client_certificate_file,
        "ssl.key.location": broker.client_key_file,
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": f'{PLAIN} required username="alice" \\\n  password="{PASSWORD}";',
    } | {name.replace("_", "."): value for name, value in more.items()}
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return str(path)


def test_the_options_of_kavka_lead_to_a_secure_broker(secure_broker, certificates, tmp_path, monkeypatch, capsys):
    options = ["-b", secure_broker.bootstrap_servers, *certificates]
    options += ["--sasl-mechanism", "SCRAM-SHA-512", "--sasl-username", "alice"]
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\r\n")
    assert main([*options, "--sasl-password-file", str(file), "print_topics"]) == 0
    monkeypatch.setenv("KAVKA_SASL_PASSWORD", PASSWORD)
    assert main([*options, "print_topics"]) == 0
    assert capsys.readouterr().out.count("orders") == 2
    monkeypatch.setenv("KAVKA_SASL_PASSWORD", "not-" + PASSWORD)
    assert main([*options, "print_topics"]) == 1
    refused = capsys.readouterr().err
    assert "refused the credentials for SASL SCRAM-SHA-512" in refused
    assert PASSWORD not in refused


def test_a_properties_file_of_kafkas_own_tools_leads_to_a_secure_broker(secure_broker, tmp_path, capsys):
    file = properties(tmp_path / "client.properties", secure_broker, linger_ms="0", key_serializer="a.B")
    assert main(["-F", file, "print_topics"]) == 0
    printed = capsys.readouterr()
    assert "orders" in printed.out
    assert printed.err == f"kafka-tools: {file}: line 11: no setting is called `key.serializer`; it is ignored\n"
    elsewhere = main(["--command-config", file, "-b", "127.0.0.1:1", "print_topics"])
    assert (elsewhere, "127.0.0.1:1" in capsys.readouterr().err) == (1, True)


def test_a_key_that_is_pasted_into_a_properties_file_is_never_printed(tmp_path, capsys):
    """Each line of a key that is pasted as it is, without a backslash at the ends of its lines, reads as a name."""
    key = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "hunter2canary0123456789+abcdefgh", "hunter2canary=="]
    file = tmp_path / "pasted.properties"
    lines = ["ssl.keystore.key=-----BEGIN PRIVATE KEY-----", *key, "-----END PRIVATE KEY-----"]
    file.write_text("security.protocol=SSL\n" + "\n".join(lines))
    with pytest.raises(SystemExit):
        main(["-F", str(file), "print_topics"])
    printed = capsys.readouterr().err
    for number in range(3, 7):
        assert f"kafka-tools: {file}: line {number}: no setting is called so; " in printed
    assert not [line for line in key if line.rstrip("=") in printed]


def test_options_that_contradict_each_other_are_wrong_usage(secure_broker, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAVKA_SASL_PASSWORD", PASSWORD)
    misspelt = tmp_path / "misspelt.properties"
    misspelt.write_text("ssl.truststore.locaton=a")
    for options, words in [
        (
            ["--tls-ca", "a", "--security-protocol", "PLAINTEXT"],
            "ssl.ca.location (--tls-ca) is set, but security.protocol (--security-protocol) does",
        ),
        (["--tls-key", "a"], "ssl.certificate.location (--tls-certificate) is missing"),
        (["--sasl-username", "alice"], "sasl.mechanism (--sasl-mechanism) is missing"),
        (["--sasl-mechanism", "PLAN"], "did you mean PLAIN?"),
        (["--sasl-password-file", "/nowhere"], "cannot read /nowhere: No such file"),
        (["-F", "/nowhere"], "cannot read /nowhere: No such file"),
        (["--tls-ca", "/nowhere"], "the CA certificates in /nowhere cannot be read"),
        (
            ["-F", str(misspelt)],
            "misspelt.properties: line 1: no setting is called `ssl.truststore.locaton`; did you mean ssl.",
        ),
        (["-F", properties(tmp_path / "two", secure_broker, sasl_password=PASSWORD)], "are both set"),
    ]:
        with pytest.raises(SystemExit) as raised:
            main([*options, "print_topics"])
        assert raised.value.code == 2
        printed = capsys.readouterr().err
        assert words in printed
        assert PASSWORD not in printed


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--tls-ca", "ssl.ca.location (--tls-ca) holds a text and not a path"),
        ("--tls-certificate", "ssl.certificate.location (--tls-certificate) holds a text and not a path"),
        ("--tls-key", "ssl.key.location (--tls-key) holds a key and not a path"),
        ("-F", "give the path of a file, not its content"),
        ("--sasl-password-file", "give the path of a file, not its content"),
    ],
)
@pytest.mark.parametrize("content", ["-----BEGIN PRIVATE KEY-----\nhunter2", "eyJhunter2", "a=b\nhunter2"])
def test_the_content_of_a_file_in_place_of_its_path_is_refused_and_not_shown(option, words, content, capsys):
    with pytest.raises(SystemExit) as raised:
        main([option, content, "print_topics"])
    printed = capsys.readouterr().err
    assert (raised.value.code, words in printed, "hunter2" in printed) == (2, True, False), printed


@pytest.mark.parametrize("option", ["-F", "--sasl-password-file"])
def test_a_dash_in_place_of_a_path_is_refused_with_the_path_of_standard_input(option, capsys):
    with pytest.raises(SystemExit) as raised:
        main([option, "-", "print_topics"])
    assert raised.value.code == 2
    assert "that of standard input is /dev/stdin" in capsys.readouterr().err


def test_a_password_that_everybody_on_the_network_can_read_causes_a_warning(monkeypatch, capsys):
    monkeypatch.setenv("KAVKA_SASL_PASSWORD", PASSWORD)
    with pykafka.testing.Broker(sasl={"alice": PASSWORD}) as broker:
        options = ["-b", broker.bootstrap_servers, "--security-protocol", "SASL_PLAINTEXT", "--sasl-username", "alice"]
        assert main([*options, "--sasl-mechanism", "PLAIN", "print_topics"]) == 0
        warned = "SASL PLAIN without TLS: everybody on the network can read the credentials, and use them; "
        warned += "set --security-protocol to SASL_SSL"
        assert capsys.readouterr().err == f"kafka-tools: warning: {warned}\n"
        assert main([*options, "--sasl-mechanism", "SCRAM-SHA-256", "print_topics"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("setting", "warned"),
    [
        ("ssl.insecure.accept.any.certificate=true", "the certificates of brokers are not verified: everybody on "),
        ("ssl.endpoint.identification.algorithm=", "the host names of brokers are not verified: everybody with a "),
    ],
)
def test_a_check_of_tls_that_is_turned_off_causes_a_warning(setting, warned, tmp_path, capsys):
    unverified = tmp_path / "unverified.properties"
    unverified.write_text(setting)
    with pykafka.testing.Broker(tls=True) as broker:
        options = ["-b", broker.bootstrap_servers, "--tls-ca", broker.ca_file]
        assert main([*options, "print_topics"]) == 0
        assert capsys.readouterr().err == ""
        assert main([*options, "-F", str(unverified), "print_topics"]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"kafka-tools: warning: {warned}")


def test_a_failure_names_the_option_to_change(secure_broker, own_broker, certificates, capsys):
    secure, plaintext = secure_broker.bootstrap_servers, own_broker.bootstrap_servers
    for options, words in [
        (["-b", secure], "use the option --tls-ca"),
        (["-b", plaintext, *certificates], "check the port and --tls-ca"),
        (["-b", secure, *certificates[:2]], "set --tls-certificate and --tls-key"),
        (["-b", secure, "--tls-ca", certificates[3]], "add that authority to --tls-ca"),
    ]:
        assert main([*options, "print_topics"]) == 1
        assert words in capsys.readouterr().err


def test_a_name_that_another_client_chose_cannot_forge_a_row():
    text = kafka_tools.table(["GroupId", "Lag"], [["a\nb\x1b[2J\u202e", 1], ["c", 2]])
    assert text.splitlines()[2:] == ["a\\nb\\x1b[2J\\u202e    1", "c                    2"]
