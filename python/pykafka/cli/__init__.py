"""The command `kafka-tools`, which is also `python -m pykafka.cli`."""
