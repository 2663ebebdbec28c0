"""A module of pykafka 2 that can no longer be imported; the error says why."""

from . import _gone

raise _gone.error(__name__, __name__)
