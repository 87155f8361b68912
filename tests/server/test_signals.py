"""Signals before a server serves, wherever they arrive."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from .serving import PATIENCE

#: Sends itself a signal where Python ignores exceptions, and goes on for good unless the signal ends it.
SCRIPT = """
import gc, signal, sys, weakref
from wasi_http.server.signals import end_early

number, where = int(sys.argv[1]), sys.argv[2]

class Thing:
    pass

class Finalized:
    def __init__(self):
        self.itself = self if where == "collection" else None

    def __del__(self):
        signal.raise_signal(number)

end_early()
try:
    if where == "weak reference":
        thing = Thing()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
        del thing
    else:
        Finalized()
        gc.collect()
    while True:
        pass
finally:
    print("cleaned up")
"""

#: What else is ignored there is told as ever.
OTHER = """
from wasi_http.server.signals import end_early

class Faulty:
    def __del__(self):
        raise ValueError("a fault")

end_early()
Faulty()
"""


def execute(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["finalizer", "collection", "weak reference"])
def test_signals_are_not_lost_where_exceptions_are(number: signal.Signals, where: str) -> None:
    ended = execute(SCRIPT, str(int(number)), where)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "cleaned up\n", "")


def test_other_exceptions_of_finalizers_are_told() -> None:
    ended = execute(OTHER)
    assert ended.returncode == 0
    assert ended.stderr.startswith("Exception ignored in")
    assert ended.stderr.endswith("ValueError: a fault\n")


#: A second signal arrives while the first ends the process.
TWICE = """
import signal
from wasi_http.server.signals import end_early

end_early()
try:
    signal.raise_signal(signal.SIGTERM)
except SystemExit:
    signal.raise_signal(signal.SIGINT)
    raise
finally:
    print("cleaned up")
"""


def test_a_second_signal_does_not_interrupt_the_end() -> None:
    done = execute(TWICE)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "cleaned up\n", "")
