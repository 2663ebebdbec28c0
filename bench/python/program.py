"""One Python client doing one piece of work once: `python program.py '{"library": "ours", "work": "produce", ...}'`.

The module named by `library` has a generator for each work. Its first step connects and learns the metadata; the second
does the work and yields how many messages and bytes that were. Only the second is timed. The program prints its answer
as one line of JSON, then waits until its standard input ends: meanwhile the harness reads how much memory it has used.

It runs on Python 3.10 too, where PyKafka 2.8 is measured.
"""

import importlib
import json
import os
import sys
import time
from itertools import cycle, islice
from types import SimpleNamespace


class Job(SimpleNamespace):
    """The work to do; `bench/cases.py` describes the fields."""

    def values(self, count=None):
        """Yields as many values as the job has messages; they are made in advance."""
        values = self.read_values()
        return islice(cycle(values), self.count if count is None else count)

    def read_values(self):
        """The different values: pieces of `size` bytes of the file `values`."""
        with open(self.values_file, "rb") as file:
            content = file.read()
        return [content[start : start + self.size] for start in range(0, len(content), self.size)]

    def check_reports(self, read):
        """Ends the program unless every message had its report."""
        if read != self.count:
            sys.exit(f"{read} reports for {self.count} messages")

    def keys_or_none(self):
        """Yields keys without end: 1,000 different ones, or None."""
        return cycle([b"%08d" % number for number in range(1000)] if self.keys else [None])


def nothing(_job):
    """What the interpreter and this program cost."""
    yield
    yield 0, 0


def main():
    job = Job(**json.loads(sys.argv[1]))
    job.latencies = []
    work = nothing if job.work == "nothing" else getattr(importlib.import_module(job.library), job.work)
    steps = work(job)
    next(steps)
    started = time.perf_counter()
    messages, size = next(steps)
    seconds = time.perf_counter() - started
    answer = {"seconds": seconds, "messages": messages, "bytes": size, "latencies_ns": job.latencies}
    print(json.dumps(answer), flush=True)
    sys.stdin.read()
    # Without waiting for what still runs in other threads.
    os._exit(0)


def timed_calls(job, produce):
    """Calls `produce(value)` for each message, and notes how long each call takes; with threads if the job has them."""
    import threading

    values = job.read_values()

    def run(count):
        latencies = []
        for _ in range(count):
            started = time.perf_counter_ns()
            produce(values[0])
            latencies.append(time.perf_counter_ns() - started)
        job.latencies.extend(latencies)

    in_threads(job, run, threading)


def in_threads(job, run, threading):
    """Calls `run(count)` in each of the job's threads, or in this one; together they do the job's count."""
    if job.threads == 1:
        run(job.count)
        return
    threads = [threading.Thread(target=run, args=(job.count // job.threads,)) for _ in range(job.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
