"""Measures every client in turn: `make bench`, `make bench CASES="produce-100" CLIENTS="pykafka franz-go" ROUNDS=3`.

`bench/cases.py` lists the work, `bench/clients.py` the clients with their settings, `bench/targets.py` the brokers.
docs/performance.md says how it is measured and why.

Every run is a process of its own, pinned to the first CPU; the brokers and this program are pinned to the last one. The
clients take turns within each round, and each round begins with another client. After a producer's run the end offsets
are read, and after a consumer's the messages and bytes are compared; a run that does not fit fails.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import figures
import tables
import versions_of
from cases import CASES, QUICK
from clients import CLIENTS
from targets import BROKER_CPU, CLIENT_CPU, running

RESULTS = Path(__file__).resolve().parent / "results"
#: A run that takes longer, in seconds, has failed.
LIMIT = 120
#: Below this many partitions each run has new topics; above, the first write to a partition would cost the most.
FEW = 20


class RunError(Exception):
    """A run that failed, or did something else than it was asked to."""


def log_lines(size, count=1000):
    """Returns values that compress as logs do: lines of JSON with few words and many numbers, the same every time."""
    source, values = random.Random(7), []
    for _ in range(count):
        line = b""
        while len(line) < size:
            fields = {
                "time": f"2026-01-{source.randrange(1, 29):02}T10:00:{source.random() * 60:09.6f}Z",
                "level": source.choice(["info", "info", "info", "warning", "error"]),
                "service": source.choice(["orders", "payments", "search", "mail"]),
                "request": f"{source.getrandbits(64):016x}",
                "user": source.randrange(100_000),
                "message": source.choice(["accepted", "stored", "took longer than expected", "was refused"]),
                "ms": round(source.expovariate(0.1), 3),
            }
            line += json.dumps(fields).encode() + b"\n"
        values.append(line[:size])
    return values


def values_of(case):
    """The different values of a case: one, unless they are compressed."""
    if case.codec != "none":
        return log_lines(case.size)
    return [bytes(number % 251 for number in range(case.size))]


def carry_out(client, job):
    """Runs a client's program once; returns its answer, with the CPU time and memory of the whole process."""
    command = [*map(str, client.program), json.dumps(job)]
    # The process has the affinity from its first instruction; this program forks in one thread at a time.
    pin = partial(os.sched_setaffinity, 0, {CLIENT_CPU})
    with tempfile.TemporaryFile("w+") as errors:
        spawned = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=pin,  # noqa: PLW1509
        )
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            answer = process.stdout.readline()
            seconds = time.perf_counter() - spawned
            peak_mib = peak_of(process.pid) if answer else 0
            process.stdin.close()
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
            process.stdout.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not answer:
            errors.seek(0)
            raise RunError(f"status {process.returncode}: {errors.read()[-1500:]}")
    answer = json.loads(answer)
    answer["since_start"] = seconds
    return answer | {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": peak_mib}


def peak_of(pid):
    """The largest memory of a running process so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


class Bench:
    """One target, and the cases that run on it."""

    def __init__(self, target, folder):
        self._target, self._folder = target, Path(folder)
        self._numbers = iter(range(1 << 30))
        self._shared = {}

    def measure(self, case, client):
        """One run of a client, and an empty one before; returns its figures."""
        job = self._job(case, client)
        # A program that warms up says how much CPU time that took; an empty run could not tell.
        idle = None if client.library == "java" else carry_out(client, job | self._empty(case))
        answer = carry_out(client, job)
        self._check(case, job, answer, idle["messages"] if idle and case.work == "latency" else 0)
        seconds = answer["seconds"]
        if case.work in ("first", "imports"):
            seconds = answer["since_start"] - (idle["since_start"] if case.work == "imports" else 0)
        latencies = answer.get("latencies_ns") or ()
        idle_cpu = answer["cpu_seconds_before"] if idle is None else idle["cpu_seconds"]
        used = (answer["cpu_seconds"], idle_cpu, answer["peak_mib"])
        return figures.of_run(len(latencies) or answer["messages"], seconds, *used, latencies)

    def _empty(self, case):
        """What makes a job an empty one."""
        return {"work": "nothing"} if case.work in ("first", "imports", "group") else {"count": 0}

    def _job(self, case, client):
        values = values_of(case)
        values_file = self._folder / f"{case.name}.values"
        values_file.write_bytes(b"".join(values))
        count = client.count(case)
        fields = {name: getattr(case, name) for name in ("work", "size", "acks", "codec", "reports", "keys", "threads")}
        return fields | {
            "library": client.library,
            "native": client.native,
            "how": client.how(case),
            "bootstrap": self._target.bootstrap,
            "ca": self._target.ca,
            "topics": self._topics(case, values),
            "partitions": case.partitions,
            "count": count,
            "group": f"bench-{next(self._numbers)}",
            "values_file": str(values_file),
            "settings": client.settings.get({"group": "consume"}.get(case.work, case.work), {}),
        }

    def _topics(self, case, values):
        if case.work == "imports":
            return []
        if case.work in ("consume", "group"):
            most = case.count * 2 if case.work == "consume" else 10_000
            return self._target.filled(case, values, most)
        if case.topics * case.partitions <= FEW:
            return self._create(case, next(self._numbers))
        if case.name not in self._shared:
            self._shared[case.name] = self._create(case, "shared")
        return self._shared[case.name]

    def _create(self, case, name):
        topics = [f"{case.name}-{name}-{number}" for number in range(case.topics)]
        self._target.create(topics, case.partitions)
        return topics

    def _check(self, case, job, answer, extra):
        """Compares what is in the log, or was read, with what the job asked for; `extra` came from the empty run."""
        wanted = job["count"] + (case.work == "latency")
        if case.work in ("produce", "latency", "first"):
            name = tuple(job["topics"])
            before = self._shared.get(name, 0)
            stored = self._target.stored(job["topics"], case.partitions)
            extra += answer.get("warm_up", 0)
            if stored - before != wanted + extra:
                raise RunError(f"{stored - before - extra:,} messages in the log instead of {wanted:,}")
            if case.topics * case.partitions > FEW:
                self._shared[name] = stored
            else:
                self._target.delete(job["topics"])
        if case.work == "consume":
            found, expected = (answer["messages"], answer["bytes"]), (wanted, wanted * case.size)
            if found != expected:
                raise RunError(f"read {found} messages and bytes instead of {expected}")


def run_case(bench, case, clients, rounds):
    """Measures a case; returns what goes into its file."""
    left_out = {client.name: why for client in clients if (why := client.lacks(case))}
    left_out |= {client.name: "not installed" for client in clients if not client.is_installed()}
    taken = [client for client in clients if client.name not in left_out]
    failed, found = {}, []
    for number in range(rounds):
        measured = {}
        for client in taken[number % max(len(taken), 1) :] + taken[: number % max(len(taken), 1)]:
            try:
                measured[client.name] = bench.measure(case, client)
            except RunError as error:
                failed[client.name] = str(error)
                print(f"{case.name}: {client.name} failed: {error}", file=sys.stderr, flush=True)
        found.append(measured)
    return {
        "case": dataclasses.asdict(case),
        "labels": {client.name: client.label for client in taken},
        "settings": {client.name: {"why": client.why, **client.settings} for client in taken},
        "left_out": left_out,
        "failed": failed,
        "rounds": found,
    }


def machine():
    """What the figures were measured on."""
    cpu = "unknown"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def chosen(table, names, what):
    """The rows with these names; all without names."""
    unknown = [name for name in names if name not in table]
    if unknown:
        sys.exit(f"no such {what}: {', '.join(unknown)}; there are {', '.join(table)}")
    return [table[name] for name in names] if names else list(table.values())


def main():
    """Runs the cases, grouped by the brokers that they need."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="", help="names, separated by spaces; all by default")
    parser.add_argument("--clients", default="", help="names, separated by spaces; those of the case by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only the cases of `make bench-quick`")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for a JSON file of each case")
    arguments = parser.parse_args()
    cases = chosen(CASES, arguments.cases.split() or (QUICK if arguments.quick else ()), "case")
    given = chosen(CLIENTS, arguments.clients.split(), "client")
    os.sched_setaffinity(0, {BROKER_CPU})
    arguments.results.mkdir(exist_ok=True, parents=True)
    about = {"machine": machine(), "versions": versions_of.clients(given)}
    needs = {}
    for case in cases:
        needs.setdefault((case.target, case.brokers, case.tls), []).append(case)
    print(f"{about['machine']['cpu']}, clients on CPU {CLIENT_CPU}, brokers on {BROKER_CPU}. Lower is better for CPU:")
    print("user and system time of the client process per message, less that of an empty run.", flush=True)
    failures = 0
    for (name, brokers, tls), group in needs.items():
        with running(name, brokers, tls) as target, tempfile.TemporaryDirectory() as folder:
            bench = Bench(target, folder)
            for case in group:
                clients = [it for it in given if arguments.clients or not case.clients or it.name in case.clients]
                now = datetime.datetime.now(datetime.UTC)
                result = run_case(bench, case, clients, arguments.rounds)
                result |= {"target": target.about, "date": now.isoformat(timespec="seconds"), **about}
                failures += len(result["failed"])
                (arguments.results / f"{case.name}.json").write_text(json.dumps(result, indent=1) + "\n")
                print(f"\n{tables.title(result)}\n\n{tables.of_case(result)}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
