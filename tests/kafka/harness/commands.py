"""The commands on stdin, one per line; each is answered with one line of JSON on stdout.

The answer is an object: `{"ok": true}`, with a result if the command has one, or `{"error": "..."}`.
"""

import shlex

from . import HarnessError

USAGE = """\
commands, one a line; each answers one line of JSON:
  kill N | freeze N | thaw N | stop N   SIGKILL, SIGSTOP, SIGCONT, SIGTERM to broker N
  start N [VERSION [SETTING=VALUE ...]] start broker N again, with its data and addresses; does not wait.
                                        A new version (with ZooKeeper) and new settings stay the broker's own
  wait-ready                            wait until all running brokers see each other and a controller
  wait-in-sync                          wait until every replica of every partition is in sync
  topic create NAME PARTITIONS REPLICATION_FACTOR [SETTING=VALUE ...]
  topic describe NAME                   leader, replicas and in-sync replicas of each partition
  topic lead NAME PARTITION N           make broker N the leader of a partition
  scram USER PASSWORD                   set a user's password for both SCRAM mechanisms (--secure)
  tool NAME [VERSION]                   the command that runs one of Kafka's own tools, of this or another version,
                                        against this cluster
end of input ends the cluster and removes its data
"""


def describe(cluster):
    """The first line of the protocol: all addresses and folders."""
    return {
        "bootstrap": cluster.bootstrap,
        "brokers": {str(broker.broker_id): f"127.0.0.1:{broker.port}" for broker in cluster.brokers.values()},
        "log_dirs": {str(broker.broker_id): str(broker.log_dir) for broker in cluster.brokers.values()},
        "outputs": {str(broker.broker_id): str(broker.output_path) for broker in cluster.brokers.values()},
        "processes": {str(broker.broker_id): broker.process.pid for broker in cluster.brokers.values()}
        | cluster.zookeeper_process,
        "zookeeper": cluster.zookeeper_address,
        "secure_listeners": cluster.secure_listeners,
        "proxied": {str(broker.broker_id): broker.proxied_ports for broker in cluster.brokers.values()},
        "security": cluster.security and cluster.security.describe(),
        "version": cluster.options.version,
        "dir": str(cluster.folder),
    }


def answer(cluster, line):
    """Executes a command line."""
    try:
        return {"ok": True} | (_carry_out(cluster, shlex.split(line)) or {})
    except HarnessError as error:
        return {"error": str(error)}
    except ValueError as error:
        return {"error": f"cannot understand {line!r}: {error}"}


def _carry_out(cluster, words):
    match words:
        case ["kill", number]:
            cluster.kill_broker(int(number))
        case ["freeze", number]:
            cluster.freeze_broker(int(number))
        case ["thaw", number]:
            cluster.thaw_broker(int(number))
        case ["stop", number]:
            cluster.stop_broker(int(number))
        case ["start", number]:
            cluster.start_broker(int(number))
        case ["start", number, version, *settings]:
            cluster.start_broker(int(number), version, dict(setting.split("=", 1) for setting in settings))
        case ["wait-ready"]:
            cluster.wait_ready()
        case ["wait-in-sync"]:
            cluster.wait_in_sync()
        case ["topic", "create", name, partitions, replication_factor, *settings]:
            settings = dict(setting.split("=", 1) for setting in settings)
            cluster.create_topic(name, int(partitions), int(replication_factor), settings)
        case ["topic", "describe", name]:
            return {
                "partitions": {str(index): _partition(known) for index, known in cluster.describe_topic(name).items()}
            }
        case ["topic", "lead", name, partition, number]:
            cluster.move_leader(name, int(partition), int(number))
        case ["scram", user, password]:
            cluster.set_scram_password(user, password)
        case ["tool", name, *version] if len(version) <= 1:
            return {"command": cluster.tool_command(name, *version)}
        case _:
            raise HarnessError(f"no such command: {shlex.join(words)!r}\n{USAGE}")


def _partition(partition):
    return {"leader": partition.leader, "replicas": partition.replicas, "in_sync_replicas": partition.in_sync_replicas}
