"""The kinds of faults. Each is a function that makes one fault and heals it; `KINDS` has them by name.

A function gets the `Run`. It returns when the fault is healed. The runner waits between two faults until messages flow.
"""

import re
import signal
import subprocess
import time

KINDS = {}

#: Kinds whose clients go through the proxy.
PROXIED = set()

#: Kinds that need a network namespace of their own.
NETNS = set()


def kind(name):
    """Enters a function into `KINDS`."""

    def enter(function):
        KINDS[name] = function
        return function

    return enter


def _leader(run):
    return run.kafka.leader(run.workload.topic, run.random.randrange(run.partitions))


def _coordinator(run):
    return run.kafka.leader("__consumer_offsets", 0)


def _kill(run, broker_id):
    run.kafka.kill(broker_id)
    time.sleep(run.random.uniform(0, 5))
    run.kafka.start(broker_id)
    # Whichever broker dies next, the others have all that was acknowledged.
    run.kafka.wait_in_sync()


def _freeze(run, broker_ids, seconds):
    for broker_id in broker_ids:
        run.kafka.freeze(broker_id)
    time.sleep(seconds)
    for broker_id in broker_ids:
        run.kafka.thaw(broker_id)
    run.kafka.wait_ready()
    run.kafka.wait_in_sync()


@kind("kill a leader")
def kill_leader(run):
    _kill(run, _leader(run))


@kind("kill the coordinator")
def kill_coordinator(run):
    _kill(run, _coordinator(run))


@kind("kill any broker")
def kill_any(run):
    _kill(run, run.random.choice([*run.kafka.brokers]))


@kind("freeze a broker")
def freeze_one(run):
    _freeze(run, [_leader(run)], run.random.uniform(5, 20))


@kind("freeze two brokers")
def freeze_two(run):
    _freeze(run, run.random.sample([*run.kafka.brokers], 2), run.random.uniform(5, 20))


@kind("freeze all brokers")
def freeze_all(run):
    _freeze(run, [*run.kafka.brokers], run.random.uniform(5, 20))


@kind("freeze a member")
def freeze_member(run):
    """Beyond its session of six seconds."""
    member = run.random.choice(run.workload.members)
    member.signal(signal.SIGSTOP)
    time.sleep(run.random.uniform(9, 14))
    member.signal(signal.SIGCONT)


@kind("kill a member")
def kill_member(run):
    run.workload.take_member().kill()
    time.sleep(run.random.uniform(0, 3))
    run.workload.join()


@kind("restart in order")
def rolling_restart(run):
    """A clean rolling restart, in which nothing may be rebalanced."""
    run.expect_no_rebalance()
    for broker_id in run.kafka.brokers:
        run.kafka.stop(broker_id)
        run.kafka.start(broker_id)
        run.kafka.wait_in_sync()


@kind("elect leaders")
def elect(run):
    for _ in range(3):
        partition = run.random.randrange(run.partitions)
        run.kafka.move_leader(run.workload.topic, partition, run.random.choice([*run.kafka.brokers]))
        time.sleep(2 / 3)


@kind("reassign replicas")
def reassign(run):
    """A broker that has no replica of a partition gets one, and leads. The topic has two replicas."""
    partition = run.random.randrange(run.partitions)
    replicas = run.kafka.describe_topic(run.workload.topic)[partition]["replicas"]
    new = next(broker_id for broker_id in run.kafka.brokers if broker_id not in replicas)
    run.kafka.move_leader(run.workload.topic, partition, new)
    run.kafka.wait_in_sync()


@kind("add partitions")
def add_partitions(run):
    run.partitions += 1
    run.partition_counts.append(run.partitions)
    run.kafka.tool("topics", "--alter", "--topic", run.workload.topic, "--partitions", run.partitions)


@kind("quotas")
def quotas(run):
    """So tight that the broker throttles each client."""
    quota = "producer_byte_rate=100000,consumer_byte_rate=100000"
    entity = ("--alter", "--entity-type", "clients", "--entity-default")
    run.kafka.tool("configs", *entity, "--add-config", quota)
    time.sleep(10)
    run.kafka.tool("configs", *entity, "--delete-config", "producer_byte_rate,consumer_byte_rate")


def _proxied(name, make):
    @kind(name)
    def fault(run):
        met, run.proxy.mischief = run.proxy.met, make(run.random)
        time.sleep(run.random.uniform(3, 8))
        run.proxy.heal()
        assert run.proxy.met > met, f"{name} has met nothing"

    PROXIED.add(name)


_proxied("delay with jitter", lambda random: {"delay": (0.005, random.uniform(0.05, 0.5))})
_proxied("connections reset", lambda random: {"reset_after": random.uniform(0.2, 1.5)})
_proxied("answers cut off", lambda random: {"cut_after": random.randrange(50, 20_000)})
_proxied("black hole", lambda random: {"hole": random.choice(["requests", "answers", "both"])})
_proxied("byte by byte", lambda random: {"one_byte": True})


def _filtered(name, make, between_brokers=False):
    """A kind whose packets nftables drops: those between clients and the proxy, or those to and from one broker."""

    @kind(name)
    def fault(run):
        if between_brokers:
            ports = [run.random.choice(run.broker_ports)]
        else:
            ports = [proxy_port for _, proxy_port in run.kafka.proxied.values()]
        rules = [f"add rule inet chaos input {rule}" for rule in make("{" + ",".join(map(str, ports)) + "}")]
        base = ["add table inet chaos", "add chain inet chaos input { type filter hook input priority 0; }"]
        subprocess.run(["nft", "-f", "-"], input="\n".join(base + rules) + "\n", text=True, check=True)
        time.sleep(run.random.uniform(5, 10))
        counted = subprocess.run(["nft", "list", "table", "inet", "chaos"], capture_output=True, text=True).stdout
        subprocess.run(["nft", "delete", "table", "inet", "chaos"], check=True)
        assert re.search(r"counter packets [1-9]", counted), f"{name} has met nothing: {counted}"
        run.kafka.wait_ready()
        run.kafka.wait_in_sync()

    PROXIED.add(name)
    NETNS.add(name)


def _both_ways(end):
    return lambda ports: [f"tcp dport {ports} {end}", f"tcp sport {ports} {end}"]


_filtered("packets lost", _both_ways("numgen random mod 100 < 10 counter drop"))
_filtered("requests lost", lambda ports: [f"tcp dport {ports} counter drop"])
_filtered("answers lost", lambda ports: [f"tcp sport {ports} counter drop"])
_filtered("refused by a firewall", lambda ports: [f"tcp dport {ports} counter reject with tcp reset"])
_filtered("large packets lost", _both_ways("meta length > 1400 counter drop"))
_filtered("a broker cut off", _both_ways("counter drop"), between_brokers=True)


@kind("slow link")
def slow_link(run):
    """Everything shares 8 Mbit/s."""
    shaped = ["tbf", "rate", "8mbit", "burst", "128kb", "latency", "400ms"]
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", *shaped], check=True)
    time.sleep(run.random.uniform(5, 10))
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    run.kafka.wait_ready()
    run.kafka.wait_in_sync()


NETNS.add("slow link")
