"""The kinds of faults, by name in `KINDS`, and `make`, which makes some of them at once.

A kind is a generator: it gets the `Run`, breaks something, yields how many seconds to leave it like that, and heals.
It may do so several times. It heals also if it is closed where it yields.
"""

import contextlib
import heapq
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from .workload import LIMIT_SECONDS

#: What a kind breaks. Of a mix at most one kind breaks brokers or the topic: one that changes the topic needs brokers.
BROKERS, TOPIC, MEMBERS, NETWORK = "brokers", "topic", "members", "network"

#: The name of the kind that makes several others at once.
MIX = "random mix"


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    breaks: str
    make: Callable
    #: Whether clients go through the proxy.
    is_proxied: bool = False
    #: Whether it needs a network namespace of its own.
    needs_netns: bool = False
    #: Whether it may be part of a mix.
    is_mixed: bool = True


KINDS = {}


def kind(name, breaks, **about):
    """Enters a function into `KINDS`."""

    def enter(function):
        KINDS[name] = Kind(name, breaks, function, **about)
        return function

    return enter


def choose(asked, netns):
    """The names of the kinds that `asked` means, in the order of the table.

    :param asked: names or parts of names, separated by commas; all if it is empty. A whole name means that kind alone.
    :raises ValueError: if a part is in no name.
    """
    names = [name for name, kind in KINDS.items() if netns or not kind.needs_netns]
    names.append(MIX)
    chosen = set() if asked else set(names)
    for part in filter(None, (part.strip() for part in asked.split(","))):
        meant = [part] if part in names else [name for name in names if part in name]
        if not meant:
            hint = "" if netns else "; others need NETNS=1"
            raise ValueError(f"no kind of fault has {part!r} in its name; there are: {', '.join(names)}{hint}")
        chosen.update(meant)
    return [name for name in names if name in chosen]


def mix(random, netns):
    """The names of two to four kinds to make at once."""

    def of(*breaks):
        mixed = (kind for kind in KINDS.values() if kind.is_mixed and kind.breaks in breaks)
        return [kind.name for kind in mixed if netns or not kind.needs_netns]

    chosen = [random.choice(of(random.choice([BROKERS, TOPIC])))]
    chosen += random.sample(of(MEMBERS), random.randrange(2))
    chosen += random.sample(of(NETWORK), random.randrange(1 if len(chosen) == 1 else 0, 3))
    return chosen


def make(run, names):
    """Makes faults of these kinds at the same time; returns when all are healed, and the brokers are well."""
    begin = time.monotonic()
    steps = [(begin + (run.random.uniform(0, 3) if len(names) > 1 else 0), index) for index in range(len(names))]
    generators = [KINDS[name].make(run) for name in names]
    heapq.heapify(steps)
    # Each is healed, also if another cannot be.
    with contextlib.ExitStack() as healing:
        for generator in generators:
            healing.enter_context(contextlib.closing(generator))
        while steps:
            due, index = heapq.heappop(steps)
            time.sleep(max(0, due - time.monotonic()))
            pause = next(generators[index], None)
            if pause is not None:
                heapq.heappush(steps, (time.monotonic() + pause, index))
    run.kafka.wait_ready()
    # Whichever broker fails next, the others have all that was acknowledged.
    run.kafka.wait_in_sync()


def _leader(run):
    return run.kafka.leader(run.workload.topic, run.random.randrange(run.partitions))


def _coordinator(run):
    return run.kafka.leader("__consumer_offsets", 0)


def _kill(run, broker_id):
    run.kafka.kill(broker_id)
    try:
        yield run.random.uniform(0, 5)
    finally:
        run.kafka.start(broker_id, wait=False)


def _freeze(run, broker_ids):
    for broker_id in broker_ids:
        run.kafka.freeze(broker_id)
    try:
        yield run.random.uniform(5, 20)
    finally:
        for broker_id in broker_ids:
            run.kafka.thaw(broker_id)


@kind("kill a leader", BROKERS)
def kill_leader(run):
    return _kill(run, _leader(run))


@kind("kill the coordinator", BROKERS)
def kill_coordinator(run):
    return _kill(run, _coordinator(run))


@kind("kill any broker", BROKERS)
def kill_any(run):
    return _kill(run, run.random.choice([*run.kafka.brokers]))


@kind("freeze a broker", BROKERS)
def freeze_one(run):
    return _freeze(run, [_leader(run)])


@kind("freeze two brokers", BROKERS)
def freeze_two(run):
    return _freeze(run, run.random.sample([*run.kafka.brokers], 2))


@kind("freeze all brokers", BROKERS)
def freeze_all(run):
    return _freeze(run, [*run.kafka.brokers])


@kind("freeze a member", MEMBERS)
def freeze_member(run):
    """Beyond its session of six seconds."""
    member = run.random.choice(run.workload.members)
    member.signal(signal.SIGSTOP)
    run.note_frozen(member)
    try:
        yield run.random.uniform(9, 14)
    finally:
        member.signal(signal.SIGCONT)


@kind("kill a member", MEMBERS)
def kill_member(run):
    run.workload.take_member().kill()
    yield run.random.uniform(0, 3)
    run.workload.join()


