"""How much memory a producer takes when its broker has stopped answering (guarantee R8)."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import resource, sys, time
    import pykafka

    size = int(sys.argv[2])
    producer = pykafka.KafkaClient(sys.argv[1]).topics["silent"].get_producer(
        block_on_queue_full=False, delivery_reports=sys.argv[3] == "True"
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
    print(accepted, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, refusal, flush=True)
    import os; os._exit(0)
"""


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("size", [10, 100, 1_000, 20_000, 900_000])
def test_a_producer_that_gets_no_answer_stays_within_its_memory(own_broker, size, reports):
    arguments = [own_broker.bootstrap_servers, str(size), str(reports)]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        own_broker.silence()
        said, _ = process.communicate("\n", timeout=60)
    accepted, peak_kib, refusal = said.split(maxsplit=2)
    buffered_mib = int(accepted) * size / 2**20
    assert int(peak_kib) / 1024 < 32 + 48, f"{accepted} messages of {size} bytes"
    assert "buffer_memory" in refusal
    assert reports or buffered_mib > 8, "it buffered what it may before it refused"
    assert int(accepted) > 10
