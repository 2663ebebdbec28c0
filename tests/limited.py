#!/usr/bin/env python3
"""Runs a Rust test binary; if one of its tests hangs, kills the binary and names the test.

Cargo calls this for every program it starts (`.cargo/config.toml`). Test binaries are recognised by their folder,
`deps`; all other programs are started as they are.

A test has `KAVKA_TEST_LIMIT` seconds: by default 180, and at least 60. libtest names slow tests after 60 seconds; a
test that exceeds the limit is killed, together with every process it has started. Tests begin with the default handling
of SIGINT and SIGQUIT: a shell ignores these signals in background jobs, and a program that a test starts and interrupts
would then never end.

With `--quiet`, only failures are shown, and the summary of each binary in which there is something to run.
"""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

LIMIT = max(60, int(os.environ.get("KAVKA_TEST_LIMIT", "180")))
SLOW = re.compile(r"test (\S+).* has been running for over (\d+) seconds")
DONE = re.compile(r"test (\S+).* \.\.\. (\w+)")
ROUTINE = re.compile(
    r"|running \d+ tests?|test .* \.\.\. (ok|ignored.*)|test result: ok\. 0 passed; 0 failed; 0 ignored; .*"
)


class Run:
    """A running test binary, and its output."""

    def __init__(self, command):
        self.is_quiet = "--quiet" in command or "-q" in command
        command = [word for word in command if word not in ("--quiet", "-q")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
        self.partial = b""
        self.heard = time.monotonic()
        self.slow = {}

    def kill(self):
        """Kills the tests and all processes that they have started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    def wait(self):
        """Returns the exit code; kills the tests if one hangs."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (hung := self.hung()):
                if not selector.select(timeout=1):
                    if self.process.poll() is not None:
                        break
                    continue
                chunk = os.read(self.process.stdout.fileno(), 65536)
                if not chunk:
                    break
                self.read(chunk)
        if hung:
            self.kill()
            sys.exit(f"{hung}: killed after {LIMIT} s, the time limit of a test")
        self.show(self.partial)
        return self.process.wait()

    def hung(self):
        """The name of a test that exceeds its limit; if none is known, the last line of output."""
        now = time.monotonic()
        for name, begin in self.slow.items():
            if now - begin > LIMIT:
                return name
        # With a single thread for all tests, libtest names each test before it runs it, and reports no slow ones.
        if now - self.heard > LIMIT:
            return self.partial.decode(errors="replace").strip() or self.process.args[0]
        return None

    def read(self, chunk):
        """Processes some of the output."""
        self.heard = time.monotonic()
        *lines, self.partial = (self.partial + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if slow := SLOW.fullmatch(text):
                self.slow[slow[1]] = self.heard - int(slow[2])
            elif done := DONE.match(text):
                self.slow.pop(done[1], None)
            self.show(line + b"\n")

    def show(self, line):
        """Prints a line, unless it is uninteresting."""
        if not (self.is_quiet and ROUTINE.fullmatch(line.decode(errors="replace").rstrip("\n"))):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def main():
    """Returns the exit code of the program."""
    command = sys.argv[1:]
    if Path(command[0]).parent.name != "deps" or "--list" in command:
        os.execv(command[0], command)
    # A signal with a handler here has its default handling in the program; ignored ones have no effect here.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        was_ignored = signal.getsignal(number) == signal.SIG_IGN
        signal.signal(number, (lambda *_: None) if was_ignored else signal.default_int_handler)
    run = Run(command)
    try:
        code = run.wait()
    except KeyboardInterrupt:
        run.kill()
        return 130
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
