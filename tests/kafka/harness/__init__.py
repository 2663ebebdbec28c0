"""The parts of `tests/kafka/kafka.py`, which starts real Apache Kafka for tests.

`artifacts` fetches the jars, `layout` knows the differences between Kafka's versions, `processes` starts programs
that end with this process, `probe` asks brokers for their state, `security` configures secure listeners with what
`certificates` and `kerberos` make, `cluster` puts these together, and `commands` is the line protocol on stdin and
stdout. Uses only Python's standard library.
"""


class HarnessError(Exception):
    """Kafka could not be fetched or started, or a command failed. The text says why."""
