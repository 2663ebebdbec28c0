"""Installs the clients that `make bench` compares, into target/bench: `make bench-peers`.

Everything comes from the package registries. What cannot be installed here is named, and the benchmarks leave it out.
Nothing is done twice: a file `target/bench/*/installed` says what is there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
PEERS = BENCH.parent / "target" / "bench"
PYTHON_PEERS = ["confluent-kafka==2.16.1", "kafka-python==3.0.12", "aiokafka==0.14.0"]
#: The last setuptools that builds PyKafka 2.8; its extension is compiled against Debian's librdkafka-dev.
OLD_TOOLS = ["setuptools<58", "wheel"]
OLD_PYKAFKA = "pykafka==2.8.0"
KAFKA_CLIENTS = "org.apache.kafka:kafka-clients:4.4.0"


def run(*command, **options):
    """Runs a command; it has to succeed."""
    subprocess.run([str(part) for part in command], check=True, **options)


def venv(folder, python, *steps):
    """Makes a virtual environment, and runs pip in it once for each step."""
    run(python, "-m", "venv", folder)
    for step in steps:
        run(folder / "bin" / "pip", "install", "--quiet", *step)


def old_python():
    """A Python up to 3.10, from the PATH or pyenv, or None: Debian and PyPI have none."""
    found = shutil.which("python3.10")
    if found and subprocess.run([found, "--version"], check=False, capture_output=True).returncode == 0:
        return found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next(iter(sorted(root.glob("versions/3.10.*/bin/python"))), None)


def python_peers(folder):
    venv(folder, sys.executable, PYTHON_PEERS)


def pykafka2(folder):
    install_old(folder, sys.executable)


def pykafka2_310(folder):
    python = old_python()
    if python is None:
        raise FileNotFoundError("there is no Python 3.10 on this machine")
    install_old(folder, python)


def install_old(folder, python):
    """Installs PyKafka 2.8 with its extension."""
    if not Path("/usr/include/librdkafka/rdkafka.h").exists():
        run("apt-get", "install", "--yes", "--quiet", "librdkafka-dev", stdout=subprocess.DEVNULL)
    build = ["--no-build-isolation", "--no-binary", "pykafka", OLD_PYKAFKA]
    venv(folder, python, OLD_TOOLS, build)
    run(folder / "bin" / "python", "-c", "import pykafka.rdkafka._rd_kafka")


def rust(folder):
    run("cargo", "build", "--quiet", "--release", "--locked", "--target-dir", folder, cwd=BENCH / "rust")


def go(folder):
    run("go", "build", "-o", folder / "bench-go", ".", cwd=BENCH / "go")


def java(folder):
    """Compiles the program, and writes the class path for `java @arguments`."""
    folder.mkdir(exist_ok=True, parents=True)
    pom = BENCH / "java" / "pom.xml"
    run("mvn", "--quiet", "--file", pom, "dependency:build-classpath", f"-Dmdep.outputFile={folder / 'class_path'}")
    class_path = f"{folder}:{(folder / 'class_path').read_text().strip()}"
    run("javac", "-d", folder, "-cp", class_path, BENCH / "java" / "Bench.java")
    (folder / "arguments").write_text(f"-cp {class_path}\n")


#: By folder: what installs it, and the files that, when newer, make it install again.
ALL = {
    "peers": (python_peers, ()),
    "pykafka2": (pykafka2, ()),
    "pykafka2-310": (pykafka2_310, ()),
    "go": (go, ("go/*.go", "go/go.sum")),
    "java": (java, ("java/*",)),
    "rust": (rust, ("rust/src/*.rs", "rust/Cargo.*", "../crates/*/src/**/*.rs")),
}


def is_fresh(stamp, patterns):
    """Whether it was installed after its sources were changed."""
    if not stamp.exists():
        return False
    sources = [path for pattern in patterns for path in BENCH.glob(pattern)]
    return all(path.stat().st_mtime <= stamp.stat().st_mtime for path in sources)


def main():
    """Installs what is missing; goes on after a failure."""
    for name, (install, patterns) in ALL.items():
        stamp = PEERS / name / "installed"
        if is_fresh(stamp, patterns):
            continue
        print(f"installing {name}", flush=True)
        try:
            install(PEERS / name)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{name} cannot be installed, and will be left out: {error}", file=sys.stderr)
        else:
            stamp.touch()


if __name__ == "__main__":
    main()
