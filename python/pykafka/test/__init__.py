"""Helpers of pykafka 2 for the tests of other programs; new tests should use `pykafka.testing`."""
