"""The records in a topic's log, from the output of Kafka's DumpLogSegments.

A record of a verifiable producer is known by its value, `prefix.number`. So a log is kept as one 64-bit id for each
record: 20 million records take 160 MB.
"""

import re
import zlib
from array import array

_FILE = re.compile(rb"Dumping .*/[^/]+-(\d+)(?:\.[^/]*)?/(\d+)\.log")
_RECORD = re.compile(rb"\| offset: (\d+) .*? headerKeys: \[[^\]]*\](?: key: (\d+))? payload: (?:(\d+)\.)?(\d+)\r?\n?$")
_ANY_RECORD = re.compile(rb"\| offset: (\d+) ")
_BATCH = b"baseOffset: "

#: How many bits of an id are the number; those above are the prefix.
NUMBER_BITS = 40
_NUMBERS = (1 << NUMBER_BITS) - 1
#: The id of a record that no verifiable producer has written.
FOREIGN = (1 << 64) - 1


def identify(prefix, number):
    """The id of a record."""
    return prefix << NUMBER_BITS | number


def prefix_and_number(identity):
    """The two parts of an id."""
    return identity >> NUMBER_BITS, identity & _NUMBERS


def value_of(identity):
    """The value of the record with this id."""
    return b"%d.%d" % prefix_and_number(identity)


class PartitionLog:
    """The ids of a partition's records by offset."""

    def __init__(self, start=0):
        #: The first offset.
        self.start = start
        self.ids = array("Q")
        #: `(offset, line)` of records that are not those of a verifiable producer, and of batches with a wrong CRC.
        self.odd = []
        #: `(offset, key)` where the key is not what the number says.
        self.wrong_keys = []

    @property
    def end(self):
        """The offset behind the last record."""
        return self.start + len(self.ids)

    def at(self, offset):
        """The id of the record at an offset; `None` if there is none."""
        index = offset - self.start
        return self.ids[index] if 0 <= index < len(self.ids) else None

    def append(self, offset, identity):
        """Adds a record. Offsets that are left out have no record of ours."""
        if not self.ids:
            self.start = offset
        while self.end < offset:
            self.odd.append((self.end, "no record"))
            self.ids.append(FOREIGN)
        self.ids.append(identity)

    def crc32(self, first, last, keys):
        """The checksum that a verifiable consumer prints for the records between two offsets.

        :param keys: how many keys the producers repeat; 0 if records have none.
        """
        crc = 0
        for offset in range(first, last + 1):
            identity = self.ids[offset - self.start]
            key = b"%d" % ((identity & _NUMBERS) % keys) if keys else b""
            crc = zlib.crc32(b"%d %s %s\n" % (offset, key, value_of(identity)), crc)
        return crc


def read_dump(lines, keys=0):
    """The logs in the output of `DumpLogSegments --print-data-log`, by partition.

    :param lines: the lines of the output, as bytes. Segments of a partition come in order.
    :param keys: how many keys the producers repeat; 0 if records have none.
    """
    logs, log = {}, None
    match = _RECORD.match
    for line in lines:
        if found := match(line):
            offset, key, prefix, number = found.groups()
            offset, number = int(offset), int(number)
            log.append(offset, identify(int(prefix or 0), number))
            expected = b"%d" % (number % keys) if keys else None
            if key != expected:
                log.wrong_keys.append((offset, key))
        elif line.startswith(_BATCH):
            if b"isvalid: true" not in line:
                log.odd.append((log.end, line.decode(errors="replace").strip()))
        elif found := _FILE.match(line):
            log = logs.setdefault(int(found[1]), PartitionLog(int(found[2])))
        elif found := _ANY_RECORD.match(line):
            offset = int(found[1])
            log.append(offset, FOREIGN)
            log.odd.append((offset, line.decode(errors="replace").strip()))
    return logs
