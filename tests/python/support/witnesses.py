"""A writer and readers that work while brokers fail or change, and a look at the log that shares no code with us."""

import queue
import threading
import time

import confluent_kafka

#: How long anything may take at the end: what is not there by then is missing.
LIMIT_SECONDS = 180


class Writer(threading.Thread):
    """Produces numbered messages until it is told to stop, and keeps every report.

    :param at_least: how many messages it writes at least.
    :param burst: how many messages it writes at a time, every hundredth of a second.
    :param key_of: the key of a message with this number; none by default.
    """

    def __init__(self, topic, at_least, burst, key_of=lambda number: None, **options):
        super().__init__(daemon=True)
        self._topic, self._at_least, self._burst, self._key_of = topic, at_least, burst, key_of
        self._options = options
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self.count = 0
        #: The reports, in order: the message's number, partition and offset.
        self.delivered = []
        self.failed = []
        self.error = None

    def run(self):
        try:
            with self._topic.get_producer(delivery_reports=True, **self._options) as producer:
                while self.count < self._at_least or not self._stopping.is_set():
                    for _ in range(self._burst):
                        value = b"%010d" % self.count + b"." * 90
                        producer.produce(value, partition_key=self._key_of(self.count))
                        self.count += 1
                    self._read_reports(producer)
                    time.sleep(0.01)
                while len(self.delivered) + len(self.failed) < self.count:
                    self._note(*producer.get_delivery_report(timeout=LIMIT_SECONDS))
        except BaseException as error:
            self.error = error
        finally:
            with self._progress:
                self._progress.notify_all()

    def _read_reports(self, producer):
        try:
            while True:
                self._note(*producer.get_delivery_report(block=False))
        except queue.Empty:
            with self._progress:
                self._progress.notify_all()

    def _note(self, message, error):
        number = int(message.value[:10])
        if error is None:
            self.delivered.append((number, message.partition_id, message.offset))
        else:
            self.failed.append((number, error))

    def wait_for_more(self, count):
        """Waits until so many messages more are delivered than now, or it has ended."""
        goal = len(self.delivered) + count
        with self._progress:
            done = self._progress.wait_for(
                lambda: len(self.delivered) >= goal or not self.is_alive(), timeout=LIMIT_SECONDS
            )
        assert self.error is None
        assert done, f"{len(self.delivered)} of {goal} messages are delivered"

    def finish(self):
        self._stopping.set()
        self.join()


class Reader(threading.Thread):
    """Consumes until it has seen a number of messages, while brokers go and come back."""

    def __init__(self, consumer):
        super().__init__(daemon=True)
        self._consumer = consumer
        self._goal = None
        #: (partition, offset): number.
        self.read = {}
        self.repeated = []
        self.error = None

    def run(self):
        deadline = None
        try:
            while self._goal is None or len(self.read) < self._goal:
                for message in self._consumer:
                    place = (message.partition_id, message.offset)
                    if place in self.read:
                        self.repeated.append(place)
                    self.read[place] = int(message.value[:10])
                if self._goal is not None:
                    deadline = deadline or time.monotonic() + LIMIT_SECONDS
                    if time.monotonic() > deadline:
                        return
        except BaseException as error:
            self.error = error
        finally:
            self._consumer.stop()

    def finish(self, goal):
        self._goal = goal
        self.join()


def independently_read(bootstrap, topic, partitions):
    """{(partition, offset): number} of all messages in a topic, read with librdkafka."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "independent",
            "enable.auto.commit": False,
            "check.crcs": True,
            "fetch.queue.backoff.ms": 1,
        }
    )
    read = {}
    try:
        places = [confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(partitions)]
        ends = {place.partition: consumer.get_watermark_offsets(place, timeout=30)[1] for place in places}
        consumer.assign(places)
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(read) < sum(ends.values()):
            assert time.monotonic() < deadline, f"{len(read)} of {sum(ends.values())} messages"
            for message in consumer.consume(10_000, timeout=1):
                assert message.error() is None, message.error()
                read[message.partition(), message.offset()] = int(message.value()[:10])
    finally:
        consumer.close()
    return read
