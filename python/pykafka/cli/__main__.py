"""Runs `kafka-tools` as `python -m pykafka.cli`."""

import sys

from .kafka_tools import main

if __name__ == "__main__":
    sys.exit(main())
