"""The parts of `tests/kafka/kafka.py`, which starts real Apache Kafka for tests.

`artifacts` fetches the jars, `layout` knows what differs between Kafka's versions, `processes` starts
programs that cannot outlive us, `probe` asks brokers how they are, `cluster` puts these together and
`commands` is the line protocol spoken on stdin and stdout. Python's standard library only.
"""


class HarnessError(Exception):
    """Kafka could not be had, or a command could not be carried out. The text says why."""
