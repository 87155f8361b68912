"""The command line, ``wasi-http``."""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["main"]


def main(prog_name: str | None = None) -> None:
    """Runs the command.

    Signals end it from the start, with exit code 128 plus their number. Process 1 of a container has no default signal
    actions, and Python's for SIGINT would print a traceback of an import.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)

    from wasi_http.cli.commands import commands

    commands(prog_name=prog_name)


def _end(number: int, frame: FrameType | None) -> None:
    # Not an exception, which code being imported might swallow. There is nothing to clean up yet.
    os._exit(128 + number)
