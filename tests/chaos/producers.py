"""Checks what verifiable producers were told against the log: the properties P of `Verdict.KINDS`."""

import json
import re
from array import array
from bisect import bisect_right

from .logs import FOREIGN, identify, prefix_and_number, value_of

_SUCCESS = re.compile(
    rb'\{"timestamp":(\d+),"name":"producer_send_success","key":(?:null|"\d+"),'
    rb'"value":"(?:(\d+)\.)?(\d+)","topic":"([^"]+)","partition":(\d+),"offset":(-?\d+),"age_ms":(\d+)\}'
)
_NONE, _STORED, _NOT_WRITTEN, _MAYBE_WRITTEN = range(4)
_OUTCOMES = {"not_written": _NOT_WRITTEN, "maybe_written": _MAYBE_WRITTEN}

#: How much later than `delivery.timeout.ms` a report may be: a second (guarantee R9), and two on a busy machine.
LATE_MS = 3000


class Producer:
    """What one producer was told: one byte, a partition and an offset for each record.

    :param lines: its output, as bytes.
    :param topic: the topic it was to write to.
    :param delivery_timeout: its `delivery.timeout.ms`.
    """

    def __init__(self, lines, prefix, topic, verdict, pauses, delivery_timeout=120_000):
        self.prefix, self.topic = prefix, topic
        self._verdict, self._pauses = verdict, pauses
        self.outcomes = bytearray()
        self.partitions, self.offsets = array("i"), array("q")
        self.sent, self.is_complete = 0, False
        #: `(partition, number, accepted)` of each record that failed: those below `accepted` were accepted before.
        self.failed = []
        self._limit_ms, self._has_ended = delivery_timeout + LATE_MS, False
        #: The last number that was reported in each partition.
        self._reported = {}
        for line in lines:
            self._read(line)
        self._reach(self.sent)

    def _read(self, line):
        if found := _SUCCESS.match(line):
            timestamp, prefix, number, topic, partition, offset, age = found.groups()
            self._pauses.mark(int(timestamp))
            self._note(int(prefix or 0), int(number), topic.decode(), int(partition), int(offset), _STORED, int(age))
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
                place = (event["topic"], event["partition"], event["offset"])
                self._note(prefix, number, *place, _STORED, event["age_ms"])
            case "producer_send_error":
                prefix, _, number = event["value"].rpartition(".")
                outcome, partition = _OUTCOMES[event["outcome"]], event.get("partition")
                place = (event["topic"], partition, -1)
                self._note(int(prefix or 0), int(number), *place, outcome, event.get("age_ms", 0))
                if partition is not None:
                    self.failed.append((partition, int(number), event["accepted"]))
                self._verdict.figures[event["outcome"]] += 1
                reason = f"reason {event['exception']}"
                self._verdict.figures[reason] += 1
            case "shutdown_complete":
                self._has_ended = True
            case "tool_data":
                self.sent, self.is_complete = event["sent"], True

    def _reach(self, count):
        if (missing := count - len(self.outcomes)) > 0:
            # More than is needed, so that growing costs little.
            missing += len(self.outcomes)
            self.outcomes.extend(bytes(missing))
            self.partitions.extend(array("i", [-1]) * missing)
            self.offsets.extend(array("q", [-1]) * missing)

    def _note(self, prefix, number, topic, partition, offset, outcome, age_ms):
        if number >= len(self.outcomes):
            self._reach(number + 1)
        if (prefix, topic) != (self.prefix, self.topic):
            self._verdict.violate("foreign", f"a report of {prefix}.{number} in {topic}")
            return
        if self.outcomes[number] != _NONE:
            self._verdict.violate("two reports", f"{prefix}.{number}")
            return
        if age_ms > self._limit_ms:
            self._verdict.violate("late report", f"{prefix}.{number} after {age_ms} ms")
        if self._has_ended:
            self._verdict.violate("report after the end", f"{prefix}.{number}")
        self._verdict.figures["oldest report, ms"] = max(self._verdict.figures["oldest report, ms"], age_ms)
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
    :param generations: the logs of the topic by partition; several if the topic was deleted and created again.
    :param keys: how many keys the producers repeat; 0 if records have none.
    :param partition_counts: the numbers of partitions that the topic has had.
    """

    def __init__(self, producers, generations, verdict, keys=0, partition_counts=()):
        self._producers, self._verdict, self._generations = producers, verdict, generations
        self._keys, self._counts = keys, partition_counts
        #: How often each record is in the log.
        self._stored = {prefix: bytearray(producer.sent) for prefix, producer in producers.items()}

    def run(self):
        for logs in self._generations:
            for partition, log in logs.items():
                self._scan(partition, log)
        for prefix, producer in self._producers.items():
            self._compare(producer, self._stored[prefix])
            self._look_for_holes(producer, self._stored[prefix])

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

    def _look_for_holes(self, producer, stored):
        """Behind a record that failed, nothing may be stored that was accepted before that."""
        failed = {number for _, number, _ in producer.failed if not stored[number]}
        if not failed:
            return
        numbers = {}
        for number, partition in enumerate(producer.partitions[: producer.sent]):
            if stored[number]:
                numbers.setdefault(partition, array("q")).append(number)
        for partition, number, accepted in producer.failed:
            behind = numbers.get(partition, ())
            index = bisect_right(behind, number)
            if number in failed and index < len(behind) and behind[index] < accepted:
                example = f"{producer.prefix}.{number} failed in partition {partition}, and {behind[index]} is stored"
                self._verdict.violate("hole", example)

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
