"""The package's tests themselves: how they end when they hang, and when they run in a background job."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: The arguments with which `make` runs two files at a time.
IN_PARALLEL = re.search(r"^IN_PARALLEL := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()


def run_pytest(*arguments, ignore=""):
    """Runs pytest as `make` does, from a shell that ignores the signals named in `ignore`."""
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", *arguments]
    script = f"trap '' {ignore}; exec \"$@\"" if ignore else 'exec "$@"'
    return subprocess.run(["sh", "-c", script, "sh", *map(str, command)], capture_output=True, text=True, timeout=150)


def test_a_child_can_be_interrupted_although_the_shell_ignores_it():
    interrupted = f"{ROOT}/tests/python/unit/test_lifecycle.py::test_ctrl_c_gets_through_in_a_moment"
    done = run_pytest("--timeout=120", f"{interrupted}[update]", ignore="INT QUIT")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("parallel", [[], IN_PARALLEL], ids=["alone", "in-parallel"])
@pytest.mark.parametrize(
    ("hang", "option", "said"),
    [
        ("import time; time.sleep(50)", "--timeout=2", "test_it.py::test_that_hangs"),
        # Python's handlers do not run while C code waits, so the process is ended, and its stacks name the test.
        (
            "import ctypes; ctypes.PyDLL(None).sleep(50)",
            "--override-ini=faulthandler_timeout=5",
            "in test_that_hangs",
        ),
    ],
    ids=["python", "native"],
)
def test_a_test_that_hangs_fails_once_and_by_its_name(tmp_path, hang, option, said, parallel):
    (tmp_path / "test_it.py").write_text(f"def test_that_hangs():\n    {hang}\n")
    done = run_pytest(*parallel, option, f"--rootdir={tmp_path}", tmp_path / "test_it.py")
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("FAILED") <= 1, done.stdout
    assert said in done.stdout + done.stderr
