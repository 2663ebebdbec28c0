"""What a large group costs: runs the Rust example `group_cost` on real Kafka: `make bench-members`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "kafka"))

from kafka_cluster import Cluster  # noqa: E402 - found by the line above

GROUP_COST = ["cargo", "run", "--quiet", "--release", "-p", "kavka", "--example", "group_cost", "--"]


def main():
    with Cluster() as cluster:
        subprocess.run([*GROUP_COST, cluster.bootstrap], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
