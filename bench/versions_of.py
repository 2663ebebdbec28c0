"""Which version of each client is measured."""

import re
import subprocess
from pathlib import Path

from clients import PEERS, ROOT

PACKAGES = {
    "ours": "pykafka",
    "confluent": "confluent-kafka",
    "aio": "aiokafka",
    "kafka_python": "kafka-python",
    "pykafka2": "pykafka",
}
CRATES = {"kavka": "kavka", "rdkafka": "rdkafka", "krafka": "krafka", "rskafka": "rskafka"}
CRATES |= {"confluent": "confluent-kafka"}


def clients(given):
    """`{name: version}` of those that are installed."""
    found = {client.name: version(client) for client in given}
    return {name: text for name, text in found.items() if text}


def version(client):
    """A client's version and, for Python, the interpreter's; None if it is not installed."""
    if client.library == "java":
        arguments = PEERS / "java" / "arguments"
        found = re.search(r"kafka-clients-([\d.]+)\.jar", arguments.read_text()) if arguments.exists() else None
        return found and found[1]
    if client.library == "go":
        return re.search(r"franz-go v([\d.]+)", (ROOT / "bench" / "go" / "go.mod").read_text())[1]
    if not Path(client.program[0]).exists():
        return None
    if str(client.program[0]).endswith("python"):
        code = (
            "import sys, importlib.metadata as it;"
            f"print(it.version('{PACKAGES[client.library]}'), 'on Python', sys.version.split()[0])"
        )
        return subprocess.run(
            [client.program[0], "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
    lock = (ROOT / "bench" / "rust" / "Cargo.lock").read_text()
    return re.search(rf'name = "{CRATES[client.library]}"\nversion = "([^"]+)"', lock)[1]
