"""Chaos: programs write and read on real Kafka while it fails, and a checker compares what they say with the log.

`python -m chaos` runs it (`make chaos`). The programs are `kavka verifiable-producer` and `kavka verifiable-consumer`.
The log comes from Kafka's own DumpLogSegments, so no code of ours reads it. Standard library only.
"""
