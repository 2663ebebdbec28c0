"""How much memory a producer uses while its broker does not answer, and a consumer that is not read (guarantee R8)."""

import subprocess
import sys
import textwrap

import pytest
from pykafka import KafkaClient

PROGRAM = """
    import sys, time
    import pykafka

    size = int(sys.argv[2])
    producer = pykafka.KafkaClient(sys.argv[1]).topics["silent"].get_producer(
        # However slow the machine is, no message is given up before the memory is full.
        block_on_queue_full=False, delivery_reports=sys.argv[3] == "True", delivery_timeout_ms=3_600_000
    )
    print("ready", flush=True)
    input()
    accepted, refusal, end = 0, None, None
    while end is None or time.monotonic() < end:
        try:
            producer.produce(bytes(size))
            accepted += 1
        except pykafka.exceptions.ProducerQueueFullError as error:
            refusal = str(error)
            end = end or time.monotonic() + 0.5
    # Not ru_maxrss: that begins with what the test's own process had when it made this one.
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(accepted, peak, refusal, flush=True)
    import os; os._exit(0)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("size", [10, 100, 1_000, 20_000, 900_000])
def test_a_producer_that_gets_no_answer_stays_within_its_memory(own_broker, size, reports):
    arguments = [own_broker.bootstrap_servers, str(size), str(reports)]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        own_broker.silence()
        said, _ = process.communicate("\n", timeout=800)
    accepted, peak_kib, refusal = said.split(maxsplit=2)
    buffered_mib = int(accepted) * size / 2**20
    assert int(peak_kib) / 1024 < 32 + 48, f"{accepted} messages of {size} bytes"
    assert "buffer_memory" in refusal
    assert reports or buffered_mib > 8, "it buffered what it may before it refused"
    assert int(accepted) > 10


CONSUMING = """
    import sys, time
    import pykafka

    def peak_kib():
        return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))

    consumer = pykafka.KafkaClient(sys.argv[1]).topics["unread"].get_simple_consumer()
    begin = peak_kib()
    first = consumer.consume()
    peak, looks = 0, 0
    while looks < 40:
        looks = looks + 1 if peak_kib() == peak else 0
        peak = peak_kib()
        time.sleep(0.05)
    read = sum(1 for _ in zip(range(int(sys.argv[2]) - 1), consumer))
    print(begin, peak_kib(), read, flush=True)
    import os; os._exit(0)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [1_000, 900_000])
def test_a_consumer_that_is_not_read_stays_within_its_memory(own_broker, size):
    # Of each partition only a little is fetched ahead.
    own_broker.create_topic("unread", partitions=100)
    count = 160_000_000 // size
    with KafkaClient(own_broker.bootstrap_servers).topics["unread"].get_producer() as producer:
        value = bytes(size)
        for _ in range(count):
            producer.produce(value)
    command = [sys.executable, "-c", textwrap.dedent(CONSUMING), own_broker.bootstrap_servers, str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=800)
    begin_kib, peak_kib, read = map(int, done.stdout.split())
    assert read == count - 1
    assert peak_kib / 1024 < 64 + 48
    assert (peak_kib - begin_kib) / 1024 > 32, "it fetched ahead"