@kind("restart in order", BROKERS, is_mixed=False)
def rolling_restart(run):
    """A clean rolling restart, in which nothing may be rebalanced."""
    run.expect_no_rebalance()
    for broker_id in run.kafka.brokers:
        run.kafka.stop(broker_id)
        run.kafka.start(broker_id)
        run.kafka.wait_in_sync()
        yield 0


@kind("elect leaders", TOPIC)
def elect(run):
    for _ in range(3):
        partition = run.random.randrange(run.partitions)
        run.kafka.move_leader(run.workload.topic, partition, run.random.choice([*run.kafka.brokers]))
        yield 2 / 3


# Not in a mix: the topic has two replicas.
@kind("reassign replicas", TOPIC, is_mixed=False)
def reassign(run):
    """A broker that has no replica of a partition gets one, and leads."""
    partition = run.random.randrange(run.partitions)
    replicas = run.kafka.describe_topic(run.workload.topic)[partition]["replicas"]
    new = next(broker_id for broker_id in run.kafka.brokers if broker_id not in replicas)
    run.kafka.move_leader(run.workload.topic, partition, new)
    yield 0


@kind("add partitions", TOPIC)
def add_partitions(run):
    run.partitions += 1
    run.partition_counts.append(run.partitions)
    run.kafka.tool("topics", "--alter", "--topic", run.workload.topic, "--partitions", run.partitions)
    yield 0


@kind("quotas", TOPIC)
def quotas(run):
    """So tight that the broker throttles each client."""
    quota = "producer_byte_rate=100000,consumer_byte_rate=100000"
    entity = ("--alter", "--entity-type", "clients", "--entity-default")
    run.kafka.tool("configs", *entity, "--add-config", quota)
    try:
        yield 10
    finally:
        run.kafka.tool("configs", *entity, "--delete-config", "producer_byte_rate,consumer_byte_rate")


@kind("re-create the topic", TOPIC)
def recreate(run):
    """Deletes the topic, and creates one of the same name, perhaps with another number of partitions."""
    run.delete_topic()
    # Clients may see that there is no such topic, or may not.
    yield run.random.choice([0, run.random.uniform(0.5, 3)])
    run.create_topic_again(run.random.choice([3, 4, 4, 5]))
    # Step by step, so that others heal meanwhile.
    deadline = time.monotonic() + LIMIT_SECONDS
    while unread := run.not_begun():
        if time.monotonic() > deadline:
            run.verdict.violate("stuck", f"partitions {unread} of the new topic were not read from their beginning")
            return
        yield 0.2


def _proxied(name, make):
    def fault(run):
        mischief = make(run.random)
        met = run.proxy.begin(mischief)
        try:
            yield run.random.uniform(3, 8)
        finally:
            run.proxy.heal(mischief)
        run.expect_met(name, run.proxy.met_by(mischief) > met)

    kind(name, NETWORK, is_proxied=True)(fault)


_proxied("delay with jitter", lambda random: {"delay": (0.005, random.uniform(0.05, 0.5))})
_proxied("connections reset", lambda random: {"reset_after": random.uniform(0.2, 1.5)})
_proxied("answers cut off", lambda random: {"cut_after": random.randrange(50, 20_000)})
_proxied("black hole", lambda random: {"hole": random.choice(["requests", "answers", "both"])})
_proxied("byte by byte", lambda random: {"one_byte": True})


def _filtered(name, make, between_brokers=False):
    """A kind whose packets nftables drops: those between clients and the proxy, or those to and from one broker."""

    def fault(run):
        if between_brokers:
            ports = [run.random.choice(run.broker_ports)]
        else:
            ports = [proxy_port for _, proxy_port in run.kafka.proxied.values()]
        table = "inet chaos_" + name.replace(" ", "_")
        rules = [f"add rule {table} input {rule}" for rule in make("{" + ",".join(map(str, ports)) + "}")]
        base = [f"add table {table}", f"add chain {table} input {{ type filter hook input priority 0; }}"]
        subprocess.run(["nft", "-f", "-"], input="\n".join(base + rules) + "\n", text=True, check=True)
        try:
            yield run.random.uniform(5, 10)
        finally:
            listed = subprocess.run(["nft", "list", "table", *table.split()], capture_output=True, text=True).stdout
            subprocess.run(["nft", "delete", "table", *table.split()], check=True)
        run.expect_met(name, re.search(r"counter packets [1-9]", listed) is not None)

    kind(name, BROKERS if between_brokers else NETWORK, is_proxied=True, needs_netns=True)(fault)


def _both_ways(end):
    return lambda ports: [f"tcp dport {ports} {end}", f"tcp sport {ports} {end}"]


_filtered("packets lost", _both_ways("numgen random mod 100 < 10 counter drop"))
_filtered("requests lost", lambda ports: [f"tcp dport {ports} counter drop"])
_filtered("answers lost", lambda ports: [f"tcp sport {ports} counter drop"])
_filtered("refused by a firewall", lambda ports: [f"tcp dport {ports} counter reject with tcp reset"])
_filtered("large packets lost", _both_ways("meta length > 1400 counter drop"))
_filtered("a broker isolated", _both_ways("counter drop"), between_brokers=True)


@kind("slow link", NETWORK, needs_netns=True)
def slow_link(run):
    """Everything shares 8 Mbit/s."""
    shaped = ["tbf", "rate", "8mbit", "burst", "128kb", "latency", "400ms"]
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", *shaped], check=True)
    try:
        yield run.random.uniform(5, 10)
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
