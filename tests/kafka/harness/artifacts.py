"""Fetches the jars of any Kafka version with Maven, into `.kafka/` under the repository root.

Every folder there is created under another name and then renamed, under a lock: a folder that exists is complete, and
two processes never fetch the same one at once. Some versions need other artifacts besides their own.
"""

import contextlib
import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import HarnessError

_VERSIONS = Path(__file__).resolve().parents[1] / "versions"
#: The newest Kafka, on which everything is tested.
LATEST = (_VERSIONS / "latest").read_text().strip()
#: The last Kafka 3: the newest that supports the request versions that Kafka 4 has dropped.
LATEST_3 = (_VERSIONS / "latest_3").read_text().strip()

STORE = Path(__file__).resolve().parents[3] / ".kafka"
_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
# kafka-tools was not published for these; the tools of a neighbouring version use the same protocol.
_TOOLS_FROM = {"4.2.2": "4.3.1", "4.4.0": "4.3.1"}


def parse_version(text):
    """`"0.10.2.2"` as `(0, 10, 2, 2)`, which sorts by release."""
    try:
        version = tuple(int(part) for part in text.split("."))
    except ValueError:
        version = ()
    if len(version) < 3 or version < (0, 8, 2):
        raise HarnessError(f"no such Kafka version: {text!r}; write it like 3.9.2, the oldest is 0.8.2.2")
    return version


def broker_jars(version):
    """The folder with all jars for a broker of `version`, and for its ZooKeeper."""
    return _fetched(version, _broker_artifacts(version))


def tools_version(version):
    """The version whose tools to use with a broker of `version`: its own, if they were published."""
    return _TOOLS_FROM.get(version, version)


def tool_jars(version):
    """The folder with the jars of Kafka's command-line tools, which are separate from the broker's since 3.0."""
    return _fetched(f"tools-{version}", [f"org.apache.kafka:kafka-tools:{version}", *_logging(parse_version(version))])


@contextlib.contextmanager
def made_once(name):
    """Yields an empty folder that becomes `STORE/name` if the block succeeds; `None` if that exists."""
    STORE.mkdir(exist_ok=True)
    with open(STORE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (STORE / name).is_dir():
            yield None
            return
        partial = Path(tempfile.mkdtemp(prefix=f"partial-{name}-", dir=STORE))
        try:
            yield partial
            partial.chmod(0o755)
            partial.rename(STORE / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _fetched(name, artifacts):
    with made_once(name) as folder:
        if folder:
            print(f"fetching {artifacts[0]} with Maven into {STORE / name}", file=sys.stderr, flush=True)
            _copy_dependencies(folder, artifacts)
    return STORE / name


def _copy_dependencies(folder, artifacts):
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *artifact.split(":")
        )
        for artifact in artifacts
    )
    pom = folder / "pom.xml"
    pom.write_text(
        "<project xmlns='http://maven.apache.org/POM/4.0.0'><modelVersion>4.0.0</modelVersion><groupId>kavka</groupId>"
        f"<artifactId>jars</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>"
    )
    command = ["mvn", "-q", "-B", "-f", str(pom), f"{_DEPENDENCY_PLUGIN}:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise HarnessError("no program `mvn`: real Kafka is fetched with Apache Maven, install it") from None
    if done.returncode != 0:
        raise HarnessError(f"Maven could not fetch {', '.join(artifacts)}:\n{done.stdout[-2000:]}")
    pom.unlink()
    if not any(folder.glob("*.jar")):
        raise HarnessError(f"Maven fetched no jar for {', '.join(artifacts)}:\n{done.stdout[-2000:]}")


def _broker_artifacts(text):
    version = parse_version(text)
    scala = "2.11" if version < (2, 0) else "2.12" if version < (2, 4) else "2.13"
    artifacts = [f"org.apache.kafka:kafka_{scala}:{text}", *_logging(version)]
    if version < (2, 0):
        # Java 11 removed javax.xml.bind, which these brokers use for Base64.
        artifacts.append("javax.xml.bind:jaxb-api:2.3.1")
    if (2, 0) <= version < (2, 4):
        # The 3.4.13 that they require cannot connect on Java 14 and newer.
        artifacts.append("org.apache.zookeeper:zookeeper:3.4.10")
    return artifacts


def _logging(version):
    if version < (1, 0):
        return []
    if version < (3, 0):
        return ["org.slf4j:slf4j-log4j12:1.7.25"]
    if version < (4, 0):
        return ["org.slf4j:slf4j-reload4j:1.7.36"]
    return ["org.slf4j:slf4j-simple:1.7.36"]
