"""Checks what verifiable producers were told against the log: the properties P of `Verdict.KINDS`."""

import json
import re
from array import array

from .logs import FOREIGN, identify, prefix_and_number, value_of

_SUCCESS = re.compile(
    rb'\{"timestamp":(\d+),"name":"producer_send_success","key":(?:null|"\d+"),'
    rb'"value":"(?:(\d+)\.)?(\d+)","topic":"([^"]+)","partition":(\d+),"offset":(-?\d+)\}'
)
_NONE, _STORED, _NOT_WRITTEN, _MAYBE_WRITTEN = range(4)
_OUTCOMES = {"not_written": _NOT_WRITTEN, "maybe_written": _MAYBE_WRITTEN}


class Producer:
    """What one producer was told: one byte, a partition and an offset for each record.

    :param lines: its output, as bytes.
    :param topic: the topic it was to write to.
    """

    def __init__(self, lines, prefix, topic, verdict, pauses):
        self.prefix, self.topic = prefix, topic
        self._verdict, self._pauses = verdict, pauses
        self.outcomes = bytearray()
        self.partitions, self.offsets = array("i"), array("q")
        self.sent, self.is_complete = 0, False
        #: The last number that was reported in each partition.
        self._reported = {}
        for line in lines:
            self._read(line)
        self._reach(self.sent)

    def _read(self, line):
        if found := _SUCCESS.match(line):
            timestamp, prefix, number, topic, partition, offset = found.groups()
            self._pauses.mark(int(timestamp))
            self._note(int(prefix or 0), int(number), topic.decode(), int(partition), int(offset), _STORED)
            return
        try:
            event = json.loads(line)
        except ValueError:
            # The last line of a killed program.
            return
        match event["name"]:
            case "producer_send_success":
                self._pauses.mark(event["timestamp"])
                prefix, number = map(int, event["value"].rpartition(".")[::2])
                self._note(prefix, number, event["topic"], event["partition"], event["offset"], _STORED)
            case "producer_send_error":
                prefix, _, number = event["value"].rpartition(".")
                outcome = _OUTCOMES[event["outcome"]]
                self._note(int(prefix or 0), int(number), event["topic"], event.get("partition"), -1, outcome)
                self._verdict.figures[event["outcome"]] += 1
                reason = f"reason {event['exception']}"
                self._verdict.figures[reason] += 1
            case "tool_data":
                self.sent, self.is_complete = event["sent"], True

    def _reach(self, count):
        if (missing := count - len(self.outcomes)) > 0:
            # More than is needed, so that growing costs little.
            missing += len(self.outcomes)
            self.outcomes.extend(bytes(missing))
            self.partitions.extend(array("i", [-1]) * missing)
            self.offsets.extend(array("q", [-1]) * missing)

    def _note(self, prefix, number, topic, partition, offset, outcome):
        if number >= len(self.outcomes):
            self._reach(number + 1)
        if (prefix, topic) != (self.prefix, self.topic):
            self._verdict.violate("foreign", f"a report of {prefix}.{number} in {topic}")
            return
        if self.outcomes[number] != _NONE:
            self._verdict.violate("two reports", f"{prefix}.{number}")
            return
        self.sent = max(self.sent, number + 1)
        self.outcomes[number] = outcome
        self.offsets[number] = offset
        if partition is not None:
            self.partitions[number] = partition
            if number < self._reported.get(partition, -1):
                self._verdict.violate("reports out of order", f"{prefix}.{number} in partition {partition}")
            self._reported[partition] = number


class ProducerCheck:
    """Compares the producers with the logs.

    :param producers: by prefix.
    :param logs: the logs of the topic by partition; a list of them if the topic was deleted and created again.
    :param keys: how many keys the producers repeat; 0 if records have none.
    :param partition_counts: the numbers of partitions that the topic has had.
    """

    def __init__(self, producers, logs, verdict, keys=0, partition_counts=()):
        self._producers, self._verdict = producers, verdict
        self._generations = logs if isinstance(logs, list) else [logs]
        self._keys, self._counts = keys, partition_counts
        #: How often each record is in the log.
        self._stored = {prefix: bytearray(producer.sent) for prefix, producer in producers.items()}

    def run(self):
        for logs in self._generations:
            for partition, log in logs.items():
                self._scan(partition, log)
        for prefix, producer in self._producers.items():
            self._compare(producer, self._stored[prefix])

    def _scan(self, partition, log):
        for offset, what in log.odd:
            self._verdict.violate("foreign", f"{partition}-{offset}: {what}")
        for offset, key in log.wrong_keys:
            self._verdict.violate("altered", f"the key {key} at {partition}-{offset}")
        last = dict.fromkeys(self._producers, -1)
        places = self._places()
        for offset, identity in enumerate(log.ids, log.start):
            if identity == FOREIGN:
                continue
            prefix, number = prefix_and_number(identity)
            stored = self._stored.get(prefix)
            if stored is None or number >= len(stored):
                self._verdict.violate("foreign", f"{value_of(identity)} at {partition}-{offset}")
                continue
            if stored[number]:
                self._verdict.violate("duplicated", f"{value_of(identity)} at {partition}-{offset}")
            elif number < last[prefix]:
                self._verdict.violate("reordered", f"{value_of(identity)} at {partition}-{offset}")
            stored[number] = min(stored[number] + 1, 255)
            last[prefix] = max(number, last[prefix])
            if places and partition not in places[number % self._keys]:
                self._verdict.violate("key in another partition", f"{value_of(identity)} in {partition}")

    def _places(self):
        """The partitions in which each key may be; `None` without keys."""
        if not (self._keys and self._counts):
            return None
        hashes = [murmur2(b"%d" % key) & 0x7FFFFFFF for key in range(self._keys)]
        return [{hashed % count for count in self._counts} for hashed in hashes]

    def _compare(self, producer, stored):
        figures = self._verdict.figures
        figures["messages"] += producer.sent
        for number in range(producer.sent):
            outcome, count = producer.outcomes[number], stored[number]
            if outcome == _STORED:
                figures["delivered"] += 1
                if not count:
                    self._verdict.violate("lost", self._describe(producer, number))
                elif not self._is_where_reported(producer, number):
                    self._verdict.violate("misplaced", self._describe(producer, number))
            elif outcome == _NOT_WRITTEN and count:
                self._verdict.violate("written after all", self._describe(producer, number))
            elif outcome == _MAYBE_WRITTEN and count:
                figures["maybe written and stored"] += 1
            elif outcome == _NONE and producer.is_complete:
                self._verdict.violate("no report", self._describe(producer, number))

    def _is_where_reported(self, producer, number):
        partition, offset = producer.partitions[number], producer.offsets[number]
        if offset < 0:
            # The broker recognized a duplicate, and no longer knew its offset.
            self._verdict.figures["delivered without an offset"] += 1
            return True
        identity = identify(producer.prefix, number)
        logs = (logs.get(partition) for logs in self._generations)
        return any(log is not None and log.at(offset) == identity for log in logs)

    @staticmethod
    def _describe(producer, number):
        place = f"{producer.partitions[number]}-{producer.offsets[number]}"
        return f"{producer.prefix}.{number}, reported at {place}"


def murmur2(data):
    """The hash with which Java's producer chooses the partition of a key."""
    mixer, mask = 0x5BD1E995, 0xFFFFFFFF
    hashed = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        hashed = (hashed * mixer & mask) ^ word
    if rest := data[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * mixer & mask
    hashed = (hashed ^ hashed >> 13) * mixer & mask
    return hashed ^ hashed >> 15
