"""The arithmetic of the benchmarks: from one run's measurements to medians and ratios. It measures nothing itself."""

import statistics

#: The client that others are compared with.
REFERENCE = "pykafka"


def quantile(values, share):
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[min(max(int(rank), 1), len(ordered)) - 1]


def of_run(messages, seconds, cpu_seconds, idle_cpu_seconds, peak_mib, latencies_ns=()):
    """What one run costs per message; the CPU time of an empty run of the same program is subtracted.

    Without messages, as for an import, `us` stands for the whole.
    """
    each = max(messages, 1)
    figures = {
        "rate": messages / seconds,
        "seconds": seconds,
        "cpu_us": max(cpu_seconds - idle_cpu_seconds, 0.0) / each * 1e6,
        "peak_mib": peak_mib,
    }
    if latencies_ns:
        figures |= {
            name: quantile(latencies_ns, share) / 1e3
            for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))
        }
    return figures


def medians(runs):
    """The median of each figure over the rounds of one client."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def spread(runs, name):
    """How far the rounds are apart: (largest - smallest) / median."""
    values = [run[name] for run in runs]
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def ratios(rounds, name, client, reference=REFERENCE):
    """The client's figure divided by the reference's, for each round that has both."""
    return [
        figures[client][name] / figures[reference][name]
        for figures in rounds
        if client in figures and reference in figures and figures[reference][name]
    ]


def ratio(rounds, name, client, reference=REFERENCE):
    """The median of the ratios, or None if no round has both clients: the machine's speed changes between rounds."""
    found = ratios(rounds, name, client, reference)
    return statistics.median(found) if found else None
